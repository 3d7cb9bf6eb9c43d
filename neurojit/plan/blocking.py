"""Tiles and cache blocks of a large GEMM, from the target's caches.

micro-tile   MR x NR of C            accumulators, in registers
B panel      KC x NR                 stays in L2 while a unit's rows sweep it
A panels     unit rows x KC          stream through, evenly, from L3: each is used for a whole panel of B;
                                     rows that are contiguous are read where they lie, and not packed
block        what is packed at once  a part of L3: the less of A, since B is swept once per block of A
"""

from __future__ import annotations

from typing import NamedTuple

from neurojit.plan.cut import Cut, ceil_div, cut_by, cut_equally, equal_share
from neurojit.plan.gemm import ELEMENT_SIZE, ColumnBlock, Gemm, GemmSchedule, Matrix
from neurojit.plan.panels import STORAGES, Panels
from neurojit.plan.tiling import UNROLL, grouped
from neurojit.target import Target

MOST_KC = 1024
"""Steps of k in a block. Deep: each block reads and writes C once, and C is what comes from afar."""
ASSUMED_L3 = 16 << 20
UNITS = 48
"""Pieces of a block, about, that threads take in turn: enough that a slow core takes fewer."""
LEAST_UNIT_ROWS = 16
"""Tiles that a panel of B is swept by, where there are so many: fetching it from L3 must be worth it."""
MEMBER_WORK = 1 << 19
"""Multiply-adds that are worth one more thread."""
MOST_ROW_BYTES = 1 << 24
"""Between rows of A that are read in place: their offsets fit, and validation can lay them out."""


STRIP_WORK = 1 << 18
"""Multiply-adds of a strip of a product that threads share without packing: some microseconds."""
MOST_STRIPS = 16
LEAST_STRIP_ROWS = 24
STRIP_COLUMN_BYTES = 256
"""Four whole cache lines, four of the widest vectors: a tile."""
RUN_BYTES = 1024
"""The same for up to MOST_RUN_ROWS rows, which B bounds: it is read in runs along its rows, the longer the
sooner."""
MOST_RUN_ROWS = 3
ROW_MEMBER_WORK = 1 << 17
"""Multiply-adds of one row or column that are worth one more thread: each has to fetch an element."""
ROW_STRIP_BYTES = 1 << 16
"""Of the matrix, in a strip of a product of one row or column."""
UNIT_ROWS = 16
"""Rows that a matrix times a column is cut by."""


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
    a_in_place: bool


def block_gemm(dtype: str, m: int, n: int, k: int, target: Target, a: Matrix | None = None) -> Blocking:
    """Tiles and blocks as equal as can be, no larger than the caches allow. a: the strides of A, where
    it need not be packed."""
    size = ELEMENT_SIZE[dtype]
    mr, nr = micro_tile(dtype, target)
    rows, columns = cut_equally(m, ceil_div(m, mr)), cut_by(n, nr)
    kc = equal_share(k, MOST_KC, 4)
    l3 = target.caches.l3.size if target.caches.l3 else ASSUMED_L3
    a_in_place = a is not None and _reads_a_in_place(a, dtype, target)
    most_rows = rows.tiles if a_in_place else max(l3 // 8 // (kc * size * mr), 1)
    block_rows = equal_share(rows.tiles, most_rows)
    block_columns = equal_share(columns.tiles, max(l3 // 2 // (kc * size * nr), 1))
    unit_rows = max(ceil_div(block_rows * block_columns, UNITS), LEAST_UNIT_ROWS)
    return Blocking(
        rows,
        columns,
        kc,
        block_rows,
        block_columns,
        unit_rows=equal_share(block_rows, unit_rows),
        unit_columns=1,
        member_work=MEMBER_WORK,
        a_in_place=a_in_place,
    )


def _reads_a_in_place(a: Matrix, dtype: str, target: Target) -> bool:
    """Whether micro-kernels read A as it is: along its rows, all of a tile's from one register by offsets.

    Measured on Zen 5, in hundredths of the ceiling, packed against in place: n = 128 84 to 92, 256 89 to 93,
    512 94 to 96, 2048 93 to 96. Rows 8 KiB apart share the sets of L1, where six of them still fit."""
    within_reach = abs(a.row_stride) * ELEMENT_SIZE[dtype] <= MOST_ROW_BYTES
    return a.column_stride == 1 and target.isa.any_offset and within_reach


def micro_tile(dtype: str, target: Target) -> tuple[int, int]:
    """MR x NR at most: 6 x 64 floats of AVX-512, 6 x 16 of AVX2, 8 x 12 of NEON.

    Six rows of four vectors need as many registers as twelve of two, and half the traffic of A. Where
    multiply-adds take lanes, a step of eight rows loads two vectors of A (four of doubles) and three of B.
    """
    lanes = target.isa.widest // 8 // ELEMENT_SIZE[dtype]
    if target.isa.multiplies_lanes:
        return 8, 3 * lanes
    return 6, (4 if target.isa.vector_registers == 32 else 2) * lanes


def one_tile(g: Gemm, target: Target) -> GemmSchedule:
    """The schedule of a micro-kernel: a single tile, its columns in whole vectors and what is left."""
    lanes = target.isa.widest // 8 // ELEMENT_SIZE[g.dtype]
    whole, rest = divmod(g.n, lanes)
    vectors = (lanes,) * whole + ((rest,) if rest else ())
    return GemmSchedule((ColumnBlock(grouped(vectors, g, target.isa), 1, Cut(g.m, 1)),), UNROLL)


class Strips(NamedTuple):
    """A product read in place, cut for threads to share: along its rows, its columns, or both."""

    rows: Cut
    columns: Cut


def cut_strips(dtype: str, m: int, n: int, work: int) -> Strips | None:
    """Strips of some work each and not many, none so low or narrow that A or B is read in vain; or None.

    Columns are cut first: a strip of them reads its part of B once, for all rows, and A passes by as it does
    for any tile. On Zen 5 512 x 512 x 512 in strips of rows has 73% of the ceiling, of columns 98%."""
    count = min(work // STRIP_WORK, MOST_STRIPS)
    if count < 2:
        return None
    width = (RUN_BYTES if m <= MOST_RUN_ROWS else STRIP_COLUMN_BYTES) // ELEMENT_SIZE[dtype]
    columns = Cut(n, 1)
    if n >= 2 * width:
        columns = cut_by(n, equal_share(n, ceil_div(n, count), width))
    most = m // LEAST_STRIP_ROWS
    down = max(min(ceil_div(count, columns.tiles), most), 1)
    if columns.tiles * down % 2 and down < most:
        down += 1  # two threads take as many parts each
    return Strips(cut_equally(m, down), columns) if columns.tiles * down > 1 else None


def cut_row(n: int, row_bytes: int, unit: int) -> Strips | None:
    """The same for a product of one row of n elements, each of which reads `row_bytes` of the matrix; or of
    one column. unit: of elements that share lines, or streams."""
    count = min(n * row_bytes // ROW_STRIP_BYTES, MOST_STRIPS)
    if count < 2 or n < 2 * unit:
        return None
    return Strips(Cut(1, 1), cut_by(n, equal_share(n, ceil_div(n, count), unit)))


def row_member_work(panels: Panels) -> int:
    """ROW_MEMBER_WORK of packed weights: the smaller they are stored, the sooner they are fetched."""
    return ROW_MEMBER_WORK * max(4 // STORAGES[panels.storage].size, 1)


PART_WORK = 1 << 22
"""Multiply-adds of a part of a product with packed weights: what validating its kernel takes, too."""
PART_ROWS = 48
"""Rows of a part, at least where there are so many: a panel is fetched for all of them."""


def cut_panels(g: Gemm) -> Strips | None:
    """Parts of whole panels, and of rows where there are many; or None for a product of one.

    What a part reads stays in L2: its rows of A, while the panels of all columns pass by."""
    assert isinstance(g.b, Panels)
    assert g.k is not None
    work = g.m * g.n * g.k
    if g.m == 1:
        shared = work >= 2 * row_member_work(g.b)
        return cut_row(g.n, g.b.panel_bytes // g.b.width, g.b.width) if shared else None
    if work < 2 * STRIP_WORK:
        return None
    columns, rows = Cut(g.n, 1), Cut(g.m, 1)
    if g.m >= 2 * PART_ROWS:
        height = max(PART_WORK // (g.k * g.b.width), PART_ROWS) // PART_ROWS * PART_ROWS
        rows = cut_by(g.m, min(height, ceil_div(ceil_div(g.m, 2), PART_ROWS) * PART_ROWS))
        columns = cut_by(g.n, g.b.width)
    elif g.n >= 2 * g.b.width:
        count = min(work // STRIP_WORK, MOST_STRIPS)
        columns = cut_by(g.n, equal_share(g.n, ceil_div(g.n, count), g.b.width))
    return Strips(rows, columns)
