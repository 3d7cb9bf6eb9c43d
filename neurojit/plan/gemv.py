"""The matrix-vector product whose matrix is read along its rows: y[m] = A[m,k] @ x[k].

With vectors across the rows of B, a product of one column has one lane to fill. Here vectors run
along k instead: each row has 64 bytes of partial sums, lane l taking the elements k = l, l + L,
l + 2L, ..., and the lanes are added in halves at the end (l with l + L/2, and so on). L, the lanes in
64 bytes, is the same for every ISA, so that the bits are too.

The other orientation, a matrix read down its columns, is `gemm` with m = 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from neurojit.plan.gemm import ELEMENT_SIZE, RowBlock
from neurojit.target import Isa

PARTIAL_BYTES = 64
"""Bytes of partial sums a row has: one zmm, two ymm, four NEON registers."""
LEAST_DEPTH = 8
"""Below this k, one chain in order is as quick and needs no rule of its own."""


@dataclass(frozen=True)
class Gemv:
    """a_row_stride in elements; columns of A, x and y are adjacent. swapped: the kernel's first buffer
    is x and its second A, as for a row vector times a transposed matrix."""

    dtype: str
    m: int
    k: int
    a_row_stride: int
    swapped: bool = False

    @property
    def lanes(self) -> int:
        """Partial sums of a row."""
        return PARTIAL_BYTES // ELEMENT_SIZE[self.dtype]


@dataclass(frozen=True)
class GemvSchedule:
    """rows: how many are summed together. unroll: whole groups of L elements in one trip of the loop."""

    rows: tuple[RowBlock, ...]
    unroll: int


def schedule_gemv(g: Gemv, isa: Isa) -> GemvSchedule:
    """As many rows at once as one vector of sums holds: that many chains hide the FMA's latency."""
    height = g.lanes if isa.vector_registers == 32 else 4
    count, rest = divmod(g.m, height)
    blocks = ([RowBlock(height, count)] if count else []) + ([RowBlock(rest, 1)] if rest else [])
    groups = g.k // g.lanes
    return GemvSchedule(tuple(blocks), groups if groups <= 4 else 2)
