"""Dense layers, activation(alpha x @ w + beta out + b + residual), for the calls the fast path does not take.

A call is brought into the form of one kernel, which runs once or over leading axes. Only where no kernel can
be had the product comes first and the rest in passes over it, and the reason is counted. The order of
roundings is the same, so the bits are too.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import numpy as np

from neurojit import _dense
from neurojit._bound import Bound
from neurojit.numpy_matmul import KERNEL_TYPES, fallbacks, for_kernel, matmul, publish, takes_rows
from neurojit.plan.epilogue import IDENTITY, Activation, Epilogue

Array = np.ndarray[Any, Any]

DEFAULT_PARAMETERS: dict[str, tuple[float, ...]] = {"leaky_relu": (0.01,), "elu": (1.0,)}
"""Parameters of activations that are given by name alone."""
MOST_RESIDUAL_BYTES = 1 << 28
"""From first to last element of a residual with rows apart: a kernel's validation lays such a one out."""


def activation_of(given: Any) -> Activation:
    """An activation from None, a name, a tuple of name and parameters, or an Activation; -0 counts as 0.

    ValueError for what is none of these, and for parameters that are no numbers."""
    if given is None:
        return IDENTITY
    if isinstance(given, str):
        return Activation(given, DEFAULT_PARAMETERS.get(given, ()))
    if isinstance(given, Activation):
        name, parameters = given.name, given.parameters
    elif isinstance(given, tuple) and given and isinstance(given[0], str):
        name, parameters = given[0], given[1:]
    else:
        raise ValueError(
            f"activation {given!r}: expected None, a name, or a tuple of a name and its parameters; "
            'for instance "relu" or ("leaky_relu", 0.1)'
        )
    return Activation(name, tuple(_number(f"activation {name}", parameter) for parameter in parameters))


def _number(what: str, given: Any) -> float:
    """A float that equals itself, never -0."""
    try:
        number = math.nan if isinstance(given, str) else float(given)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if math.isnan(number):
        raise ValueError(f"{what}: expected a number, got {given!r}")
    return number + 0.0


def _name_of(given: Any, function: Activation) -> Hashable:
    """What the fast path may find the function by: what was given, where that is equal to nothing else."""
    if isinstance(given, str):
        return given
    plain = type(given) is tuple and all(type(part) in (str, int, float, bool) for part in given)
    return given if plain and given == (function.name, *function.parameters) else None


class _Layer(NamedTuple):
    """One call as kernels see it: x (..., m, k), w (..., k, n), y (..., m, n) with the same leading axes.

    besides: the epilogue's operands, with those axes too. y is `out`, or `beside` it, and to be copied there.
    copies: whether some operand is a copy of the caller's array."""

    x: Array
    w: Array
    y: Array
    besides: tuple[Array, ...]
    epilogue: Epilogue
    bias: int
    key: Hashable
    name: Hashable
    beside: bool
    copies: bool


def general(
    x: Any,
    w: Any,
    b: Any = None,
    activation: Any = None,
    out: Any = None,
    *,
    alpha: float = 1.0,
    beta: float = 0.0,
    residual: Any = None,
) -> Any:
    """What `nj.linear` is when its fast path does not apply. See Linear for the contract."""
    layer, shape = _read(x, w, b, activation, out, alpha, beta, residual)
    if layer.y.size:
        reason = _one_kernel(layer) if layer.x.size else None
        if reason is not None or not layer.x.size:
            _in_passes(layer)
        if reason is not None:
            fallbacks[f"linear in several passes: {reason}"] += 1
    if out is None:
        return layer.y if layer.y.shape == shape else layer.y.reshape(shape)
    if layer.beside:
        out[...] = layer.y.reshape(shape)
    return out


def bind(
    x: Any, w: Any, b: Any, activation: Any, out: Any, *, alpha: float, beta: float, residual: Any
) -> Callable[[], Any]:
    """What `nj.linear.bind` returns; see Linear.bind."""
    if out is None:
        raise ValueError("linear.bind: out: expected the array that receives each result, got None")
    arrays = x, w, *(array for array in (b, residual) if array is not None)
    layer, _ = _read(x, w, b, activation, out, alpha, beta, residual)
    call = functools.partial(general, x, w, b, activation, out, alpha=alpha, beta=beta, residual=residual)
    own = not layer.beside and not layer.copies and all(type(array) is np.ndarray for array in arrays)
    if own and layer.y.ndim == 2 and layer.y.size and layer.x.size:
        number = _dense.Number(layer.key, layer.name)
        key, reason = _publish(layer, number)
        if key is not None and reason is None:
            operands = tuple(array.view() for array in (layer.x, layer.w, layer.y, *layer.besides))
            text = f"linear {np.shape(x)} @ {np.shape(w)}"
            return Bound(key, operands, out, call, text, (number, arrays))
    return call


# Reading a call ----------------------------------------------------------------------------------------


def _read(
    x: Any, w: Any, b: Any, activation: Any, out: Any, alpha: Any, beta: Any, residual: Any
) -> tuple[_Layer, tuple[int, ...]]:
    """The layer, and the result's shape. ValueError and TypeError say what does not fit."""
    function = activation_of(activation)
    x, w = np.asarray(x), np.asarray(w)
    bias = None if b is None else np.asarray(b)
    residual = None if residual is None else np.asarray(residual)
    shape = _checked_shape(x, w, bias, residual, out)
    dtype = w.dtype
    alpha, beta = (_scalar(name, value, dtype) for name, value in (("alpha", alpha), ("beta", beta)))
    if beta and out is None:
        raise ValueError(f"linear: beta {beta}: expected an out that it multiplies, got None")

    given = [array for array in (x, w, bias, residual) if array is not None]
    x, w = (for_kernel(array, dtype) for array in (x, w))
    if x.ndim == 1:
        x = x[None, :]
    full = (*x.shape[:-1], w.shape[1])
    if residual is not None:
        residual = np.broadcast_to(residual, shape).reshape(full)
    overlaps = out is not None and any(np.may_share_memory(out, array) for array in given)
    y = out.reshape(full) if out is not None and not overlaps and takes_rows(out, full) else None
    if y is not None and y.ndim > 1 and y.strides[-2] != w.shape[1] * dtype.itemsize and _apart(x):
        y = None  # its kernel's key has room for the strides of one of the two
    beside = y is None
    if y is None:
        y = np.array(out, order="C").reshape(full) if beta else np.empty(full, dtype)
    if y.ndim > 2:
        x, y, bias, residual = _together(x, y, bias, residual)
    axes = y.shape[:-2]
    column = bias is not None and bias.ndim == 2
    besides = []
    if bias is not None:
        vector = np.ascontiguousarray(bias.reshape(-1))
        besides.append(np.broadcast_to(vector, (*axes, vector.size)))
    rows_apart = None
    if residual is not None:
        residual, rows_apart = _residual_for_kernel(residual)
        besides.append(residual)
    kind = 0 if bias is None else 2 if column else 1
    epilogue = Epilogue(
        alpha,
        beta,
        _dense.BIAS_KINDS[kind],
        rows_apart,
        Activation(function.name, tuple(_rounded(value, dtype) for value in function.parameters)),
    )
    plain = alpha == 1 and beta == 0 and residual is None
    # Of rows that follow each other it matters that they do, not how far that is.
    steps = "adjacent" if rows_apart == y.shape[-1] else rows_apart
    layer = _Layer(
        np.broadcast_to(x, (*axes, *x.shape[-2:])),
        np.broadcast_to(w, (*axes, *w.shape)),
        y,
        tuple(besides),
        epilogue,
        kind,
        key=(None if function == IDENTITY else function) if plain else (function, alpha, beta, steps),
        name=_name_of(activation, function) if plain else None,
        beside=beside,
        copies=not all(
            any(np.may_share_memory(operand, array) for array in given) for operand in (x, w, *besides)
        ),
    )
    return layer, shape


def _checked_shape(
    x: Array, w: Array, bias: Array | None, residual: Array | None, out: Any
) -> tuple[int, ...]:
    """The result's shape; ValueError and TypeError say what does not fit."""
    if w.ndim != 2 or x.ndim == 0 or x.shape[-1] != w.shape[0]:
        raise ValueError(
            f"linear: x {x.shape} and w {w.shape}: expected (..., k) and (k, n); "
            "torch keeps w as (n, k): pass w.T"
        )
    dtypes = [array.dtype for array in (x, w, bias, residual) if array is not None]
    if dtypes[0] not in KERNEL_TYPES or any(dtype != dtypes[0] for dtype in dtypes):
        names = ", ".join(map(str, dtypes))
        raise TypeError(f"linear: dtypes {names}: expected all float32 or all float64; convert with astype")
    shape = (*x.shape[:-1], w.shape[1])
    allowed = [(shape[-1],), (shape[-2], 1)] if x.ndim > 1 else [shape]
    if bias is not None and bias.shape not in allowed:
        expected = " or ".join(map(str, allowed))
        raise ValueError(
            f"linear: b {bias.shape}: expected {expected}, an element for each column or each row; "
            "give others as residual"
        )
    if residual is not None and not _broadcasts(residual.shape, shape):
        raise ValueError(f"linear: residual {residual.shape}: expected one that broadcasts to {shape}")
    if out is not None:
        if type(out) is not np.ndarray or out.dtype != dtypes[0]:
            raise TypeError(
                f"linear: out: expected an array of {dtypes[0]}, got {getattr(out, 'dtype', type(out))}"
            )
        if out.shape != shape or not out.flags.writeable:
            state = "" if out.flags.writeable else ", read-only"
            raise ValueError(f"linear: out {out.shape}{state}: expected a writeable array of shape {shape}")
    return shape


def _broadcasts(given: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(given, shape) == shape
    except ValueError:
        return False


def _scalar(what: str, given: Any, dtype: np.dtype[Any]) -> float:
    """A factor, rounded to the dtype and finite there."""
    value = _rounded(_number(f"linear: {what}", given), dtype)
    if math.isinf(value):
        raise ValueError(f"linear: {what}: expected a number that is finite in {dtype}, got {given!r}")
    return value


def _rounded(value: float, dtype: np.dtype[Any]) -> float:
    with np.errstate(over="ignore"):
        return float(dtype.type(value))


def _apart(x: Array) -> bool:
    """Whether the elements of a row do not follow each other."""
    return x.shape[-1] > 1 and x.strides[-1] != x.itemsize


def _together(
    x: Array, y: Array, bias: Array | None, residual: Array | None
) -> tuple[Array, Array, Array | None, Array | None]:
    """The same with all leading axes in one, so that w is packed once, where that takes no copies.

    Of single rows, whose order of additions depends on it, just those are one matrix that are to nj.matmul:
    the other operands follow, copied if need be."""
    if y.shape[-2] == 1:
        if not (x.flags.c_contiguous and y.flags.c_contiguous):
            return x, y, bias, residual
        if bias is not None and bias.ndim == 2:
            bias = np.repeat(bias[0], y.shape[-1])
    elif bias is not None and bias.ndim == 2:
        return x, y, bias, residual
    rows = math.prod(y.shape[:-1])
    old = [x, y] if residual is None else [x, y, residual]
    new = [array.reshape(rows, array.shape[-1]) for array in old]
    if y.shape[-2] > 1 and not all(map(np.may_share_memory, old, new)):
        return x, y, bias, residual
    return new[0], new[1], bias, None if residual is None else new[2]


def _residual_for_kernel(residual: Array) -> tuple[Array, int]:
    """The residual as kernels take it, with adjacent columns, and its row stride in elements."""
    *_, m, n = residual.shape
    item = residual.itemsize
    down, across = residual.strides[-2:]
    if m == 1:
        down = n * item
    fits = (across == item or n == 1) and down % item == 0 and (n > 1 or down == item)
    if not fits or (abs(down) * max(m, 32) > MOST_RESIDUAL_BYTES and down != n * item):
        return np.ascontiguousarray(residual), n
    return residual, down // item


# Computing it ------------------------------------------------------------------------------------------


def _one_kernel(layer: _Layer) -> str | None:
    """Compute the layer by one kernel, compiled if need be; or say why that cannot be, with y untouched."""
    number = _dense.Number(layer.key, layer.name)
    if number.number < 0:
        return "every number of an epilogue is held by a bound call"
    operands = layer.x, layer.w, layer.y, number.number, layer.bias, layer.besides
    if not number.given and _dense.layers(*operands):
        return None
    _, reason = _publish(layer, number)
    if reason is None and not _dense.layers(*operands):
        return "kernel evicted at once"
    return reason


def _publish(layer: _Layer, number: _dense.Number) -> tuple[tuple[int, int, int, int] | None, str | None]:
    """(The key of the layer's slot, None), which has a kernel then; or (a key or None, why it has none)."""
    described = _dense.describe_layer(layer.x, layer.w, layer.y, number.number, layer.bias)
    if described is None:
        return None, "extents or strides beyond 32 bits"
    return described[0], publish(*described, layer.epilogue, forget=number.given)


def _in_passes(layer: _Layer) -> None:
    """The same by the product, then one pass over y for each step."""
    e, y, besides = layer.epilogue, layer.y, list(layer.besides)
    scalar = y.dtype.type
    before = y.copy() if e.beta else y
    matmul(layer.x, layer.w, y)
    with np.errstate(all="ignore"):
        if e.alpha != 1:
            y *= scalar(e.alpha)
        if e.beta:
            y += before if e.beta == 1 else scalar(e.beta) * before
        if e.bias != "none":
            bias = besides.pop(0)
            y += bias[..., None, :] if e.bias == "row" else bias[..., :, None]
        if e.residual is not None:
            y += besides.pop(0)
    apply(e.activation, y)


def apply(function: Activation, y: Array) -> None:
    """y = function(y): by an emitted kernel, or by NumPy where none can run or y is not contiguous."""
    from neurojit.compiler import map_kernel

    if function == IDENTITY or y.size == 0:
        return
    kernel = map_kernel("f32" if y.itemsize == 4 else "f64", function) if y.flags.c_contiguous else None
    if kernel is not None:
        kernel.call((y.ctypes.data, y.ctypes.data), y.size)
        return
    from neurojit.functions import reference

    y[...] = reference(function, y).astype(y.dtype)


general.__qualname__ = "linear"  # how Python's own errors about arguments name it
linear = _dense.Linear(general, inspect.signature(general), bind)
"""The public callable: the fast path of `_dense`, with `general` behind it."""
