"""What an expression means, in NumPy: node by node, each operation rounded to the element type.

Arithmetic then has the very bits that emitted code must have. Functions are not exact: what computes one is
the caller's choice, `functions.reference` or an emitted kernel that was held against it already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from neurojit import functions
from neurojit.plan.epilogue import FUNCTIONS, Activation
from neurojit.plan.expression import Constant, Expression, Input

Array = np.ndarray[Any, Any]
Function = Callable[[Activation, Array], Array]
"""A function of one element, on a contiguous array."""


def _where(condition: Array, a: Array, b: Array) -> Array:
    chosen: Array = np.where(condition, a, b)
    return chosen


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
    reduction: Callable[[str, Array], Array] | None = None,
) -> list[Array]:
    """The outputs for inputs that broadcast against each other, all of one element type.

    `reduction` computes a reduction over the last axis, which it keeps with an extent of 1."""
    dtype = inputs[0].dtype if inputs else np.dtype(np.float32)
    values: list[Array] = []
    with np.errstate(all="ignore"):
        for node in e.nodes:
            if isinstance(node, Input):
                values.append(inputs[node.index])
            elif isinstance(node, Constant):
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
                    values.append(reduction(node.op, operands[0]))
    return [values[output] for output in e.outputs]
