"""What ops mean, in NumPy, where that takes more than a line of the table.

Arrays come in the precision the interpreter computes in; float attributes come as scalars of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from neurojit.ir.product import product
from neurojit.ir.types import Array

PREDICATES = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal,
}  # fmt: skip
"""A comparison with NaN is false, but `ne`, which is true."""

REDUCED_FROM = {"max": -np.inf, "min": np.inf}


def matmul(a: Array, b: Array, transpose_a: bool, transpose_b: bool) -> Array:
    if a.dtype == np.int8:
        a, b = a.astype(np.int32), b.astype(np.int32)
    a = np.swapaxes(a, -1, -2) if transpose_a else a
    b = np.swapaxes(b, -1, -2) if transpose_b else b
    return product(a, b)


def outer(x: Array, y: Array) -> Array:
    return np.asarray(x[..., :, np.newaxis] * y[..., np.newaxis, :])


def compare(x: Array, y: Array, predicate: str) -> Array:
    return np.asarray(PREDICATES[predicate](x, y))


def sum_(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    """Integers wrap."""
    return np.asarray(np.sum(x, axis=axes, dtype=x.dtype, keepdims=keepdims))


def cumsum(x: Array, axis: int) -> Array:
    """Integers wrap."""
    return np.cumsum(x, axis=axis, dtype=x.dtype)


def max_(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    return extreme("max", x, axes, keepdims)


def min_(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    return extreme("min", x, axes, keepdims)


def extreme(which: str, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    """max or min; of nothing -inf or inf, for integers the least or greatest. NaN wins."""
    initial: Any = REDUCED_FROM[which]
    if x.dtype.kind == "i":
        info = np.iinfo(x.dtype)
        initial = info.min if which == "max" else info.max
    function = np.max if which == "max" else np.min
    reduced: Array = function(x, axis=axes, keepdims=keepdims, initial=initial)
    return reduced


def mean(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    """The sum over the count; of nothing NaN."""
    total: Array = np.sum(x, axis=axes, keepdims=keepdims)
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    quotient: Array = total / x.dtype.type(count)
    return quotient


def argmax(x: Array, axis: int, keepdims: bool) -> Array:
    """The first of the greatest; NaN is greater than any number; 0 where the axis is empty."""
    if x.shape[axis] == 0:
        shape = [1 if i == axis else extent for i, extent in enumerate(x.shape) if keepdims or i != axis]
        return np.zeros(shape, np.int32)
    return np.asarray(np.argmax(x, axis=axis, keepdims=keepdims))


def softmax(x: Array, axis: int) -> Array:
    powers = np.exp(x - extreme("max", x, (axis,), True))
    quotient: Array = powers / np.sum(powers, axis=axis, keepdims=True)
    return quotient


def logsumexp(x: Array, axis: int, keepdims: bool) -> Array:
    top = extreme("max", x, (axis,), True)
    shift = np.where(np.isfinite(top), top, 0)
    result: Array = np.log(np.sum(np.exp(x - shift), axis=axis, keepdims=True)) + shift
    return result if keepdims else np.squeeze(result, axis)


def layer_norm(x: Array, weight: Array, bias: Array, epsilon: Any) -> Array:
    """(x - mean) / sqrt(variance + epsilon) * weight + bias over the last axis, the variance divided by the
    count. Ba, Kiros, Hinton 2016."""
    centred = x - np.mean(x, axis=-1, keepdims=True)
    variance = np.mean(centred * centred, axis=-1, keepdims=True)
    result: Array = centred / np.sqrt(variance + epsilon) * weight + bias
    return result


def rms_norm(x: Array, weight: Array, epsilon: Any) -> Array:
    """x / sqrt(mean(x^2) + epsilon) * weight over the last axis. Zhang, Sennrich 2019."""
    result: Array = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + epsilon) * weight
    return result


def transpose(x: Array, permutation: tuple[int, ...]) -> Array:
    return np.transpose(x, permutation)


def concat(*xs: Array, axis: int) -> Array:
    joined: Array = np.concatenate(xs, axis)
    return joined


def slice_(x: Array, axis: int, start: int, end: int, step: int) -> Array:
    return x[(slice(None),) * axis + (slice(start, end, step),)]


def pad(x: Array, low: tuple[int, ...], high: tuple[int, ...], value: Any) -> Array:
    return np.pad(x, list(zip(low, high, strict=True)), constant_values=x.dtype.type(value)) if x.ndim else x


def gather(x: Array, indices: Array, axis: int) -> Array:
    """An index below 0 counts as 0, one beyond the last as the last: no index reads outside."""
    taken: Array = np.take(x, indices, axis=axis, mode="clip")
    return taken
