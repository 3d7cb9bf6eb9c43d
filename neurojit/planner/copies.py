"""Where values lie, and what is copied or cast to lie elsewhere: what all lowering stands on.

A kernel takes operands as they lie as far as its strides allow; else a copy with adjacent elements comes
before it. A value with several destinations is stored to all of them, or to the first and copied. Element
types of less than 32 bits are met at the edges of a program alone (`tensors.HELD`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from neurojit.ir.structure import Dense, Function, Op, ScheduleText, Value
from neurojit.ir.types import ELEMENTS
from neurojit.plan.cast import Cast
from neurojit.plan.cumsum import Cumsum, schedule_cumsum
from neurojit.plan.expression import Builder
from neurojit.plan.gemm import Gemm
from neurojit.plan.gemv import Gemv, schedule_gemv
from neurojit.plan.map import Access, Map, schedule_map
from neurojit.plan.panels import Panels
from neurojit.plan.program import Kernel, Place, Schedule, Weight
from neurojit.plan.reduce import Reduce, schedule_reduce
from neurojit.plan.tiling import schedule_gemm
from neurojit.plan.transpose import Transpose, plan_copy, schedule_transpose
from neurojit.planner.directives import NOTHING, Directives
from neurojit.planner.drafts import Block, Drafts, Operand, at
from neurojit.planner.fusion import group
from neurojit.planner.pointwise import Expressions
from neurojit.planner.tensors import HELD, NARROW, UnplannedError, View, lanes_of
from neurojit.target import Target


class Copies:
    """One function in the course of being planned: its steps so far, and where values lie."""

    def __init__(
        self, function: Function, target: Target, most: int, schedule: ScheduleText = NOTHING
    ) -> None:
        self.function, self.target = function, target
        self.most = most
        self.directives = Directives(function, target, schedule)
        self.groups = group(function.block, most, self.directives.fusing)
        self.constants = {
            op.result: value
            for op in function.block.walk()
            if op.name == "constant" and isinstance(value := op.attributes["value"], Dense)
        }
        self.sources = {op.result: op for op in function.block.walk() if op.name in ("constant", "weight")}
        self.expressions = Expressions(self.constants)
        self.drafts = Drafts()
        self.views: dict[Value, View] = {}
        self.destinations: dict[Value, list[View]] = {}
        self.weights: dict[tuple[str, bool, str, int], Weight] = {}
        self.weight_block = Block()
        self.extent = 0
        self.places: dict[int, list[View]] = {}
        """Of an op that carries something from row to row: where that lies."""
        self.numbered: dict[int, View] = {}
        """Of random numbers for each row: where the number of the first element at hand lies."""
        self.scheduled: dict[tuple[Kernel, Schedule], tuple[Kernel, Schedule]] = {}

    # Places -----------------------------------------------------------------------------------------

    def _external(self, value: Value, place: Place) -> View:
        """A value in memory of the caller's, or state, in its own element type."""
        return View.of(self._shape(value), value.type.element, place)

    def _shape(self, value: Value) -> tuple[int, ...]:
        shape = value.type.static_shape(self.extent)
        if 0 in shape:
            raise UnplannedError(f"{value}: an empty tensor has no kernel")
        return shape

    def _destine(self, value: Value, view: View) -> None:
        self.destinations.setdefault(value, []).append(view)

    def _targets(self, value: Value, element: str = "") -> list[View]:
        """Where a value goes that is made now: its destinations that hold it so, or a fresh place. To others
        it is copied when all is done (`_copy_rest_of`)."""
        element = element or HELD[value.type.element]
        fits = [view for view in self.destinations.get(value, []) if view.element == element]
        return fits or [self._fresh(value, element)]

    def _fresh(self, value: Value, element: str = "") -> View:
        return View.of(self._shape(value), element or HELD[value.type.element])

    def _made(self, value: Value, view: View, others: list[View]) -> None:
        """The value lies here now, and is copied to these other destinations."""
        self.views[value] = view
        for other in others:
            self._copy(view, other, str(value))

    def _hand(self, value: Value, view: View) -> None:
        """The value lies here now, and is copied to its destinations that hold it so."""
        held = [other for other in self.destinations.get(value, []) if other.element == view.element]
        self._made(value, view, held)

    def view(self, value: Value) -> View:
        """Where a value lies. Weights are laid out when they are first asked for."""
        known = self.views.get(value)
        if known is None:
            op = self.sources[value]
            known = self.views[value] = self._weight(op, transposed=False)
        return known

    def _weight(self, op: Op, transposed: bool, element: str = "", panels: Panels | None = None) -> View:
        """A weight or constant in the block of weights, as it is or transposed, held as `element`, row after
        row or in panels."""
        name = str(op.attributes["name"]) if op.name == "weight" else f"%{op.result.name}"
        element = element or HELD[op.result.type.element]
        shape = self._shape(op.result)
        size = ELEMENTS[element].size
        key = (name, transposed, element, panels.width if panels else 0)
        if key not in self.weights:
            rows, columns = math.prod(shape[:-1]), shape[-1] if shape else 1
            if transposed:
                rows, columns = columns, rows
            taken = panels.panels(columns) * panels.panel_bytes if panels else rows * columns * size
            self.weights[key] = Weight(
                name, self.weight_block.reserve(taken), rows, columns,
                panels.width * size if panels else columns * size, element,
                transposed=transposed, panel=panels.width if panels else 0,
            )  # fmt: skip
        place = Place("weights", 0, self.weights[key].offset)
        return View.of(shape[::-1] if transposed else shape, element, place)

    def _add(
        self,
        kernel: Kernel,
        operands: tuple[Operand, ...],
        name: str,
        ops: Sequence[Op] = (),
        inputs: Sequence[Value] = (),
    ) -> None:
        """A step, by a schedule of the planner's own where nobody asked for another. Equal kernels of one
        schedule are one object, by which they are known to be equal.

        ops: those that it computes; the first is what a schedule calls it by. inputs: what a map reads."""
        asked = self.directives.schedule(ops[0], kernel, inputs, self.extent) if ops else None
        known = self.scheduled.get((kernel, asked))
        if known is None:
            known = kernel, asked or schedule_of(kernel, self.target)
            self.scheduled[kernel, asked] = known
        op, *fused = [op.result.name for op in ops] or [""]
        self.drafts.add(*known, operands, name, op, tuple(fused))

    # Copies -----------------------------------------------------------------------------------------

    def _adjacent(self, op: Op, view: View, spread: bool = False) -> View:
        """The view, or a copy whose last axis is adjacent elements; with `spread`, it may stand still."""
        allowed = (0, 1) if spread else (1,)
        fits = view.shape == () or view.shape[-1] == 1 or view.strides[-1] in allowed
        return view if fits else self._copied(view, f"operand of {op.name}")

    def _contiguous(self, view: View, name: str) -> View:
        return view if view.is_contiguous else self._copied(view, name)

    def _reshaped(self, view: View, shape: tuple[int, ...], name: str) -> View:
        """The same elements in another shape, copied where that is no view."""
        reshaped = view.reshaped(shape) or self._copied(view, name).reshaped(shape)
        assert reshaped is not None
        return reshaped

    def _copied(self, view: View, name: str) -> View:
        """The same tensor, contiguous."""
        fresh = View.of(view.shape, view.element)
        self._copy(view, fresh, name)
        return fresh

    def _copy(self, source: View, target: View, name: str) -> None:
        """Every element of the source, spread, to the target, in whatever type that holds it."""
        shape = target.shape or (1,)
        if source.element != target.element:
            wide = HELD[target.element]
            source = self._as(source, wide, name).spread(target.shape)
            if target.element in NARROW:
                self._cast(self._contiguous(source, name), target, name)
                return
        source = source.spread(shape)
        reads, writes = Access(0, source.strides), Access(1, target.strides or (1,))
        payload = plan_copy(lanes_of(target.element), shape, reads, writes)
        views = (source, target)  # offsets belong to the operands: so equal copies are one kernel
        self._add(payload, tuple(map(at, views)), f"copy of {name}")

    def _as(self, view: View, element: str, name: str = "") -> View:
        """The same numbers held as another element type, contiguous if they are not held so already."""
        if view.element == element:
            return view
        name = name or element
        fresh = View.of(view.shape, element)
        self._cast(self._contiguous(view, name), fresh, name)
        return fresh

    def _cast(self, source: View, target: View, name: str) -> None:
        assert source.is_contiguous and target.is_contiguous, "casts go along memory"
        payload = Cast(source.element, target.element, math.prod(target.shape))
        self._add(payload, (at(source), at(target)), f"cast of {name}")

    def _widened(self, value: Value, view: View) -> View:
        """What the caller brought, or state, as temporaries hold it."""
        return self._as(view, HELD[view.element], str(value))

    # Expressions ------------------------------------------------------------------------------------

    def _add_map(self, payload: Map, views: tuple[View, ...], name: str) -> None:
        self._add(payload, tuple(map(at, views)), name)

    def _apply(self, write: Callable[[Builder, int], int], source: View, target: View, name: str) -> View:
        """target = an expression of one element of the source, both contiguous. Returns the target."""
        count = math.prod(target.shape)
        build = Builder()
        expression = build.done(write(build, build.input(0)))
        accesses = Access(0, (1,)), Access(1, (1,))
        payload = Map(lanes_of(target.element), (count,), accesses[:1], accesses[1:], expression)
        self._add(payload, (at(source), at(target)), name)
        return target


def schedule_of(kernel: Kernel, target: Target) -> Schedule:
    """What the planner of its kind chooses; None where there is nothing to choose."""
    if isinstance(kernel, Gemm):
        return schedule_gemm(kernel, target)
    if isinstance(kernel, Gemv):
        return schedule_gemv(kernel, target)
    if isinstance(kernel, Map):
        return schedule_map(kernel, target.isa)
    if isinstance(kernel, Reduce):
        return schedule_reduce(kernel, target.isa)
    if isinstance(kernel, Transpose):
        return schedule_transpose(kernel, target.isa)
    if isinstance(kernel, Cumsum):
        return schedule_cumsum(kernel, target.isa)
    return None
