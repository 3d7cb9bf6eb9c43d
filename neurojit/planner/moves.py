"""Elements that go elsewhere, or come from nowhere: views, parts put together, rows picked, random
numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from neurojit.ir.numbers import to_element
from neurojit.ir.structure import Op
from neurojit.plan.expression import Builder
from neurojit.plan.gather import Gather
from neurojit.plan.map import Access, Map
from neurojit.plan.random import Random
from neurojit.planner.copies import Copies
from neurojit.planner.drafts import at
from neurojit.planner.pointwise import clipped, constant_node
from neurojit.planner.random_numbers import WIDE_NUMBERS
from neurojit.planner.tensors import HELD, View, lanes_of


class Moves(Copies):
    """See the module's head."""

    def _view_of(self, op: Op) -> View:
        x, attributes = self.view(op.operands[0]), op.attributes
        if op.name == "reshape":
            return self._reshaped(x, self._shape(op.result), str(op.operands[0]))
        if op.name == "transpose":
            return x.transposed(attributes["permutation"])  # type: ignore[arg-type]
        if op.name == "broadcast":
            return x.spread(self._shape(op.result))
        axis, start, end, step = (int(attributes[name]) for name in ("axis", "start", "end", "step"))  # type: ignore[arg-type]
        return x.sliced(axis, start, end, step)

    def _concat(self, op: Op) -> None:
        """Each part copied to where it belongs."""
        targets = self._targets(op.result)
        self.views[op.result] = targets[0]
        axis = int(op.attributes["axis"])  # type: ignore[arg-type]
        for target in targets:
            begin = 0
            for value in op.operands:
                part = self.view(value)
                end = begin + part.shape[axis]
                self._copy(part, target.sliced(axis, begin, end, 1), f"{value} in {op.result}")
                begin = end

    def _pad(self, op: Op) -> None:
        """All of the result filled, then the operand copied into its middle."""
        x, low = self.view(op.operands[0]), op.attributes["low"]
        assert isinstance(low, tuple)
        targets = self._targets(op.result)
        self.views[op.result] = targets[0]
        build = Builder()
        element = op.result.type.element
        value = to_element(np.asarray(op.attributes["value"]), element)
        filled = build.done(constant_node(build, element, value.item()))
        for target in targets:
            shape = target.shape or (1,)
            access = Access(0, target.strides or (1,), target.offset)
            payload = Map(lanes_of(target.element), shape, (), (access,), filled)
            self._add_map(payload, (replace(target, offset=0),), str(op.result))
            inside = target
            for axis, (before, extent) in enumerate(zip(low, x.shape, strict=True)):
                inside = inside.sliced(axis, before, before + extent, 1)
            self._copy(x, inside, f"{op.operands[0]} in {op.result}")

    def _gather(self, op: Op) -> None:
        """Rows of whatever follows the axis, from each of what precedes it."""
        axis = int(op.attributes["axis"])  # type: ignore[arg-type]
        x = self._as(self.view(op.operands[0]), HELD[op.result.type.element])
        x = self._contiguous(x, str(op.operands[0]))
        indices = self._contiguous(self.view(op.operands[1]), str(op.operands[1]))
        targets = self._targets(op.result)
        rows, n, count = x.shape[axis], math.prod(x.shape[axis + 1 :]), math.prod(indices.shape)
        payload = Gather(
            lanes_of(x.element), rows, n, count, n, n,
            math.prod(x.shape[:axis]), rows * n, count * n,
        )  # fmt: skip
        self._add(payload, (at(x), at(indices), at(targets[0])), str(op.result))
        self._made(op.result, targets[0], targets[1:])

    def _random(self, op: Op) -> None:
        """The key and the counter lie in memory. Numbers of f64 are made of the two words of each."""
        key, counter = (self._contiguous(self.view(value), str(value)) for value in op.operands)
        targets = self._targets(op.result)
        distribution = "uniform" if op.name == "random_uniform" else "normal"
        count = math.prod(targets[0].shape)
        first = [at(self.numbered[id(op)])] if op.result.type.is_dynamic else []
        wide = op.result.type.element == "f64"
        places = [View.of(targets[0].shape, "i32") for _ in range(2)] if wide else targets[:1]
        payload = Random("words" if wide else distribution, count, numbered=bool(first))  # type: ignore[arg-type]
        self._add(payload, (at(key), at(counter), *first, *map(at, places)), str(op.result))
        if wide:
            words = tuple(self._as(place, "f64") for place in places)
            build = Builder()
            expression = build.done(WIDE_NUMBERS[distribution](build, *map(build.input, range(2))))
            accesses = tuple(Access(number, (1,)) for number in range(3))
            made = Map("f64", (count,), accesses[:2], accesses[2:], expression)
            self._add_map(made, (*words, targets[0]), str(op.result))
        self._made(op.result, targets[0], targets[1:])

    def _convert(self, op: Op) -> None:
        """Between lanes of 32 bits and of 64: others are expressions."""
        x, element = self.view(op.operands[0]), op.result.type.element
        name = str(op.result)
        if x.element != "f64":
            self._hand(op.result, self._as(x, "f64", name))
        elif HELD[element] == "i32":
            x = self._contiguous(x, name)
            whole = self._apply(clipped(element), x, View.of(x.shape, "f64"), name)
            self._hand(op.result, self._as(whole, "i32", name))
        else:
            number = self._as(x, "f32", name)
            if element == "bf16":
                self._apply(lambda b, node: b.apply("round_bf16", node), number, number, name)
            self._hand(op.result, number)

    def _outer(self, op: Op) -> None:
        """Each element of one vector times each of the other: a map of both, spread."""
        x, y = (self.view(value) for value in op.operands)
        targets = self._targets(op.result)
        shape = targets[0].shape
        x = replace(x, shape=(*x.shape, 1), strides=(*x.strides, 0)).spread(shape)
        y = replace(y, shape=(*y.shape[:-1], 1, y.shape[-1]), strides=(*y.strides[:-1], 0, y.strides[-1]))
        y = self._adjacent(op, y, spread=True).spread(shape)
        build = Builder()
        node = build.apply("mul", build.input(0), build.input(1))
        node = build.apply("round_bf16", node) if op.result.type.element == "bf16" else node
        views = (x, y, *targets)
        accesses = tuple(Access(number, view.strides, view.offset) for number, view in enumerate(views))
        expression = build.done(*[node] * len(targets))
        payload = Map(lanes_of(x.element), shape, accesses[:2], accesses[2:], expression)
        self._add_map(payload, tuple(replace(view, offset=0) for view in views), str(op.result))
        self.views[op.result] = targets[0]
