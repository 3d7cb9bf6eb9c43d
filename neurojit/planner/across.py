"""What is carried from row to row of a dynamic extent: places that a program keeps through its loop over
rows.

A scan along the rows finds its carried values in such places, and leaves them there. A reduction over the
rows is made for each part, and combined with what the parts before have left. Both begin before the loop, and
are at hand behind it.
"""

from __future__ import annotations

import math
from dataclasses import replace

from neurojit.ir.structure import Op
from neurojit.plan.expression import Builder
from neurojit.plan.map import Access, Map
from neurojit.plan.program import EXTENT_WORD, Place
from neurojit.planner.drafts import DraftLoop
from neurojit.planner.lowering import Lowering
from neurojit.planner.pointwise import LIMITS
from neurojit.planner.reductions import axes_of
from neurojit.planner.tensors import HELD, Buffer, View, lanes_of

COMBINED = {"sum": "add", "mean": "add", "matmul": "add", "cumsum": "add", "max": "max", "min": "min"}
ON_INTEGERS = {"add": "iadd", "max": "imax", "min": "imin"}
NOTHING = {"add": 0.0, "max": float("-inf"), "min": float("inf")}
WORD = 8


class AcrossRows(Lowering):
    """See the module's head."""

    def _number(self, loop: DraftLoop, op: Op) -> None:
        """Random numbers of rows: their first element has a number, which is counted."""
        if op.name.startswith("random") and op.result.type.is_dynamic:
            row = op.result.type.count(1)
            number = self.drafts.cursor(loop, (Buffer(0, Place("zero")), 0), row).place
            assert number is not None
            counter = Buffer(0, number._replace(space="counter"))
            self.numbered[id(op)] = View(counter, (1,), (1,), 0, "i32")

    def _first_values(self, op: Op, again: bool) -> None:
        """Before the loop: the first carried values, or what changes no value that is combined with it.

        again: only its rows are needed, since an earlier loop has left what it gives in the end."""
        if op.name == "scan":
            finals = [result for result in op.results if not result.type.is_dynamic]
            places = [self._fresh(result) if again else self._targets(result)[0] for result in finals]
            for value, place in zip(op.operands, places, strict=False):
                self._copy(self.view(value), place, f"start of {value}")
        else:
            row = op.result.type.shape[1:] if op.name == "cumsum" else op.result.type.static_shape(0)
            places = [View.of(row, HELD[op.result.type.element])]  # type: ignore[arg-type]
            build = Builder()
            element, operation = op.result.type.element, COMBINED[op.name]
            if element in LIMITS:
                low, high = LIMITS[element]
                node = build.integer({"add": 0, "max": low, "min": high}[operation])
            else:
                node = build.constant(NOTHING[operation])
            shape, strides = places[0].shape or (1,), places[0].strides or (1,)
            lanes = lanes_of(places[0].element)
            payload = Map(lanes, shape, (), (Access(0, strides),), build.done(node))
            self._add_map(payload, (places[0],), f"start of {op.result}")
        self.places[id(op)] = places

    def _combine(self, op: Op, part: View) -> None:
        """In the loop: the part of these rows is taken in."""
        (place,) = self.places[id(op)]
        if op.name == "cumsum":
            self._run_on(op, part, place)
            return
        operation = COMBINED[op.name]
        operation = ON_INTEGERS[operation] if place.element == "i32" else operation
        self._merge(operation, place, part, place, str(op.result))

    def _last_values(self, op: Op) -> None:
        """Behind the loop: what the rows have given."""
        places = self.places[id(op)]
        if op.name == "scan":
            finals = [result for result in op.results if not result.type.is_dynamic]
            for result, place in zip(finals, places, strict=True):
                self._made(result, place, self._targets(result)[1:])
            return
        (place,) = places
        if op.name == "cumsum":
            return
        if op.name == "mean":
            extent = View(Buffer(0, Place("frame", 0, WORD * EXTENT_WORD)), (1,), (1,), 0, "i32")
            count = self._numbers(extent, place.element)
            count = replace(count, shape=place.shape, strides=(0,) * len(place.shape))
            self._merge("div", place, count, place, str(op.result))
            shape = op.operands[0].type.static_shape(1)
            others = float(math.prod(shape[axis] for axis in axes_of(op, len(shape))))
            self._apply(lambda b, x: b.apply("div", x, b.constant(others)), place, place, str(op.result))
        if op.result.type.element == "bf16" and op.name not in ("max", "min"):
            self._apply(lambda b, x: b.apply("round_bf16", x), place, place, str(op.result))
        self._hand(op.result, place)

    def _run_on(self, op: Op, part: View, place: View) -> None:
        """The running sums of these rows go on from those of the last row before, and leave their own
        last."""
        operation = "iadd" if place.element == "i32" else "add"
        self._merge(operation, part, place.spread(part.shape), part, str(op.result))
        if op.result.type.element == "bf16":
            self._apply(lambda b, x: b.apply("round_bf16", x), part, part, str(op.result))
        last = part.sliced(0, part.shape[0] - 1, part.shape[0], 1)
        self._copy(replace(last, shape=place.shape, strides=last.strides[1:]), place, f"last of {op.result}")
        for other in self.destinations.get(op.result, []):
            if other.element == part.element and other is not part:
                self._copy(part, other, str(op.result))

    def _merge(self, operation: str, x: View, y: View, target: View, name: str) -> None:
        """target = operation(x, y), elementwise."""
        build = Builder()
        expression = build.done(build.apply(operation, build.input(0), build.input(1)))
        shape = target.shape or (1,)
        accesses = [Access(n, v.strides or (1,)) for n, v in enumerate((x, y, target))]
        payload = Map(lanes_of(target.element), shape, tuple(accesses[:2]), (accesses[2],), expression)
        self._add_map(payload, (x, y, target), name)
