"""`nj.info()`: what neurojit uses on this machine, what it has compiled, and what it left to NumPy."""

from __future__ import annotations

from dataclasses import dataclass, fields

from neurojit import numpy_matmul
from neurojit.config import CONFIG
from neurojit.runtime import SLOTS, executable_memory


@dataclass(frozen=True)
class Info:
    """isa, isa_reason: what code is emitted for, and why. encoder: "table" or "peachpy".
    strategy, strategy_reasons: how code gets executable ("memfd", "mprotect", "none", or "untried"
    before the first kernel), and why the better ways failed. kernels: published now. compiled: kernels,
    blocked plans and micro-kernels ever made. compile_seconds: all of it, validation included.
    code_bytes: machine code mapped now. evictions: kernels given up for newer ones. fallbacks: how
    often NumPy answered instead, by reason.
    """

    isa: str
    isa_reason: str
    encoder: str
    strategy: str
    strategy_reasons: tuple[str, ...]
    kernels: int
    compiled: int
    compile_seconds: float
    code_bytes: int
    evictions: int
    fallbacks: dict[str, int]

    def __str__(self) -> str:
        width = max(len(field.name) for field in fields(self))
        return "\n".join(f"{field.name:{width}}  {getattr(self, field.name)}" for field in fields(self))


def info() -> Info:
    """The state of neurojit in this process, as a frozen value."""
    from neurojit import compiler  # not at import: see numpy_matmul
    from neurojit.target import host_choice

    choice, memory, slots = host_choice(), executable_memory(), SLOTS.stats()
    counts = compiler.counts
    return Info(
        isa=choice.isa.name,
        isa_reason=choice.reason,
        encoder=CONFIG.encoder,
        strategy=memory.strategy,
        strategy_reasons=tuple(memory.reasons),
        kernels=slots["published"],
        compiled=counts["kernels"] + counts["blocked"] + counts["micro_kernels"],
        compile_seconds=counts["nanoseconds"] / 1e9,
        code_bytes=memory.live_bytes,
        evictions=slots["evictions"],
        fallbacks=dict(numpy_matmul.fallbacks),
    )
