"""The schedule of a few rows times a B that is read where it lies and has left L1.

Here B bounds the time: each of its lines serves a few multiply-adds and is gone. What a line costs depends on
how many of its neighbours are read with it: the wider a tile, the longer the runs along the rows of B. So the
tile is as wide as the registers allow for the rows, 16 vectors for one row, 8 to 12 for two or three; and B
from beyond L2 is read in passes over k, so short that all of it is one stream through memory.

More rows use each line more often, and the cost model of `tiling` finds their tiles. But where rows of B meet
in the same sets of the caches, a line that is read again comes from beyond L2 again: there two tiles of seven
rows and four vectors, in passes that L2 holds, are better than tall and narrow ones. Measured on Zen 5.
"""

from __future__ import annotations

from neurojit.plan.cut import Cut, ceil_div, cut_equally, equal_share
from neurojit.plan.gemm import ELEMENT_SIZE, ColumnBlock, Gemm, GemmSchedule
from neurojit.target import Isa, Target

MOST_ROWS = 3
SEVENS = (7, 13, 14)
"""Rows that tiles of four vectors, seven rows high instead of six, cover in one sweep over B less."""
COLLIDING = 4096
"""Bytes between rows that put all of them in the same sets of L1, and in few of L2."""
WIDTHS = (16, 12, 8, 6, 5, 4)
"""Vectors side by side in a tile."""
LEAST_VECTORS = 8
"""Of a row of B, from which its runs are long enough to think about."""
LINE = 64
STREAM_VECTORS = 8
"""Side by side for one row and a B from beyond L2: 16 take a fifth longer where it comes from memory; so do
8, against 4, where registers are wider than what a core computes at once (Zen 4)."""
STREAM_ROWS, STREAM_ROWS_OF_MORE = 12, 8
"""Rows of B in a pass of one row of A, and of two or three. Where rows meet in one set of L1, no more than it
has ways: on Zen 4, with 8, twelve take up to half as long again."""
BODY = 256
"""Vectors of B in the body of a loop: the same load meets lines so far apart
then that the prefetcher of L1 takes none of them for a stream of its own."""
UNROLL = 4
SPARE = 4
"""Registers beside the accumulators."""
BESIDE = 0.05
"""What is not hidden of the shorter of multiplying and reading."""
STAYS_IN_L2 = 8
"""The part of L2, one in so many, that the lines of a pass may fill to be found there again."""


def bounded_by_b(g: Gemm, target: Target) -> bool:
    """Whether a product is one of these."""
    assert g.k is not None
    size = ELEMENT_SIZE[g.dtype]
    full = target.isa.widest // 8 // size
    of_b = extent_of_b(g)
    if not target.isa.any_offset or g.n < LEAST_VECTORS * full or of_b <= target.caches.l1d.size:
        return False
    collides = of_b > target.caches.l2.size and abs(g.b.row_stride) * size % COLLIDING == 0
    return g.m <= MOST_ROWS or (g.m in SEVENS and collides and target.isa.mask_registers > 0)


def extent_of_b(g: Gemm) -> int:
    """Bytes of the rows of B, with what lies between them: other strips of the same product."""
    assert g.k is not None
    return g.k * max(g.n, abs(g.b.row_stride)) * ELEMENT_SIZE[g.dtype]


def schedule_few_rows(g: Gemm, target: Target) -> GemmSchedule:
    """A pure function of its arguments, for what is `bounded_by_b`."""
    assert g.k is not None
    size = ELEMENT_SIZE[g.dtype]
    full = target.isa.widest // 8 // size
    far = extent_of_b(g) > target.caches.l2.size
    vectors, edge = ceil_div(g.n, full), g.n % full
    masks = int(edge > 0)
    stream = round(STREAM_VECTORS * min(1.0, target.pipes.fma_per_cycle(target.isa.widest) / 2))
    widths = (stream,) if g.m == 1 and far else WIDTHS
    cuts = {cut_equally(vectors, ceil_div(vectors, width)) for width in widths if width <= vectors}
    costs = {
        cut: sum(tiles * _cost(g.m, width, masks, far, target) for width, tiles in cut.groups)
        for cut in cuts
        if _tallest(target.isa, g.m, cut.size, masks)
    }
    cut = min(costs, key=lambda cut: (costs[cut], cut))
    columns, shared = [], target.isa.mask_registers > 0
    for width, tiles in cut.groups:
        rows = _rows(g.m, width, target.isa, masks)
        ends = edge and width == cut.groups[-1][0]
        if tiles > ends:
            columns.append(ColumnBlock((full,) * width, tiles - bool(ends), rows, shared=shared))
        if ends:
            columns.append(ColumnBlock((*(full,) * (width - 1), edge), 1, rows, shared=shared))
    if g.m > MOST_ROWS:
        unroll, width = UNROLL, cut.size
        most = target.caches.l2.size // STAYS_IN_L2 // (width * full * size)
        block = equal_share(g.k, most, UNROLL) if far else 0
    elif cut.tiles > 1 and (far or g.m == 1):
        block = unroll = STREAM_ROWS if g.m == 1 else STREAM_ROWS_OF_MORE
        if abs(g.b.row_stride) * size % COLLIDING == 0:
            block = unroll = min(unroll, target.caches.l1d.ways or unroll)
    else:
        block, unroll = 0, max(BODY // max(cut.size, LEAST_VECTORS) // g.m, UNROLL)
    return GemmSchedule(tuple(columns), min(unroll, g.k), costs[cut] * g.k, block if block < g.k else 0)


def _tallest(isa: Isa, m: int, width: int, masks: int) -> int:
    """Rows of a tile so wide that the registers hold; 0 for none. Where multiply-adds broadcast from memory,
    one vector of B beside the accumulators is enough, and what is left are scalars of A."""
    if isa.mask_registers:
        return (isa.vector_registers - SPARE) // width
    room = isa.vector_registers - 1 - masks
    if m == 1:
        return 1 if width < room else 0
    return max((room - width) // width, min(room // (width + 1), width - 1))


def _rows(m: int, width: int, isa: Isa, masks: int) -> Cut:
    return cut_equally(m, ceil_div(m, _tallest(isa, m, width, masks)))


def _cost(m: int, width: int, masks: int, far: bool, target: Target) -> float:
    """Cycles that a step of k takes for all rows of a column of tiles."""
    pipes = target.pipes
    lines = width * target.isa.widest / 8 / LINE
    rows = _rows(m, width, target.isa, masks)
    cycles = 0.0
    for tile in range(rows.tiles):
        height = rows.size if tile < rows.of_size else rows.rest
        multiplying = max(height * width / pipes.fma_per_cycle(target.isa.widest), pipes.fma_latency)
        reading = lines * cost_of_line(lines, far and tile == 0)
        cycles += max(multiplying, reading) + BESIDE * min(multiplying, reading)
    return cycles


def cost_of_line(lines: float, far: bool) -> float:
    """Cycles to bring one of so many adjacent lines of a row from L2, or from beyond."""
    return 2.4 + 26 / lines**2 if far else 1.2 + 6 / lines
