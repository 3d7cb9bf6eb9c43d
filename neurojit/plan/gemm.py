"""What a GEMM kernel computes (`Gemm`) and how (`GemmSchedule`).

`Gemm` is the payload: shape, dtype, strides. `GemmSchedule` is the tiling; no schedule can change a bit of
the result. `tiling` chooses one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from neurojit.plan.cut import Cut
from neurojit.plan.epilogue import NO_EPILOGUE, Epilogue
from neurojit.plan.panels import Panels

ELEMENT_SIZE = {"f32": 4, "f64": 8}


def register_bits(size: int) -> int:
    """The narrowest register, in bits, that holds `size` bytes."""
    return 128 if size <= 16 else 256 if size <= 32 else 512


class Matrix(NamedTuple):
    """Strides of an operand in elements."""

    row_stride: int
    column_stride: int = 1


@dataclass(frozen=True)
class Output:
    """Row stride of C in elements, columns adjacent. None: given at the call (micro-kernels)."""

    row_stride: int | None


@dataclass(frozen=True)
class Gemm:
    """C[m,n] = A[m,k] @ B[k,n] (`accumulate`: C += A @ B). B and C have adjacent columns, or B is packed.

    k None: the depth is the kernel's dynamic extent. swapped: the kernel's first buffer is B and its
    second A, as for a matrix times a column vector, computed as a row vector times its transpose.
    epilogue: what happens to the product before it is stored; with one, C is accumulated by its beta.
    partial: the row stride of partial sums that the chains start from where C cannot hold them, because the
    epilogue of the last of several kernels needs C as it was; they are the last operand.
    """

    dtype: str
    m: int
    n: int
    k: int | None
    a: Matrix
    b: Matrix | Panels
    c: Output
    accumulate: bool = False
    swapped: bool = False
    epilogue: Epilogue = NO_EPILOGUE
    partial: int | None = None

    @classmethod
    def contiguous(cls, dtype: str, m: int, n: int, k: int, epilogue: Epilogue = NO_EPILOGUE) -> Gemm:
        return cls(dtype, m, n, k, Matrix(k), Matrix(n), Output(n), epilogue=epilogue)

    @classmethod
    def micro_kernel(
        cls,
        dtype: str,
        height: int,
        width: int,
        panel: tuple[int, int],
        accumulate: bool,
        epilogue: Epilogue = NO_EPILOGUE,
        partial: int | None = None,
        a_row: int | None = None,
    ) -> Gemm:
        """The inner kernel of the blocked driver: A and B in packed panels of MR and NR elements, or the rows
        of A where they lie, `a_row` elements apart."""
        mr, nr = panel
        a, b, c = Matrix(1, mr) if a_row is None else Matrix(a_row), Matrix(nr), Output(None)
        return cls(dtype, height, width, None, a, b, c, accumulate, epilogue=epilogue, partial=partial)

    @property
    def has_epilogue(self) -> bool:
        return self.epilogue is not NO_EPILOGUE and self.epilogue != NO_EPILOGUE

    @property
    def b_bytes(self) -> int:
        """Of B in memory. The depth must be known."""
        assert self.k is not None
        if isinstance(self.b, Panels):
            return self.b.panels(self.n) * self.b.panel_bytes
        return self.k * self.n * ELEMENT_SIZE[self.dtype]

    @property
    def buffers(self) -> int:
        """How many operands the kernel has in all."""
        return 3 + self.epilogue.buffers + (self.partial is not None)

    @property
    def is_micro_kernel(self) -> bool:
        return self.c.row_stride is None


class ColumnBlock(NamedTuple):
    """So many tiles of columns side by side, each as wide as its vectors' `lanes` together and `folded`, and
    how the rows of C are cut in them: a narrow tile is best tall, a wide one low.

    folded: columns behind those of the vectors, whose accumulators hold 128 bits of each of several rows, so
    that they fill registers. shared: a scalar of A goes through a register, one load for all vectors of its
    row, also where multiply-adds could read it from memory. by_lanes: so many rows of a tile, at least where
    it has them, load the scalars of several steps at once. Both kinds need adjacent columns of A."""

    lanes: tuple[int, ...]
    tiles: int
    rows: Cut
    folded: int = 0
    shared: bool = False
    by_lanes: int = 0

    @property
    def width(self) -> int:
        """Columns of one tile."""
        return sum(self.lanes) + self.folded

    @property
    def in_segments(self) -> bool:
        """Whether A is read in segments of 128 bits along k."""
        return self.folded > 0 or self.by_lanes > 0


@dataclass(frozen=True)
class GemmSchedule:
    """The tiling of C and the unrolling of k. Covers m x n exactly.

    cycles: what the cost model expects of one call; 0 where it was not asked. k_block: steps of k in one
    pass over all of C; 0 for all in one pass. Several passes keep reads of a large B running along its
    rows, page by page, at the price of reading C back. prefetch: how many trips of the loop over k ahead A
    and B are asked for; 0 where the CPU's own prefetchers are left to it.
    """

    columns: tuple[ColumnBlock, ...]
    unroll: int
    cycles: float = 0.0
    k_block: int = 0
    prefetch: tuple[int, int] = (0, 0)
