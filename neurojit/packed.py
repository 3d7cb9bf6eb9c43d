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
from neurojit.plan.panels import STORAGES, Panels, panel_width, rounded_storage
from neurojit.storage import MOST_INT8, TYPES, Stored, lay_out, store

__all__ = ["PackedWeights", "pack"]

Array = np.ndarray[Any, Any]

SMALL = ("bf16", "int8")
"""Storage types that are not the weights' own."""
MOST_DEPTH = {"int8": 1 << 17, "bf16": 1 << 22}
"""Steps of k, with activations rounded: sums of products of int8 fit 32 bits, and the bound for bf16 means
something."""


def pack(w: Any, storage: str | None = None, activations: str | None = None) -> PackedWeights:
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

    activations: None, or "int8" with int8 weights: each row of x is rounded to q * scale too, with scale =
    max|x| / 127, and integers are multiplied: |error of x[i, k]| <= 0.501 scale[i], so that of x @ w is at
    most sum |x[i, k]| scale[j] / 2 + 0.501 scale[i] sum |w[k, j]| + 0.251 K scale[i] scale[j], and three
    roundings. Rows below 3.8e-37 count as zero; rows with NaN or infinities give NaN. The sums are exact, so
    the bits are the same on every machine here too: vpdpbusd or sdot does them where the CPU has one, else
    products of words.

    activations "bf16" with bf16 weights: the numbers of x are rounded as those of w are (|error| <= |x| / 256
    and so on), which alone moves x @ w by at most sum |x[i, k]| |w[k, j]| / 256. Here bits differ between
    machines, though not with the number of threads: vdpbf16ps or bfdot, where the CPU has it, rounds sums of
    two products in a way of its own, and takes numbers below 2^-126 for zero; elsewhere the product is that
    of the rounded numbers in float32, as above. With either the error beside the exact sum of products of the
    rounded numbers is at most (K + 1) 2^-23 / (1 - (K + 1) 2^-23) of the sum of their magnitudes, plus the
    terms with a factor below 2^-126, plus 3 K 2^-126; where that sum leaves float32, the result may too.
    (Rounding: Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., chapter 3; the instructions:
    Intel's SDM, vol. 2; Arm ARM, BFDOT.)

    The result owns a copy. Raises TypeError for other dtypes; ValueError for other than two dimensions, for
    unknown storage or activations, for more than 131072 rows with activations in int8 or 4194304 with bf16,
    and, with their position, for numbers that int8 has no scale for.
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
    if activations not in (None, storage):
        raise ValueError(
            f"pack: activations {activations!r} with storage {storage!r}: expected None, or the same of "
            f"{', '.join(SMALL)} for both"
        )
    if activations is not None and array.shape[0] > MOST_DEPTH[activations]:
        raise ValueError(
            f"pack: w has {array.shape[0]} rows: sums of products of {activations} are good up to "
            f"{MOST_DEPTH[activations]}; give no activations"
        )
    return _packed(store(array.astype(dtype, copy=False), name), name, activations)


def _packed(stored: Stored, storage: str, activations: str | None) -> PackedWeights:
    from neurojit.target import host, host_choice

    dtype = np.dtype(TYPES[STORAGES[storage].element])
    k, n = stored.values.shape
    isa = host_choice().isa
    layout = storage if activations is None else rounded_storage(activations, isa, host().allowed)
    panels = Panels.of(layout, k, panel_width(STORAGES[storage].element, isa))
    scales = None if stored.scales is None else stored.scales.copy()
    return PackedWeights(panels, (k, n), lay_out(stored, panels), scales, dtype, activations, matmul)


def _unpickled(storage: str, values: Any, scales: Any, activations: str | None = None) -> PackedWeights:
    """Weights from their stored form, which may come from anywhere: ValueError for what pack cannot make."""
    if storage not in ("f32", "f64", *SMALL) or type(values) is not np.ndarray or values.ndim != 2:
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
    wrong = activations not in (None, storage) or (activations is not None and activations not in SMALL)
    if wrong or (activations is not None and len(values) > MOST_DEPTH[activations]):
        raise ValueError(
            f"packed weights: activations {activations!r} for storage {storage}: not from nj.pack"
        )
    return _packed(Stored(values, scales), storage, activations)


def _reduce(weights: PackedWeights) -> tuple[Any, ...]:
    stored = weights.stored()
    return _unpickled, (weights.storage, stored.values, stored.scales, weights.activations)


copyreg.pickle(PackedWeights, _reduce)
