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
from functools import lru_cache

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

    k None: the depth is the kernel's dynamic extent.
    """

    dtype: str
    m: int
    n: int
    k: int | None
    a: Matrix
    b: Matrix
    c: Output
    accumulate: bool = False

    @classmethod
    def contiguous(cls, dtype: str, m: int, n: int, k: int) -> Gemm:
        return cls(dtype, m, n, k, Matrix(k), Matrix(n), Output(n))

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
    """The cheapest cover of C that the model finds for this target."""
    k = g.k if g.k is not None else 256
    unroll = max(k, 1) if g.k is not None and k <= FULL_UNROLL else UNROLL
    size = ELEMENT_SIZE[g.dtype]
    best: tuple[float, tuple[RowBlock, ...], tuple[ColumnBlock, ...]] | None = None
    for columns in _column_covers(g.n, size, target.isa):
        widest = max(len(block.lanes) for block in columns)
        tallest = max_height(target.isa, widest)
        for count in range(ceil_div(g.m, tallest), ceil_div(g.m, tallest) + 3):
            if count > g.m:
                break
            rows = _equal_rows(g.m, count)
            cycles = sum(
                row.count * column.count * tile_cycles(row.height, column.lanes, k, size, target)
                for row in rows
                for column in columns
            )
            if best is None or cycles < best[0]:
                best = (cycles, rows, columns)
    assert best is not None
    return GemmSchedule(best[1], best[2], unroll, best[0])


def max_height(isa: Isa, vectors: int) -> int:
    """Rows of a tile `vectors` wide: accumulators, a row of B, and a scalar of A fit the registers."""
    spare = 1 if isa.mask_registers else 2  # without mask registers an edge's mask takes a vector
    return max(1, (isa.vector_registers - vectors - spare) // vectors)


def _equal_rows(m: int, count: int) -> tuple[RowBlock, ...]:
    """m rows as `count` tiles as equal as can be: 20 is 10 + 10, not 14 + 6."""
    height, taller = divmod(m, count)
    blocks = (RowBlock(height + 1, taller), RowBlock(height, count - taller))
    return tuple(block for block in blocks if block.count and block.height)


@lru_cache(maxsize=4096)
def _column_covers(n: int, size: int, isa: Isa) -> tuple[tuple[ColumnBlock, ...], ...]:
    """Ways to cut n columns: so many full-width vectors a tile, then one narrower tile at the edge."""
    full = isa.widest // 8 // size
    covers = []
    for vectors in (1, 2, 3, 4, 6):
        width = vectors * full
        count, rest = divmod(n, width)
        for edge in _edges(rest, full, size):
            blocks = [ColumnBlock((full,) * vectors, count)] if count else []
            if edge:
                if count and len(edge) <= 2 and vectors + len(edge) <= 6:
                    # the edge rides along in the last full tile: 24 is one tile of 16 + 8
                    merged = (*blocks[0].lanes, *edge)
                    covers.append((*([ColumnBlock(blocks[0].lanes, count - 1)] if count > 1 else []),
                                   ColumnBlock(merged, 1)))
                blocks.append(ColumnBlock(edge, 1))
            covers.append(tuple(blocks))
        if width >= n:
            break
    return tuple(dict.fromkeys(covers))


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
    while rest >= 16 // size and lanes * size >= 16:  # halves down to 128 bits
        if rest >= lanes:
            pieces.append(lanes)
            rest -= lanes
        lanes //= 2
    if rest:
        pieces.append(rest)
    if len(pieces) > 1:
        yield (*head, *pieces)


@lru_cache(maxsize=65536)
def tile_cycles(height: int, lanes: tuple[int, ...], k: int, size: int, target: Target) -> float:
    """Cycles of one tile over all of k."""
    pipes, isa = target.pipes, target.isa
    embeds = isa.mask_registers > 0
    slots = loads = stores = 0.0
    for count in lanes:
        width = register_bits(count * size)
        slots += height * pipes.fma_slots[width]
        loads += 1 / pipes.loads_per_cycle[width]
        stores += height * (1 / pipes.stores_per_cycle[width] + _partial_penalty(count * size, isa))
    # a broadcast reads one element, whatever it fills; embedded, every multiply-add does its own
    broadcasts = height * (len(lanes) if embeds else 1)
    loads += broadcasts / pipes.loads_per_cycle[128]
    step = max(slots / pipes.fma_pipes, loads, pipes.fma_latency)
    return k * step + stores + pipes.fma_latency


def _partial_penalty(size: int, isa: Isa) -> float:
    """Extra cycles of a store that fills its register only partly."""
    if size in (4, 8, 16, 32, 64):
        return 0.0
    return 1.0 if isa.mask_registers else 2.0


def register_bits(size: int) -> int:
    """The narrowest register, in bits, that holds `size` bytes."""
    return 128 if size <= 16 else 256 if size <= 32 else 512
