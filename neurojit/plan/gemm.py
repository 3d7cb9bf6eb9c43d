"""What a GEMM kernel computes (`Gemm`) and how (`GemmSchedule`), and the choice of the second.

`Gemm` is the payload: shape, dtype, strides. `GemmSchedule` is the tiling; no schedule can change a
bit of the result. `schedule_gemm` is a pure function of the payload and the target: a small cost model
walks the possible covers of the m x n plane and keeps the cheapest.

The model, per step of k of a tile of `height` rows and vectors of certain widths:

    cycles = max(FMA slots / FMA pipes, loads / load ports, FMA latency)

and per tile, once: zeroing and storing the accumulators. Widths matter because hardware differs: where
a 512-bit FMA takes two slots and a 256-bit one takes one (Zen 4), 24 columns are best cut as 16 + 8.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd
from operator import itemgetter
from typing import NamedTuple

from neurojit.plan.epilogue import NO_EPILOGUE, Epilogue
from neurojit.plan.panels import Panels
from neurojit.target import Isa, Target

ELEMENT_SIZE = {"f32": 4, "f64": 8}


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

    @classmethod
    def contiguous(cls, dtype: str, m: int, n: int, k: int, epilogue: Epilogue = NO_EPILOGUE) -> Gemm:
        return cls(dtype, m, n, k, Matrix(k), Matrix(n), Output(n), epilogue=epilogue)

    @classmethod
    def micro_kernel(
        cls, dtype: str, height: int, width: int, panel: tuple[int, int], accumulate: bool
    ) -> Gemm:
        """The inner kernel of the blocked driver: A and B in packed panels of MR and NR elements."""
        mr, nr = panel
        return cls(dtype, height, width, None, Matrix(1, mr), Matrix(nr), Output(None), accumulate)

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
    def is_micro_kernel(self) -> bool:
        return self.c.row_stride is None


class RowBlock(NamedTuple):
    """So many tiles of `height` rows, one below the other."""

    height: int
    tiles: int


class ColumnBlock(NamedTuple):
    """So many tiles side by side, each as wide as its vectors' `lanes` together."""

    lanes: tuple[int, ...]
    tiles: int


@dataclass(frozen=True)
class GemmSchedule:
    """The tiling of C and the unrolling of k. Covers m x n exactly.

    k_block: steps of k in one pass over all of C; 0 for all in one pass. Several passes keep reads of a
    large B running along its rows, page by page, at the price of reading C back.
    """

    rows: tuple[RowBlock, ...]
    columns: tuple[ColumnBlock, ...]
    unroll: int
    cycles: float
    """What the cost model expects of one call, in core cycles."""
    k_block: int = 0


FULL_UNROLL = 16
"""A k up to this is unrolled entirely: no loop, no pointer to advance."""
UNROLL = 4
"""Steps of k in one trip of the loop otherwise."""


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def schedule_gemm(g: Gemm, target: Target) -> GemmSchedule:
    """The cheapest cover of C that the model finds for this target.

    Covers that the model cannot tell from the cheapest count as equal; of those the one with the least
    code is taken, which compiles sooner and leaves more of the instruction cache to others.
    """
    k = g.k if g.k is not None else 256
    block = k_block(g, target)
    unroll = max(k, 1) if g.k is not None and k <= FULL_UNROLL else block if 0 < block <= FULL_UNROLL else UNROLL
    model = cost_model(target, ELEMENT_SIZE[g.dtype])
    covers: list[tuple[float, int, tuple[RowBlock, ...], tuple[ColumnBlock, ...]]] = []
    for columns in _covers(g, model.full, target.isa.vector_registers - 4):
        widest = max([len(block.lanes) for block in columns])
        tallest = max_height(target.isa, widest, isinstance(g.b, Panels) and g.b.storage == "bf16")
        least = ceil_div(g.m, tallest)
        if g.is_micro_kernel and least * sum(block.tiles for block in columns) > 1:
            continue  # a micro-kernel is one tile: it has no strides to go to a next one
        for count in range(least, 2 if g.is_micro_kernel else min(least + 3, g.m + 1)):
            rows = equal_rows(g.m, count)
            cycles, code = 0.0, 0
            for column in columns:
                cost = model.columns(column.lanes)
                for row in rows:
                    cycles += row.tiles * column.tiles * cost.cycles(row.height, k)
                    code += (row.height + 1) * len(column.lanes)
            if g.k is not None:
                across = sum([block.tiles for block in columns])
                reads = model.reading(g, widest, rows[0].height, across, count)
                less, more = min(cycles, reads), max(cycles, reads)
                cycles = more + OVERLAP_LOST * less * less / more
            covers.append((cycles, code, rows, columns))
    enough = min(covers, key=itemgetter(0))[0] * TOLERANCE
    cycles, _, rows, columns = min((cover for cover in covers if cover[0] <= enough), key=itemgetter(1))
    return GemmSchedule(rows, columns, unroll, cycles, block)


K_BLOCK = 6
"""Rows of B that one pass over C runs along: as many streams as the prefetchers of L1 and L2 follow."""


def k_block(g: Gemm, target: Target) -> int:
    """Whether to pass over C several times: for one row, when B, read down its columns, misses the caches.

    With more rows the wider reuse of each line of B outweighs the passes over C. Measured on Zen 4.
    """
    if isinstance(g.b, Panels):
        return _panel_k_block(g, g.b, target)
    size = ELEMENT_SIZE[g.dtype]
    far = (
        g.m == 1 and g.k is not None and g.k >= 2 * K_BLOCK and g.k * g.n * size > target.caches.l2.size // 2
    )
    return K_BLOCK if far and g.b.row_stride * size >= FAR_ROWS else 0


def _panel_k_block(g: Gemm, panels: Panels, target: Target) -> int:
    """A part of a panel that stays in L2 while all rows sweep it, where the whole does not.

    int8, whose panels are the smallest, is scaled when the sum is complete, and never cut."""
    most = target.caches.l2.size // 2 // panels.group_bytes * panels.group
    if g.k is None or panels.is_scaled or g.m <= K_BLOCK or g.k <= 2 * most:
        return 0
    return ceil_div(ceil_div(g.k, ceil_div(g.k, most)), UNROLL) * UNROLL


def max_height(isa: Isa, vectors: int, masked: bool = False) -> int:
    """Rows of a tile `vectors` wide: accumulators, a row of B, and a scalar of A fit the registers.

    A single row reads B in its multiply-adds, and can be wider. masked: a mask widens bf16.
    """
    spare = (1 if isa.mask_registers else 2) + masked  # without mask registers an edge's mask takes a vector
    return max(1, (isa.vector_registers - vectors - spare) // vectors)


def equal_rows(m: int, count: int) -> tuple[RowBlock, ...]:
    """m rows as `count` tiles as equal as can be: 20 is 10 + 10, not 14 + 6."""
    height, taller = divmod(m, count)
    if taller == 0:
        return (RowBlock(height, count),)
    return (RowBlock(height + 1, taller), RowBlock(height, count - taller))


def column_covers(n: int, full: int, size: int, most: int = 16) -> list[tuple[ColumnBlock, ...]]:
    """Ways to cut n columns: tiles of so many full-width vectors, up to `most`, then the edge.

    The edge is a tile of its own, or rides along in the last full tile: 24 is one tile of 16 + 8.
    """
    covers: list[tuple[ColumnBlock, ...]] = []
    for vectors in TILE_VECTORS:
        if vectors > most:
            break
        width = vectors * full
        count, rest = divmod(n, width)
        whole = (full,) * vectors
        for edge in _edges(rest, full, size):
            if not edge:
                covers.append((ColumnBlock(whole, count),))
            elif count == 0:
                covers.append((ColumnBlock(edge, 1),))
            else:
                covers.append((ColumnBlock(whole, count), ColumnBlock(edge, 1)))
                if len(edge) <= 2 and vectors + len(edge) <= 6:
                    merged = ColumnBlock(whole + edge, 1)
                    covers.append((ColumnBlock(whole, count - 1), merged) if count > 1 else (merged,))
        if width >= n:
            break
    return covers


def _covers(g: Gemm, full: int, most: int) -> list[tuple[ColumnBlock, ...]]:
    """Ways to cut the columns of a product."""
    size = ELEMENT_SIZE[g.dtype]
    if isinstance(g.b, Panels):
        return panel_covers(g.n, g.b.width, full, size, most // 2 if g.b.is_widened else most)
    return column_covers(g.n, full, size, most)


def panel_covers(n: int, width: int, full: int, size: int, most: int) -> list[tuple[ColumnBlock, ...]]:
    """Ways to cut n columns in panels of `width`: tiles of whole panels side by side, then what is left.

    Every block begins with a panel, and no vector lies in two of them."""
    covers = []
    for side_by_side in (1, 2, 4):
        if side_by_side * width // full > most:
            break
        count, rest = divmod(n, side_by_side * width)
        block = ((ColumnBlock((full,) * (side_by_side * width // full), count),) if count else ())
        whole, rest = divmod(rest, width)
        for edge in _edges(rest, full, size):
            lanes = (full,) * (whole * width // full) + edge
            covers.append((*block, ColumnBlock(lanes, 1)) if lanes else block)
        if side_by_side * width >= n:
            break
    return covers


TILE_VECTORS = (1, 2, 3, 4, 6, 8, 12, 16)
"""Full-width vectors side by side in one tile."""


def _edges(rest: int, full: int, size: int) -> Iterator[tuple[int, ...]]:
    """Ways to cover the columns left over: whole vectors, then halves, or one partial vector."""
    whole, rest = divmod(rest, full)
    head = (full,) * whole
    if rest == 0:
        yield head
        return
    yield (*head, rest)
    pieces = []
    lanes = full // 2
    while lanes * size >= 16:  # halves down to 128 bits
        if rest >= lanes:
            pieces.append(lanes)
            rest -= lanes
        lanes //= 2
    if rest:
        pieces.append(rest)
    if len(pieces) > 1:
        yield (*head, *pieces)


STORES_SEEN = 0.25
"""The part of a tile's stores that its neighbours' multiply-adds do not hide. Fitted on Zen 4."""
TILE_CYCLES = 1.0
"""What a tile costs besides: zeroing, pointers, the loop's exit. Fitted on Zen 4."""
LOADS_SEEN = 0.2
"""The part of a step's loads that multiply-adds do not hide even when their ports are the bound, where
broadcasts are instructions of their own. Fitted on Zen 4."""
TOLERANCE = 1.005
"""The model's own error: covers within it count as equal, and the shorter code wins."""


class _ColumnCost:
    """What a tile of certain vectors costs: per row and step, per step, and per row once."""

    __slots__ = ("embeds", "latency", "loads", "loads_per_row", "slots_per_row", "stores_per_row")

    def __init__(self, lanes: tuple[int, ...], size: int, target: Target) -> None:
        pipes, isa = target.pipes, target.isa
        self.slots_per_row = self.loads = self.stores_per_row = 0.0
        for count in lanes:
            width = register_bits(count * size)
            self.slots_per_row += pipes.fma_slots[width] / pipes.fma_pipes
            self.loads += 1 / pipes.loads_per_cycle[width]
            self.stores_per_row += 1 / pipes.stores_per_cycle[width] + _partial_penalty(count * size, isa)
        # a broadcast reads one element whatever it fills; embedded, every multiply-add does its own
        self.embeds = isa.mask_registers > 0
        self.loads_per_row = (len(lanes) if self.embeds else 1) / pipes.loads_per_cycle[128]
        # loads apart leave bubbles that a chain just long enough does not fill
        self.latency = pipes.fma_latency * (1.0 if self.embeds else 1.2)

    def cycles(self, height: int, k: int) -> float:
        loads = height * self.loads_per_row + self.loads
        step = max(height * self.slots_per_row, loads, self.latency)
        if not self.embeds:
            step += loads * LOADS_SEEN
        return k * step + height * self.stores_per_row * STORES_SEEN + TILE_CYCLES


FAR_ROWS = 1024
"""Bytes between rows of B from which one line of each row, down the rows, defeats the prefetchers."""
OVERLAP_LOST = 0.6
"""What is not hidden when arithmetic and reading take as long; less the more they differ. Fitted on Zen 4."""
L2_LINE_CYCLES, L3_LINE_CYCLES = 2.0, 3.0
"""Cycles to bring one line to L1 in a stream. Measured on Zen 4: 115 and 77 GB/s."""


class _Model:
    """The costs of one target and element size, each column shape computed once."""

    def __init__(self, target: Target, size: int) -> None:
        self.target = target
        self.size = size
        self.full = target.isa.widest // 8 // size
        self._columns: dict[tuple[int, ...], _ColumnCost] = {}

    def reading(self, g: Gemm, vectors: int, height: int, across: int, down: int) -> float:
        """Cycles to bring A and B to L1 as often as `across` x `down` tiles need them, 0 if both stay there.

        A sweep of C by tiles `vectors` wide reads A once for each column of tiles, and B once, or once
        for each tile where a panel of it does not stay in L1: for its size, or because its rows lie a
        power of two apart and compete for a few sets.
        """
        assert g.k is not None
        caches, size = self.target.caches, self.size
        of_a, of_b, of_c = g.m * g.k * size, g.b_bytes, g.m * g.n * size
        l1 = caches.l1d.size * 3 // 4
        if of_a + of_b <= l1:
            return 0.0
        l2 = caches.l2.size * 3 // 4
        cycles = 0.0
        if of_a > l1:
            cycles += across * of_a / 64 * (L2_LINE_CYCLES if of_a + of_b + of_c <= l2 else L3_LINE_CYCLES)
        if height > self._rows_in_l1(g.a.row_stride):
            cycles += across * g.m * g.k  # every broadcast misses
        if of_b > l1:
            row_bytes = vectors * self.full * size
            panel, lines = g.k * row_bytes, row_bytes / 64
            stays = panel <= caches.l1d.size // 2 and g.k <= self._rows_in_l1(g.b.row_stride)
            if isinstance(g.b, Panels):  # read straight through
                stays = vectors * self.full // g.b.width * g.b.panel_bytes <= caches.l1d.size // 2
                line = L2_LINE_CYCLES if of_a + of_b + of_c <= l2 else L3_LINE_CYCLES
            elif of_a + of_b + of_c <= l2:
                line = L2_LINE_CYCLES * (1 + 0.3 / lines)
            elif of_b <= l2:
                line = L3_LINE_CYCLES * (1 + 1 / lines)
            else:  # a line of each row, pages apart, costs six times what a stream does
                line = L3_LINE_CYCLES * (1 + 5 / lines**1.5)
            cycles += (1 if stays else down) * of_b / 64 * line
        return cycles

    def _rows_in_l1(self, row_stride: int) -> int:
        """How many lines, `row_stride` elements apart, L1 holds at once."""
        cache = self.target.caches.l1d
        ways = cache.ways or 8
        way = cache.size // ways
        return ways * (way // max(gcd(abs(row_stride) * self.size, way), cache.line))

    def columns(self, lanes: tuple[int, ...]) -> _ColumnCost:
        cost = self._columns.get(lanes)
        if cost is None:
            cost = self._columns[lanes] = _ColumnCost(lanes, self.size, self.target)
        return cost


_models: dict[tuple[int, int], _Model] = {}


def cost_model(target: Target, size: int) -> _Model:
    # By identity: hashing a target, a tree of frozen values, costs more than the whole choice.
    model = _models.get((id(target), size))
    if model is None or model.target is not target:
        model = _models[id(target), size] = _Model(target, size)
    return model


def _partial_penalty(size: int, isa: Isa) -> float:
    """Extra cycles of a store that fills its register only partly."""
    if size in (4, 8, 16, 32, 64):
        return 0.0
    return 1.0 if isa.mask_registers else 4.0


def register_bits(size: int) -> int:
    """The narrowest register, in bits, that holds `size` bytes."""
    return 128 if size <= 16 else 256 if size <= 32 else 512
