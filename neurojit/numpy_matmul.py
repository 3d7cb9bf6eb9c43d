"""The whole of numpy.matmul's meaning, for the calls that the fast path does not take.

What can be computed by kernels is brought into their form here: operands promoted to one float type,
one-dimensional operands given their second dimension, leading dimensions broadcast, overlapping or
oddly strided outputs replaced by a temporary. What cannot (integers, complex, object, subclasses,
keywords such as `casting`, and every call that is an error) is NumPy's to answer, with the reason
counted in `nj.info()`.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from neurojit import _matmul
from neurojit import threads as _threads  # noqa: F401  (sets the limit that kernels obey)
from neurojit._bound import Bound
from neurojit._packed import PackedWeights
from neurojit.plan.level import LEVEL, Key, Level, key_at, level_of

fallbacks: Counter[str] = Counter()
"""How often NumPy answered instead, by reason."""

KERNEL_TYPES = (np.dtype(np.float32), np.dtype(np.float64))


def general(a: Any, b: Any, /, out: Any = None, **keywords: Any) -> Any:
    """What `nj.matmul` is when its fast path does not apply. See Matmul for the contract."""
    if type(b) is PackedWeights:
        return _of_packed(a, b, out, keywords)
    reason = _why_not(a, b, out, keywords)
    if reason is None:
        x, y = np.asarray(a), np.asarray(b)
        target = out[0] if isinstance(out, tuple) else out
        dtype = _result_dtype(x, y)
        shape = _result_shape(x, y)
        if dtype is None:
            reason = f"dtypes {x.dtype} and {y.dtype}"
        elif dtype not in KERNEL_TYPES:
            reason = f"dtype {dtype}"
        elif shape is None:
            reason = "shapes that do not match"
        elif target is not None and (
            target.shape != shape or target.dtype != dtype or not target.flags.writeable
        ):
            reason = "out of another shape, dtype or read-only"
        else:
            result, reason = _compute(x, y, target, dtype, shape)
            if reason is None:
                return result
    fallbacks[reason] += 1
    return np.matmul(a, b, **keywords) if out is None else np.matmul(a, b, out=out, **keywords)


def _why_not(a: Any, b: Any, out: Any, keywords: dict[str, Any]) -> str | None:
    """Why the operands are NumPy's before anything is known of their shapes; None if they are ours."""
    if keywords:
        return "keyword " + ", ".join(sorted(keywords))
    if isinstance(out, tuple):
        if len(out) != 1:
            return "out is not one array"
        out = out[0]
    if out is not None and type(out) is not np.ndarray:
        return f"out of type {type(out).__name__}"
    if type(a) is PackedWeights:
        raise TypeError("matmul: packed weights are the right operand: x @ w, with x of shape (..., k)")
    for operand in (a, b):
        kind = type(operand)
        if kind is not np.ndarray and (isinstance(operand, np.ndarray) or hasattr(kind, "__array_ufunc__")):
            return f"operand of type {kind.__name__}"
    return None


def _result_dtype(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> np.dtype[Any] | None:
    """The common dtype, or None where there is none: np.matmul then raises its own kind of TypeError."""
    try:
        return np.result_type(a, b)
    except TypeError:
        return None


def _result_shape(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> tuple[int, ...] | None:
    """The shape of a @ b, or None where NumPy raises."""
    if a.ndim == 0 or b.ndim == 0:
        return None
    if a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        return None
    try:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        return None
    return (*batch, *(a.shape[-2:-1] if a.ndim > 1 else ()), *(b.shape[-1:] if b.ndim > 1 else ()))


def _compute(
    a: np.ndarray[Any, Any],
    b: np.ndarray[Any, Any],
    out: np.ndarray[Any, Any] | None,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
) -> tuple[Any, str | None]:
    """(a @ b, None) by kernels, or (None, why there is none). A given out is written only on success."""
    x = for_kernel(a if a.ndim > 1 else a[None, :], dtype)
    y = for_kernel(b if b.ndim > 1 else b[:, None], dtype)
    batch = shape[: len(shape) - (a.ndim > 1) - (b.ndim > 1)]
    full = (*batch, x.shape[-2], y.shape[-1])
    in_place = out is not None and takes_rows(out, full) and not _may_overlap(out, x, y)
    c = out.reshape(full) if out is not None and in_place else np.empty(full, dtype)
    if c.size == 0 or x.shape[-1] == 0:
        c[...] = 0
    else:
        to = c
        if y.ndim == 2 and x.ndim > 2 and x.flags.c_contiguous and c.flags.c_contiguous:
            # one B for the whole batch: the rows of all A are one matrix, and B is packed once
            rows, k = math.prod(x.shape[:-1]), x.shape[-1]
            x, to, batch = x.reshape(rows, k), c.reshape(rows, y.shape[-1]), ()
        reason = _multiply(
            np.broadcast_to(x, (*batch, *x.shape[-2:])), np.broadcast_to(y, (*batch, *y.shape[-2:])), to
        )
        if reason is not None:
            return None, reason
    if out is None:
        result = c if shape == full else c.reshape(shape)  # a view would not own its data
        return (result if shape else result[()]), None
    if not in_place:
        out[...] = c.reshape(shape)
    return out, None


def _of_packed(x: Any, w: PackedWeights, out: Any, keywords: dict[str, Any]) -> Any:
    """x @ w for packed weights: as for an array, but x and w must agree in dtype, and NumPy, where it has to
    answer, multiplies by the weights as they are stored."""
    x, target = np.asarray(x), out[0] if isinstance(out, tuple) and len(out) == 1 else out
    shape = _checked_shape(x, w, target, keywords)
    x = for_kernel(x, w.dtype).reshape(math.prod(shape[:-1]), w.shape[0])
    if not x.flags.c_contiguous and (x.nbytes > FAR_BYTES and x.strides[1] != x.itemsize):
        x = np.ascontiguousarray(x)
    in_place = target is not None and takes_rows(target, shape) and not _may_overlap(target, x)
    full = (x.shape[0], w.shape[1])
    c = target.reshape(full) if in_place else np.empty(full, w.dtype)
    if x.size == 0 or c.size == 0:
        c[...] = 0
    else:
        reason = _multiply(x, w, c)
        if reason is not None:
            fallbacks[reason] += 1
            c[...] = w.numpy_product(x)
    if target is None:
        return c if shape == full else c.reshape(shape)
    if not in_place:
        target[...] = c.reshape(shape)
    return target


FAR_BYTES = 1 << 15
"""Of activations whose rows are not runs of memory: from here on, a copy costs less than reading them so."""


def _checked_shape(
    x: np.ndarray[Any, Any], w: PackedWeights, out: Any, keywords: dict[str, Any]
) -> tuple[int, ...]:
    """The shape of x @ w; TypeError and ValueError say what does not fit."""
    if keywords:
        raise TypeError(f"matmul: keyword {', '.join(sorted(keywords))}: packed weights take out alone")
    if x.dtype.newbyteorder("=") != w.dtype:
        raise TypeError(
            f"matmul: x has dtype {x.dtype}: these packed weights take {w.dtype}; convert x with astype"
        )
    if x.ndim == 0 or x.shape[-1] != w.shape[0]:
        raise ValueError(f"matmul: x {x.shape} and packed weights {w.shape}: expected (..., k) and (k, n)")
    shape: tuple[int, ...] = (*x.shape[:-1], w.shape[1])
    if out is not None:
        if type(out) is not np.ndarray or out.dtype != w.dtype:
            kind = getattr(out, "dtype", type(out).__name__)
            raise TypeError(f"matmul: out: expected an array of {w.dtype}, got {kind}")
        if out.shape != shape or not out.flags.writeable:
            state = "" if out.flags.writeable else ", read-only"
            raise ValueError(f"matmul: out {out.shape}{state}: expected a writeable array of shape {shape}")
    return shape


def _multiply(
    a: np.ndarray[Any, Any], b: np.ndarray[Any, Any] | PackedWeights, c: np.ndarray[Any, Any]
) -> str | None:
    """c[...] = a @ b by the kernel for this product, compiled if need be; or why that cannot be."""
    if _matmul.products(a, b, c):
        return None
    reason = _publish(a, b, c)
    if reason is None and not _matmul.products(a, b, c):
        reason = "kernel evicted at once"
    return reason


def _publish(
    a: np.ndarray[Any, Any], b: np.ndarray[Any, Any] | PackedWeights, c: np.ndarray[Any, Any]
) -> str | None:
    """Have a kernel for the product of the last two dimensions in its slot; or why that cannot be."""
    described = _matmul.describe(a, b, c)
    return "extents or strides beyond 32 bits" if described is None else publish(*described)


def publish(
    key: Key, fields: tuple[int, ...], epilogue: Any = None, forget: bool = False, level: Level = LEVEL
) -> str | None:
    """Have the kernel for a product, with its Epilogue, in the slot of its key; or say why that cannot be.

    forget: the key meant something else before, so refusals are asked again."""
    try:  # on the first kernel: the compiler and what it imports cost more than all the rest
        from neurojit.compiler import forget_refusals, publish_product
        from neurojit.plan.product import Product
    except ImportError as error:  # a signal handler multiplies in the middle of that first import
        return f"the compiler is not imported: {error}"

    if forget:
        forget_refusals()
    product = Product(*fields)
    if epilogue is None:
        return publish_product(key, product, level=level)
    return publish_product(key, product, epilogue, level=level)


def for_kernel(x: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """x in the kernels' dtype and byte order, with strides that are whole elements."""
    x = x.astype(dtype, copy=False) if x.dtype != dtype or not x.dtype.isnative else x
    if any(stride % dtype.itemsize for stride in x.strides[-2:]):
        return np.ascontiguousarray(x)
    return x


def takes_rows(out: np.ndarray[Any, Any], full: tuple[int, ...]) -> bool:
    """Whether kernels can write `out`: rows of adjacent elements that do not overlap each other."""
    if out.flags.c_contiguous:
        return True
    row, column = out.strides[-2:] if out.ndim == 2 else (0, 0)
    return out.shape == full and column == out.itemsize and row >= out.shape[1] * column and row % column == 0


def _may_overlap(out: np.ndarray[Any, Any], *operands: np.ndarray[Any, Any]) -> bool:
    return any(np.may_share_memory(out, operand) for operand in operands)


def bind(a: Any, b: Any, out: Any, level: str | None = None) -> Callable[[], Any]:
    """What `nj.matmul.bind` returns; see Matmul.bind."""
    chosen = level_of(level)
    if type(b) is PackedWeights:
        return _bind_packed(a, b, out)
    if _why_not(a, b, out, {}) is None and type(a) is type(b) is type(out) is np.ndarray:
        shape, dtype = _result_shape(a, b), _result_dtype(a, b)
        views = [x.view() for x in (a[None, :] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b)]
        if (
            dtype in KERNEL_TYPES
            and a.dtype == b.dtype == out.dtype == dtype
            and shape == out.shape
            and out.size
        ):
            full = (views[0].shape[-2], views[1].shape[-1])
            if a.ndim <= 2 and b.ndim <= 2 and takes_rows(out, full) and not _may_overlap(out, a, b):
                views.append(out.reshape(full) if out.shape != full else out.view())
                described = _matmul.describe(*views) if a.shape[-1] else None
                key = None if described is None else key_at(described[0], chosen)
                if (
                    described is not None
                    and key is not None
                    and publish(key, described[1], level=chosen) is None
                ):
                    text = f"matmul {a.shape} @ {b.shape}"
                    return Bound(key, tuple(views), out, functools.partial(general, a, b, out), text)
    np.matmul(np.zeros_like(a), np.zeros_like(b), out=np.empty_like(out))  # raises what a call would
    return functools.partial(general, a, b, out)


def _bind_packed(x: Any, w: PackedWeights, out: Any) -> Callable[[], Any]:
    shape = _checked_shape(np.asarray(x), w, out, {})
    if out is None:
        raise TypeError("matmul.bind: out: expected an array, got None")
    if type(x) is np.ndarray and x.dtype.isnative and x.ndim <= 2 and out.size and x.size:
        views = (x[None, :] if x.ndim == 1 else x.view(), w, out[None, :] if out.ndim == 1 else out.view())
        described = _matmul.describe(*views) if takes_rows(out, shape) and not _may_overlap(out, x) else None
        if described is not None and publish(*described) is None:
            text = f"matmul {x.shape} @ packed {w.shape}"
            return Bound(described[0], views, out, functools.partial(general, x, w, out), text)
    return functools.partial(general, x, w, out)


general.__qualname__ = "matmul"  # how Python's own errors about arguments name it
matmul = _matmul.Matmul(general, inspect.signature(general), bind)
"""The public callable: the fast path of `_matmul`, with `general` behind it."""
