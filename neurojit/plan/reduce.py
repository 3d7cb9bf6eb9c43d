"""What a kernel of reductions computes (`Reduce`): an expression whose nodes may sum up, or pick from, a row.

A reduction's value stands for every element of its row, so softmax is the expression exp(x - max x) divided
by its own sum. `row_program` cuts an expression into passes: in pass p what needs the reductions of the
passes before it, and no more. What one pass computes and a later one needs is kept in registers where the row
fits them; else it is computed again where that is cheap, or held where an output will be, which is written
last.

**The order of additions** depends on the shape alone, so that every ISA gives the same bits. Along rows,
element number i is added to partial sum i mod L, in order, from 0; then l and l + L/2 are added, then l and
l + L/4, and so on. L is the elements in 64 bytes; in 256 bytes for a row of 1 KiB and more, in a pass with no
other reduction and at most SIMPLE operations an element, where one register's chain of additions would be
what takes the time. Down columns
(`down`) each column is one chain, in order. Greatest and least are picked in the same order, which matters
for zeros of both signs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from neurojit.plan.expression import (
    REDUCTIONS,
    WEIGHT,
    Apply,
    Builder,
    Constant,
    Expression,
    Input,
    evaluate_in_order,
)
from neurojit.plan.gemm import ELEMENT_SIZE
from neurojit.plan.map import Access, check_lanes, check_layout, collapse
from neurojit.target import Isa

PARTIAL_BYTES, LONG_PARTIAL_BYTES, LONG_ROW_BYTES, SIMPLE = 64, 256, 1024, 4
MOST_EXACT = {"f32": 1 << 24, "f64": 1 << 53}
"""Positions beyond this are no numbers of the type: argmax goes no further."""


@dataclass(frozen=True)
class Reduce:
    """outputs = expression(inputs) for every row of `shape`: along the last dimension; or, `down`, along the
    last but one, for every element of the last. The first of the others may be None: the kernel's n.

    An output that is the same all along its row may have stride 0 there: one element is stored. Outputs may
    lie on inputs, element on element, if the strides are the same. ValueError as for a `Map`."""

    dtype: str
    shape: tuple[int | None, ...]
    inputs: tuple[Access, ...]
    outputs: tuple[Access, ...]
    expression: Expression
    down: bool = False
    unit: int = 1

    def __post_init__(self) -> None:
        check_layout("reduce", self.shape, self.inputs, self.outputs, self.expression)
        check_lanes("reduce", self.dtype, self.expression)
        if len(self.shape) < 1 + self.down or None in self.shape[-1 - self.down :]:
            raise ValueError(f"reduce: shape {self.shape}, expected a known extent to reduce")
        differs = self.expression.along_row(self.spread)
        for output, access in zip(self.expression.outputs, self.outputs, strict=True):
            along = access.strides[self.along]
            if not self.down and self.shape[-1] != 1 and along != 1 and (along or differs[output]):
                raise ValueError(f"reduce: output strides {access.strides}, expected 1 along the row")
        extent, most = self.shape[self.along] or 0, MOST_EXACT[self.dtype]
        if extent > most and any(_is_ordered(self.expression, at) for at in range(len(differs))):
            raise ValueError(f"reduce: a position among {extent}, expected {most} at most")

    @property
    def along(self) -> int:
        """The dimension that is reduced: -1, or -2."""
        return -1 - self.down

    @property
    def spread(self) -> frozenset[int]:
        """The inputs that are the same all along a row."""
        return frozenset(index for index, a in enumerate(self.inputs) if a.strides[self.along] == 0)

    @property
    def buffers(self) -> int:
        """How many addresses the kernel takes."""
        return 1 + max(access.buffer for access in (*self.inputs, *self.outputs))

    def collapsed(self) -> Reduce:
        """With the dimensions before the reduced one made as few as can be."""
        fixed = 1 + self.down
        outer = self.shape[:-fixed]
        if not outer:
            return self
        accesses = (*self.inputs, *self.outputs)
        shape, strides, unit = collapse((*outer, 1), tuple((*a.strides[:-fixed], 0) for a in accesses))
        if shape[-1] == 1:
            shape, strides = shape[:-1], tuple(of[:-1] for of in strides)
        placed = tuple(
            replace(a, strides=(*of, *a.strides[-fixed:])) for a, of in zip(accesses, strides, strict=True)
        )
        count = len(self.inputs)
        return replace(
            self,
            shape=(*shape, *self.shape[-fixed:]),
            inputs=placed[:count],
            outputs=placed[count:],
            unit=self.unit * unit,
        )

    def side_by_side(self, rows: int) -> Reduce:
        """The rows in groups: a dimension more, before the last, of so many."""
        if rows == 1:
            return self
        *outer, count, extent = self.shape
        assert count is not None
        assert count % rows == 0

        def split(access: Access) -> Access:
            *strides, down, along = access.strides
            return replace(access, strides=(*strides, rows * down, down, along))

        ins, outs = tuple(map(split, self.inputs)), tuple(map(split, self.outputs))
        return replace(self, shape=(*outer, count // rows, rows, extent), inputs=ins, outputs=outs)

    def partial_lanes(self) -> dict[int, int]:
        """Of each reduction the partial sums L; 1 down columns."""
        e, size = self.expression, ELEMENT_SIZE[self.dtype]
        levels = _levels(e)
        reductions = [
            at for at, node in enumerate(e.nodes) if isinstance(node, Apply) and node.op in REDUCTIONS
        ]
        costs = _costs(e, e.along_row(self.spread))
        lanes = {}
        for at in reductions:
            alone = sum(levels[other] == levels[at] for other in reductions) == 1
            simple = costs[e.operands(at)[0]] <= SIMPLE and not _is_ordered(e, at)
            long = alone and simple and (self.shape[-1] or 0) * size >= LONG_ROW_BYTES
            lanes[at] = 1 if self.down else (LONG_PARTIAL_BYTES if long else PARTIAL_BYTES) // size
        return lanes


@dataclass(frozen=True)
class Pass:
    """Once along the row. reductions: nodes finished by it. stores: (node, number of the access)."""

    reductions: tuple[int, ...]
    stores: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class RowProgram:
    """The passes over a row. Inputs of the expression are numbers of accesses: first the payload's inputs,
    then its outputs, where values may be held between passes. partial_lanes as in `Reduce`. at_end: (node,
    access) of the outputs of one element."""

    expression: Expression
    passes: tuple[Pass, ...]
    partial_lanes: dict[int, int]
    at_end: tuple[tuple[int, int], ...]


def _levels(e: Expression) -> list[int]:
    """For each node the pass that computes it; for a reduction and what follows from it, the first pass that
    may use it."""
    levels: list[int] = []
    for at, node in enumerate(e.nodes):
        level = max((levels[x] for x in e.operands(at)), default=0)
        levels.append(level + (isinstance(node, Apply) and node.op in REDUCTIONS))
    return levels


def _costs(e: Expression, differs: tuple[bool, ...]) -> list[int]:
    """Additions, about, that it takes to compute each node's element from inputs and values of the row."""
    costs: list[int] = []
    for at, node in enumerate(e.nodes):
        own = WEIGHT.get(node.op, 1) if isinstance(node, Apply) else 0
        costs.append(own + sum(costs[x] for x in e.operands(at)) if differs[at] else 0)
    return costs


@lru_cache(maxsize=64)  # a schedule is chosen by one, and emitted from it
def row_program(g: Reduce, hold: bool) -> RowProgram:
    """The passes; with `hold`, what is costly and used by a later pass is held in an output's place."""
    e = g.expression
    levels, differs = _levels(e), e.along_row(g.spread)
    held = _held(g, levels, differs) if hold else {}
    last = max(levels)
    build = Builder()
    made: dict[tuple[int, int], int] = {}  # (node, the pass that uses it) -> node of the new expression
    partials, own = g.partial_lanes(), {}
    for at, node in enumerate(e.nodes):
        level = levels[at]
        for use in range(level if differs[at] else 0, last + 1):
            if isinstance(node, Input):
                made[at, use] = build.input(node.index)
            elif isinstance(node, Constant):
                made[at, use] = build.constant(node.value)
            elif at in held and use > level:
                made[at, use] = build.input(len(g.inputs) + held[at])
            else:
                reduces = node.op in REDUCTIONS
                operands = (made[x, levels[x] if reduces or not differs[x] else use] for x in node.operands)
                made[at, use] = build.apply(node.op, *operands, parameters=node.parameters)
        if at in partials:
            own[at] = made[at, level]
    nodes = build.nodes
    stores: dict[int, list[tuple[int, int]]] = {p: [] for p in range(last + 1)}
    at_end = []
    for number, output in enumerate(e.outputs):
        access = len(g.inputs) + number
        if not differs[output] and g.outputs[number].strides[g.along] == 0:
            at_end.append((made[output, levels[output]], access))
        else:
            stores[levels[output]].append((made[output, levels[output]], access))
    for node_held, number in held.items():
        at = made[node_held, levels[node_held]]
        stores[levels[node_held]].append((at, len(g.inputs) + number))
    passes = [
        Pass(tuple(own[at] for at in own if levels[at] == p + 1), tuple(stores[p])) for p in range(last + 1)
    ]
    if not passes[-1].reductions and not passes[-1].stores:
        passes.pop()
    wanted = [at for of in passes for at in (*of.reductions, *(at for at, _ in of.stores))]
    expression = Expression(nodes, tuple(wanted) + tuple(at for at, _ in at_end))
    return RowProgram(
        expression, tuple(passes), {own[at]: lanes for at, lanes in partials.items()}, tuple(at_end)
    )


CHEAP = 8
"""Additions up to which a value is computed again rather than held, which is a store and a load."""


def _held(g: Reduce, levels: list[int], differs: tuple[bool, ...]) -> dict[int, int]:
    """Which nodes are held, each in the place of which output."""
    e = g.expression
    cost = _costs(e, differs)
    needed_until = list(levels)
    for at in range(len(e.nodes)):
        for x in e.operands(at):
            if differs[x] and differs[at]:
                needed_until[x] = max(needed_until[x], levels[at])
    held: dict[int, int] = {}
    for at in range(len(e.nodes) - 1, -1, -1):
        if not differs[at] or needed_until[at] == levels[at] or cost[at] <= CHEAP:
            continue
        for number, (output, access) in enumerate(zip(e.outputs, g.outputs, strict=True)):
            free = number not in held.values() and access.strides[g.along] != 0
            if free and levels[output] >= needed_until[at] and _is_safe(g, at, access, levels, differs):
                held[at] = number
                break
    return held


def _is_safe(g: Reduce, held: int, place: Access, levels: list[int], differs: tuple[bool, ...]) -> bool:
    """Whether no pass after the one that computes a node reads an input that the output may lie on."""
    e = g.expression
    later = {
        at
        for at in range(len(e.nodes))
        if levels[at] > levels[held] and differs[at] and not isinstance(e.nodes[at], (Input, Constant))
    }
    to_do, seen = [x for at in later for x in e.operands(at)], {held, *later}
    while to_do:
        at = to_do.pop()
        node = e.nodes[at]
        if at in seen or not differs[at]:
            continue
        seen.add(at)
        to_do.extend(e.operands(at))
        if isinstance(node, Input) and g.inputs[node.index].strides == place.strides:
            return False
    return True


# Schedules ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReduceSchedule:
    """in_registers: the whole row is, and what a pass computes is kept for the next. Else rows are read again
    by every pass. columns: vectors side by side, of a reduction down columns. lanes: of a vector, 0 for as
    many as the ISA has. rows: gone through side by side, a divisor of their known count."""

    in_registers: bool
    columns: int = 1
    lanes: int = 0
    rows: int = 1


MOST_STRAIGHT = 200
"""Operations of a row that is emitted without a loop: beyond, a loop costs little, and emission much."""
BESIDE = 10
"""Registers that evaluating an element takes, in most expressions."""
SPARE = 3
"""Registers for masks and for what the plan counts too low."""
ROWS = (4, 2)
"""How many rows may be gone through side by side: 16 x 64, a softmax takes 19% less time so and a layer_norm
33% (Zen 5; AVX2: 8% and 27%). Of long rows each pass is work enough for itself."""
MOST_SIDE_BY_SIDE = 400
"""Operations of all of them."""


def schedule_reduce(g: Reduce, isa: Isa) -> ReduceSchedule:
    """Rows in registers where they fit with everything that is alive beside them."""
    if g.down:
        e = g.expression
        values = sum(3 if _is_ordered(e, at) else 1 for at in range(len(e.nodes)) if e.is_reduction(at))
        return ReduceSchedule(False, columns=max(1, min(4, (isa.vector_registers - BESIDE) // (values + 1))))
    lanes = isa.widest // 8 // ELEMENT_SIZE[g.dtype]
    vectors = -(-(g.shape[-1] or 1) // lanes)
    if vectors * (g.expression.weight() + 4) > MOST_STRAIGHT:
        return _side_by_side(g, ReduceSchedule(False), vectors, lanes, isa)
    needed = registers_needed(g, row_program(g, hold=False), vectors, lanes)
    fits = needed <= isa.vector_registers - SPARE
    return _side_by_side(g, ReduceSchedule(fits), vectors, lanes, isa)


def _side_by_side(g: Reduce, schedule: ReduceSchedule, vectors: int, lanes: int, isa: Isa) -> ReduceSchedule:
    """As many rows as there are registers for and code allows; in registers, or else read by each pass."""
    if picks_positions(g):
        return schedule
    count = (g.collapsed().shape[:-1] or (1,))[-1]
    room = isa.vector_registers - (SPARE if (g.shape[-1] or 1) % lanes else 0)
    costs = _costs(g.expression, g.expression.along_row(g.spread))
    work = vectors * (4 + max(costs[at] for at in range(len(costs))))
    passes: dict[bool, list[_Pass]] = {}
    for rows in ROWS:
        if count is None or count % rows or rows * work > MOST_SIDE_BY_SIDE:
            continue
        for in_registers in (True, False) if schedule.in_registers else (False,):
            if in_registers not in passes:
                passes[in_registers] = _of_passes(g, row_program(g, hold=not in_registers), lanes)
            if _most_registers(passes[in_registers], vectors if in_registers else 0, rows) <= room:
                return ReduceSchedule(in_registers, rows=rows)
    return schedule


def registers_needed(g: Reduce, program: RowProgram, vectors: int, lanes: int, rows: int = 1) -> int:
    """Vector registers that so many rows side by side take at most, so many vectors of each being kept."""
    return _most_registers(_of_passes(g, program, lanes), vectors, rows)


class _Pass(NamedTuple):
    """What one pass takes: values kept of each vector, before or after it; of each row; beside all rows."""

    kept: int
    of_row: int
    beside: int


def _of_passes(g: Reduce, program: RowProgram, lanes: int) -> list[_Pass]:
    e, found = program.expression, []
    spread = frozenset(i for i, a in enumerate((*g.inputs, *g.outputs)) if a.strides[g.along] == 0)
    differs = e.along_row(spread)
    same = tuple(at for at in range(len(e.nodes)) if not differs[at])
    kept = frozenset[int]()
    for p, wanted, keeps in kept_between(program, differs):
        row_values = sum(not differs[at] for at in used_by(e, wanted, differs))
        accumulators = sum(
            program.partial_lanes[r] // lanes * (1 + _is_ordered(e, r)) for r in program.passes[p].reductions
        )
        plan = evaluate_in_order(e, wanted, (*kept, *same))
        found.append(_Pass(max(len(kept), len(keeps)), row_values + accumulators, 2 + plan.registers))
        kept = keeps
    return found


def _most_registers(passes: list[_Pass], vectors: int, rows: int) -> int:
    return max((rows * (p.kept * vectors + p.of_row) + p.beside for p in passes), default=0)


def picks_positions(g: Reduce) -> bool:
    """Whether a reduction gives a place in the row, for which more registers are counted too low."""
    return any(_is_ordered(g.expression, at) for at in range(len(g.expression.nodes)))


def _is_ordered(e: Expression, at: int) -> bool:
    node = e.nodes[at]
    return isinstance(node, Apply) and node.op.startswith("reduce_arg")


def used_by(
    e: Expression, wanted: tuple[int, ...], differs: tuple[bool, ...], kept: Iterable[int] = ()
) -> frozenset[int]:
    """All nodes that those wanted depend on, up to what is kept or the same along the row; themselves
    included."""
    seen: set[int] = set()
    to_do, known = list(wanted), {*kept}
    while to_do:
        at = to_do.pop()
        if at not in seen and not isinstance(e.nodes[at], Constant):
            seen.add(at)
            if differs[at] and at not in known:
                to_do.extend(e.operands(at))
    return frozenset(seen)


def kept_between(
    program: RowProgram, differs: tuple[bool, ...]
) -> list[tuple[int, tuple[int, ...], frozenset[int]]]:
    """For each pass: its number, the nodes it wants (operands of its reductions, nodes to store), and which
    of the nodes computed so far a later pass uses."""
    e = program.expression
    wanted = [
        tuple(dict.fromkeys((*(e.operands(r)[0] for r in of.reductions), *(at for at, _ in of.stores))))
        for of in program.passes
    ]
    result = []
    computed: set[int] = set()
    for p, now in enumerate(wanted):
        computed |= {at for at in used_by(e, now, differs) if differs[at]}
        frontier: set[int] = set()
        to_do = [at for later in wanted[p + 1 :] for at in later]
        seen: set[int] = set()
        while to_do:
            at = to_do.pop()
            if at in seen or not differs[at]:
                continue
            seen.add(at)
            if at in computed:
                frontier.add(at)
            else:
                to_do.extend(e.operands(at))
        result.append((p, now, frozenset(frontier)))
    return result


# Rows as networks need them -----------------------------------------------------------------------------


def softmax(build: Builder, x: int) -> int:
    """exp(x - max x) / its sum. The greatest element is looked for among numbers: NaN shows in the sum."""
    powers = build.apply("exp", build.apply("sub", x, build.apply("reduce_fmax", x)))
    return build.apply("mul", powers, build.apply("reciprocal", build.apply("reduce_sum", powers)))


def logsumexp(build: Builder, x: int) -> int:
    """log of the sum of exp(x), shifted by the greatest element, unless that is infinite."""
    top = build.apply("reduce_fmax", x)  # NaN shows in the sum
    finite = build.apply("<", build.apply("abs", top), build.constant(float("inf")))
    shift = build.apply("select", finite, top, build.constant(0.0))
    powers = build.apply("exp", build.apply("sub", x, shift))
    return build.apply("add", build.apply("log", build.apply("reduce_sum", powers)), shift)


def layer_norm(build: Builder, x: int, weight: int, bias: int, epsilon: float) -> int:
    """(x - mean) / sqrt(variance + epsilon) * weight + bias, the variance divided by the count."""
    centred = build.apply("sub", x, build.apply("reduce_mean", x))
    variance = build.apply("reduce_mean", build.apply("mul", centred, centred))
    scale = build.apply("rsqrt", build.apply("add", variance, build.constant(epsilon)))
    return build.apply("add", build.apply("mul", build.apply("mul", centred, scale), weight), bias)


def rms_norm(build: Builder, x: int, weight: int, epsilon: float) -> int:
    """x / sqrt(mean(x^2) + epsilon) * weight."""
    square = build.apply("reduce_mean", build.apply("mul", x, x))
    scale = build.apply("rsqrt", build.apply("add", square, build.constant(epsilon)))
    return build.apply("mul", build.apply("mul", x, scale), weight)
