"""Tiles and cache blocks of a large GEMM, from the target's caches.

micro-tile   MR x NR of C            accumulators, in registers
B panel      KC x NR                 swept by the rows of a unit, from L2
A panels     unit rows x KC          stay in L2 while the unit sweeps its panels of B
block        what is packed at once  bounded by the scratch that a call may take
"""

from __future__ import annotations

from typing import NamedTuple

from neurojit.plan.gemm import ELEMENT_SIZE, UNROLL, ColumnBlock, Gemm, GemmSchedule, RowBlock, ceil_div
from neurojit.target import Target

MOST_KC = 1024
"""Steps of k in a block. Deep: each block reads and writes C once, and C is what comes from afar."""
SCRATCH_BYTES = 16 << 20
"""Packed panels of A, and again of B, that one call may keep."""
MEMBER_WORK = 1 << 19
"""Multiply-adds that are worth one more thread."""


STRIP_WORK = 1 << 18
"""Multiply-adds of a strip of a product that threads share without packing: some microseconds."""
MOST_STRIPS = 16
LEAST_STRIP_ROWS = 24
LEAST_STRIP_COLUMN_BYTES = 256
"""Four whole cache lines, four of the widest vectors."""


class Cut(NamedTuple):
    """An extent cut into `count` tiles of `size`, then `rest_count` tiles of `rest`, which is smaller."""

    size: int
    count: int
    rest: int
    rest_count: int

    @property
    def tiles(self) -> int:
        return self.count + self.rest_count

    @property
    def sizes(self) -> tuple[int, int]:
        """The two sizes, 0 for one that no tile has."""
        return self.size if self.count else 0, self.rest if self.rest_count else 0


class Blocking(NamedTuple):
    """kc: steps of k in a block. block_*: tiles packed at once. unit_*: tiles a thread takes at once."""

    rows: Cut
    columns: Cut
    kc: int
    block_rows: int
    block_columns: int
    unit_rows: int
    unit_columns: int
    member_work: int


def block_gemm(dtype: str, m: int, n: int, k: int, target: Target) -> Blocking:
    """Tiles and blocks as equal as can be, no larger than the caches allow."""
    size = ELEMENT_SIZE[dtype]
    mr, nr = micro_tile(dtype, target)
    rows, columns = cut_equally(m, mr), cut_by(n, nr)
    kc = equal_share(k, MOST_KC, 4)
    row_bytes = kc * size
    unit_bytes = target.caches.l2.size * 2 // 5  # of A, and again of B
    unit_rows = max(unit_bytes // (row_bytes * mr), 1)
    unit_columns = max(unit_bytes // (row_bytes * nr), 1)
    return Blocking(
        rows,
        columns,
        kc,
        block_rows=equal_share(rows.tiles, max(SCRATCH_BYTES // (row_bytes * mr), 1)),
        block_columns=equal_share(columns.tiles, max(SCRATCH_BYTES // (row_bytes * nr), 1)),
        unit_rows=equal_share(rows.tiles, unit_rows),
        unit_columns=equal_share(columns.tiles, unit_columns),
        member_work=MEMBER_WORK,
    )


def micro_tile(dtype: str, target: Target) -> tuple[int, int]:
    """MR x NR at most: 6 x 64 floats of AVX-512, 6 x 16 of AVX2.

    Six rows of four vectors need as many registers as twelve of two, and half the traffic of A.
    """
    lanes = target.isa.widest // 8 // ELEMENT_SIZE[dtype]
    return 6, (4 if target.isa.vector_registers == 32 else 2) * lanes


def one_tile(g: Gemm, target: Target) -> GemmSchedule:
    """The schedule of a micro-kernel: a single tile, its columns in whole vectors and what is left."""
    lanes = target.isa.widest // 8 // ELEMENT_SIZE[g.dtype]
    whole, rest = divmod(g.n, lanes)
    vectors = (lanes,) * whole + ((rest,) if rest else ())
    return GemmSchedule((RowBlock(g.m, 1),), (ColumnBlock(vectors, 1),), UNROLL, 0.0)


def cut_equally(extent: int, most: int) -> Cut:
    """As few tiles of at most `most` as possible, as equal as can be: 130 is 9 of 12 and 2 of 11."""
    tiles = ceil_div(extent, most)
    size, larger = divmod(extent, tiles)
    return Cut(size + 1, larger, size, tiles - larger) if larger else Cut(size, tiles, 0, 0)


class Strips(NamedTuple):
    """A product read in place, cut for threads to share: along its rows, or along its columns."""

    along_rows: bool
    cut: Cut


def cut_strips(dtype: str, m: int, n: int, work: int) -> Strips | None:
    """Strips of some work each and not many, none so low or narrow that A or B is read in vain; or None."""
    count = min(work // STRIP_WORK, MOST_STRIPS)
    if count < 2:
        return None
    if m >= 2 * LEAST_STRIP_ROWS:
        return Strips(True, cut_equally(m, max(ceil_div(m, count), LEAST_STRIP_ROWS)))
    width = LEAST_STRIP_COLUMN_BYTES // ELEMENT_SIZE[dtype]
    if n < 2 * width:
        return None
    return Strips(False, cut_by(n, equal_share(n, ceil_div(n, count), width)))


def cut_by(extent: int, size: int) -> Cut:
    """Tiles of `size`, whole vectors, then one of what is left."""
    count, rest = divmod(extent, size)
    return Cut(size, count, rest, 1 if rest else 0)


def equal_share(extent: int, most: int, unit: int = 1) -> int:
    """The extent cut into as few pieces of at most `most` as possible, evenly, rounded up to `unit`."""
    return ceil_div(ceil_div(extent, ceil_div(extent, max(most, unit))), unit) * unit
