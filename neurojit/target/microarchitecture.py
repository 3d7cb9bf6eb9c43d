"""The name of a core's design, from the numbers the CPU gives: a table, and a lookup for each kind.

x86-64: vendor, display family and display model (Intel SDM vol. 2A, CPUID leaf 1; AMD APM vol. 3).
AArch64: implementer and part of MIDR_EL1 (Arm ARM, MIDR_EL1). RISC-V: mvendorid and marchid.
Apple silicon under macOS, where MIDR_EL1 cannot be read: hw.cpufamily (mach/machine.h).
Models: Intel SDM vol. 4, table 2-1, and Linux arch/x86/include/asm/intel-family.h; AMD's family
guides and Linux arch/x86/kernel/cpu/amd.c; Linux arch/arm64/include/asm/cputype.h.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class X86Design(NamedTuple):
    """Models of one family that share a design; `steppings` where a model number was used twice."""

    name: str
    family: int
    models: tuple[int, ...]
    steppings: range = range(16)


INTEL: tuple[X86Design, ...] = (
    X86Design("Sandy Bridge", 6, (0x2A, 0x2D)),
    X86Design("Ivy Bridge", 6, (0x3A, 0x3E)),
    X86Design("Haswell", 6, (0x3C, 0x3F, 0x45, 0x46)),
    X86Design("Broadwell", 6, (0x3D, 0x47, 0x4F, 0x56)),
    # Kaby, Coffee, Whiskey, Amber and Comet Lake are this core again.
    X86Design("Skylake", 6, (0x4E, 0x5E, 0x8E, 0x9E, 0xA5, 0xA6)),
    X86Design("Skylake-X", 6, (0x55,), range(0, 5)),
    X86Design("Cascade Lake", 6, (0x55,), range(5, 10)),
    X86Design("Cooper Lake", 6, (0x55,), range(10, 16)),
    X86Design("Cannon Lake", 6, (0x66,)),
    X86Design("Ice Lake", 6, (0x7D, 0x7E)),
    X86Design("Ice Lake server", 6, (0x6A, 0x6C)),
    X86Design("Tiger Lake", 6, (0x8C, 0x8D)),
    X86Design("Rocket Lake", 6, (0xA7,)),
    X86Design("Alder Lake", 6, (0x97, 0x9A)),
    X86Design("Raptor Lake", 6, (0xB7, 0xBA, 0xBF)),
    X86Design("Meteor Lake", 6, (0xAA, 0xAC)),
    X86Design("Arrow Lake", 6, (0xB5, 0xC5, 0xC6)),
    X86Design("Lunar Lake", 6, (0xBD,)),
    X86Design("Panther Lake", 6, (0xCC,)),
    X86Design("Sapphire Rapids", 6, (0x8F,)),
    X86Design("Emerald Rapids", 6, (0xCF,)),
    X86Design("Granite Rapids", 6, (0xAD, 0xAE)),
    X86Design("Gracemont", 6, (0xBE,)),  # Alder Lake-N
    X86Design("Sierra Forest", 6, (0xAF,)),
    X86Design("Goldmont", 6, (0x5C, 0x5F)),
    X86Design("Goldmont Plus", 6, (0x7A,)),
    X86Design("Tremont", 6, (0x86, 0x96, 0x9C)),
    X86Design("Knights Landing", 6, (0x57,)),
    X86Design("Knights Mill", 6, (0x85,)),
)


def _models(*spans: tuple[int, int]) -> tuple[int, ...]:
    return tuple(model for first, last in spans for model in range(first, last + 1))


AMD: tuple[X86Design, ...] = (
    X86Design("Zen 1", 0x17, _models((0x00, 0x2F), (0x50, 0x5F))),  # and Zen+, the same core
    X86Design("Zen 2", 0x17, _models((0x30, 0x4F), (0x60, 0x7F), (0x90, 0x91), (0xA0, 0xAF))),
    X86Design("Zen 3", 0x19, _models((0x00, 0x0F), (0x20, 0x5F))),
    X86Design("Zen 4", 0x19, _models((0x10, 0x1F), (0x60, 0xAF))),
    # Strix and Krackan Point: 256-bit datapaths (CPUID 0x8000001A EAX says FP256, not FP512).
    X86Design("Zen 5 mobile", 0x1A, _models((0x20, 0x2F), (0x60, 0x6F))),
    X86Design("Zen 5", 0x1A, _models((0x00, 0x1F), (0x40, 0x4F), (0x70, 0x7F))),
    X86Design("Zen 6", 0x1A, _models((0x50, 0x5F), (0x80, 0xAF), (0xC0, 0xCF))),
)

X86_DESIGNS = {
    "GenuineIntel": INTEL,
    "AuthenticAMD": AMD,
    "HygonGenuine": (X86Design("Zen 1", 0x18, _models((0x00, 0x0F))),),  # Dhyana
}

ARM_IMPLEMENTERS = {
    0x41: "Arm",
    0x43: "Cavium",
    0x46: "Fujitsu",
    0x48: "HiSilicon",
    0x4E: "NVIDIA",
    0x51: "Qualcomm",
    0x61: "Apple",
    0x70: "Phytium",
    0xC0: "Ampere",
}

ARM_PARTS: dict[tuple[int, int], str] = {
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD04): "Cortex-A35",
    (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD09): "Cortex-A73",
    (0x41, 0xD0A): "Cortex-A75",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse N1",
    (0x41, 0xD0D): "Cortex-A77",
    (0x41, 0xD40): "Neoverse V1",
    (0x41, 0xD41): "Cortex-A78",
    (0x41, 0xD42): "Cortex-A78AE",
    (0x41, 0xD44): "Cortex-X1",
    (0x41, 0xD46): "Cortex-A510",
    (0x41, 0xD47): "Cortex-A710",
    (0x41, 0xD48): "Cortex-X2",
    (0x41, 0xD49): "Neoverse N2",
    (0x41, 0xD4A): "Neoverse E1",
    (0x41, 0xD4B): "Cortex-A78C",
    (0x41, 0xD4C): "Cortex-X1C",
    (0x41, 0xD4D): "Cortex-A715",
    (0x41, 0xD4E): "Cortex-X3",
    (0x41, 0xD4F): "Neoverse V2",
    (0x41, 0xD80): "Cortex-A520",
    (0x41, 0xD81): "Cortex-A720",
    (0x41, 0xD82): "Cortex-X4",
    (0x41, 0xD83): "Neoverse V3AE",
    (0x41, 0xD84): "Neoverse V3",
    (0x41, 0xD85): "Cortex-X925",
    (0x41, 0xD87): "Cortex-A725",
    (0x41, 0xD8E): "Neoverse N3",
    (0x43, 0x0AF): "ThunderX2",
    (0x46, 0x001): "A64FX",
    (0x48, 0xD01): "TaiShan v110",
    (0x4E, 0x004): "Carmel",
    (0x51, 0x001): "Oryon",
    (0x51, 0xC00): "Falkor",
    (0x61, 0x022): "Apple M1 (Icestorm)",
    (0x61, 0x023): "Apple M1 (Firestorm)",
    (0x61, 0x024): "Apple M1 (Icestorm)",  # Pro
    (0x61, 0x025): "Apple M1 (Firestorm)",
    (0x61, 0x028): "Apple M1 (Icestorm)",  # Max
    (0x61, 0x029): "Apple M1 (Firestorm)",
    (0x61, 0x032): "Apple M2 (Blizzard)",
    (0x61, 0x033): "Apple M2 (Avalanche)",
    (0x61, 0x034): "Apple M2 (Blizzard)",  # Pro
    (0x61, 0x035): "Apple M2 (Avalanche)",
    (0x61, 0x038): "Apple M2 (Blizzard)",  # Max
    (0x61, 0x039): "Apple M2 (Avalanche)",
    (0xC0, 0xAC3): "Ampere-1",
    (0xC0, 0xAC4): "Ampere-1A",
    (0xC0, 0xAC5): "Ampere-1B",
}

APPLE_FAMILIES = {
    0x1B588BB3: "Apple M1 (Firestorm)",
    0xDA33D83D: "Apple M2 (Avalanche)",
    0xFA33415E: "Apple M3",
    0x5F4DEA93: "Apple M3",  # Pro
    0x72015832: "Apple M3",  # Max
    0x6F5129AC: "Apple M4",
    0x17D5B93A: "Apple M4",  # Pro, Max
}
"""hw.cpufamily: the performance cores' design."""

RISCV_VENDORS = {0x489: "SiFive", 0x5B7: "T-Head", 0x710: "SpacemiT"}
RISCV_DESIGNS: dict[tuple[int, int], str] = {
    (0x489, 0x8000000000000007): "SiFive 7 series",
    (0x710, 0x8000000058000001): "SpacemiT X60",
}


def x86_name(vendor: str, family: int, model: int, stepping: int) -> str:
    """The design's name, or "unknown (family 6 model 0x2c)"."""
    for design in X86_DESIGNS.get(vendor, ()):
        if design.family == family and model in design.models and stepping in design.steppings:
            return design.name
    return f"unknown (family {family:#x} model {model:#x})"


def arm_names(midr: Iterable[int]) -> tuple[str, ...]:
    """The distinct designs of a machine's cores, in the order of its CPUs: big and little ones differ."""
    names = (_arm_name(word >> 24 & 0xFF, word >> 4 & 0xFFF) for word in midr)
    return tuple(dict.fromkeys(names))


def _arm_name(implementer: int, part: int) -> str:
    known = ARM_PARTS.get((implementer, part))
    return known or f"unknown (implementer {implementer:#x} part {part:#x})"


def apple_name(family: int) -> str:
    """The design of the performance cores, or "unknown (cpufamily 0x0)"."""
    return APPLE_FAMILIES.get(family) or f"unknown (cpufamily {family:#x})"


def riscv_name(mvendorid: int, marchid: int) -> str:
    """The design's name, or "unknown (mvendorid 0x0 marchid 0x0)"."""
    known = RISCV_DESIGNS.get((mvendorid, marchid))
    return known or f"unknown (mvendorid {mvendorid:#x} marchid {marchid:#x})"
