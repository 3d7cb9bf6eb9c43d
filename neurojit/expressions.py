"""What an expression means, in NumPy: node by node, each operation rounded to the element type.

Arithmetic then has the very bits that emitted code must have. Functions are not exact: what computes one is
the caller's choice, `functions.reference` or an emitted kernel that was held against it already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from neurojit import functions
from neurojit.ir.numbers import to_element
from neurojit.ir.types import round_bf16
from neurojit.plan.epilogue import FUNCTIONS, Activation
from neurojit.plan.expression import Constant, Expression, Input
from neurojit.plan.reduce import Reduce

Array = np.ndarray[Any, Any]
Function = Callable[[Activation, Array], Array]
"""A function of one element, on a contiguous array."""


def _where(condition: Array, a: Array, b: Array) -> Array:
    chosen: Array = np.where(condition, a, b)
    return chosen


def _on_integers(function: Callable[..., Array]) -> Callable[..., Array]:
    """Of the bits of f32 numbers, which are integers; so are the result's."""
    return lambda *operands: _of_integers(function)(*operands).view(np.float32)


def _of_integers(function: Callable[..., Array]) -> Callable[..., Array]:
    """Of the bits of f32 numbers, which are integers."""
    return lambda *operands: function(*(np.asarray(x, np.float32).view(np.int32) for x in operands))


MEANING: dict[str, Callable[..., Array]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": lambda a, b: _where((a > b) | np.isnan(a), a, b),
    "min": lambda a, b: _where((a < b) | np.isnan(a), a, b),
    "negate": np.negative,
    "abs": np.abs,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "reciprocal": lambda x: 1 / x,
    "round": np.rint,
    "floor": np.floor,
    "ceil": np.ceil,
    "<": np.less,
    "<=": np.less_equal,
    "==": np.equal,
    "!=": np.not_equal,
    ">=": np.greater_equal,
    ">": np.greater,
    "and": lambda a, b: _where(a < b, a, b),
    "or": lambda a, b: _where(a > b, a, b),
    "not": lambda x: 1 - x,
    "select": lambda c, a, b: _where(c != 0, a, b),
    "iadd": _on_integers(np.add),
    "isub": _on_integers(np.subtract),
    "imul": _on_integers(np.multiply),
    "imax": _on_integers(np.maximum),
    "imin": _on_integers(np.minimum),
    "wrap8": _on_integers(lambda x: x.astype(np.int8).astype(np.int32)),
    "i<": _of_integers(np.less),
    "i<=": _of_integers(np.less_equal),
    "i==": _of_integers(np.equal),
    "i!=": _of_integers(np.not_equal),
    "i>=": _of_integers(np.greater_equal),
    "i>": _of_integers(np.greater),
    "to_number": _of_integers(lambda x: x.astype(np.float32)),
    "to_integer": lambda x: to_element(x, "i32").view(np.float32),
    "round_bf16": round_bf16,
}
"""name -> its meaning on arrays of the element type, as in `plan.expression`."""


def apply_function(activation: Activation, x: Array) -> Array:
    """The function, computed in the next higher precision and rounded."""
    if activation.name in functions.EXACT:
        return functions.apply_exactly(activation, x)
    with np.errstate(all="ignore"):
        return functions.reference(activation, x).astype(x.dtype)


def evaluate(
    e: Expression,
    inputs: Sequence[Array],
    function: Function = apply_function,
    reduction: Callable[[int, str, Array], Array] | None = None,
) -> list[Array]:
    """The outputs for inputs that broadcast against each other, all of one element type.

    `reduction` computes the reduction that is node so and so; it keeps the axis, with an extent of 1."""
    dtype = inputs[0].dtype if inputs else np.dtype(np.float32)
    values: list[Array] = []
    with np.errstate(all="ignore"):
        for at, node in enumerate(e.nodes):
            if isinstance(node, Input):
                values.append(inputs[node.index])
            elif isinstance(node, Constant):
                if node.is_integer:
                    values.append(np.array(node.integer, np.uint32).view(np.float32))
                else:
                    values.append(np.array(node.value).astype(dtype))
            else:
                operands = [values[operand] for operand in node.operands]
                if node.op in FUNCTIONS:
                    x = np.ascontiguousarray(operands[0])
                    values.append(
                        function(Activation(node.op, node.parameters), x).reshape(operands[0].shape)
                    )
                elif node.op in MEANING:
                    values.append(np.asarray(MEANING[node.op](*operands)).astype(dtype))
                else:
                    if reduction is None:
                        raise ValueError(f"expression: {node.op} without a meaning of reductions")
                    values.append(reduction(at, node.op, operands[0]))
    return [values[output] for output in e.outputs]


# Reductions, in the order that `plan.reduce` fixes ---------------------------------------------------------


def _bits(integer: int) -> float:
    """The number of f32 that has the bits of an integer."""
    return float(np.array(integer, np.int32).view(np.float32))


_COMBINED: dict[str, tuple[float, Callable[[Array, Array], Array]]] = {
    "reduce_sum": (0.0, np.add),
    "reduce_mean": (0.0, np.add),
    "reduce_fmax": (-np.inf, lambda a, x: _where(x > a, x, a)),
    "reduce_fmin": (np.inf, lambda a, x: _where(x < a, x, a)),
    "reduce_max": (-np.inf, lambda a, x: _where((x > a) | np.isnan(x), x, a)),
    "reduce_min": (np.inf, lambda a, x: _where((x < a) | np.isnan(x), x, a)),
    "reduce_isum": (_bits(0), MEANING["iadd"]),
    "reduce_imax": (_bits(-(1 << 31)), MEANING["imax"]),
    "reduce_imin": (_bits((1 << 31) - 1), MEANING["imin"]),
}
"""name -> (where it starts, how it takes in one element more)."""


def reduce_rows(op: str, x: Array, partial_lanes: int) -> Array:
    """A reduction over the last axis, with so many partial sums; the axis stays, with an extent of 1."""
    n = x.shape[-1]
    if op in ("reduce_argmax", "reduce_argmin"):
        find = np.argmax if op == "reduce_argmax" else np.argmin
        return np.asarray(find(x, -1, keepdims=True), x.dtype)
    start, combine = _COMBINED[op]
    groups = -(-n // partial_lanes)
    padded = np.full((*x.shape[:-1], groups * partial_lanes), start, x.dtype)
    padded[..., :n] = x
    grouped = padded.reshape(*x.shape[:-1], groups, partial_lanes)
    partial = np.full((*x.shape[:-1], partial_lanes), start, x.dtype)
    for group in range(groups):
        partial = combine(partial, grouped[..., group, :])
    while partial.shape[-1] > 1:
        half = partial.shape[-1] // 2
        partial = combine(partial[..., :half], partial[..., half:])
    return partial / x.dtype.type(n) if op == "reduce_mean" else partial


def evaluate_rows(g: Reduce, inputs: Sequence[Array], function: Function = apply_function) -> list[Array]:
    """The outputs of a `Reduce`, for inputs of its shape, the dynamic extent being theirs."""
    lanes = g.partial_lanes()

    def reduction(at: int, op: str, x: Array) -> Array:
        x = np.broadcast_to(x, inputs[0].shape) if inputs else x
        if not g.down:
            return reduce_rows(op, x, lanes[at])
        return np.swapaxes(reduce_rows(op, np.swapaxes(x, -1, -2), lanes[at]), -1, -2)

    return evaluate(g.expression, inputs, function, reduction)
