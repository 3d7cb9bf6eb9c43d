"""What NumPy's functions become on traced arrays, with the parameters they take there.

Each takes the trace and NumPy's arguments. Python itself refuses parameters that are not listed here; the
error names the NumPy function. What NumPy broadcasts, flattens or keeps silently is written out as ops.
"""

from __future__ import annotations

import itertools
from operator import index
from typing import Any

import numpy as np

from neurojit.frontends.indexing import gathered, getitem
from neurojit.frontends.trace import Table, Trace, Tracer, located, shaped
from neurojit.frontends.ufuncs import matmul

Axes = int | tuple[int, ...] | None


def axes_of(x: Tracer, axis: Axes) -> tuple[int, ...]:
    """The axes from the front, in rising order. NumPy's AxisError: there is no such."""
    given = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (index(axis),)
    probe = np.empty((1,) * x.ndim)
    for each in given:
        probe.swapaxes(each, each)  # raises what NumPy raises
    counted = sorted(each % x.ndim for each in given)
    if len(set(counted)) != len(counted):
        raise ValueError(f"axis {axis}: each axis once")
    return tuple(counted)


def _reduced(trace: Trace, op: str, x: Tracer, axis: Axes, keepdims: bool) -> Tracer:
    axes = axes_of(x, axis)
    if not axes:
        return x
    if op in ("max", "min") and 0 in (x.shape[each] for each in axes):
        raise ValueError(f"numpy.{op}: zero-size array to reduction operation which has no identity")
    return trace.op(op, x._value, axes=axes, keepdims=keepdims)


def sum_(trace: Trace, a: Any, axis: Axes = None, dtype: Any = None, *, keepdims: bool = False) -> Tracer:
    x = _summand(trace, np.sum, a, dtype)
    return _reduced(trace, "sum", x, axis, keepdims)


def _summand(trace: Trace, function: Any, a: Any, dtype: Any) -> Tracer:
    """NumPy adds integers as int64, which TensorLang has not: the caller says what to add them as."""
    x = trace.tracer(a)
    if dtype is None and x.dtype.kind in "bi":
        raise located(
            f"numpy.{function.__name__} of {x.dtype} gives int64: expected a dtype that TensorLang has; "
            "pass dtype=np.int32, which wraps, or convert with astype"
        )
    summand = Tracer(trace, trace.value(x, dtype or x.dtype))
    if summand.dtype.kind == "b" or summand.dtype == np.int8:
        raise located(f"numpy.{function.__name__}: dtype {summand.dtype}: expected float32, float64 or int32")
    return summand


def mean(trace: Trace, a: Any, axis: Axes = None, dtype: Any = None, *, keepdims: bool = False) -> Tracer:
    x = trace.tracer(a)
    dtype = dtype or (x.dtype if x.dtype.kind == "f" else np.float64)
    return _reduced(trace, "mean", Tracer(trace, trace.value(x, dtype)), axis, keepdims)


def _extreme(op: str) -> Any:
    def extreme(trace: Trace, a: Any, axis: Axes = None, *, keepdims: bool = False) -> Tracer:
        x = trace.tracer(a)
        if x.dtype.kind != "b":
            return _reduced(trace, op, x, axis, keepdims)
        number = Tracer(trace, trace.value(x, np.int8))
        return Tracer(trace, trace.value(_reduced(trace, op, number, axis, keepdims), bool))

    return extreme


def _logical(op: str) -> Any:
    """any and all: the greatest and the least of 0 and 1; of nothing False and True."""

    def logical(trace: Trace, a: Any, axis: Axes = None, *, keepdims: bool = False) -> Tracer:
        x = trace.tracer(a)
        axes = axes_of(x, axis)
        number = trace.value(Tracer(trace, trace.value(x, bool)), np.int8)
        if axes:
            number = trace.builder.op(op, number, axes=axes, keepdims=keepdims)
        return trace.op("compare", number, trace.value(0, np.int8), predicate="gt")

    return logical


def argmax(trace: Trace, a: Any, axis: int | None = None, *, keepdims: bool = False) -> Tracer:
    """int32 where NumPy has int64; the numbers are NumPy's."""
    x = trace.tracer(a)
    x = Tracer(trace, trace.value(x, np.int8)) if x.dtype.kind == "b" else x
    if x.size == 0:
        raise ValueError("numpy.argmax: attempt to get argmax of an empty sequence")
    if axis is None:
        flat = trace.op("argmax", shaped(x, (x.size,))._value, axis=0)
        return shaped(flat, (1,) * x.ndim) if keepdims else flat
    return trace.op("argmax", x._value, axis=axes_of(x, axis)[0], keepdims=keepdims)


def cumsum(trace: Trace, a: Any, axis: int | None = None, dtype: Any = None) -> Tracer:
    x = _summand(trace, np.cumsum, a, dtype)
    x = shaped(x, (x.size,)) if axis is None else x
    return trace.op("cumsum", x._value, axis=axes_of(x, axis)[0])


# Choosing ---------------------------------------------------------------------------------------------


def where(trace: Trace, condition: Any, *choices: Any) -> Tracer:
    if len(choices) != 2:
        raise located("numpy.where: one argument gives places of unknown number: expected three")
    dtype = trace.promoted(_where_of, *choices)
    x, y = (trace.value(choice, dtype) for choice in choices)
    return trace.op("select", trace.value(condition, bool), x, y)


def _where_of(x: Any, y: Any) -> Any:
    return np.where(np.zeros((), bool), x, y)


def clip(
    trace: Trace, a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None
) -> Any:
    result = trace.tracer(a)
    least, greatest = a_min if min is None else min, a_max if max is None else max
    result = result if least is None else np.maximum(result, least)
    return result if greatest is None else np.minimum(result, greatest)


def take(trace: Trace, a: Any, indices: Any, axis: int | None = None, *, mode: str = "raise") -> Tracer:
    x = trace.tracer(a)
    if axis is None:
        x, axis = shaped(x, (x.size,)), 0
    return gathered(trace, x, indices, axes_of(x, axis)[0], mode)


# Shapes -----------------------------------------------------------------------------------------------


def reshape(trace: Trace, a: Any, shape: Any) -> Tracer:
    x = trace.tracer(a)
    wanted = np.empty((0,), np.int8) if x.size == 0 else np.broadcast_to(np.int8(0), (x.size,))
    return shaped(x, np.reshape(wanted, shape).shape)  # NumPy resolves -1, and raises where it does not fit


def ravel(trace: Trace, a: Any) -> Tracer:
    x = trace.tracer(a)
    return shaped(x, (x.size,))


def transpose(trace: Trace, a: Any, axes: Any = None) -> Tracer:
    x = trace.tracer(a)
    np.transpose(np.empty((1,) * x.ndim), axes)  # raises what NumPy raises
    permutation = tuple(reversed(range(x.ndim))) if axes is None else tuple(axis % x.ndim for axis in axes)
    return trace.op("transpose", x._value, permutation=permutation)


def swapaxes(trace: Trace, a: Any, axis1: int, axis2: int) -> Tracer:
    x = trace.tracer(a)
    order = list(range(x.ndim))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return transpose(trace, x, order)


def expand_dims(trace: Trace, a: Any, axis: Any) -> Tracer:
    x = trace.tracer(a)
    return shaped(x, np.expand_dims(np.broadcast_to(np.int8(0), x.shape), axis).shape)


def squeeze(trace: Trace, a: Any, axis: Any = None) -> Tracer:
    x = trace.tracer(a)
    return shaped(x, np.squeeze(np.broadcast_to(np.int8(0), x.shape), axis).shape)


def broadcast_to(trace: Trace, array: Any, shape: Any) -> Tracer:
    x = trace.tracer(array)
    wanted = np.broadcast_to(np.broadcast_to(np.int8(0), x.shape), shape).shape
    return trace.op("broadcast", x._value, shape=wanted)


def concatenate(trace: Trace, arrays: Any, axis: int | None = 0) -> Tracer:
    dtype = trace.promoted(_joined, *arrays)
    parts = [Tracer(trace, trace.value(part, dtype)) for part in arrays]
    if axis is None:
        parts, axis = [ravel(trace, part) for part in parts], 0
    np.concatenate([np.broadcast_to(np.int8(0), part.shape) for part in parts], axis)  # NumPy's own errors
    return trace.op("concat", *(part._value for part in parts), axis=axis)


def _joined(*arrays: Any) -> Any:
    return np.concatenate([np.ravel(array) for array in arrays])


def stack(trace: Trace, arrays: Any, axis: int = 0) -> Tracer:
    parts = [trace.tracer(part) for part in arrays]
    if len({part.shape for part in parts}) != 1:
        raise ValueError("numpy.stack: all input arrays must have the same shape")
    return concatenate(trace, [expand_dims(trace, part, axis) for part in parts], axis)


def split(trace: Trace, ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Tracer]:
    x = trace.tracer(ary)
    (axis,) = axes_of(x, axis)
    places = np.split(np.arange(x.shape[axis]), indices_or_sections)
    ends = np.cumsum([0, *map(len, places)])
    return [
        trace.op("slice", x._value, axis=axis, start=int(start), end=int(end))
        for start, end in itertools.pairwise(ends)
    ]


def pad(trace: Trace, array: Any, pad_width: Any, mode: str = "constant", *, constant_values: Any = 0) -> Any:
    x = trace.tracer(array)
    if mode != "constant" or isinstance(constant_values, Tracer) or np.ndim(constant_values):
        raise located(f"numpy.pad: mode {mode!r}: expected 'constant' with one number")
    widths = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2)).tolist()
    low, high = tuple(before for before, _ in widths), tuple(after for _, after in widths)
    if min((*low, *high), default=0) < 0:
        raise ValueError("numpy.pad: index can't contain negative values")
    number = x if x.dtype.kind != "b" else Tracer(trace, trace.value(x, np.int8))
    padded = trace.op("pad", number._value, low=low, high=high, value=float(constant_values))
    return Tracer(trace, trace.value(padded, x.dtype))


# Products ---------------------------------------------------------------------------------------------


def dot(trace: Trace, a: Any, b: Any) -> Tracer:
    x, y = trace.tracer(a), trace.tracer(b)
    if not x.ndim or not y.ndim:
        return x * y  # type: ignore[no-any-return]
    if y.ndim > 2:
        raise located("numpy.dot of more than two axes on the right: expected at most two; use numpy.matmul")
    return matmul(trace, np.matmul, x, y)


def outer(trace: Trace, a: Any, b: Any) -> Tracer:
    x, y = ravel(trace, a), ravel(trace, b)
    return shaped(x, (x.size, 1)) * shaped(y, (1, y.size))  # type: ignore[no-any-return]


def zeros_like(trace: Trace, a: Tracer, dtype: Any = None) -> Any:
    return np.zeros(a.shape, dtype or a.dtype)


def ones_like(trace: Trace, a: Tracer, dtype: Any = None) -> Any:
    return np.ones(a.shape, dtype or a.dtype)


def shape_(trace: Trace, a: Tracer) -> tuple[int, ...]:
    return a.shape


def ndim(trace: Trace, a: Tracer) -> int:
    return a.ndim


FUNCTIONS: Table = {
    "getitem": getitem,
    np.sum: sum_,
    np.mean: mean,
    np.max: _extreme("max"),
    np.min: _extreme("min"),
    np.amax: _extreme("max"),
    np.amin: _extreme("min"),
    np.any: _logical("max"),
    np.all: _logical("min"),
    np.argmax: argmax,
    np.cumsum: cumsum,
    np.where: where,
    np.clip: clip,
    np.take: take,
    np.reshape: reshape,
    np.ravel: ravel,
    np.transpose: transpose,
    np.swapaxes: swapaxes,
    np.expand_dims: expand_dims,
    np.squeeze: squeeze,
    np.broadcast_to: broadcast_to,
    np.concatenate: concatenate,
    np.stack: stack,
    np.split: split,
    np.pad: pad,
    np.dot: dot,
    np.outer: outer,
    np.zeros_like: zeros_like,
    np.ones_like: ones_like,
    np.shape: shape_,
    np.ndim: ndim,
}
