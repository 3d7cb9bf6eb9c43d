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
from operator import itemgetter

from neurojit.plan.epilogue import NO_EPILOGUE, Epilogue
from neurojit.target import Isa, Target

ELEMENT_SIZE = {"f32": 4, "f64": 8}


@dataclass(frozen=True)
class Matrix:
    """Strides of an operand in elements. row_stride None: known only at the call."""

    row_stride: int
    column_stride: int = 1


@dataclass(frozen=True)
class Output:
    """Row stride of C in elements, columns adjacent. None: given at the call (micro-kernels)."""

    row_stride: int | None


@dataclass(frozen=True)
class Gemm:
    """C[m,n] = A[m,k] @ B[k,n] (`accumulate`: C += A @ B). B and C have adjacent columns.

    k None: the depth is the kernel's dynamic extent. epilogue: what happens to the product before it is
    stored; with one, C is accumulated by its beta.
    """

    dtype: str
    m: int
    n: int
    k: int | None
    a: Matrix
    b: Matrix
    c: Output
    accumulate: bool = False
    epilogue: Epilogue = NO_EPILOGUE

    @classmethod
    def contiguous(
        cls, dtype: str, m: int, n: int, k: int, epilogue: Epilogue = NO_EPILOGUE
    ) -> Gemm:
        return cls(dtype, m, n, k, Matrix(k), Matrix(n), Output(n), epilogue=epilogue)

    @classmethod
    def micro_kernel(cls, dtype: str, height: int, width: int, panel: tuple[int, int], accumulate: bool) -> Gemm:
        """The inner kernel of the blocked driver: A and B in packed panels of MR and NR elements."""
        mr, nr = panel
        return cls(dtype, height, width, None, Matrix(1, mr), Matrix(nr), Output(None), accumulate)

    @property
    def is_micro_kernel(self) -> bool:
        return self.c.row_stride is None

    @property
    def flops(self) -> int:
        return 2 * self.m * self.n * (self.k or 1)


@dataclass(frozen=True)
class RowBlock:
    """`count` tiles of `height` rows, one below the other."""

    height: int
    count: int


@dataclass(frozen=True)
class ColumnBlock:
    """`count` tiles side by side, each as wide as its vectors' `lanes` together."""

    lanes: tuple[int, ...]
    count: int


@dataclass(frozen=True)
class GemmSchedule:
    """The tiling of C and the unrolling of k. Covers m x n exactly."""

    rows: tuple[RowBlock, ...]
    columns: tuple[ColumnBlock, ...]
    unroll: int
    cycles: float
    """What the cost model expects of one call, in core cycles."""


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
    unroll = max(k, 1) if g.k is not None and k <= FULL_UNROLL else UNROLL
    model = _model(target, ELEMENT_SIZE[g.dtype])
    covers: list[tuple[float, int, tuple[RowBlock, ...], tuple[ColumnBlock, ...]]] = []
    for columns in column_covers(g.n, model.full, model.size):
        tallest = max_height(target.isa, max([len(block.lanes) for block in columns]))
        least = ceil_div(g.m, tallest)
        for count in range(least, min(least + 3, g.m + 1)):
            rows = equal_rows(g.m, count)
            cycles, code = 0.0, 0
            for column in columns:
                cost = model.columns(column.lanes)
                for row in rows:
                    cycles += row.count * column.count * cost.cycles(row.height, k)
                    code += (row.height + 1) * len(column.lanes)
            covers.append((cycles, code, rows, columns))
    enough = min(covers, key=itemgetter(0))[0] * TOLERANCE
    cycles, _, rows, columns = min((cover for cover in covers if cover[0] <= enough), key=itemgetter(1))
    return GemmSchedule(rows, columns, unroll, cycles)


def max_height(isa: Isa, vectors: int) -> int:
    """Rows of a tile `vectors` wide: accumulators, a row of B, and a scalar of A fit the registers."""
    spare = 1 if isa.mask_registers else 2  # without mask registers an edge's mask takes a vector
    return max(1, (isa.vector_registers - vectors - spare) // vectors)


def equal_rows(m: int, count: int) -> tuple[RowBlock, ...]:
    """m rows as `count` tiles as equal as can be: 20 is 10 + 10, not 14 + 6."""
    height, taller = divmod(m, count)
    if taller == 0:
        return (RowBlock(height, count),)
    return (RowBlock(height + 1, taller), RowBlock(height, count - taller))


def column_covers(n: int, full: int, size: int) -> list[tuple[ColumnBlock, ...]]:
    """Ways to cut n columns: tiles of so many full-width vectors, then the edge.

    The edge is a tile of its own, or rides along in the last full tile: 24 is one tile of 16 + 8.
    """
    covers: list[tuple[ColumnBlock, ...]] = []
    for vectors in TILE_VECTORS:
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
                if len(edge) <= 2 and vectors + len(edge) <= TILE_VECTORS[-1]:
                    merged = ColumnBlock(whole + edge, 1)
                    covers.append((ColumnBlock(whole, count - 1), merged) if count > 1 else (merged,))
        if width >= n:
            break
    return covers


TILE_VECTORS = (1, 2, 3, 4, 6)
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
        self.latency = pipes.fma_latency

    def cycles(self, height: int, k: int) -> float:
        loads = height * self.loads_per_row + self.loads
        step = max(height * self.slots_per_row, loads, self.latency)
        if not self.embeds:
            step += loads * LOADS_SEEN
        return k * step + height * self.stores_per_row * STORES_SEEN + TILE_CYCLES


class _Model:
    """The costs of one target and element size, each column shape computed once."""

    def __init__(self, target: Target, size: int) -> None:
        self.target = target
        self.size = size
        self.full = target.isa.widest // 8 // size
        self._columns: dict[tuple[int, ...], _ColumnCost] = {}

    def columns(self, lanes: tuple[int, ...]) -> _ColumnCost:
        cost = self._columns.get(lanes)
        if cost is None:
            cost = self._columns[lanes] = _ColumnCost(lanes, self.size, self.target)
        return cost


_models: dict[tuple[int, int], _Model] = {}


def _model(target: Target, size: int) -> _Model:
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
