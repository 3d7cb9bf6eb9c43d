"""From a call's matrix product to the kernel that serves it.

A product of one column is computed as a product of one row, its transpose, so only one of the two
needs thought. A row times a matrix read along its rows is `gemm` with m = 1; read down its columns, as
x @ W.T is, it is `gemv`. Larger products run in place while B stays in cache; beyond, and for strides
no vector load can follow, the blocked driver packs.
"""

from __future__ import annotations

from typing import NamedTuple

from neurojit.errors import StorageError
from neurojit.plan.blocking import Blocking, block_gemm, micro_tile
from neurojit.plan.epilogue import NO_EPILOGUE, Epilogue
from neurojit.plan.gemm import Gemm, Matrix, Output
from neurojit.plan.gemv import LEAST_DEPTH, Gemv
from neurojit.plan.level import Level
from neurojit.plan.panels import Panels
from neurojit.target import Target


class Product(NamedTuple):
    """One matrix product as a call sees it. Strides in elements, element_size in bytes."""

    m: int
    n: int
    k: int
    a_row: int
    a_column: int
    b_row: int
    b_column: int
    c_row: int
    element_size: int

    @property
    def dtype(self) -> str:
        return "f32" if self.element_size == 4 else "f64"

    @property
    def panels(self) -> Panels | None:
        """The layout of B, if it is packed: see plan/panels.py for the strides it then has."""
        return Panels.of_strides(self.b_row, self.b_column, self.k)

    def level_at(self, asked: Level) -> Level:
        """The level it is computed at: packed weights are laid out for the highest and have no other."""
        return Level.O3 if self.panels is not None else asked

    @property
    def work(self) -> int:
        """Multiply-adds."""
        return self.m * self.n * self.k

    def __str__(self) -> str:
        panels = self.panels
        if panels is not None:
            return (
                f"{self.dtype} {self.m}x{self.n}x{self.k}, strides A ({self.a_row}, {self.a_column}), "
                f"B {panels.storage} in panels of {panels.width} columns"
            )
        return (
            f"{self.dtype} {self.m}x{self.n}x{self.k}, strides A ({self.a_row}, {self.a_column}) "
            f"B ({self.b_row}, {self.b_column}) C ({self.c_row}, 1)"
        )


IN_PLACE_WORK = 1 << 28  # multiply-adds up to which kernels of its own, of strips, are worth validating
IN_PLACE_ROWS = 16  # so few rows read B only once or twice: packing would cost more than it saves
ALIASING = 4096  # bytes between rows that put all of them in the same sets of L1
REACH = 1 << 31  # bytes a 32-bit displacement spans
MOST_READ_SPAN, MOST_WRITTEN_SPAN = 1 << 28, 1 << 26  # bytes: validation lays operands out with these strides

MOST_PANELS_A_TILE = 8

Kernel = Gemm | Gemv | Blocking


def plan_product(
    p: Product, target: Target, epilogue: Epilogue = NO_EPILOGUE, level: Level = Level.O3
) -> Kernel:
    """The payload of the kernel for this product, or the blocks it is cut into.

    Epilogue and level change nothing in the order of additions. Below O3 only what no vector load can follow
    is packed.
    """
    panels = p.panels
    if panels is not None:
        return _of_panels(p, panels, epilogue)
    column = p.n == 1 and (p.c_row == 1 or p.m == 1)
    row = _transposed(p) if column else p
    of_row = epilogue.transposed(p.m) if column else epilogue
    if row.m == 1 and row.b_row == 1 and row.a_column == 1 and p.k >= LEAST_DEPTH and _within_reach(row):
        return Gemv(p.dtype, row.n, p.k, row.b_column, swapped=not column, epilogue=of_row)
    if _reads_in_place(row, target) or (level < Level.O3 and row.b_column == 1 and _within_reach(row)):
        a, b = Matrix(row.a_row, row.a_column), Matrix(row.b_row)
        return Gemm(p.dtype, row.m, row.n, p.k, a, b, Output(row.c_row), swapped=column, epilogue=of_row)
    return block_gemm(p.dtype, p.m, p.n, p.k, target, Matrix(p.a_row, p.a_column))


def _of_panels(p: Product, panels: Panels, epilogue: Epilogue) -> Gemm:
    """The product with packed weights; of activations that are rounded, as they lie in scratch then.

    StorageError where no displacement reaches from panel to panel."""
    in_place = p._replace(b_row=0, b_column=0)
    if not _within_reach(in_place) or MOST_PANELS_A_TILE * panels.panel_bytes >= REACH:
        raise StorageError(f"{p}: operands or panels too far apart for a kernel; NumPy computes it")
    a = Matrix(panels.row_bytes // p.element_size) if panels.is_rounded else Matrix(p.a_row, p.a_column)
    k = panels.depth if panels.is_rounded else p.k
    return Gemm(p.dtype, p.m, p.n, k, a, panels, Output(p.c_row), epilogue=epilogue)


def _transposed(p: Product) -> Product:
    """C of one column as a row: C' = B' @ A'. C's elements are adjacent."""
    return p._replace(
        m=1,
        n=p.m,
        a_row=p.k,
        a_column=p.b_row,
        b_row=p.a_column,
        b_column=p.a_row if p.m > 1 else 1,
        c_row=p.m,
    )


def _reads_in_place(p: Product, target: Target) -> bool:
    """Whether kernels specialised to these strides serve: B in cache and within reach.

    Measured on Zen 4, in place against packed: n = 576 (B of 1.3 MB, L2 of 1 MB) 114 to 108 GFLOP/s, n =
    640 equal, n = 1000 104 to 107; 1500 x 1500 x 64 (C of 9 MB) 86 to 108; 64 x 1024 x 1024, whose rows of
    B lie 4096 bytes apart, 54 to 102. AVX2, whose tiles read one line of each row of B: n = 300 equal, n =
    333 88 to 108; float64 with rows 2048 bytes apart, n = 256, 47 to 54.
    """
    if p.b_column != 1 or p.work > IN_PLACE_WORK:
        return False
    size, l2 = p.element_size, target.caches.l2.size
    if p.m > IN_PLACE_ROWS:
        wide = micro_tile(p.dtype, target)[1] * size >= 256  # four lines of each row of B and more
        most_b, aliasing = (l2 * 5 // 4, ALIASING) if wide else (l2 * 3 // 8, ALIASING // 2)
        if p.k * p.n * size > most_b or p.m * p.n * size > l2 * 4:
            return False
        if p.k > 32 and p.b_row * size % aliasing == 0:
            return False
    if p.m > 8 and p.n * size <= 128 and p.a_row * size % ALIASING == 0:
        return False  # a narrow tile is tall: more rows of A than a set of L1 has ways
    return _within_reach(p)


def _within_reach(p: Product) -> bool:
    """Whether displacements fit 32 bits, and validation can afford to lay the operands out."""
    read = max(_span(p.m, p.a_row) + _span(p.k, p.a_column), _span(p.k, p.b_row) + _span(p.n, p.b_column))
    written = _span(p.m, p.c_row) + p.n
    if read * p.element_size > MOST_READ_SPAN or written * p.element_size > MOST_WRITTEN_SPAN:
        return False
    steps = 32  # more than the rows of any tile or the steps of any unrolling
    farthest = max(abs(p.a_row) + abs(p.a_column), abs(p.b_row) + abs(p.b_column) + p.n, abs(p.c_row) + p.n)
    return farthest * steps * p.element_size < REACH


def _span(extent: int, stride: int) -> int:
    """From the first to the last of `extent` elements."""
    return (extent - 1) * abs(stride)
