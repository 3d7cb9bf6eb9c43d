"""The matrix-vector product whose matrix is read along its rows: y[m] = A[m,k] @ x[k].

With vectors across the rows of B, a product of one column has one lane to fill. Here vectors run
along k instead: each row has 64 bytes of partial sums, lane l taking the elements k = l, l + L,
l + 2L, ..., and the lanes are added in halves at the end (l with l + L/2, and so on). L, the lanes in
64 bytes, is the same for every ISA, so that the bits are too.

The other orientation, a matrix read down its columns, is `gemm` with m = 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from neurojit.plan.cut import Cut, ceil_div, cut_equally
from neurojit.plan.epilogue import NO_EPILOGUE, Epilogue
from neurojit.plan.gemm import ELEMENT_SIZE
from neurojit.plan.level import Level
from neurojit.target import Target

PARTIAL_BYTES = 64
"""Bytes of partial sums a row has: one zmm, two ymm, four NEON registers."""
LEAST_DEPTH = 8
"""Below this k, one chain in order is as quick and needs no rule of its own."""


@dataclass(frozen=True)
class Gemv:
    """a_row_stride in elements; columns of A, x and y are adjacent. swapped: the kernel's first buffer
    is x and its second A, as for a row vector times a transposed matrix. epilogue: of y taken as a row."""

    dtype: str
    m: int
    k: int
    a_row_stride: int
    swapped: bool = False
    epilogue: Epilogue = NO_EPILOGUE

    @property
    def lanes(self) -> int:
        """Partial sums of a row."""
        return PARTIAL_BYTES // ELEMENT_SIZE[self.dtype]


@dataclass(frozen=True)
class GemvSchedule:
    """rows: how many are summed together. unroll: whole groups of L elements in one trip of the loop."""

    rows: Cut
    unroll: int


NEAR_HEIGHT, FAR_HEIGHT = 16, 4
"""Rows at once from the caches near the core, and from beyond L2: more streams than the prefetchers
follow, often at distances that collide in L1, cost more than they hide. Measured on Zen 4."""


def schedule_gemv(g: Gemv, target: Target, level: Level = Level.O3) -> GemvSchedule:
    """Enough rows at once that their chains hide the FMA's latency, in tiles as equal as can be; O1: one."""
    if level < Level.O2:
        return GemvSchedule(Cut(1, g.m), 1)
    isa, size = target.isa, ELEMENT_SIZE[g.dtype]
    far = g.m * g.k * size > target.caches.l2.size // 2
    partial = PARTIAL_BYTES * 8 // isa.widest  # vectors of partial sums a row has
    most = min(
        FAR_HEIGHT if far or isa.vector_registers < 32 else NEAR_HEIGHT,
        isa.widest // 8 // size,  # the sums of all rows stand in one vector
        (isa.vector_registers - 2) // partial,
    )
    groups = g.k // g.lanes
    return GemvSchedule(cut_equally(g.m, ceil_div(g.m, most)), groups if groups <= 4 else 2)
