"""What a kernel of running sums computes (`Cumsum`): each element plus all before it, in order.

The order is NumPy's, one chain of additions a row, so the bits are too. A chain is latency: rows run side by
side, as many as a vector has lanes. Down columns that is how they lie; along rows squares are transposed on
their way in and out (`transpose`).
"""

from __future__ import annotations

from dataclasses import dataclass

from neurojit.plan.gemm import ELEMENT_SIZE
from neurojit.plan.map import Access, check_layout
from neurojit.plan.transpose import COPY
from neurojit.target import Isa


@dataclass(frozen=True)
class Cumsum:
    """Running sums along the last dimension of `shape`; or, `down`, along the last but one. The first of more
    than two dimensions may be None: the kernel's n. The target may lie on the source, element on element.
    ValueError: other extents that are not known, elements that are not adjacent along the last dimension."""

    dtype: str
    shape: tuple[int | None, ...]
    source: Access
    target: Access
    down: bool = False

    def __post_init__(self) -> None:
        check_layout("cumsum", self.shape, (self.source,), (self.target,), COPY)
        if len(self.shape) < 2 or None in self.shape[-2:]:
            raise ValueError(f"cumsum: shape {self.shape}, expected two known extents at the end")
        strides = self.source.strides[-1], self.target.strides[-1]
        if strides != (1, 1):
            raise ValueError(f"cumsum: strides {strides} along the last dimension, expected 1; copy it first")

    @classmethod
    def contiguous(cls, dtype: str, rows: int, n: int, down: bool = False) -> Cumsum:
        """From the first buffer to the second."""
        return cls(dtype, (rows, n), Access(0, (n, 1)), Access(1, (n, 1)), down)

    @property
    def buffers(self) -> int:
        """How many addresses the kernel takes."""
        return 1 + max(self.source.buffer, self.target.buffer)


@dataclass(frozen=True)
class CumsumSchedule:
    """side: rows at once, and lanes of a square; down columns vectors at once, or 0 for row after row, each
    added to the one before as it was stored."""

    side: int


COLUMNS_AT_ONCE = 16
"""Vectors of sums side by side, at most: the more of each row are read before the next one's turn, the more
of what is read lies together. 100 x 256 with four of them takes 1.8 times as long."""
FAR_BYTES = 1 << 19
"""A plane of more is gone through in the order of memory: down columns every line would come from afar, and
every row from another page. Half of the L2 that most cores have."""


def columns_at_once(isa: Isa) -> int:
    """Vectors side by side down columns: what else there is needs a few registers."""
    return min(COLUMNS_AT_ONCE, isa.vector_registers - 4)


def schedule_cumsum(g: Cumsum, isa: Isa) -> CumsumSchedule:
    """Squares no wider than there are rows: the chain takes its time however many lanes run beside it."""
    if g.down:
        far = (g.shape[-2] or 1) * (g.shape[-1] or 1) * ELEMENT_SIZE[g.dtype] > FAR_BYTES
        return CumsumSchedule(0 if far else columns_at_once(isa))
    rows = g.shape[-2] or 1
    lanes = [bits // 8 // ELEMENT_SIZE[g.dtype] for bits in isa.vector_bits if bits >= 128]
    return CumsumSchedule(next((side for side in lanes if side >= rows), max(lanes)))
