"""reduce: expressions with sums, greatest elements and the like of a row: softmax, norms, argmax and kin.

    rows in registers: the row + its values + partial vectors, of each row side by side, + one evaluation;
    else without the row
    bound: the arithmetic of the expression; plain sums: loads, or one addition's latency per partial vector

A row is gone through once for each pass of its program (see `plan.reduce`). Where it fits, all of it stays in
registers and the code has no loop. Rows are independent, so an out-of-order core overlaps the foldings of
several; but it does not look ahead far enough, so a few short rows are gone through side by side, pass by
pass. Values of a row are computed in one lane, and spread over a vector for the next pass. Reductions down
columns have no foldings: each lane is a column, and its own row.
"""

from __future__ import annotations

from collections.abc import Iterable

from neurojit.asm_templates.accumulators import Accumulator, accumulator
from neurojit.asm_templates.expression import Evaluator, Sink
from neurojit.asm_templates.machine import Machine, Pointer, Vector
from neurojit.asm_templates.streams import Place, Streams, over_rows, storing
from neurojit.plan.expression import Apply, Constant, Evaluation, evaluate_in_order
from neurojit.plan.reduce import Reduce, ReduceSchedule, kept_between, row_program, used_by


def emit(m: Machine, g: Reduce, schedule: ReduceSchedule) -> None:
    """Emit the whole kernel, from its arguments to its return."""
    m.save_pointers(max(0, pointers_needed(g) - m.pointers.budget))
    rows = m.extent() if g.shape[0] is None else None
    body(m, g, schedule, m.operands(g.buffers), rows)
    m.leave()


def pointers_needed(g: Reduce) -> int:
    """How many general registers a kernel needs at most: addresses, counters, and those of its arguments."""
    g = g.collapsed()
    return max(g.buffers, Streams.count((*g.inputs, *g.outputs))) + len(g.shape) + 3


def body(
    m: Machine,
    g: Reduce,
    schedule: ReduceSchedule,
    operands: tuple[Pointer, ...],
    rows: Pointer | None = None,
) -> None:
    """Emit the reduction of operands whose addresses are in registers, and the dynamic extent where the shape
    has one. All are moved on, to anywhere; the registers stay the caller's. All others are given back.
    """
    g = g.collapsed()
    if rows is not None and g.unit != 1:
        m.multiply(rows, g.unit)
    _Body(m, g.side_by_side(schedule.rows), schedule, operands).emit(rows)


MOST_CHAINS, BESIDE_A_CHAIN = 4, 7
"""Of a position: vectors that take elements in turn, and registers for each, its temporaries among them."""


def is_position(node: Apply) -> bool:
    return node.op in ("reduce_argmax", "reduce_argmin")


class _Body:
    """One kernel in the course of being emitted."""

    def __init__(
        self, m: Machine, g: Reduce, schedule: ReduceSchedule, operands: tuple[Pointer, ...]
    ) -> None:
        self.m, self.g, self.schedule = m, g, schedule
        self.program = row_program(g, hold=not schedule.in_registers)
        self.e = self.program.expression
        accesses = (*g.inputs, *g.outputs)
        self.streams = Streams(m, accesses, operands)
        spread = frozenset(i for i, access in enumerate(accesses) if access.strides[g.along] == 0)
        self.differs = self.e.along_row(spread)
        extent, columns = g.shape[g.along], g.shape[-1]
        assert extent is not None
        assert columns is not None
        self.extent, self.columns = extent, columns
        self.lanes = schedule.lanes or m.widest_lanes
        self.steps = kept_between(self.program, self.differs)
        if not schedule.in_registers:
            self.steps = [(p, wanted, frozenset()) for p, wanted, _ in self.steps]
        self._plans: dict[tuple[tuple[int, ...], frozenset[int]], Evaluation] = {}
        self._needed: dict[tuple[tuple[int, ...], frozenset[int]], set[int]] = {}

    def plan(self, wanted: tuple[int, ...], known: Iterable[int]) -> Evaluation:
        """How to compute nodes of the expression, which is the same in every row."""
        key = wanted, frozenset(known)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = evaluate_in_order(self.e, *key)
        return plan

    def needed(self, wanted: tuple[int, ...], kept: Iterable[int]) -> set[int]:
        """The values of a row that an evaluation of the nodes `wanted` reads, where those kept are there."""
        key = wanted, frozenset(kept)
        if key not in self._needed:
            nodes = used_by(self.e, wanted, self.differs, key[1])
            self._needed[key] = {
                at for at in nodes if not self.differs[at] and not isinstance(self.e.nodes[at], Constant)
            }
        return self._needed[key]

    def emit(self, rows: Pointer | None) -> None:
        m, g = self.m, self.g
        tail = self.columns % self.lanes
        m.expect(frozenset({tail}) - {0})
        self.tail = None
        if tail and not g.down and any(of.reductions for of in self.program.passes):
            count = m.constant(tail)
            self.tail = m.first(self.lanes, count)
            m.release(count)
        outer = g.along - (self.schedule.rows > 1)
        loops = (*g.shape[:outer], self.columns)
        over_rows(m, self.streams, loops, rows, lambda _: self._columns() if g.down else self._rows())
        if self.tail is not None:
            m.drop_mask(self.tail)
        self.streams.release()
        m.forget()

    # Along a row ----------------------------------------------------------------------------------------

    def _rows(self) -> int:
        """All passes over the rows that lie side by side; the streams are where they were."""
        vectors, tail = divmod(self.columns, self.lanes)
        places = [Place(self.lanes, number * self.lanes) for number in range(vectors)]
        places += [Place(tail, vectors * self.lanes)] if tail else []
        rows = [_Row(self, Place(1, row=number)) for number in range(self.schedule.rows)]
        for p in range(len(self.program.passes)):
            step = max([row.begin(p) for row in rows])
            if self.schedule.in_registers or vectors < 2 * step:
                self._vectors(rows, places)
            else:
                trips = vectors // step
                with self.m.loop(trips):
                    self._vectors(rows, places[:step])
                    self.streams.move(-1, step * self.lanes)
                rest = places[trips * step :]
                self._vectors(rows, [p._replace(column=n * self.lanes) for n, p in enumerate(rest)])
                self.streams.move(-1, -trips * step * self.lanes)
            for row in rows:
                row.end()
        for row in rows:
            row.finish()
        return 0

    def _vectors(self, rows: list[_Row], places: list[Place]) -> None:
        for number, place in enumerate(places):
            for row in rows:
                row.vector(number, place._replace(row=row.place.row))

    # Down columns ---------------------------------------------------------------------------------------

    def _columns(self) -> int:
        """Blocks of columns, each of all rows; the streams are where they were."""
        vectors, tail = divmod(self.columns, self.lanes)
        wide = min(self.schedule.columns, max(vectors, 1))
        trips = vectors // wide if vectors // wide > 1 else 0
        blocks = [Place(self.lanes, number * self.lanes) for number in range(vectors - trips * wide)]
        blocks += [Place(tail, len(blocks) * self.lanes)] if tail else []
        if trips:
            with self.m.loop(trips):
                self._block([Place(self.lanes, number * self.lanes) for number in range(wide)])
                self.streams.move(-1, wide * self.lanes)
        for first in range(0, len(blocks), wide):
            self._block(blocks[first : first + wide])
        self.streams.move(-1, -trips * wide * self.lanes)
        return 0

    def _block(self, places: list[Place]) -> None:
        m = self.m
        rows = [_Row(self, place) for place in places]
        for p in range(len(self.program.passes)):
            for row in rows:
                row.begin(p)
            with m.loop(self.extent):
                for row, place in zip(rows, places, strict=True):
                    row.vector(0, place)
                self.streams.move(-2, 1)
            self.streams.move(-2, -self.extent)
            for row in rows:
                row.end()
        for row in rows:
            row.finish()


class _Row:
    """One row, or a vector of columns, in the course of its passes. `place`: where its values are computed,
    in one lane, or in each lane that of a column."""

    def __init__(self, of: _Body, place: Place) -> None:
        self.of, self.m, self.e, self.place = of, of.m, of.e, place
        self.values: dict[int, Vector] = {}  # what is the same along the row
        self.kept: dict[int, dict[int, Vector]] = {}  # number of a vector -> what earlier passes computed
        self.steps = of.steps

    def begin(self, p: int) -> int:
        """Start pass p. Returns how many vectors one trip of its loop takes."""
        of = self.of
        self.p = p
        self.before = self.steps[p - 1][2] if p else frozenset[int]()
        _, wanted, self.keeps = self.steps[p]
        reductions = of.program.passes[p].reductions
        self._compute(of.needed(wanted, self.before), spread=not of.g.down)
        self.now: dict[int, Accumulator] = {}
        lanes = self.place.lanes if of.g.down else of.lanes
        for r in reductions:
            node = self.e.nodes[r]
            assert isinstance(node, Apply)
            partials = max(1, of.program.partial_lanes[r] // lanes)
            along = not of.g.down and not of.schedule.in_registers
            if along and is_position(node):  # exact in any order: chains hide latency
                partials = max(partials, min(MOST_CHAINS, self.m.vectors.free // BESIDE_A_CHAIN))
            self.now[r] = accumulator(self.m, node.op, lanes, partials, not of.g.down, of.extent)
        fresh = tuple(self.keeps - self.before)
        asked = tuple(self.e.operands(r)[0] for r in reductions)
        stored = tuple(node for node, _ in of.program.passes[p].stores)
        self.fresh = fresh
        self.plan = of.plan((*asked, *stored, *fresh), (*self.values, *self.before))
        return max([len(a.vectors) for a in self.now.values()] or [self._unrolling()])

    def _unrolling(self) -> int:
        """Of a pass that only stores."""
        return 4 if self.plan_weight() <= 6 else 1

    def plan_weight(self) -> int:
        return len(self.plan.order) + sum(3 for at in self.plan.order if self._is_function(at))

    def _is_function(self, at: int) -> bool:
        node = self.e.nodes[at]
        return isinstance(node, Apply) and node.op not in ("add", "sub", "mul", "max", "min")

    def vector(self, number: int, place: Place) -> None:
        """The pass at one vector of the row."""
        of, m = self.of, self.m
        kept = self.kept.get(number, {})
        tail = of.tail if not of.g.down and place.lanes < of.lanes else None

        def taking(a: Accumulator) -> Sink:
            return Sink(-1, lambda x: a.take(x, number, tail), stores=False)

        sinks = [taking(a)._replace(node=self.e.operands(r)[0]) for r, a in self.now.items()]
        for node, access in of.program.passes[self.p].stores:
            sinks.append(Sink(node, storing(m, of.streams, access, place), stores=True))
        evaluator = Evaluator(m, self.e, self.plan, of.streams, place, {**self.values, **kept})
        kept = {**kept, **evaluator.results(self.fresh, sinks)}
        self.kept[number] = {node: x for node, x in kept.items() if node in self.keeps}
        m.drop(*(x for node, x in kept.items() if node not in self.keeps))

    def end(self) -> None:
        """Reductions become values; those that nobody needs any more are given back."""
        for r, a in self.now.items():
            self.values[r] = a.finish()
        later = [
            self.of.needed(wanted, keeps)
            for (_, wanted, _), (_, _, keeps) in zip(
                self.steps[self.p + 1 :], self.steps[self.p :], strict=False
            )
        ]
        needed = self._sources({*(at for at, _ in self.of.program.at_end)}.union(*later))
        for at in [at for at in self.values if at not in needed]:
            self.m.drop(self.values.pop(at))

    def finish(self) -> None:
        """Store the outputs of one element, and give back what is left."""
        ends = self.of.program.at_end
        self._compute({at for at, _ in ends}, spread=False)
        for at, access in ends:
            storing(self.m, self.of.streams, access, self.place)(self.values[at])
        self.m.drop(*self.values.values())

    # Values of the row ------------------------------------------------------------------------------

    def _sources(self, nodes: set[int]) -> set[int]:
        """Which of the values at hand these nodes are, or are computed from."""
        found, to_do = set[int](), list(nodes)
        while to_do:
            at = to_do.pop()
            if at in self.values:
                found.add(at)
            elif not self.of.differs[at]:
                to_do.extend(x for x in self.e.operands(at) if x not in found)
        return found

    def _compute(self, nodes: set[int], spread: bool) -> None:
        """Have these values at hand; spread over all lanes where vectors along the row need them."""
        m = self.m
        wanted = tuple(sorted(at for at in nodes if at not in self.values))
        if wanted:
            plan = self.of.plan(wanted, self.values)
            evaluator = Evaluator(m, self.e, plan, self.of.streams, self.place, self.values)
            self.values.update(evaluator.results(wanted))
        for at in nodes if spread else ():
            value = self.values[at]
            if value.lanes == 1 < self.of.lanes:
                self.values[at] = m.spread_first(value, self.of.lanes)
                m.drop(value)
