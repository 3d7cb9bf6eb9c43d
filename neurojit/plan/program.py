"""What one native function computes for a whole network: kernels in order, loops around them, and where
their operands lie.

A `Step` is one kernel with its schedule. A `Place` names memory that is known only at the call: the arena of
temporaries, the packed weights, the state that outlives calls, the caller's inputs and outputs. In a loop, an
operand that moves from trip to trip is named by a cursor: an address kept in the arena's frame, advanced at
the end of each trip. `Rows` is the loop over a dynamic leading extent: it takes rows in parts, the tallest
first, each part being the same computation planned for that many rows.

Invariants. Offsets are bytes; what is laid out here (weights, arena, state) starts at multiples of 64. Two
temporaries share bytes of the arena only if no step needs both (`arena`). Nothing here can change a result
beyond rounding but the payloads and the places: schedules may be exchanged freely.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from neurojit.plan.cast import Cast
from neurojit.plan.cumsum import Cumsum, CumsumSchedule
from neurojit.plan.gather import Gather
from neurojit.plan.gemm import Gemm, GemmSchedule
from neurojit.plan.gemv import Gemv, GemvSchedule
from neurojit.plan.map import Map, MapSchedule
from neurojit.plan.panels import Panels
from neurojit.plan.random import Random
from neurojit.plan.reduce import Reduce, ReduceSchedule
from neurojit.plan.transpose import Transpose, TransposeSchedule

LINE = 64

Space = Literal["arena", "weights", "state", "input", "output", "cursor", "counter", "frame", "zero"]
"""Besides memory: where a cursor points; the word that holds a cursor, which then counts; the frame's words;
0, from where a cursor counts."""


@dataclass(frozen=True)
class Check:
    """An assert: number `number` fails where its operand, one number of f32, is 0."""

    number: int
    dtype: str = "f32"
    shape: tuple[int, ...] = (1,)


Kernel = Gemm | Gemv | Map | Reduce | Transpose | Cumsum | Gather | Random | Cast | Check
Schedule = (
    GemmSchedule | GemvSchedule | MapSchedule | ReduceSchedule | TransposeSchedule | CumsumSchedule | None
)


class Place(NamedTuple):
    """Where an operand begins: `offset` bytes into a space; `number` says which input, output or cursor."""

    space: Space
    number: int = 0
    offset: int = 0

    def moved(self, offset: int) -> Place:
        return self._replace(offset=self.offset + offset)

    def __str__(self) -> str:
        numbered = self.space in ("input", "output", "cursor", "counter")
        name = f"{self.space} {self.number}" if numbered else self.space
        return f"{name} + {self.offset}"


@dataclass(frozen=True)
class Step:
    """One kernel. operands: in the order of the kernel's buffers. count: a map's extent that the call gives.
    name: what it computes, in the words of the program. op: the name of the op whose kernel it is, which a
    schedule calls it by; "" for a copy that no op asked for. fused: the names of other ops computed with
    it."""

    kernel: Kernel
    schedule: Schedule
    operands: tuple[Place, ...]
    name: str = ""
    count: int = 0
    op: str = ""
    fused: tuple[str, ...] = ()

    @property
    def what(self) -> str:
        """The kernel in a line."""
        k = self.kernel
        if isinstance(k, Gemm):
            panels = f", B in panels of {k.b.width}" if isinstance(k.b, Panels) else ""
            return f"gemm {k.dtype} {k.m}x{k.n}x{k.k}, {k.epilogue}{panels}"
        if isinstance(k, Gemv):
            return f"gemv {k.dtype} {k.m}x{k.k}"
        if isinstance(k, Check):
            return f"assert {k.number}"
        if isinstance(k, Gather):
            return f"gather {k.dtype} {k.outer}x{k.count} of {k.rows} rows of {k.n}"
        if isinstance(k, Random):
            return f"random {k.distribution} {k.dtype} {k.count}"
        if isinstance(k, Cast):
            return f"cast {k.source} to {k.target} {k.count}"
        shape = "x".join(map(str, k.shape))
        expression = f", {k.expression}" if isinstance(k, (Map, Reduce)) else ""
        return f"{type(k).__name__.lower()} {k.dtype} {shape}{expression}"


class Cursor(NamedTuple):
    """An address that starts at a place when the loop is entered, and moves `step` bytes a trip, or a row."""

    start: Place
    step: int


@dataclass(frozen=True)
class Loop:
    """`trips` >= 1 times the body, of which `unroll` copies follow each other in the code. Its cursors are
    `first_cursor`, `first_cursor` + 1, ... op: the name of the scan that it is, if it is one."""

    trips: int
    body: tuple[Node, ...]
    cursors: tuple[Cursor, ...] = ()
    first_cursor: int = 0
    unroll: int = 1
    op: str = ""


class Part(NamedTuple):
    """The computation for `height` rows at once."""

    height: int
    body: tuple[Node, ...]


@dataclass(frozen=True)
class Rows:
    """All rows of the dynamic extent: while at least `height` rows are left, the part for so many. Parts have
    falling heights, the last one 1. Cursors as in `Loop`, each moving `step` bytes a row."""

    parts: tuple[Part, ...]
    cursors: tuple[Cursor, ...]
    first_cursor: int = 0


Node = Step | Loop | Rows


@dataclass(frozen=True)
class Operand:
    """An input or an output of the call. shape: its leading extent None where that is dynamic."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class Weight:
    """A weight in the block of packed weights: the array `name`, cut into columns from `first_column` on and
    `columns` wide, its rows `row_bytes` apart. A vector is a matrix of one row. panel: columns of a panel,
    where the matrix lies in panels (plan/panels.py); 0: row after row."""

    name: str
    offset: int
    rows: int
    columns: int
    row_bytes: int
    dtype: str
    first_column: int = 0
    transposed: bool = False
    panel: int = 0


@dataclass(frozen=True)
class State:
    """A buffer that persists between calls, in the state block, all elements `initial` before the first."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    offset: int
    initial: float = 0.0


@dataclass(frozen=True)
class ProgramPlan:
    """See the module's head. frame_bytes, arena_bytes, weight_bytes, state_bytes: what the blocks take.

    asserts: how many there are; their failures are noted, the first one in the text wins. last: what is done
    only if none failed, which is writing state. in_order: whether rows depend on those before them, or on
    their number. ways: the most threads that share the rows of a call; 0: as many as the process allows."""

    name: str
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    body: tuple[Node, ...]
    arena_bytes: int = 0
    weights: tuple[Weight, ...] = ()
    weight_bytes: int = 0
    states: tuple[State, ...] = ()
    state_bytes: int = 0
    asserts: int = 0
    last: tuple[Node, ...] = ()
    in_order: bool = False
    ways: int = 0

    def steps(self) -> Iterator[Step]:
        """Every step, in the order of the code."""
        return _steps((*self.body, *self.last))

    @cached_property
    def cursors(self) -> int:
        """How many cursors the frame holds."""
        return max((node.first_cursor + len(node.cursors) for node in self._loops()), default=0)

    @cached_property
    def depth(self) -> int:
        """How deep loops are nested: each level has a counter in the frame."""
        return _depth((*self.body, *self.last))

    @property
    def is_dynamic(self) -> bool:
        return any(operand.shape[:1] == (None,) for operand in (*self.inputs, *self.outputs))

    @property
    def work(self) -> int:
        """Multiply-adds of a call, of each row where the extent is dynamic. Elementwise ops count alike."""
        return _work(self.body)

    @property
    def shared_rows(self) -> tuple[int, int, int] | None:
        """(multiply-adds of a row, rows of the tallest part, rows of a piece at least) if threads may share
        the rows of a call: pieces of the rows are then calls of their own.

        None where a call changes what another one reads, which is state, or writes what has no rows. What is
        computed once for all rows is computed once for each piece, so it must be little."""
        tops = [node for node in self.body if isinstance(node, Rows)]
        alone = self.states or self.in_order
        if len(tops) != 1 or alone or any(o.shape[:1] != (None,) for o in self.outputs):
            return None
        once = _work(tuple(node for node in self.body if node is not tops[0]))
        row, unit = max(1, _work((tops[0],))), tops[0].parts[0].height
        pieces = -(-max(PIECE_WORK, once * PIECE_AGAINST_ONCE) // (row * unit))
        return row, unit, unit * pieces

    @cached_property
    def frame_bytes(self) -> int:
        """The first bytes of the arena: `FRAME_WORDS`, a counter for each level of loops, the cursors."""
        return ceil_line(8 * (FRAME_WORDS + self.depth + self.cursors))

    @property
    def block_bytes(self) -> int:
        """What an arena takes in all."""
        return self.frame_bytes + self.arena_bytes

    def _loops(self) -> Iterator[Loop | Rows]:
        return (node for node in _nodes((*self.body, *self.last)) if not isinstance(node, Step))


WEIGHTS_WORD, STATE_WORD, EXTENT_WORD, FAILED_WORD = 0, 1, 2, 3
FRAME_WORDS = 4
"""The arena's first words: the addresses of the weights and of the state, which the caller sets; the extent
of the call; the number of the first assert that failed, or one more than there are."""


RANDOM_WEIGHT = 80
"""About how many additions a random number counts as."""
PIECE_WORK = 1 << 16
"""Multiply-adds that a thread takes at a time, at least: a microsecond, beside which taking is nothing."""
PIECE_AGAINST_ONCE = 16
"""How much more work a piece must be than what each piece repeats."""


def ceil_line(size: int) -> int:
    return -(-size // LINE) * LINE


def _nodes(body: tuple[Node, ...]) -> Iterator[Node]:
    for node in body:
        yield node
        if isinstance(node, Loop):
            yield from _nodes(node.body)
        elif isinstance(node, Rows):
            for part in node.parts:
                yield from _nodes(part.body)


def _steps(body: tuple[Node, ...]) -> Iterator[Step]:
    return (node for node in _nodes(body) if isinstance(node, Step))


def _work(body: tuple[Node, ...]) -> int:
    total = 0
    for node in body:
        if isinstance(node, Loop):
            total += node.trips * _work(node.body)
        elif isinstance(node, Rows):
            total += _work(node.parts[-1].body)  # for one row
        elif isinstance(node.kernel, Gemm):
            total += node.kernel.m * node.kernel.n * (node.kernel.k or 0)
        elif isinstance(node.kernel, Gemv):
            total += node.kernel.m * node.kernel.k
        elif isinstance(node.kernel, Gather):
            total += node.kernel.outer * node.kernel.count * node.kernel.n
        elif isinstance(node.kernel, Random):
            total += node.kernel.count * RANDOM_WEIGHT
        else:
            elements = math.prod(extent or node.count for extent in node.kernel.shape)
            weight = node.kernel.expression.weight() if isinstance(node.kernel, (Map, Reduce)) else 1
            total += elements * weight
    return total


def _depth(body: tuple[Node, ...]) -> int:
    return max((_depth_of(node) for node in body), default=0)


def _depth_of(node: Node) -> int:
    if isinstance(node, Step):
        return 0
    inner = [part.body for part in node.parts] if isinstance(node, Rows) else [node.body]
    return 1 + max(_depth(body) for body in inner)
