"""Reductions as expressions of a row: softmax, norms, sums and kin, each one `Reduce`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from neurojit.ir.structure import Op
from neurojit.plan.expression import Builder
from neurojit.plan.map import Access
from neurojit.plan.reduce import Reduce
from neurojit.planner.tensors import UnplannedError, View

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
    "min": _plain("reduce_min"), "softmax": _softmax, "logsumexp": _logsumexp, "layer_norm": _norm,
    "rms_norm": _norm,
}  # fmt: skip


def reduce_of(op: Op, operands: list[View], output: View) -> tuple[Reduce, tuple[View, ...]]:
    """The payload, and for each of its buffers a view that begins there. UnplannedError: no kernel reduces
    along these axes."""
    x = operands[0]
    axis = _axis(op, x)
    down = axis == len(x.shape) - 2 and axis >= 0
    if not down and axis != len(x.shape) - 1:
        raise UnplannedError(f"{op}: no kernel reduces axis {axis} of {len(x.shape)}")
    views = [x, *(other.spread(x.shape) for other in operands[1:])]
    written = _along(output, x.shape, axis)
    for view in (*views, written):
        if view.shape[-1] > 1 and view.strides[-1] not in (0, 1):
            raise UnplannedError(f"{op}: an operand whose last axis is not adjacent has no kernel")
    numbers: dict[int, int] = {}
    begins: list[View] = []
    for view in (*views, written):
        if id(view.buffer) not in numbers:
            numbers[id(view.buffer)] = len(begins)
            begins.append(replace(view, offset=0))
    accesses = [Access(numbers[id(v.buffer)], v.strides, v.offset) for v in (*views, written)]
    build = Builder()
    nodes = [build.input(number) for number in range(len(views))]
    expression = build.done(RULES[op.name](build, op, nodes[0], nodes[1:]))
    payload = Reduce(x.element, x.shape, tuple(accesses[:-1]), (accesses[-1],), expression, down)
    return payload, tuple(begins)


def _axis(op: Op, x: View) -> int:
    """The one axis that is reduced."""
    if op.name in ("layer_norm", "rms_norm"):
        return len(x.shape) - 1
    axes = op.attributes.get("axes", (op.attributes.get("axis"),))
    if not isinstance(axes, tuple) or len(axes) != 1 or not isinstance(axes[0], int):
        raise UnplannedError(f"{op}: no kernel reduces axes {axes} at once")
    return axes[0]


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
