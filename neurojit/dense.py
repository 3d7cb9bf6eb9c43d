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
from neurojit._packed import PackedWeights
from neurojit.numpy_matmul import KERNEL_TYPES, fallbacks, for_kernel, matmul, publish, takes_rows
from neurojit.plan.epilogue import IDENTITY, Activation, Epilogue

Array = np.ndarray[Any, Any]

DEFAULT_PARAMETERS: dict[str, tuple[float, ...]] = {"leaky_relu": (0.01,), "elu": (1.0,)}
"""Parameters of activations that are given by name alone."""
BEYOND_FLOAT32 = 2.0**128 - 2.0**103
"""What float32 rounds to infinity, and all above."""
MOST_RESIDUAL_BYTES = 1 << 28
"""From first to last element of a residual with rows apart: a kernel's validation lays such a one out."""


def activation_of(given: Any) -> Activation:
    """An activation from None, a name, a tuple of name and parameters, or an Activation; -0 counts as 0.

    ValueError for what is none of these, and for parameters that are no numbers."""
    try:
        return _known_activation(given)
    except TypeError:  # not hashable
        return _activation_of(given)


def _activation_of(given: Any) -> Activation:
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


_known_activation = functools.lru_cache(maxsize=256)(_activation_of)


def _number(what: str, given: Any) -> float:
    """A float that equals itself, never -0."""
    try:
        number = math.nan if isinstance(given, str) else float(given)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if math.isnan(number):
        raise ValueError(f"{what}: expected a number, got {given!r}")
    return number + 0.0


def _name_of(given: Any, key: Hashable) -> Hashable:
    """What the fast path may find the function by: what was given, where that is equal to nothing else."""
    if isinstance(given, (str, Activation)):
        return given
    plain = type(given) is tuple and all(type(part) in (str, int, float, bool) for part in given)
    return given if plain and given == key else None


class _Layer(NamedTuple):
    """One call as kernels see it: x (..., m, k), w (..., k, n), y (..., m, n) with the same leading axes, but
    for packed weights, which have none.

    function, alpha, beta: as given, the factors rounded to the dtype. bias: the index of its kind.
    rows_apart: the row stride of the residual in elements. besides: the epilogue's operands, with the leading
    axes too. y is `out`, or `beside` it, and to be copied there."""

    x: Array
    w: Array | PackedWeights
    y: Array
    function: Activation
    alpha: float
    beta: float
    bias: int
    rows_apart: int | None
    besides: tuple[Array, ...]
    beside: bool

    @property
    def epilogue(self) -> Epilogue:
        dtype = self.y.dtype
        parameters = tuple(_rounded(value, dtype) for value in self.function.parameters)
        function = Activation(self.function.name, parameters)
        return Epilogue(self.alpha, self.beta, _dense.BIAS_KINDS[self.bias], self.rows_apart, function)

    def number(self, given: Any) -> _dense.Number:
        """Of the epilogue, the bias apart, and of the activation as it was given."""
        function = (self.function.name, *self.function.parameters)
        if self.alpha == 1 and self.beta == 0 and self.rows_apart is None:
            key = None if self.function.name == "identity" else function
            return _dense.Number(key, _name_of(given, function))
        # Of rows that follow each other it matters that they do, not how far that is.
        steps = "adjacent" if self.rows_apart == self.y.shape[-1] else self.rows_apart
        return _dense.Number((function, self.alpha, self.beta, steps))


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
    if type(x) is np.ndarray and x.ndim > 2 and residual is None and _is(alpha, 1) and _is(beta, 0):
        y = _as_matrix(x, w, b, activation, out)
        if y is not None:
            return y
    layer, shape = _read(x, w, b, activation, out, alpha, beta, residual)
    if layer.y.size:
        reason = _one_kernel(layer, activation) if layer.x.size else None
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
    read = layer.x, layer.w, *layer.besides
    own = not layer.beside and all(
        array is operand or (type(array) is np.ndarray and np.may_share_memory(array, operand))
        for array, operand in zip(arrays, read, strict=True)
    )
    if own and layer.y.ndim == 2 and layer.y.size and layer.x.size:
        number = layer.number(activation)
        key, reason = _publish(layer, number)
        if key is not None and reason is None:
            as_read = (layer.x, layer.w, layer.y, *layer.besides)
            operands = tuple(x if isinstance(x, PackedWeights) else x.view() for x in as_read)
            text = f"linear {np.shape(x)} @ {np.shape(w)}"
            return Bound(key, operands, out, call, text, (number, arrays))
    return call


def _as_matrix(x: Array, w: Any, b: Any, activation: Any, out: Any) -> Any:
    """The layer of all leading axes in one, by the fast path, where that takes no copies; else None."""
    fits = x.size and x.flags.c_contiguous and type(w) is np.ndarray and w.ndim == 2
    if not fits or w.shape[0] != x.shape[-1] or (b is not None and np.ndim(b) != 1):
        return None
    rows, shape = x.reshape(-1, x.shape[-1]), (*x.shape[:-1], w.shape[1])
    if out is None:
        return linear(rows, w, b, activation).reshape(shape)
    if type(out) is not np.ndarray or not out.flags.c_contiguous or out.shape != shape:
        return None
    linear(rows, w, b, activation, out.reshape(-1, w.shape[1]))
    return out


# Reading a call ----------------------------------------------------------------------------------------


def _read(
    x: Any, w: Any, b: Any, activation: Any, out: Any, alpha: Any, beta: Any, residual: Any
) -> tuple[_Layer, tuple[int, ...]]:
    """The layer, and the result's shape. ValueError and TypeError say what does not fit."""
    function = activation_of(activation)
    x, w = np.asarray(x), w if isinstance(w, PackedWeights) else np.asarray(w)
    bias = None if b is None else np.asarray(b)
    residual = None if residual is None else np.asarray(residual)
    shape = _checked_shape(x, w, bias, residual, out)
    dtype = w.dtype
    alpha, beta = _factor("alpha", alpha, dtype), _factor("beta", beta, dtype)
    if beta and out is None:
        raise ValueError(f"linear: beta {beta}: expected an out that it multiplies, got None")

    overlaps = out is not None and any(
        np.may_share_memory(out, array) for array in (x, w, bias, residual) if isinstance(array, np.ndarray)
    )
    x, w = for_kernel(x, dtype), w if isinstance(w, PackedWeights) else for_kernel(w, dtype)
    if x.ndim == 1:
        x = x[None, :]
    full = (*x.shape[:-1], w.shape[1])
    if residual is not None:
        if residual.shape != shape:
            residual = np.broadcast_to(residual, shape)
        residual = residual.reshape(full)
    y = out.reshape(full) if out is not None and not overlaps and takes_rows(out, full) else None
    if y is not None and y.strides[-2] != w.shape[1] * dtype.itemsize and _apart(x):
        y = None  # the key of its kernel has room for the strides of one of the two
    beside = y is None
    if y is None:
        y = np.array(out, order="C").reshape(full) if beta else np.empty(full, dtype)
    if y.ndim > 2:
        x, y, bias, residual = _together(x, y, bias, residual)
    kind, rows_apart, besides = 0, None, []
    if bias is not None:
        kind = 2 if bias.ndim == 2 else 1
        besides.append(np.ascontiguousarray(bias.reshape(-1)))
    if residual is not None:
        residual, rows_apart = _residual_for_kernel(residual)
        besides.append(residual)
    if y.ndim > 2:
        axes = y.shape[:-2]
        if not isinstance(w, PackedWeights):
            w = np.broadcast_to(w, (*axes, *w.shape))
        if kind:
            besides[0] = np.broadcast_to(besides[0], (*axes, besides[0].size))
    return _Layer(x, w, y, function, alpha, beta, kind, rows_apart, tuple(besides), beside), shape


def _checked_shape(
    x: Array, w: Array | PackedWeights, bias: Array | None, residual: Array | None, out: Any
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
    if given == shape:
        return True
    try:
        return np.broadcast_shapes(given, shape) == shape
    except ValueError:
        return False


def _factor(what: str, given: Any, dtype: np.dtype[Any]) -> float:
    """A factor, rounded to the dtype and finite there."""
    value = _rounded(_number(f"linear: {what}", given), dtype)
    if math.isinf(value):
        raise ValueError(f"linear: {what}: expected a number that is finite in {dtype}, got {given!r}")
    return value


def _is(given: Any, value: int) -> bool:
    return type(given) in (int, float) and given == value


def _rounded(value: float, dtype: np.dtype[Any]) -> float:
    if dtype.itemsize == 8:
        return value
    return float(np.float32(value)) if abs(value) < BEYOND_FLOAT32 else math.copysign(math.inf, value)


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


def _one_kernel(layer: _Layer, activation: Any) -> str | None:
    """Compute the layer by one kernel, compiled if need be; or say why that cannot be, with y untouched."""
    number = layer.number(activation)
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
    from neurojit.tensor_compiler import map_kernel

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
