"""Dense layers, activation(x @ w + b), for the calls that the fast path does not take.

Where the product has a kernel that takes an epilogue, all is one kernel; else the product comes first, and
bias and activation in passes over it. The order of roundings is the same, so the bits are too.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np

from neurojit import _dense
from neurojit._packed import PackedWeights
from neurojit.numpy_matmul import KERNEL_TYPES, fallbacks, matmul
from neurojit.plan.epilogue import IDENTITY, Activation, Epilogue

Array = np.ndarray[Any, Any]

DEFAULT_PARAMETERS: dict[str, tuple[float, ...]] = {"leaky_relu": (0.01,), "elu": (1.0,)}
"""Parameters of activations that are given by name alone."""


def activation_of(given: Any) -> Activation:
    """An activation from None, a name, a tuple of name and parameters, or an Activation. ValueError."""
    if given is None:
        return IDENTITY
    if isinstance(given, Activation):
        return given
    if isinstance(given, str):
        return Activation(given, DEFAULT_PARAMETERS.get(given, ()))
    if isinstance(given, tuple) and given and isinstance(given[0], str):
        return Activation(given[0], tuple(float(parameter) for parameter in given[1:]))
    raise ValueError(
        f"activation {given!r}: expected None, a name, or a tuple of a name and its parameters; "
        'for instance "relu" or ("leaky_relu", 0.1)'
    )


def general(x: Any, w: Any, b: Any = None, activation: Any = None, out: Any = None) -> Any:
    """What `nj.linear` is when its fast path does not apply. See Linear for the contract."""
    function = activation_of(activation)
    x, w = np.asarray(x), w if type(w) is PackedWeights else np.asarray(w)
    bias = None if b is None else np.asarray(b)
    shape = _checked_shape(x, w, bias, out)
    rows = np.ascontiguousarray(x).reshape(math.prod(x.shape[:-1]), x.shape[-1]) if x.ndim != 2 else x
    if rows.size and rows.strides[1] != rows.itemsize and rows.shape[1] > 1:
        rows = np.ascontiguousarray(rows)
    if bias is not None:
        bias = np.ascontiguousarray(bias)
    beside = out is None or any(
        np.may_share_memory(out, y) for y in (x, w, bias) if isinstance(y, np.ndarray)
    )
    direct = not beside and out.flags.c_contiguous
    y = out.reshape(rows.shape[0], w.shape[1]) if direct else np.empty((rows.shape[0], w.shape[1]), w.dtype)
    if not _fused(rows, w, bias, activation, function, y):
        matmul(rows, w, y)
        if bias is not None:
            with np.errstate(all="ignore"):
                np.add(y, bias, out=y)
        apply(function, y)
    if out is None:
        return y if shape == y.shape else y.reshape(shape)
    if not direct:
        out[...] = y.reshape(shape)
    return out


def _checked_shape(x: Array, w: Array | PackedWeights, bias: Array | None, out: Any) -> tuple[int, ...]:
    """The result's shape; ValueError and TypeError say what does not fit."""
    if w.ndim != 2 or x.ndim == 0 or x.shape[-1] != w.shape[0]:
        raise ValueError(
            f"linear: x {x.shape} and w {w.shape}: expected (..., k) and (k, n); "
            "torch keeps w as (n, k): pass w.T"
        )
    dtypes = [array.dtype for array in (x, w, bias) if array is not None]
    if dtypes[0] not in KERNEL_TYPES or any(dtype != dtypes[0] for dtype in dtypes):
        names = ", ".join(map(str, dtypes))
        raise TypeError(f"linear: dtypes {names}: expected all float32 or all float64; convert with astype")
    if bias is not None and bias.shape != w.shape[1:]:
        raise ValueError(f"linear: b {bias.shape}: expected ({w.shape[1]},), one element a column of w")
    shape = (*x.shape[:-1], w.shape[1])
    if out is not None:
        if type(out) is not np.ndarray or out.dtype != dtypes[0]:
            raise TypeError(
                f"linear: out: expected an array of {dtypes[0]}, got {getattr(out, 'dtype', type(out))}"
            )
        if out.shape != shape or not out.flags.writeable:
            state = "" if out.flags.writeable else ", read-only"
            raise ValueError(f"linear: out {out.shape}{state}: expected a writeable array of shape {shape}")
    return shape


def _fused(
    x: Array, w: Array | PackedWeights, bias: Array | None, given: Any, function: Activation, y: Array
) -> bool:
    """y = function(x @ w + bias) by one kernel, compiled if need be; False, and y untouched, without one."""
    if not x.size or not y.size:
        return False
    key_of_activation = (
        None if function == IDENTITY else (given if isinstance(given, (str, tuple)) else function)
    )
    described = _dense.describe_linear(x, w, y, _dense.number_activation(key_of_activation), bias is not None)
    if described is None:
        return False
    from neurojit.compiler import publish_product
    from neurojit.plan.product import Product

    key, fields = described
    epilogue = Epilogue(bias="none" if bias is None else "row", activation=function)
    reason = publish_product(key, Product(*fields), epilogue)
    if reason is not None:
        fallbacks["linear in several passes: no kernel that takes an epilogue"] += 1
        return False
    return _run_published(key, x, w, y, bias)


def _run_published(
    key: tuple[int, int, int, int], x: Array, w: Array | PackedWeights, y: Array, bias: Array | None
) -> bool:
    from neurojit.runtime import SLOTS

    slot = SLOTS.lookup(key)
    weights = w.address if isinstance(w, PackedWeights) else w.ctypes.data
    beside = () if bias is None else (bias.ctypes.data,)
    return slot is not None and slot.call((x.ctypes.data, weights, y.ctypes.data, *beside)) is not None


def apply(function: Activation, y: Array) -> None:
    """y = function(y), for contiguous y: by an emitted kernel, or by NumPy where none can run."""
    from neurojit.compiler import map_kernel

    if function == IDENTITY or y.size == 0:
        return
    kernel = map_kernel("f32" if y.itemsize == 4 else "f64", function)
    if kernel is not None:
        kernel.call((y.ctypes.data, y.ctypes.data), y.size)
        return
    from neurojit.functions import reference

    y[...] = reference(function, y).astype(y.dtype)


general.__qualname__ = "linear"  # how Python's own errors about arguments name it
linear = _dense.Linear(general, inspect.signature(general))
"""The public callable: the fast path of `_dense`, with `general` behind it."""
