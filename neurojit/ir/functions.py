"""What each function of one element means, in NumPy, in the precision of its argument.

The op table, the interpreter and the gate before publication (neurojit.functions) read the same definitions.
Whoever wants a result rounded once hands over arguments of the next higher precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from neurojit.runtime import error_function

Array = np.ndarray[Any, Any]


def _error_function(x: Array, complement: bool) -> Array:
    """erf or 1 - erf, in double precision at most."""
    result = np.empty(x.shape)
    error_function(np.ascontiguousarray(x, np.float64).ravel(), result.reshape(-1), complement=complement)
    return result.astype(x.dtype, copy=False)


def _sigmoid(x: Array) -> Array:
    power = np.exp(-np.abs(x))
    value: Array = np.where(x < 0, power, 1) / (1 + power)
    return value


def _times(x: Array, factor: Array) -> Array:
    """x * factor, where -inf * 0 is the limit, -0."""
    return np.where(x == -np.inf, -0.0, x * factor)


def _gelu_tanh(x: Array) -> Array:
    return _times(x, _sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


MEANING: dict[str, Callable[..., Array]] = {
    "identity": lambda x: x,
    "exp": np.exp,
    "log": np.log,
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "erf": lambda x: _error_function(x, False),
    "relu": lambda x: np.where(x < 0, 0, x),
    "leaky_relu": lambda x, alpha: np.where(x < 0, x * alpha, x),
    "clamp": lambda x, low, high: np.where(x < low, low, np.where(x > high, high, x)),
    "elu": lambda x, alpha: np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0))),
    "silu": lambda x: _times(x, _sigmoid(x)),
    "gelu": lambda x: _times(x, _error_function(-x * math.sqrt(0.5), True) / 2),
    "gelu_tanh": _gelu_tanh,
}  # fmt: skip
