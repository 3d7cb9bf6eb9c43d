"""What each function of one element means, in NumPy, in the precision of its argument.

The op table, the interpreter and the gate before publication (neurojit.functions) read the same definitions.
Whoever wants a result rounded once hands over arguments of the next higher precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_erf = np.frompyfunc(math.erf, 1, 1)
_erfc = np.frompyfunc(math.erfc, 1, 1)


def _sigmoid(x: Array) -> Array:
    value: Array = np.where(x < 0, np.exp(np.minimum(x, 0)), 1) / (1 + np.exp(-np.abs(x)))
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
    "erf": lambda x: np.asarray(_erf(x.astype(np.float64)), x.dtype),
    "relu": lambda x: np.where(x < 0, 0, x),
    "leaky_relu": lambda x, alpha: np.where(x < 0, x * alpha, x),
    "clamp": lambda x, low, high: np.where(x < low, low, np.where(x > high, high, x)),
    "elu": lambda x, alpha: np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0))),
    "silu": lambda x: _times(x, _sigmoid(x)),
    "gelu": lambda x: _times(x, np.asarray(_erfc((-x * math.sqrt(0.5)).astype(np.float64)), x.dtype) / 2),
    "gelu_tanh": _gelu_tanh,
}  # fmt: skip
