"""How far an emitted function of plan/epilogue.py may be from its meaning (ir/functions.py).

The meaning is computed in double precision (for f64 in long double, where the C library's erf allows), the
bound counts units in the last place of the exact result; for gelu and gelu_tanh, whose negative side is a
product with a vanishing factor, of the greater of the result and x / 2. The bounds are what tests measured
over all f32 inputs, rounded up, and for f64 two units more, for the reference errs too and methods differ.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from neurojit.ir.functions import MEANING
from neurojit.plan.epilogue import Activation

Array = np.ndarray[Any, Any]

EXACT = frozenset({"identity", "relu", "leaky_relu", "clamp"})
"""Rounded once at most: the same bits as in NumPy at the element type."""

BOUND = {
    "exp": 0.9, "log": 1.0, "tanh": 1.0, "sigmoid": 2.0, "erf": 1.0, "elu": 2.0,
    "silu": 2.45, "gelu": 1.6, "gelu_tanh": 1.4,
}  # fmt: skip
RELATIVE_TO_ARGUMENT = frozenset({"gelu", "gelu_tanh"})
LOST_IN_SILU = 1 << 10
"""silu's sigmoid may be denormal; times x that is so many of the least denormal."""


def apply_exactly(activation: Activation, t: Array) -> Array:
    """An EXACT function in t's own precision."""
    parameters = (t.dtype.type(parameter) for parameter in activation.parameters)
    with np.errstate(all="ignore"):
        return MEANING[activation.name](t, *parameters).astype(t.dtype)


def reference(activation: Activation, t: Array) -> Array:
    """The function in the next higher precision."""
    higher = np.float64 if t.itemsize == 4 else np.longdouble
    parameters = (higher(t.dtype.type(parameter)) for parameter in activation.parameters)
    with np.errstate(all="ignore"):
        return MEANING[activation.name](t.astype(higher), *parameters)


def agrees(activation: Activation, t: Array, got: Array) -> tuple[Array, Array]:
    """(the function of t in t's precision, where `got` is within its bound of that); elementwise."""
    exact = reference(activation, t)
    info = np.finfo(t.dtype)
    with np.errstate(all="ignore"):
        magnitude = np.abs(exact)
        if activation.name in RELATIVE_TO_ARGUMENT:
            magnitude = np.maximum(magnitude, np.abs(t).astype(exact.dtype) / 2)
        magnitude = np.clip(magnitude, info.tiny, info.max).astype(t.dtype)
        unit = np.spacing(magnitude)
        bound = (BOUND[activation.name] + (2 if t.itemsize == 8 else 0)) * unit.astype(exact.dtype)
        if activation.name == "silu":
            bound = bound + LOST_IN_SILU * info.smallest_subnormal.astype(exact.dtype)
        beyond = exact.dtype.type(2) ** info.maxexp  # an infinity counts as the first number too large
        distance = np.abs(np.clip(got.astype(exact.dtype), -beyond, beyond) - np.clip(exact, -beyond, beyond))
        near = (distance <= bound) | (np.isnan(exact) & np.isnan(got))
        return exact.astype(t.dtype), near
