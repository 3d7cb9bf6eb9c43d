"""`nj.pack`: weights rounded to a storage type, and laid out once for all products with them.

w = nj.pack(weights)                     # float32 or float64, any strides: w.T of a torch layer too
y = nj.matmul(x, w)                      # x: (k,), (m, k), (..., m, k); any m
z = nj.linear(x, w, bias, activation="gelu")
half = nj.pack(weights, storage="bf16")  # half the memory, "int8": a quarter
"""

from __future__ import annotations

import copyreg
from typing import Any

import numpy as np

from neurojit._packed import PackedWeights
from neurojit.numpy_matmul import KERNEL_TYPES, matmul
from neurojit.plan.panels import STORAGES, Panels, panel_width
from neurojit.storage import MOST_INT8, TYPES, Stored, lay_out, store

__all__ = ["PackedWeights", "pack"]

Array = np.ndarray[Any, Any]

SMALL = tuple(name for name in STORAGES if name not in ("f32", "f64"))
"""Storage types that are not the weights' own."""


def pack(w: Any, storage: str | None = None) -> PackedWeights:
    """The weights `w`, a (k, n) float32 or float64 array of any strides, packed for nj.matmul and nj.linear.

    storage: how they are kept. None: as they are. For float32 weights and activations also
    "bf16"   rounded to nearest, of two the even one: |error| <= |w| / 256, or 2^-134 where that is more; what
             rounds beyond 3.39e38 is infinite; NaN and infinities are kept.
    "int8"   q * scale, with one float32 scale a column, max|w| / 127 rounded up: |error| <= scale / 2. Not
             for NaN and infinities.
    The product is that of the rounded weights in float32: one chain of fused multiply-adds in the order of k
    for each element, then for int8 one multiplication by the scale, before a bias. So the error of x @ w by
    storing is at most sum |x[i, k]| |error[k, j]|, and the bits are the same on every machine and for any
    number of threads; those of float32 and float64 are those of nj.matmul with w in C order.

    The result owns a copy. Raises TypeError for other dtypes; ValueError for other than two dimensions, for
    unknown storage, and, with their position, for numbers that int8 has no scale for.
    """
    array = np.asarray(w)
    if array.dtype.newbyteorder("=") not in KERNEL_TYPES:
        raise TypeError(f"pack: w has dtype {array.dtype}: expected float32 or float64; convert with astype")
    if array.ndim != 2:
        raise ValueError(
            f"pack: w has shape {array.shape}: expected (k, n); give a vector a second dimension"
        )
    if storage is not None and storage not in SMALL:
        raise ValueError(f"pack: storage {storage!r}: expected None or one of {', '.join(SMALL)}")
    dtype = array.dtype.newbyteorder("=")
    if storage is not None and dtype != np.float32:
        raise TypeError(f"pack: storage {storage} is of float32 weights, got {dtype}; convert with astype")
    name = storage or ("f32" if dtype == np.float32 else "f64")
    return _packed(store(array.astype(dtype, copy=False), name), name)


def _packed(stored: Stored, storage: str) -> PackedWeights:
    from neurojit.target import host_choice

    dtype = np.dtype(TYPES[STORAGES[storage].element])
    k, n = stored.values.shape
    panels = Panels(storage, k, panel_width(STORAGES[storage].element, host_choice().isa))
    scales = None if stored.scales is None else stored.scales.copy()
    return PackedWeights(panels, n, lay_out(stored, panels), scales, dtype, None, matmul)


def _unpickled(storage: str, values: Any, scales: Any) -> PackedWeights:
    """Weights from their stored form, which may come from anywhere: ValueError for what pack cannot make."""
    if storage not in STORAGES or type(values) is not np.ndarray or values.ndim != 2:
        raise ValueError(
            f"packed weights: storage {storage!r} with {type(values).__name__}: not from nj.pack"
        )
    if values.dtype != TYPES[storage]:
        raise ValueError(f"packed weights: {values.dtype} values for storage {storage}: not from nj.pack")
    if (scales is not None) != (storage == "int8"):
        raise ValueError(
            f"packed weights: storage {storage} with{'' if scales is not None else 'out'} scales"
        )
    if scales is not None:
        scales = np.asarray(scales)
        if scales.dtype != np.float32 or scales.shape != values.shape[1:]:
            raise ValueError(f"packed weights: scales {scales.dtype} {scales.shape}: expected one a column")
        if values.size and values.min() < -MOST_INT8:
            raise ValueError("packed weights: int8 values below -127: not from nj.pack")
    return _packed(Stored(values, scales), storage)


def _reduce(weights: PackedWeights) -> tuple[Any, ...]:
    stored = weights.stored()
    return _unpickled, (weights.storage, stored.values, stored.scales)


copyreg.pickle(PackedWeights, _reduce)
