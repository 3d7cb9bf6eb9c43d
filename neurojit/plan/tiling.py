"""The choice of a GEMM's schedule: the cheapest cover of C that the cost model finds.

C is cut into columns of tiles. What a column of tiles costs depends on its width alone, since its rows are
cut for that width and nothing else; so widths are added up like coins: the cheapest cover of v whole vectors
ends in a tile of some width w after the cheapest cover of v - w. What is left of n beyond whole vectors, the
edge, is a tile of its own, or rides along in the last one: 24 is one tile of 16 + 8.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from neurojit.plan.cost import LINE, SEGMENT, TileCost, Traffic, cost_model, overlapped
from neurojit.plan.cut import Cut, ceil_div, cut_by, cut_equally, equal_share
from neurojit.plan.epilogue import SHORT_FUNCTIONS
from neurojit.plan.few_rows import COLLIDING, bounded_by_b, extent_of_b, schedule_few_rows
from neurojit.plan.gemm import ELEMENT_SIZE, ColumnBlock, Gemm, GemmSchedule, Matrix
from neurojit.plan.level import Level
from neurojit.plan.panels import Panels
from neurojit.target import Isa, Target

FULL_UNROLL = 16
"""A k up to this is unrolled entirely: no loop, no pointer to advance."""
UNROLL = 4
"""Steps of k in one trip of the loop otherwise."""
TILE_VECTORS = (1, 2, 3, 4, 5, 6)
"""Whole vectors side by side in one tile."""
ROW_VECTORS = (8, 12, 16)
"""The same of one row, which reads B in its multiply-adds, as far as there are registers for them."""
ROW_STEP = 1024
"""Bytes between what a load reads in one trip of the loop and in the next, of one row and a B beyond L1.
Farther apart, the prefetcher of L1, which follows each load on its own, is at a loss: 1 x 256 x 64 takes 1350
cycles with 1 KiB, 2100 with two or four. Measured on Zen 5."""
MOST_SEARCHED = 12
"""Whole vectors that tiles of all widths are tried on; of more, the first go to the best width."""
ROW_CUTS = 3
"""How many tiles more than necessary may lie below each other, for heights that fit better."""
NEAR = 1.025
"""What comes so near to the least that is possible is taken, and nothing better looked for."""
NEAR_ROWS = 1.01
"""The same of a cut of the rows, of which others are quickly tried: 2 x 24 rows are 3% slower than 3 x 16."""
KIND = 0.006
"""What another kind of tile is held to cost on x86-64, as a part of the whole: it is code of its own, to be
compiled and fetched. On Zen 5, 228 columns in two kinds of tiles are half a per cent faster than in three."""
CODE = 0.0001
"""What an instruction in the body of a tile is held to cost, as a part of the tile: the model is no better
than half a per cent, and shorter code compiles sooner and leaves more of the instruction cache to others."""
K_BLOCK = 6
"""Rows of B that one pass over C runs along: as many streams as the prefetchers of L1 and L2 follow."""
K_BLOCK_AGAIN = 512
"""The same for several rows, whose tiles read B again."""
FAR_ROWS = 1024
"""Bytes between rows of B from which one line of each row, down the rows, defeats the prefetchers."""


PRESETS = {Level.O1: (1, 4, 1), Level.O2: (2, 2, UNROLL)}
"""Rows of a tile, whole vectors side by side, steps of k in a trip: one tile for every shape."""


def schedule_gemm(g: Gemm, target: Target, level: Level = Level.O3) -> GemmSchedule:
    """A pure function of its arguments. Not for micro-kernels: those are one tile (`blocking`)."""
    assert g.k is not None
    if isinstance(g.b, Panels):
        return _schedule_panels(g, g.b, target)
    if level < Level.O3:
        return _preset(g, target, *PRESETS[level])
    if bounded_by_b(g, target):
        return schedule_few_rows(g, target)
    block = k_block(g, target)
    at_once = block if block == K_BLOCK else _steps_of_k(g, g.b.row_stride, target)
    unroll = max(g.k, 1) if g.k <= FULL_UNROLL else at_once
    size = ELEMENT_SIZE[g.dtype]
    full = target.isa.widest // 8 // size
    vectors = g.n // full
    cover, least = None, float("inf")
    searches: dict[int, _Search] = {}  # by what masks leave of the registers
    for edge, folded in ways_to_end(g, target):
        masks = 0
        if not target.isa.mask_registers:
            partial = (*edge, *segments_rest(folded, size))
            masks = sum([lanes * size not in (4, 8, 16, 32, 64) for lanes in partial])
        if masks not in searches:
            searches[masks] = _Search(g, target, masks)
        search = searches[masks]
        if search.floor(vectors, edge, folded) * NEAR < least:
            found = search.cover(vectors, edge, folded)
            cost = sum([tile.cost for tile in found])
            if cost < least:
                cover, least = found, cost
    assert cover is not None
    columns, model, adjacent = [], cost_model(target, size), has_adjacent_segments(g)
    for tile, same in groupby(cover):
        of_tile = model.tile(tile.lanes, tile.folded, adjacent)
        lanes = grouped(tile.lanes, g, target.isa)
        by_lanes = of_tile.rows_by_lanes(tile.rows.size)
        columns.append(ColumnBlock(lanes, len(list(same)), tile.rows, tile.folded, of_tile.shared, by_lanes))
    return GemmSchedule(tuple(columns), unroll, sum([tile.cycles for tile in cover]), block)


def _steps_of_k(g: Gemm, row: int, target: Target) -> int:
    """In one trip of the loop, where the rows of B lie so many elements apart."""
    assert g.k is not None
    size = ELEMENT_SIZE[g.dtype]
    if g.m > 1 or _is_in_l1(g.k * g.n * size, target):
        return UNROLL
    return max(1, min(UNROLL, ROW_STEP // (row * size)))


def _is_in_l1(size: int, target: Target) -> bool:
    """Whether so many bytes stay there beside what else is used."""
    return size <= target.caches.l1d.size // 2


def _reads_in_place(isa: Isa) -> bool:
    """Whether a multiply-add takes its vector from memory."""
    return not (isa.multiplies_lanes or isa.scalars_apart)


def _row_vectors(isa: Isa, masks: int) -> int:
    """Whole vectors in a tile of one row are fewer than this."""
    return isa.vector_registers - 1 - masks if _reads_in_place(isa) else isa.vector_registers // 2


def _preset(g: Gemm, target: Target, height: int, vectors: int, unroll: int) -> GemmSchedule:
    """One tile for all of C; at the edges, what is left of it."""
    full = target.isa.widest // 8 // ELEMENT_SIZE[g.dtype]
    count, rest = divmod(g.n, vectors * full)
    whole, part = divmod(rest, full)
    edge = (full,) * whole + ((part,) if part else ())
    rows = cut_by(g.m, height)
    columns = [ColumnBlock((full,) * vectors, count, rows)] if count else []
    return GemmSchedule((*columns, ColumnBlock(edge, 1, rows)) if edge else tuple(columns), unroll)


class _Tile(NamedTuple):
    """A column of tiles: its best cut of the rows and what it costs; `cost` counts the code too."""

    lanes: tuple[int, ...]
    folded: int
    rows: Cut
    cycles: float
    cost: float


class _Search:
    """Covers of one product by tiles that leave `masks` vector registers to masks.

    The search ends early where what it has is within NEAR of what arithmetic and stores take in any cover.
    """

    def __init__(self, g: Gemm, target: Target, masks: int) -> None:
        assert g.k is not None
        self.m, self.k, self.isa, self.masks = g.m, g.k, target.isa, masks
        self.model = cost_model(target, ELEMENT_SIZE[g.dtype])
        self.adjacent = has_adjacent_segments(g)
        self.traffic = Traffic(g, target)
        self.with_epilogue = g.has_epilogue  # whose operands and masks need the registers of B
        self.whole: dict[int, _Tile] = {}

    def floor(self, vectors: int, edge: tuple[int, ...], folded: int = 0) -> float:
        """What no cover of so many whole vectors and an edge can beat."""
        of_vectors = vectors * self.model.tile((self.model.full,)).least(self.m, self.k)
        of_edge = (
            self.model.tile(edge, folded, self.adjacent).least(self.m, self.k) if edge or folded else 0.0
        )
        return of_vectors + of_edge

    def _tallest(self, vectors: int) -> int:
        if self.isa.scalars_apart and not self.with_epilogue:
            return max(1, (self.isa.vector_registers - vectors) // vectors)
        return max_height(self.isa, vectors, self.masks)

    def cover(self, vectors: int, edge: tuple[int, ...], folded: int = 0) -> list[_Tile]:
        """The cheapest cover of so many whole vectors and an edge."""
        widths = self._widths(vectors)
        best: list[tuple[float, int]] = [(0.0, 0)]  # of so many vectors: cost, width of the last tile
        tiles, few = [], vectors
        if vectors > MOST_SEARCHED:
            tile = min([self.of_width(w) for w in widths], key=lambda tile: tile.cost / len(tile.lanes))
            wide = len(tile.lanes)
            tiles = [tile] * min(ceil_div(vectors - MOST_SEARCHED, wide), vectors // wide)
            few -= len(tiles) * len(tile.lanes)
        kind = KIND * self.floor(vectors, edge, folded) if self.isa.has_segments else 0.0
        for v in range(1, few + 1):
            costs = []
            for w in widths:
                if w <= v:
                    before, of_last = best[v - w]
                    costs.append(
                        (before + self.of_width(w).cost + (kind if of_last not in (0, w) else 0.0), w)
                    )
            best.append(min(costs))
        riding, last = 0, None
        if edge or folded:
            least, enough = float("inf"), self.floor(few, edge, folded) * NEAR
            for w in range(min(few, MOST_WITH_EDGE) + 1):
                found = self.tile((self.model.full,) * w + edge, folded)
                if found is None:
                    break
                cost = found.cost + best[few - w][0]
                if cost < least:
                    riding, last, least = w, found, cost
                if cost < enough:
                    break
            assert last is not None
        few -= riding
        while few:
            tiles.append(self.of_width(best[few][1]))
            few -= best[few][1]
        tiles.sort(key=lambda tile: -len(tile.lanes))
        return [*tiles, last] if last else tiles

    def _widths(self, vectors: int) -> list[int]:
        """Of the tiles worth trying: from narrow to wide, up to one that is near the floor and divides."""
        widths, most = [], _row_vectors(self.isa, self.masks)
        for w in TILE_VECTORS if self.m > 1 else TILE_VECTORS + ROW_VECTORS:
            if w <= vectors and w < most:
                widths.append(w)
                if vectors % w == 0 and self.of_width(w).cost < self.floor(w, ()) * NEAR:
                    break
        return widths

    def of_width(self, vectors: int) -> _Tile:
        tile = self.whole.get(vectors)
        if tile is None:
            tile = self.tile((self.model.full,) * vectors)
            assert tile is not None
            self.whole[vectors] = tile
        return tile

    def tile(self, lanes: tuple[int, ...], folded: int = 0) -> _Tile | None:
        """The best cut of the rows for tiles of these columns: about as few as the registers allow. None
        where these do not hold one group of folded rows."""
        cost, m, k = self.model.tile(lanes, folded, self.adjacent), self.m, self.k
        enough = cost.least(m, k) * NEAR_ROWS
        best, least = (Cut(0, 0), 0.0), float("inf")
        cuts = self._folded_cuts(cost) if folded else self._cuts(len(lanes))
        for rows in cuts:
            cycles = rows.of_size * cost.cycles(rows.size, k)
            body = rows.size + 1
            if rows.of_rest:
                cycles += rows.of_rest * cost.cycles(rows.rest, k)
                body += rows.rest + 1
            if not self.traffic.none:
                columns = sum(lanes) + folded
                cycles = overlapped(cycles, self.traffic.cycles(columns, rows.size, rows.tiles))
            dear = cycles * (1 + CODE * body * (len(lanes) + cost.folds))
            if dear < least:
                best, least = (rows, cycles), dear
                if cycles <= enough and not rows.of_rest:
                    break
        return _Tile(lanes, folded, *best, least) if least < float("inf") else None

    def _cuts(self, vectors: int) -> Iterator[Cut]:
        count = ceil_div(self.m, self._tallest(vectors))
        for tiles in range(count, min(count + ROW_CUTS, self.m + 1)):
            yield cut_equally(self.m, tiles)

    def _folded_cuts(self, cost: TileCost) -> Iterator[Cut]:
        """Into tiles whose rows fill the registers that they are folded into, all but the last."""
        m, unit = self.m, cost.rows_a_fold
        room = self.isa.vector_registers - (0 if self.isa.mask_registers else self.masks)
        units = ceil_div(m, unit)
        while units and cost.registers(units * unit) > room:
            units -= 1
        for height in range(units, max(units - ROW_CUTS, 0), -1):
            if m % unit:
                yield cut_by(m, height * unit)
            else:
                rows = cut_equally(m // unit, ceil_div(m // unit, height))
                yield Cut(rows.size * unit, rows.of_size, rows.rest * unit, rows.of_rest)


def has_adjacent_segments(g: Gemm) -> bool:
    """Whether several steps of k of a row of A are one load. A single row may take them in several passes."""
    steps = SEGMENT // ELEMENT_SIZE[g.dtype]
    return g.m > 1 and g.a.column_stride == 1 and g.k is not None and g.k >= steps and isinstance(g.b, Matrix)


def ways_to_end(g: Gemm, target: Target) -> list[tuple[tuple[int, ...], int]]:
    """Ways to cover the columns beyond whole vectors: lanes of vectors, and columns that are folded, where
    that takes fewer slots: on Zen 4 for 4 columns of f32, but not for 8, on Zen 5 for both."""
    size = ELEMENT_SIZE[g.dtype]
    full = target.isa.widest // 8 // size
    rest = g.n % full
    ways = [(edge, 0) for edge in edges(rest, full, size)]
    if rest and target.isa.has_segments and has_adjacent_segments(g):
        model = cost_model(target, size)
        folded = model.tile((), rest, True)
        rows = folded.rows_a_fold
        if folded.slots(rows) < rows * min([model.tile(edge).slots_per_row for edge, _ in ways]):
            ways.insert(0, ((), rest))
    return ways


def segments_rest(folded: int, size: int) -> tuple[int, ...]:
    """Lanes of the last segment of folded columns, if it is not whole."""
    rest = folded % (SEGMENT // size)
    return (rest,) if rest else ()


def grouped(lanes: tuple[int, ...], g: Gemm, isa: Isa) -> tuple[int, ...]:
    """The same columns in vectors of 1, 2, 4 or 8 registers where the ISA has those: fewer instructions.

    Not before a long function, which needs many registers beside its argument; and few before one that
    compares, which needs another group and masks, or where a column's bias is held beside another term:
    the last groups that are free need not be aligned. Not with both.
    """
    e = g.epilogue
    compares, held = e.activation.name in COMPARING_FUNCTIONS, e.bias == "column"
    if compares and held:
        return lanes
    most = FEW_GROUPED if compares or (held and (e.beta or e.residual is not None)) else MOST_GROUPED
    full = isa.widest // 8 // ELEMENT_SIZE[g.dtype]
    if not isa.scalable or e.activation.name not in SHORT_FUNCTIONS:
        return lanes
    groups, left = [], sum(lanes)
    while left > 0:
        registers = 1 << (min(ceil_div(left, full), most).bit_length() - 1)
        groups.append(min(registers * full, left))
        left -= registers * full
    return tuple(groups)


MOST_GROUPED, FEW_GROUPED = 8, 2
"""Registers in a group; and where others must fit beside the sums."""
COMPARING_FUNCTIONS = ("relu", "leaky_relu")
"""Short functions that choose lane by lane."""
MOST_WITH_EDGE = 4
"""Whole vectors in a tile that the edge rides along in."""


def k_block(g: Gemm, target: Target) -> int:
    """Whether to pass over C several times: for one row, if B misses the caches down its columns.

    With more rows the wider reuse of each line of B outweighs the passes over C (so on Zen 4). But where
    rows of B meet in few sets of L2, fewer at a time are found there again: 5% for 4 to 16 rows on Zen 5.
    """
    size = ELEMENT_SIZE[g.dtype]
    assert g.k is not None
    of_b, row = extent_of_b(g), abs(g.b.row_stride) * size
    if g.m > 1:
        again = of_b > target.caches.l2.size and row % COLLIDING == 0 and g.k > K_BLOCK_AGAIN
        return equal_share(g.k, K_BLOCK_AGAIN, UNROLL) if again else 0
    far = g.k >= 2 * K_BLOCK and of_b > target.caches.l2.size // 2
    return K_BLOCK if far and row >= FAR_ROWS else 0


MORE_REGISTERS = ("bf16", "bf16 wide", "int8 words")
REGISTERS_OF_WORDS = {"aarch64-neon": 4, "riscv64-rvv": 2}
"""In which products of words are put together there; elsewhere in one."""


def max_height(isa: Isa, vectors: int, masks: int, storage: str | None = None) -> int:
    """Rows of a tile `vectors` wide: the accumulators fit the registers, with the shorter of a row of B and a
    column of A, and one register for the longer.

    A single row reads B in its multiply-adds, and can be wider. masks: of partial vectors, which take a
    vector register each where the ISA has no others for them. storage: of packed B, which may take more.
    """
    more = int(storage in MORE_REGISTERS)
    if storage == "int8 words":
        more = REGISTERS_OF_WORDS.get(isa.name, more)
    room = isa.vector_registers - (1 if isa.mask_registers else 1 + masks) - more
    return max(1, (room - vectors) // vectors, min(room // (vectors + 1), vectors - 1))


# Packed panels ------------------------------------------------------------------------------------------

WIDE_TILE = 8
"""Vectors side by side for few rows: chains enough to hide the latency of a multiply-add, and long loads."""
MOST_PANEL_ROWS = 12
"""Of a narrow tile: no more rows of A than the ways of L1 and half as many again."""


def _schedule_panels(g: Gemm, panels: Panels, target: Target) -> GemmSchedule:
    """Tiles as wide as a panel, or as two or four for few rows; then what the last panel holds.

    A panel is one stream whatever its neighbours are, so nothing is to be searched: few rows want many
    chains, many rows the widest reuse of each load. Measured on Zen 4, with panels of 32 to 128 columns.
    """
    assert g.k is not None
    isa, size = target.isa, ELEMENT_SIZE[g.dtype]
    full = isa.widest // 8 // size
    of_panel = panels.width // full
    most = min(WIDE_TILE, isa.vector_registers // 2 // g.m)
    side_by_side = 1
    while 2 * side_by_side * of_panel <= most:
        side_by_side *= 2
    count, rest = divmod(g.n, side_by_side * panels.width)
    whole, rest = divmod(rest, panels.width)
    lanes = (full,) * (whole * of_panel + rest // full) + edges(rest % full, full, size)[0]
    masks = int(rest % full > 0)
    columns = [
        ColumnBlock(vectors, tiles, _panel_rows(g.m, max_height(isa, len(vectors), masks, panels.storage)))
        for vectors, tiles in (((full,) * (side_by_side * of_panel), count), (lanes, 1))
        if tiles and vectors
    ]
    block = _panel_k_block(g, panels, target)
    unroll = max(g.k, 1) if g.k <= FULL_UNROLL else _steps_of_k(g, panels.width, target)
    return GemmSchedule(tuple(columns), unroll, 0.0, block)


LEAST_STRADDLING = 1 << 12
"""Bytes below which a matrix whose rows straddle cache lines is hardly dearer than one whose rows do not."""


def panel_of_one_row(dtype: str, k: int, n: int, target: Target) -> int:
    """Columns of the panels that k x n weights of a program should lie in where one row is multiplied by
    them: as many as a tile has, so that all of them are one stream. 0, for row after row, where that is one
    already or the weights stay in L1, and rows are whole lines: else every load of a long vector takes two.
    On Zen 5 an LSTM-128 step takes 2.3 us so, and 4.2 row after row; 1 x 1000 x 100 1.8 us and 2.9."""
    isa, size = target.isa, ELEMENT_SIZE[dtype]
    full = isa.widest // 8 // size
    most = max(w for w in ROW_VECTORS if w < _row_vectors(isa, masks=1))
    straddles = n * size > LINE and n * size % LINE != 0 and k * n * size >= LEAST_STRADDLING
    one_stream = n <= most * full or _is_in_l1(k * n * size, target)
    if (one_stream and not straddles) or not _reads_in_place(isa):
        return 0
    tiles = ceil_div(n, most * full)
    return ceil_div(ceil_div(n, tiles), full) * full


def _panel_rows(m: int, tallest: int) -> Cut:
    return cut_equally(m, ceil_div(m, min(tallest, MOST_PANEL_ROWS)))


def _panel_k_block(g: Gemm, panels: Panels, target: Target) -> int:
    """A part of a panel that stays in L2 while all rows sweep it, where the whole does not.

    int8, whose panels are the smallest, is scaled when the sum is complete, and never cut."""
    assert g.k is not None
    most = target.caches.l2.size // 2 // panels.group_bytes * panels.group
    if panels.is_scaled or g.m <= MOST_PANEL_ROWS or g.k <= 2 * most:
        return 0
    return equal_share(g.k, most, UNROLL)


def edges(rest: int, full: int, size: int) -> list[tuple[int, ...]]:
    """Ways to cover the columns beyond whole vectors: one partial vector, or halves down to 128 bits."""
    if rest == 0:
        return [()]
    pieces, left, lanes = [], rest, full // 2
    while lanes * size >= 16:
        if left >= lanes:
            pieces.append(lanes)
            left -= lanes
        lanes //= 2
    if left:
        pieces.append(left)
    return [(rest,), tuple(pieces)] if len(pieces) > 1 else [(rest,)]
