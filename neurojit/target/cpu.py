"""Who this CPU is: the decoded, frozen form of raw facts.

`decode` is pure and total: any raw facts, however strange, give a `Cpu`; what they do not say becomes
"unknown", an assumed cache, a generic pipe. `host()` is `decode(gather())`, once per process.
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass
from typing import NamedTuple

from neurojit.target.caches import Caches, decode_caches
from neurojit.target.features import FeatureState, decode_features
from neurojit.target.microarchitecture import (
    ARM_IMPLEMENTERS,
    RISCV_VENDORS,
    apple_name,
    arm_names,
    riscv_name,
    x86_name,
)
from neurojit.target.pipes import Pipes, pipes_of
from neurojit.target.raw import RawFacts, gather


class Signature(NamedTuple):
    """x86-64's name for a design. Display family and model, as the manuals use them."""

    family: int
    model: int
    stepping: int


@dataclass(frozen=True)
class Cpu:
    """architecture: "x86_64", "aarch64", "riscv64" or "unknown". brand: the CPU's own name for itself, ""
    where it has none. microarchitecture: the name of its design; of several ("A + B") on machines with
    unlike cores, of which `pipes` describes the one with the most FMAs. signature: None but on x86-64.
    features: each row of the architecture's feature table. cores, threads: on line; usable: threads this
    process may run on. vector_bytes: length of the scalable registers (SVE, RVV), 0 without.
    """

    architecture: str
    system: str
    vendor: str
    brand: str
    microarchitecture: str
    signature: Signature | None
    features: tuple[FeatureState, ...]
    caches: Caches
    cores: int
    threads: int
    usable: int
    vector_bytes: int
    pipes: Pipes

    def has(self, name: str) -> bool:
        """Whether code may use the feature: the CPU has it and the OS allows it."""
        return self.why_not(name) is None

    def why_not(self, name: str) -> str | None:
        """Why code may not use the feature, None if it may. An unknown name is one the CPU lacks."""
        for state in self.features:
            if state.name == name and state.cpu:
                return None if state.os else "the OS does not allow it"
        return "the CPU lacks it"

    @property
    def allowed(self) -> frozenset[str]:
        """The names of all features that code may use."""
        return frozenset(state.name for state in self.features if state.allowed)


class _Identity(NamedTuple):
    vendor: str = "unknown"
    brand: str = ""
    designs: tuple[str, ...] = ("unknown",)
    signature: Signature | None = None


def decode(raw: RawFacts) -> Cpu:
    """What the raw facts mean."""
    identify = _IDENTIFY.get(raw.architecture)
    identity = identify(raw) if identify else _Identity()
    pipes = [pipes_of(design, raw.architecture) for design in identity.designs]
    threads = max(len(raw.siblings), raw.sysctl.get("hw.logicalcpu", 0), 1)
    return Cpu(
        architecture=raw.architecture if identify else "unknown",
        system=raw.system,
        vendor=identity.vendor,
        brand=identity.brand,
        microarchitecture=" + ".join(identity.designs),
        signature=identity.signature,
        features=decode_features(raw),
        caches=decode_caches(raw),
        # Where sysfs hides the topology each thread's text is empty: then a thread is a core.
        cores=len(set(raw.siblings)) if all(raw.siblings) and raw.siblings else _cores(raw, threads),
        threads=threads,
        usable=max(raw.usable or threads, 1),
        vector_bytes=_vector_bytes(raw),
        pipes=max(pipes, key=lambda row: row.fma_per_cycle(128)),
    )


@functools.cache
def host() -> Cpu:
    """This machine, asked once per process."""
    return decode(gather())


def _identify_x86(raw: RawFacts) -> _Identity:
    _, *vendor = raw.leaf(0)
    ebx, ecx, edx = vendor
    name = _text(ebx, edx, ecx) or "unknown"
    brand = _text(*(word for leaf in range(0x80000002, 0x80000005) for word in raw.leaf(leaf)))
    signature = _signature(raw.leaf(1).eax)
    design = x86_name(name, signature.family, signature.model, signature.stepping)
    return _Identity(name, " ".join(brand.split()), (design,), signature)


def _signature(eax: int) -> Signature:
    # Intel SDM vol. 2A, CPUID: the extended family counts only if the family is 15, the extended model
    # only if it is 6 or 15. AMD's rule (APM vol. 3, E.3.2) gives the same for every CPU it made.
    family, model, stepping = eax >> 8 & 0xF, eax >> 4 & 0xF, eax & 0xF
    if family in (6, 15):
        model |= (eax >> 16 & 0xF) << 4
    if family == 15:
        family += eax >> 20 & 0xFF
    return Signature(family, model, stepping)


def _text(*words: int) -> str:
    data = struct.pack(f"<{len(words)}I", *(word & 0xFFFFFFFF for word in words))
    return "".join(chr(byte) for byte in data if 0x20 <= byte < 0x7F).strip()


def _cores(raw: RawFacts, threads: int) -> int:
    """Without sysfs: macOS' count, else a core for each thread."""
    return max(raw.sysctl.get("hw.physicalcpu", 0), 0) or threads


def _identify_arm(raw: RawFacts) -> _Identity:
    if raw.sysctl:
        family = raw.sysctl.get("hw.cpufamily", 0) & 0xFFFFFFFF
        return _Identity("Apple", raw.brand, designs=(apple_name(family),))
    if not raw.midr:
        return _Identity()
    implementer = raw.midr[0] >> 24 & 0xFF
    return _Identity(ARM_IMPLEMENTERS.get(implementer, f"{implementer:#x}"), designs=arm_names(raw.midr))


MVENDORID, MARCHID = 0, 1  # riscv_hwprobe keys


def _identify_riscv(raw: RawFacts) -> _Identity:
    vendor, design = raw.hwprobe.get(MVENDORID, 0), raw.hwprobe.get(MARCHID, 0)
    return _Identity(RISCV_VENDORS.get(vendor, f"{vendor:#x}"), designs=(riscv_name(vendor, design),))


def _vector_bytes(raw: RawFacts) -> int:
    if raw.vlenb is not None:
        return raw.vlenb
    return (raw.sve_vl or 0) & 0xFFFF  # PR_SVE_VL_LEN_MASK; the rest are flags


_IDENTIFY = {"x86_64": _identify_x86, "aarch64": _identify_arm, "riscv64": _identify_riscv}
