"""The ISAs neurojit knows, as rows, and the choice of one for a CPU.

An ISA is what code is emitted for: registers, widths, masks. Hardware is data here, so the choice is a
search through rows: no CPU is mentioned, only what a row needs and what a CPU may use. The chooser
says why in words, because a slow path without a reason is a bug report waiting.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from neurojit.errors import UnknownIsaError
from neurojit.target.cpu import Cpu


@dataclass(frozen=True)
class Isa:
    """option: its name in NEUROJIT_ISA. vector_bits: widths, narrowest first; of a scalable ISA's row the
    least that it guarantees, and of a row made for a machine that machine's own. mask_registers: that can
    hold a mask (k0 means "no mask" in EVEX, so 7). needs: features without which its code cannot run.
    scalars_apart: its multiply-add takes a scalar from registers that are not the vectors'.
    multiplies_lanes: a multiply-add takes its scalar from any lane of a register.
    has_segments: registers wider than 128 bits are shuffled, loaded and stored in segments of so many.
    prefetches: it has an instruction that asks for a cache line.
    any_offset: a load holds any distance to a register's address, so that rows far apart need one register.
    """

    name: str
    option: str
    architecture: str
    vector_registers: int
    vector_bits: tuple[int, ...]
    mask_registers: int
    needs: tuple[str, ...]
    scalable: bool = False
    scalars_apart: bool = False
    multiplies_lanes: bool = False
    has_segments: bool = False
    prefetches: bool = True
    any_offset: bool = False

    @property
    def widest(self) -> int:
        """Bits of the widest vector; 0 for `none`."""
        return self.vector_bits[-1] if self.vector_bits else 0

    def with_vectors_of(self, bits: int) -> Isa:
        """The row of a scalable ISA for machines whose registers have so many bits.

        ValueError: less than the ISA guarantees, or no power of two."""
        least = self.vector_bits[0]
        if not self.scalable or bits < least or bits & (bits - 1):
            raise ValueError(
                f"{self.name}: vectors of {bits} bits: expected a power of two, at least {least}, "
                "of a scalable ISA"
            )
        return replace(self, vector_bits=(bits,))


AVX512 = Isa(
    "x86_64-avx512",
    option="avx512",
    architecture="x86_64",
    vector_registers=32,
    vector_bits=(128, 256, 512),
    mask_registers=7,
    needs=("avx", "avx2", "fma", "avx512f", "avx512dq", "avx512bw", "avx512vl"),
    has_segments=True,
    any_offset=True,
)
AVX2 = Isa(
    "x86_64-avx2",
    option="avx2",
    architecture="x86_64",
    vector_registers=16,
    vector_bits=(128, 256),
    mask_registers=0,
    needs=("avx", "avx2", "fma"),
    has_segments=True,
    any_offset=True,
)
NEON = Isa(
    "aarch64-neon",
    option="neon",
    architecture="aarch64",
    vector_registers=32,
    vector_bits=(64, 128),
    mask_registers=0,
    needs=("fp", "asimd"),
    multiplies_lanes=True,
)
RVV = Isa(
    "riscv64-rvv",
    option="rvv",
    architecture="riscv64",
    vector_registers=32,
    vector_bits=(128,),  # V 1.0: VLEN >= 128
    mask_registers=1,  # v0
    needs=("fd", "v"),
    scalable=True,
    scalars_apart=True,
    prefetches=False,  # Zicbop is an extension of its own
)
NONE = Isa(
    "none",
    option="none",
    architecture="",
    vector_registers=0,
    vector_bits=(),
    mask_registers=0,
    needs=(),
)

# Best first within an architecture. A cap admits its row and the rows below it.
ISAS: tuple[Isa, ...] = (AVX512, AVX2, NEON, RVV, NONE)


class IsaChoice(NamedTuple):
    """isa: the row. reason: why, in words, and why not the better ones. cap: what was asked for."""

    isa: Isa
    reason: str
    cap: str | None = None


def isa_named(name: str) -> Isa:
    """The row of a name ("x86_64-avx2") or of its option ("avx2"). Raises UnknownIsaError."""
    for isa in ISAS:
        if name in (isa.name, isa.option):
            return isa
    known = ", ".join(isa.name for isa in ISAS)
    raise UnknownIsaError(f"ISA {name!r}: expected one of {known}")


def choose_isa(cpu: Cpu, cap: str | None = None) -> IsaChoice:
    """The best ISA for this CPU; `cap` (the value of NEUROJIT_ISA) admits its row and those below.

    Never an ISA that cannot run here: asking for one gives the best that can, and the reason.
    Raises UnknownIsaError if `cap` names no row.
    """
    best = 0 if cap is None else ISAS.index(isa_named(cap))
    passed_over: list[str] = []
    for isa in ISAS[best:]:
        obstacle = _obstacle(isa, cpu, cap)
        if obstacle is None:
            return IsaChoice(isa, _reason(isa, cpu, cap, passed_over), cap)
        if isa.architecture == cpu.architecture or cap == isa.option:
            passed_over.append(f"{isa.name}: {obstacle}")
    raise AssertionError("the row `none` has no needs")


def _obstacle(isa: Isa, cpu: Cpu, cap: str | None) -> str | None:
    """Why code for `isa` cannot run here, or None."""
    if isa is NONE:
        return None
    if isa.architecture != cpu.architecture:
        return f"this CPU's architecture is {cpu.architecture}"
    refused: dict[str, list[str]] = {}
    for name in isa.needs:
        reason = cpu.why_not(name)
        if reason is not None:
            refused.setdefault(reason, []).append(name)
    if refused:
        return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in refused.items())
    if cpu.system != "linux" and cap != isa.option:
        return f"its kernels never ran on {cpu.system}; NEUROJIT_ISA={isa.option} tries them"
    return None


def _reason(isa: Isa, cpu: Cpu, cap: str | None, passed_over: list[str]) -> str:
    because = list(passed_over)
    if cap == isa.option:
        because.insert(0, f"NEUROJIT_ISA={cap}")
    elif cap is not None:
        because.insert(0, f"NEUROJIT_ISA={cap} cannot run here")
    elif isa is not NONE:
        because.insert(0, "best that the CPU and the OS allow")
    elif not passed_over:
        because.insert(0, f"no ISA of neurojit's is for the architecture {cpu.architecture!r}")
    return "; ".join(because)
