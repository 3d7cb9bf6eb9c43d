"""map: an expression at every element of a tensor, with inputs spread over rows or columns.

    the values alive in the expression + inputs held for a row; bound: arithmetic, or loads and stores
    where an element takes only a few operations

Dimensions that all operands pass through in one stride become one first, so most maps are one loop over
contiguous elements, and the others one over rows of columns. Short expressions are unrolled for the sake of
the loop's own instructions; in long ones an out-of-order core overlaps several vectors by itself, and in
large tensors a few are computed step by step together (`abreast`) so that it need not look ahead so far.
Each row ends in one partial vector: exactly the elements of the inputs are read, those of the outputs
written. What is the same all along a row is computed before it, where registers are left for that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import cast

from neurojit.asm_templates.abreast import Abreast
from neurojit.asm_templates.expression import Evaluator, Sink
from neurojit.asm_templates.machine import Machine, Pointer, Vector
from neurojit.asm_templates.streams import Place, Streams, over_rows, storing
from neurojit.plan.cut import ceil_div
from neurojit.plan.expression import evaluate_in_order
from neurojit.plan.map import Map, MapSchedule

CACHE_LINE = 64


def emit(m: Machine, g: Map, schedule: MapSchedule) -> None:
    """Emit the whole kernel, from its arguments to its return."""
    m.save_pointers(max(0, pointers_needed(g) - m.pointers.budget))
    rows = m.extent() if g.shape[0] is None else None
    body(m, g, schedule, m.operands(g.buffers), rows)
    m.leave()


def pointers_needed(g: Map) -> int:
    """How many general registers a kernel needs at most: addresses, counters, and two that `emit` is called
    with or a mask is made in."""
    g = g.collapsed()
    return max(g.buffers, Streams.count((*g.inputs, *g.outputs))) + len(g.shape) + 2


def body(
    m: Machine, g: Map, schedule: MapSchedule, operands: tuple[Pointer, ...], rows: Pointer | None = None
) -> None:
    """Emit the map of operands whose addresses are in registers, and the dynamic extent where the shape has
    one. All of them are moved on, to anywhere; the registers stay the caller's. All others are given back.
    """
    g = g.collapsed()
    if rows is not None and g.unit != 1:
        m.multiply(rows, g.unit)
    _Body(m, g, schedule, operands).emit(rows)


class _Body:
    """One map in the course of being emitted."""

    def __init__(self, m: Machine, g: Map, schedule: MapSchedule, operands: tuple[Pointer, ...]) -> None:
        self.m, self.g, self.schedule, self.e = m, g, schedule, g.expression
        self.streams = Streams(m, (*g.inputs, *g.outputs), operands)
        self.last = len(g.shape) - 1
        self.lanes = schedule.lanes or m.widest_lanes
        self.known: dict[int, Vector] = {}

    def emit(self, rows: Pointer | None) -> None:
        m, extent = self.m, self.g.shape[-1]
        tail = 0 if extent is None else extent % self.lanes
        m.expect(frozenset({tail}) - {0})
        self.held = self._worth_holding()
        self.plan = evaluate_in_order(self.e, self.e.outputs, self.held)
        over_rows(m, self.streams, self.g.shape, rows, self._row, self._holding)
        self.streams.release()
        m.forget()

    def _worth_holding(self) -> tuple[int, ...]:
        """The nodes that are the same all along a row, if they serve several vectors and find registers."""
        spread = {index for index, access in enumerate(self.g.inputs) if access.strides[-1] == 0}
        held = self.e.held_along_row(self.e.outputs, spread)
        strides = [self.g.inputs[index].strides for index in self.e.inputs_of(held)]
        self.held_at = max((d + 1 for of in strides for d, stride in enumerate(of) if stride), default=0)
        """The dimension before whose loop they are computed: after the last one that they depend on."""
        extent = self.g.shape[-1]
        several = extent is None or extent > self.lanes or self.held_at == 0
        needed = evaluate_in_order(self.e, self.e.outputs, held).registers + len(held)
        return held if several and needed <= self.m.vectors.free else ()

    @contextmanager
    def _holding(self, d: int) -> Iterator[None]:
        """What is held, while the loops from dimension d on run."""
        holds = bool(self.held) and d == self.held_at
        if holds:
            plan, place = evaluate_in_order(self.e, self.held), Place(self.lanes)
            self.known = Evaluator(self.m, self.e, plan, self.streams, place, {}).results(self.held)
        yield
        if holds:
            self.m.drop(*self.known.values())

    # One row ----------------------------------------------------------------------------------------

    def _row(self, left: Pointer | None) -> int:
        """Returns by how many columns the pointers have moved."""
        m, lanes, unroll = self.m, self.lanes, self.schedule.unroll
        extent = self.g.shape[-1]
        if extent is None:
            assert left is not None
            self._dynamic_row(left)
            return 0
        whole, tail = divmod(extent, lanes)
        trips, rest = divmod(whole, unroll)
        if trips == 1:
            trips, rest = 0, whole
        if trips:
            with m.loop(trips):
                self._prefetch_ahead(unroll * lanes)
                self._vectors(unroll)
                self.streams.move(self.last, unroll * lanes)
        self._vectors(rest)
        if tail:
            self._vector(Place(tail, rest * lanes))
        return trips * unroll * lanes

    def _prefetch_ahead(self, columns: int) -> None:
        """Ask for what a later trip, of so many columns, reads."""
        for number, trips in self.schedule.prefetch:
            for column in range(0, columns, max(1, CACHE_LINE // self.m.element.size)):
                self.m.prefetch_to_read(*self.streams.at(number, trips * columns + column))

    def _dynamic_row(self, left: Pointer) -> None:
        """Unrolled groups of vectors, single ones, then the lanes that are left under a mask."""
        m, lanes = self.m, self.lanes
        for vectors in sorted({self.schedule.unroll, 1}, reverse=True):
            group = vectors * lanes
            with m.skip_unless_at_least(left, group):
                m.advance(left, 1 - group)  # now left > 0 exactly while a whole group remains
                with m.while_positive(left, group):
                    self._vectors(vectors)
                    self.streams.move(self.last, group)
                m.advance(left, group - 1)
        with m.skip_unless_at_least(left, 1):
            rest = m.first(lanes, left)
            self._vector(Place(lanes, 0, rest))
            m.drop_mask(rest)

    def _vectors(self, count: int) -> None:
        """So many, in groups abreast."""
        ends = cut_ends(count, self.schedule.abreast)
        for begin, end in pairwise((0, *ends)):
            self._vector(Place(self.lanes, begin * self.lanes), end - begin)

    def _vector(self, place: Place, abreast: int = 1) -> None:
        m = self.m if abreast == 1 else cast(Machine, Abreast(self.m, abreast))
        first = len(self.g.inputs)
        sinks = [
            Sink(node, storing(m, self.streams, first + output, place), stores=True)
            for output, node in enumerate(self.e.outputs)
        ]
        Evaluator(m, self.e, self.plan, self.streams, place, self.known).run(sinks)


def cut_ends(count: int, most: int) -> list[int]:
    """Where equal parts of at most so many end."""
    parts = ceil_div(count, most)
    return [count * (part + 1) // parts for part in range(parts)]
