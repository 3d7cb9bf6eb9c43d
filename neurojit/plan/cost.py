"""What a tile of a GEMM costs, in core cycles: the model that schedules are chosen by.

Per step of k of a tile of `height` rows and vectors of certain widths

    cycles = max(FMA slots / FMA pipes, loads / load ports, FMA latency)

and per tile, once: zeroing and storing the accumulators. Widths matter because hardware differs: where
a 512-bit FMA takes two slots and a 256-bit one takes one (Zen 4), 24 columns are best cut as 16 + 8.
Beside the arithmetic, A and B are brought to L1 as often as the tiles need them (`Traffic`).

The constants are fitted by measuring many schedules of many shapes on Zen 4, and on Zen 5 where it says so.
"""

from __future__ import annotations

from math import ceil, gcd

from neurojit.plan.cut import ceil_div
from neurojit.plan.gemm import ELEMENT_SIZE, Gemm, register_bits
from neurojit.target import Isa, Target

STORES_SEEN = 0.25
"""The part of a tile's stores that its neighbours' multiply-adds do not hide."""
STORES_HIDDEN, WIDE_STORES_HIDDEN = 36.0, 18
"""Cycles of stores, or stores of 512 bits where these take less, from which they hold up what follows, so
that each is seen twice: 30 vectors of 512 bits lose 60 cycles on Zen 4 and 16 none; on Zen 5, where one takes
half as long, 22 lose 6. Folded columns, whose rows are stored in segments, lose none."""
TILE_CYCLES = 1.0
"""What a tile costs besides: zeroing, pointers, the loop's exit."""
LOADS_LOST = 1.06
"""What loads take where they are the bound, against what their ports could do."""
LOADS_BY_LANES = 0.05
"""The part of a step's loads that counts where multiply-adds take lanes, or scalars in registers of their
own, though other ports are the bound: nothing was measured there, and of tiles that multiply alike the one
with fewer loads is the better one."""
CHAINS_LOST = 0.3
"""Cycles lost in a step whose multiply-adds take just as long as one of them: the chains fall out of step."""
FOLD_LOADS = 1.5
"""Loads that a segment of A costs: every second one crosses a cache line somewhere."""
LOADS_SEEN = 0.06
"""What is seen of loads that take as long as the multiply-adds; far less, the less they take. On Zen 5."""
LOADS_ROOM = 0.92
"""The part of the multiply-adds' time that loads may take before rows are given their scalars by lanes: on
Zen 5, 512 bits, 17 loads beside 16 multiply-adds reach 88%, 14 99%."""
OVERLAP_LOST = 0.6
"""What is not hidden when arithmetic and reading take as long; less the more they differ."""
L3_LINE_CYCLES = 3.0
"""Cycles to bring one line to L1 in a stream: 77 GB/s at 3.6 GHz."""
LINE = 64
SEGMENT = 16
"""Bytes of a segment of folded columns."""


class TileCost:
    """What a tile of certain columns costs: per row and step, per step, and per row once.

    lanes: of its vectors. folded: columns behind them that are folded. adjacent: whether the elements of A's
    rows are, so that one load may bring several. The numbers decide, too, how scalars of A are best loaded:
    `shared`, and how many `rows_by_lanes`."""

    __slots__ = (
        "_at_once", "_fma_pipes", "_free_shuffles", "_known", "_loads", "_loads_per_row", "_loads_seen",
        "_most_rows_by_lanes", "_registers", "_saved_by_lanes", "_slots_of_folds", "_stores_hidden",
        "_takes_scalars", "folds", "latency", "rows_a_fold", "shared", "slots_per_row", "stores_per_row",
        "vectors",
    )  # fmt: skip

    def __init__(
        self, lanes: tuple[int, ...], folded: int, adjacent: bool, size: int, target: Target
    ) -> None:
        pipes, isa = target.pipes, target.isa
        self._loads_seen = LOADS_SEEN if isa.has_segments else 0.0  # where it was measured
        self._known: dict[int, tuple[float, float]] = {}
        self.slots_per_row = self._loads = self.stores_per_row = 0.0
        for count in lanes:
            width = register_bits(count * size)
            self.slots_per_row += pipes.fma_slots[width] / pipes.fma_pipes
            self._loads += 1 / pipes.loads_per_cycle[width]
            self.stores_per_row += 1 / pipes.stores_per_cycle[width] + _partial_penalty(count * size, isa)
        self.vectors, self.latency, self._fma_pipes = len(lanes), pipes.fma_latency, pipes.fma_pipes
        self._stores_hidden = min(STORES_HIDDEN, WIDE_STORES_HIDDEN / pipes.stores_per_cycle[512])
        self._registers = isa.vector_registers - (not isa.mask_registers)  # one may hold a mask
        # A broadcast reads one element whatever it fills; embedded, every multiply-add does its own. Where
        # those alone would keep the load ports as busy as the pipes, vectors share one. A scalar in a
        # register of its own serves all of them anyway.
        one = 1 / pipes.loads_per_cycle[128]
        embedded = len(lanes) * one if isa.mask_registers and not isa.scalars_apart else one
        at_ports = bool(lanes) and embedded >= self.slots_per_row
        self.shared = at_ports and len(lanes) > 1 and isa.mask_registers > 0 and not isa.scalars_apart
        self._loads_per_row = one if self.shared else embedded
        # one load brings a row's scalars of several steps, while registers hold them for every row
        self._at_once = isa.widest // 8 // size
        room = isa.vector_registers - 2
        self._most_rows_by_lanes = room // (len(lanes) + 1) if isa.multiplies_lanes else 0
        self._takes_scalars = isa.multiplies_lanes or isa.scalars_apart
        segment = SEGMENT // size
        self._free_shuffles = pipes.free_shuffles[isa.widest]
        spreads = isa.has_segments and adjacent and at_ports and len(lanes) == 1
        spreads = spreads and self._free_shuffles >= pipes.fma_pipes
        self._saved_by_lanes = one * (1 - 1 / segment) if spreads else 0.0
        # folded columns: a load of A's row for the steps of a segment, one of B for all rows
        self.folds = ceil_div(folded, segment)
        self.rows_a_fold = isa.widest // 128 if folded else 1
        self._slots_of_folds = self.folds * pipes.fma_slots[isa.widest] / pipes.fma_pipes if folded else 0.0
        if folded:
            self._loads += self.folds / pipes.loads_per_cycle[isa.widest]
            self._loads_per_row += FOLD_LOADS / segment / pipes.loads_per_cycle[128]
            self.stores_per_row += self.folds / pipes.stores_per_cycle[128]
            if folded % segment:
                self.stores_per_row += _partial_penalty(folded % segment * size, isa)

    def slots(self, height: int) -> float:
        """Cycles of a step's multiply-adds."""
        return height * self.slots_per_row + ceil_div(height, self.rows_a_fold) * self._slots_of_folds

    def loads(self, height: int) -> float:
        """Cycles of a step's loads."""
        of_a = height * self._loads_per_row
        if height <= self._most_rows_by_lanes:
            of_a /= self._at_once
        return of_a + self._loads - self.rows_by_lanes(height) * self._saved_by_lanes

    def registers(self, height: int) -> int:
        """Vector registers of a tile, but for masks and rows by lanes."""
        of_folds = ceil_div(height, self.rows_a_fold) * (self.folds + 1) if self.folds else 0
        return height * self.vectors + of_folds + max(self.vectors, self.folds) + 1

    def rows_by_lanes(self, height: int) -> int:
        """Rows that get their scalars several steps at a time, so that loads leave their ports some rest."""
        if not self._saved_by_lanes:
            return 0
        loads = height * self._loads_per_row + self._loads
        excess = loads - LOADS_ROOM * self.slots(height)
        if excess <= 0:
            return 0
        return max(
            0, min(ceil(excess / self._saved_by_lanes), height, self._registers - self.registers(height))
        )

    def cycles(self, height: int, k: int) -> float:
        """Of one tile."""
        known = self._known.get(height)
        if known is None:
            known = self._known[height] = self._step_and_once(height)
        return k * known[0] + known[1]

    def _step_and_once(self, height: int) -> tuple[float, float]:
        """Cycles of a step of k, and of a tile once."""
        step = self.slots(height)
        if step < self.latency:
            step = self.latency
        else:
            step += CHAINS_LOST * (self.latency / step) ** 3
        shuffles = self.rows_by_lanes(height) + (ceil_div(height, self.rows_a_fold) if self.folds else 0)
        if self._free_shuffles == 0:
            step += shuffles / self._fma_pipes
        elif step * self._free_shuffles < shuffles:
            step = shuffles / self._free_shuffles
        loads = self.loads(height)
        if self._takes_scalars:
            step += loads * LOADS_BY_LANES
            loads *= LOADS_LOST
        else:
            loads *= LOADS_LOST
            step += self._loads_seen * loads**4 / step**3
        stores = height * self.stores_per_row
        late = 2 * (stores - self._stores_hidden) if stores > self._stores_hidden and not self.folds else 0.0
        return max(step, loads), stores * STORES_SEEN + late + TILE_CYCLES

    def least(self, m: int, k: int) -> float:
        """Cycles that tiles of m rows in all take at least, however they are cut: arithmetic and stores."""
        slots = self.slots_per_row + self._slots_of_folds / self.rows_a_fold
        return m * (k * slots + self.stores_per_row * STORES_SEEN)


class CostModel:
    """The tiles of one target and element size, each computed once."""

    def __init__(self, target: Target, size: int) -> None:
        self.target = target
        self.full = target.isa.widest // 8 // size
        self._size = size
        self._tiles: dict[tuple[tuple[int, ...], int, bool], TileCost] = {}

    def tile(self, lanes: tuple[int, ...], folded: int = 0, adjacent: bool = False) -> TileCost:
        key = lanes, folded, adjacent
        cost = self._tiles.get(key)
        if cost is None:
            cost = self._tiles[key] = TileCost(*key, self._size, self.target)
        return cost


_models: dict[tuple[int, int], CostModel] = {}


def cost_model(target: Target, size: int) -> CostModel:
    # By identity: hashing a target, a tree of frozen values, costs more than the whole choice.
    model = _models.get((id(target), size))
    if model is None or model.target is not target:
        model = _models[id(target), size] = CostModel(target, size)
    return model


class Traffic:
    """What it costs to bring A and B to L1 for one column of tiles, from top to bottom.

    Nothing where both stay there. Else A is read once for each column of tiles, and B's panel once, or once
    for each tile where it does not stay in L1: for its size, or because its rows lie a power of two apart
    and compete for a few sets.
    """

    def __init__(self, g: Gemm, target: Target) -> None:
        assert g.k is not None
        self.depth, self.target, self.size = g.k, target, ELEMENT_SIZE[g.dtype]
        of_a, of_b, of_c = g.m * g.k * self.size, g.k * g.n * self.size, g.m * g.n * self.size
        l1, l2 = target.caches.l1d.size * 3 // 4, target.caches.l2.size * 3 // 4
        self.none = of_a + of_b <= l1
        if self.none:
            return
        within_l2 = of_a + of_b + of_c <= l2
        self.l2_line = target.pipes.l2_line_cycles
        self.a = of_a / LINE * (self.l2_line if within_l2 else L3_LINE_CYCLES) if of_a > l1 else 0.0
        self.a_misses = g.m * g.k  # where every broadcast misses
        self.a_rows, self.b_rows = self._rows_in_l1(g.a.row_stride), self._rows_in_l1(g.b.row_stride)
        self.b_from = "L1" if of_b <= l1 else "L2" if within_l2 else "L3" if of_b <= l2 else "far"

    def cycles(self, columns: int, height: int, down: int) -> float:
        """For `down` tiles of so many rows and columns, one below the other."""
        cycles = self.a + (self.a_misses if height > self.a_rows else 0)
        if self.b_from != "L1":
            width = columns * self.size
            panel, lines = self.depth * width, width / LINE
            if self.b_from == "L2":
                line = self.l2_line * (1 + 0.3 / lines)
            elif self.b_from == "L3":
                line = L3_LINE_CYCLES * (1 + 1 / lines)
            else:  # a line of each row, pages apart, costs six times what a stream does
                line = L3_LINE_CYCLES * (1 + 5 / lines**1.5)
            stays = panel <= self.target.caches.l1d.size // 2 and self.depth <= self.b_rows
            cycles += (1 if stays else down) * panel / LINE * line
        return cycles

    def _rows_in_l1(self, row_stride: int) -> int:
        """How many lines, `row_stride` elements apart, L1 holds at once."""
        cache = self.target.caches.l1d
        ways = cache.ways or 8
        way = cache.size // ways
        return ways * (way // max(gcd(abs(row_stride) * self.size, way), cache.line))


def overlapped(arithmetic: float, reading: float) -> float:
    """Cycles of both at once."""
    less, more = min(arithmetic, reading), max(arithmetic, reading)
    return more + OVERLAP_LOST * less * less / more


def _partial_penalty(size: int, isa: Isa) -> float:
    """Extra cycles of a store that fills its register only partly."""
    if size in (4, 8, 16, 32, 64):
        return 0.0
    return 1.0 if isa.mask_registers or isa.multiplies_lanes else 4.0
