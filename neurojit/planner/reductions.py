"""Reductions as expressions of a row: softmax, norms, sums and kin, each one `Reduce`.

Kernels reduce the last axis, or down the last but one. Neighbouring axes become one, and what comes before
and after them one each; axes with others between them are transposed to the end first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from neurojit.ir.structure import Op
from neurojit.plan.cumsum import Cumsum
from neurojit.plan.expression import Builder
from neurojit.plan.map import Access
from neurojit.plan.program import Check
from neurojit.plan.reduce import Reduce
from neurojit.planner.copies import Copies
from neurojit.planner.drafts import at
from neurojit.planner.pointwise import LIMITS, wrapped
from neurojit.planner.tensors import UnplannedError, View, lanes_of

Rule = Callable[[Builder, Op, int, list[int]], int]
"""Writes the expression of an op: its first operand's element, and those of the others, are nodes already."""


def _softmax(b: Builder, op: Op, x: int, others: list[int]) -> int:
    power = b.apply("exp", b.apply("sub", x, b.apply("reduce_max", x)))
    return b.apply("div", power, b.apply("reduce_sum", power))


def _logsumexp(b: Builder, op: Op, x: int, others: list[int]) -> int:
    """Shifted by the greatest element, if that is finite."""
    top = b.apply("reduce_max", x)
    finite = b.apply("<", b.apply("abs", top), b.constant(float("inf")))
    shift = b.apply("select", finite, top, b.constant(0.0))
    total = b.apply("reduce_sum", b.apply("exp", b.apply("sub", x, shift)))
    return b.apply("add", b.apply("log", total), shift)


def _norm(b: Builder, op: Op, x: int, others: list[int]) -> int:
    if op.name == "layer_norm":
        x = b.apply("sub", x, b.apply("reduce_mean", x))
    square = b.apply("reduce_mean", b.apply("mul", x, x))
    root = b.apply("sqrt", b.apply("add", square, b.constant(float(op.attributes["epsilon"]))))  # type: ignore[arg-type]
    y = b.apply("mul", b.apply("div", x, root), others[0])
    return b.apply("add", y, others[1]) if op.name == "layer_norm" else y


def _plain(operation: str) -> Rule:
    return lambda b, op, x, others: b.apply(operation, x)


RULES: dict[str, Rule] = {
    "sum": _plain("reduce_sum"), "mean": _plain("reduce_mean"), "max": _plain("reduce_max"),
    "min": _plain("reduce_min"), "argmax": _plain("reduce_argmax"), "softmax": _softmax,
    "logsumexp": _logsumexp, "layer_norm": _norm, "rms_norm": _norm,
}  # fmt: skip


ON_INTEGERS = {"sum": "reduce_isum", "max": "reduce_imax", "min": "reduce_imin"}
MOST_SUMMED = 1 << 21
"""Integers of 32 bits whose sum f64 holds exactly."""


class Reductions(Copies):
    """See the module's head."""

    def _reduce(self, op: Op) -> None:
        x = self.view(op.operands[0])
        if op.name == "argmax" and op.operands[0].type.element == "i32":
            x = self._as(x, "f64")  # f32 has not all of them
        others = [self.view(value) for value in op.operands[1:]]
        result = "f64" if op.name == "argmax" and x.element == "f64" else ""
        targets = self._targets(op.result, result)
        axes = axes_of(op, len(x.shape))
        if len(axes) == 1 and axes[0] >= len(x.shape) - 2:
            axis, target = axes[0], _along(targets[0], x.shape, axes[0])
        else:
            x, axis = self._gathered(x, axes)
            kept = tuple(extent for number, extent in enumerate(x.shape) if number != axis)
            shape = x.shape if op.name in SAME_SHAPE else kept
            reshaped = targets[0].reshaped(shape)
            assert reshaped is not None, "destinations are contiguous"
            target = _along(reshaped, x.shape, axis)
        operands = [self._adjacent(op, view, spread=True) for view in (x, *others)]
        self._add_reduce(op, operands, target, axis)
        if result:
            self._hand(op.result, self._as(targets[0], "i32"))
        else:
            self._made(op.result, targets[0], targets[1:])

    def _gathered(self, x: View, axes: tuple[int, ...]) -> tuple[View, int]:
        """The tensor with those axes as one, the last or the last but one, and which it is."""
        rank = len(x.shape)
        if axes[-1] - axes[0] != len(axes) - 1:
            kept = tuple(axis for axis in range(rank) if axis not in axes)
            x, axes = x.transposed((*kept, *axes)), tuple(range(len(kept), rank))
        before, after = math.prod(x.shape[: axes[0]]), math.prod(x.shape[axes[-1] + 1 :])
        reduced = math.prod(x.shape[axis] for axis in axes)
        shape = (before, reduced, after) if after > 1 else (before, reduced)
        return self._reshaped(x, shape, "operand"), 1

    def _add_reduce(self, op: Op, operands: list[View], target: View, axis: int) -> None:
        x = operands[0]
        views = [x, *(other.spread(x.shape) for other in operands[1:]), target]
        numbers: dict[int, int] = {}
        begins: list[View] = []
        for view in views:
            if id(view.buffer) not in numbers:
                numbers[id(view.buffer)] = len(begins)
                begins.append(replace(view, offset=0))
        accesses = [Access(numbers[id(v.buffer)], v.strides, v.offset) for v in views]
        build = Builder()
        name = "sum" if op.name == "mean" and id(op) in self.places else op.name  # divided at the end
        expression = build.done(_node(build, op, name, [build.input(n) for n in range(len(views) - 1)]))
        down = axis != len(x.shape) - 1
        payload = Reduce(
            lanes_of(x.element), x.shape, tuple(accesses[:-1]), (accesses[-1],), expression, down
        )
        name = str(op.results[0]) if op.results else f"assert {op.attributes['text']!r}"
        self._add(payload, tuple(map(at, begins)), name, [op] if op.results else ())

    def _assert(self, op: Op) -> None:
        """The least of all elements is 0 if one is false."""
        x = self.view(op.operands[0])
        row = self._reshaped(x, (1, math.prod(x.shape)), "condition")
        least = row
        if row.shape[1] > 1:
            least = View.of((1,), row.element)
            self._add_reduce(op, [row], _along(least, row.shape, 1), 1)
        least = self._as(least, "f32")
        number = next(n for n, other in enumerate(self.function.asserts, 1) if other is op)
        self._add(Check(number), (at(least),), f"assert {op.attributes['text']!r}")

    def _cumsum(self, op: Op) -> None:
        """Along the last axis, or the last but one of rows of adjacent elements. Integers in f64, then
        wrapped."""
        axis = int(op.attributes["axis"])  # type: ignore[arg-type]
        x, element = self.view(op.operands[0]), op.result.type.element
        if element in LIMITS:
            if x.shape[axis] > MOST_SUMMED:
                raise UnplannedError(f"{op}: no kernel sums up more than {MOST_SUMMED} integers")
            x = self._as(x, "f64")
        exact = element == x.element
        targets = self._targets(op.result) if exact else [View.of(x.shape, x.element)]
        last = len(x.shape) - 1
        shape = x.shape
        if axis < last - 1:
            shape = (math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))
            axis, last = 1, 2
        x = self._adjacent(op, self._reshaped(x, shape, "operand"))
        target = targets[0].reshaped(shape)
        assert target is not None, "destinations are contiguous"
        strides, onto = x.strides, target.strides
        if last == 0:
            shape, strides, onto = (1, *shape), (0, *strides), (0, *onto)
        accesses = Access(0, strides, x.offset), Access(1, onto, target.offset)
        payload = Cumsum(x.element, shape, *accesses, down=axis == last - 1)
        views = replace(x, offset=0), replace(target, offset=0)
        name = str(op.result)
        self._add(payload, tuple(map(at, views)), name, [op])
        if exact:
            self._made(op.result, targets[0], targets[1:])
        elif element in LIMITS:
            self._apply(wrapped, targets[0], targets[0], name)
            self._hand(op.result, self._as(targets[0], "i32"))
        else:
            self._apply(lambda b, node: b.apply("round_bf16", node), targets[0], targets[0], name)
            self._hand(op.result, targets[0])


SAME_SHAPE = frozenset({"softmax", "layer_norm", "rms_norm"})
"""Reductions whose result has an element for each of the operand's."""


def _node(b: Builder, op: Op, name: str, operands: list[int]) -> int:
    """The expression of a row, in the lanes at hand, as the result's element type holds it."""
    x, *others = operands
    if name == "assert":
        return b.apply("reduce_min", x)
    element, result = op.operands[0].type.element, op.result.type.element
    if element in LIMITS and name != "argmax":
        return b.apply(ON_INTEGERS[name], x)
    if element == "i8":
        x = b.apply("to_number", x)
    node = RULES[name](b, op, x, others)
    if name == "argmax":
        return b.apply("to_integer", node) if element not in ("f64", "i32") else node
    return b.apply("round_bf16", node) if result == "bf16" and op.name not in ("max", "min") else node


def axes_of(op: Op, rank: int) -> tuple[int, ...]:
    """The axes that are reduced, in order."""
    if op.name in ("layer_norm", "rms_norm"):
        return (rank - 1,)
    axes = op.attributes.get("axes", (op.attributes.get("axis"),))
    assert isinstance(axes, tuple)
    return tuple(sorted(int(axis) for axis in axes))  # type: ignore[arg-type]


def _along(output: View, shape: tuple[int, ...], axis: int) -> View:
    """The output as if each element stood for all that it was made from."""
    if output.shape == shape:
        return output
    strides = list(output.strides)
    if len(output.shape) == len(shape):
        strides[axis] = 0
    else:
        strides.insert(axis, 0)
    return replace(output, shape=shape, strides=tuple(strides))
