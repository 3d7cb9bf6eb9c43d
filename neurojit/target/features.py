"""CPU features: one row each, and the three questions asked of every row.

Does the CPU have it? Does the OS allow it (does it save the registers the feature lives in)? Does
neurojit use it? The first two are answered here from raw facts; the third belongs to the ISA that was
chosen (neurojit.target.isa). A feature is `allowed` only if the first two answers are yes: CPUID with
AVX-512 under an OS or hypervisor that does not save zmm registers is a machine without AVX-512.

Names are those of /proc/cpuinfo. Bits: Intel SDM vol. 2A, CPUID, and the ISA extensions reference
(319433); AMD APM vol. 3, appendix E; Linux Documentation/arch/arm64/elf_hwcaps.rst and
Documentation/arch/riscv/hwprobe.rst.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from neurojit.target.raw import RawFacts

# XCR0 (Intel SDM vol. 1, 13.3): bit 1 SSE, 2 AVX (ymm), 5 opmask, 6 zmm 0-15 upper, 7 zmm 16-31,
# 17 TILECFG, 18 TILEDATA, 19 APX. FXSAVE state is always saved on x86-64, hence 0.
BASE = 0
YMM = 0x6
ZMM = 0xE6
TILE = 0x60000
APX = 0x80000
# Not in XCR0 and not readable from user space: Linux enables it for the kernel's own code only.
KERNEL_ONLY = -1


# Rows are named tuples, not dataclasses: a tenth of the time at import, which every user pays.
class CpuidBit(NamedTuple):
    """A bit of a CPUID leaf; `state`: what XCR0 must have for it to be usable."""

    leaf: int
    subleaf: int
    register: str
    bit: int
    state: int = BASE


class HwcapBit(NamedTuple):
    """A bit of HWCAP (word 1) or HWCAP2 (word 2); the kernel clears it where it does not allow it."""

    word: int
    bit: int


class HwprobeBit(NamedTuple):
    """A bit of riscv_hwprobe's IMA_EXT_0; `vector`: it needs vector state switched on as well."""

    bit: int
    vector: bool = False


class Feature(NamedTuple):
    """One row. `purpose` is what neurojit does with it, or would do with it, if anything."""

    name: str
    architecture: str
    where: CpuidBit | HwcapBit | HwprobeBit
    purpose: str = ""


class FeatureState(NamedTuple):
    """The first two answers for one row."""

    feature: Feature
    cpu: bool
    os: bool

    @property
    def name(self) -> str:
        return self.feature.name

    @property
    def allowed(self) -> bool:
        return self.cpu and self.os


def _x86() -> Iterator[Feature]:
    def leaf1_ecx(name: str, bit: int, purpose: str = "", state: int = BASE) -> Feature:
        return Feature(name, "x86_64", CpuidBit(1, 0, "ecx", bit, state), purpose)

    def leaf7(
        name: str, register: str, bit: int, purpose: str = "", state: int = BASE, subleaf: int = 0
    ) -> Feature:
        return Feature(name, "x86_64", CpuidBit(7, subleaf, register, bit, state), purpose)

    yield leaf1_ecx("ssse3", 9)
    yield leaf1_ecx("sse4_1", 19)
    yield leaf1_ecx("sse4_2", 20)
    yield leaf1_ecx("movbe", 22)
    yield leaf1_ecx("popcnt", 23)
    yield leaf1_ecx("avx", 28, "256-bit vectors", YMM)
    yield leaf1_ecx("fma", 12, "multiply-add: every matrix kernel", YMM)
    yield leaf1_ecx("f16c", 29, "f16 conversion (planned)", YMM)
    yield leaf7("bmi1", "ebx", 3)
    yield leaf7("avx2", "ebx", 5, "256-bit integers: masks of tails, exponents", YMM)
    yield leaf7("bmi2", "ebx", 8)
    yield leaf7("erms", "ebx", 9)
    yield leaf7("fsrm", "edx", 4)
    yield leaf7("ibt", "edx", 20, "endbr64 opens every kernel, on or off", KERNEL_ONLY)
    yield leaf7("avx512f", "ebx", 16, "512-bit vectors, 32 registers, masks, embedded broadcast", ZMM)
    yield leaf7("avx512dq", "ebx", 17, "float logic in zmm, 8-bit masks", ZMM)
    yield leaf7("avx512bw", "ebx", 30, "32- and 64-bit masks", ZMM)
    yield leaf7("avx512vl", "ebx", 31, "masks and 32 registers at 128 and 256 bits", ZMM)
    yield leaf7("avx512cd", "ebx", 28, "", ZMM)
    yield leaf7("avx512ifma", "ebx", 21, "", ZMM)
    yield leaf7("avx512vbmi", "ecx", 1, "byte permutes (planned)", ZMM)
    yield leaf7("avx512_vbmi2", "ecx", 6, "", ZMM)
    yield leaf7("avx512_vnni", "ecx", 11, "int8 dot products", ZMM)
    yield leaf7("avx512_bitalg", "ecx", 12, "", ZMM)
    yield leaf7("avx512_vpopcntdq", "ecx", 14, "", ZMM)
    yield leaf7("gfni", "ecx", 8)
    yield leaf7("avx512_vp2intersect", "edx", 8, "", ZMM)
    yield leaf7("avx512_fp16", "edx", 23, "f16 arithmetic (planned)", ZMM)
    yield leaf7("avx_vnni", "eax", 4, "int8 dot products (planned)", YMM, subleaf=1)
    yield leaf7("avx512_bf16", "eax", 5, "bf16 dot products", ZMM, subleaf=1)
    yield leaf7("avx_ifma", "eax", 23, "", YMM, subleaf=1)
    yield leaf7("avx_vnni_int8", "edx", 4, "", YMM, subleaf=1)
    yield leaf7("avx_ne_convert", "edx", 5, "bf16 and f16 conversion (planned)", YMM, subleaf=1)
    yield leaf7("avx_vnni_int16", "edx", 10, "", YMM, subleaf=1)
    yield leaf7("avx10", "edx", 19, "", ZMM, subleaf=1)
    yield leaf7("apx", "edx", 21, "", APX, subleaf=1)
    # Linux also wants arch_prctl(ARCH_REQ_XCOMP_PERM) from the process before the first tile is touched.
    yield leaf7("amx_tile", "edx", 24, "", TILE)
    yield leaf7("amx_int8", "edx", 25, "", TILE)
    yield leaf7("amx_bf16", "edx", 22, "", TILE)
    yield leaf7("amx_fp16", "eax", 21, "", TILE, subleaf=1)


def _aarch64() -> Iterator[Feature]:
    def hwcap(name: str, bit: int, purpose: str = "") -> Feature:
        return Feature(name, "aarch64", HwcapBit(1, bit), purpose)

    def hwcap2(name: str, bit: int, purpose: str = "") -> Feature:
        return Feature(name, "aarch64", HwcapBit(2, bit), purpose)

    yield hwcap("fp", 0)
    yield hwcap("asimd", 1, "128-bit vectors, 32 registers: every kernel")
    yield hwcap("atomics", 8)
    yield hwcap("fphp", 9, "f16 scalars (planned)")
    yield hwcap("asimdhp", 10, "f16 vectors (planned)")
    yield hwcap("asimdrdm", 12)
    yield hwcap("fcma", 14)
    yield hwcap("asimddp", 20, "int8 dot products")
    yield hwcap("sve", 22)
    yield hwcap("asimdfhm", 23, "f16 products into f32 (planned)")
    yield hwcap2("sve2", 1)
    yield hwcap2("svei8mm", 9)
    yield hwcap2("svef32mm", 10)
    yield hwcap2("svebf16", 12)
    yield hwcap2("i8mm", 13, "int8 matrix products (planned)")
    yield hwcap2("bf16", 14, "bf16 dot products")
    yield hwcap2("bti", 17, "bti c opens every kernel")
    yield hwcap2("sme", 23)
    yield hwcap2("sme2", 37)


def _riscv64() -> Iterator[Feature]:
    def hwprobe(name: str, bit: int, purpose: str = "", vector: bool = False) -> Feature:
        return Feature(name, "riscv64", HwprobeBit(bit, vector), purpose)

    yield hwprobe("fd", 0)
    yield hwprobe("c", 1)
    yield hwprobe("v", 2, "vectors of the machine's own length, 32 registers: every kernel", vector=True)
    yield hwprobe("zba", 3)
    yield hwprobe("zbb", 4)
    yield hwprobe("zbs", 5)
    yield hwprobe("zvbb", 17, vector=True)
    yield hwprobe("zfh", 27, "f16 scalars (planned)")
    yield hwprobe("zfhmin", 28)
    yield hwprobe("zvfh", 30, "f16 vectors (planned)", vector=True)
    yield hwprobe("zvfhmin", 31, "f16 conversion (planned)", vector=True)
    yield hwprobe("zfa", 32)


FEATURES: tuple[Feature, ...] = (*_x86(), *_aarch64(), *_riscv64())

# macOS has names instead of bits; every Apple silicon core has the two that it has no name for.
SYSCTL_FEATURE = {
    "atomics": "LSE",
    "fphp": "FP16",
    "asimdhp": "FP16",
    "asimdrdm": "RDM",
    "fcma": "FCMA",
    "asimddp": "DotProd",
    "asimdfhm": "FHM",
    "i8mm": "I8MM",
    "bf16": "BF16",
    "bti": "BTI",
    "sme": "SME",
    "sme2": "SME2",
}
SYSCTL_ALWAYS = ("fp", "asimd")

HWPROBE_IMA_EXT_0 = 4
VECTOR_CONTROL_CURRENT = 0b11  # PR_RISCV_V_VSTATE_CTRL_CUR_MASK
VECTOR_CONTROL_OFF = 1  # PR_RISCV_V_VSTATE_CTRL_OFF


def decode_features(raw: RawFacts) -> tuple[FeatureState, ...]:
    """The state of every row of this architecture, in the order of the table."""
    return tuple(_state(row, raw) for row in FEATURES if row.architecture == raw.architecture)


def _state(feature: Feature, raw: RawFacts) -> FeatureState:
    where = feature.where
    if isinstance(where, CpuidBit):
        registers = raw.leaf(where.leaf, where.subleaf)
        present = bool(getattr(registers, where.register) >> where.bit & 1)
        return FeatureState(feature, cpu=present, os=_os_saves(where.state, raw))
    if isinstance(where, HwcapBit) and raw.sysctl:
        name = SYSCTL_FEATURE.get(feature.name, "")
        present = feature.name in SYSCTL_ALWAYS or bool(raw.sysctl.get(f"hw.optional.arm.FEAT_{name}"))
        return FeatureState(feature, cpu=present, os=present)
    if isinstance(where, HwcapBit):
        # One bit answers both questions: the CPU's answer alone cannot be had from user space.
        present = bool(((raw.hwcap if where.word == 1 else raw.hwcap2) or 0) >> where.bit & 1)
        return FeatureState(feature, cpu=present, os=present)
    present = bool(raw.hwprobe.get(HWPROBE_IMA_EXT_0, 0) >> where.bit & 1)
    return FeatureState(feature, cpu=present, os=not where.vector or _vector_state_on(raw))


def _os_saves(state: int, raw: RawFacts) -> bool:
    if state == KERNEL_ONLY:
        return False
    # Without OSXSAVE there is no XCR0 to read, and the OS saves nothing beyond SSE.
    return (raw.xcr0 or 0) & state == state


def _vector_state_on(raw: RawFacts) -> bool:
    # Kernels that know hwprobe's V also know the prctl; user-mode emulators have only the former.
    return raw.vector_control is None or raw.vector_control & VECTOR_CONTROL_CURRENT != VECTOR_CONTROL_OFF
