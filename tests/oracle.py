"""What a product must be: the reference's bits, NumPy's shape, and an error bound from exact arithmetic."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from neurojit.runtime import reference_matmul

Array = np.ndarray[Any, Any]


def same_bits(got: Array, expected: Array) -> Array:
    """Elementwise; any NaN equals any other."""
    integers = np.dtype(f"u{expected.itemsize}")
    bits = np.ascontiguousarray(got).view(integers) == np.ascontiguousarray(expected).view(integers)
    return bits | (np.isnan(got) & np.isnan(expected))


def assert_same_bits(got: Any, expected: Any, what: object = "") -> None:
    got, expected = np.atleast_1d(got), np.atleast_1d(expected)
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape), what
    same = same_bits(got, expected)
    if not same.all():
        at = tuple(int(i) for i in np.argwhere(~same)[0])
        raise AssertionError(
            f"{what}: {int((~same).sum())} of {same.size} elements differ, the first at {at}: "
            f"{got[at]!r}, expected {expected[at]!r}"
        )


def reference(a: Any, b: Any) -> Array:
    """a @ b by the reference: float32 or float64, any batch, one or more dimensions."""
    a, b = np.asarray(a), np.asarray(b)
    dtype = np.result_type(a.dtype, b.dtype).newbyteorder("=")
    x = np.ascontiguousarray(a if a.ndim > 1 else a[None, :], dtype)
    y = np.ascontiguousarray(b if b.ndim > 1 else b[:, None], dtype)
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    c = np.zeros((*batch, x.shape[-2], y.shape[-1]), dtype)
    x = np.broadcast_to(x, (*batch, *x.shape[-2:]))
    y = np.broadcast_to(y, (*batch, *y.shape[-2:]))
    if c.size and x.shape[-1]:
        for index in np.ndindex(*batch):
            reference_matmul(np.array(x[index]), np.array(y[index]), c[index])
    kept = (*batch, *(a.shape[-2:-1] if a.ndim > 1 else ()), *(b.shape[-1:] if b.ndim > 1 else ()))
    return c.reshape(kept)


def gamma(k: int, unit: Fraction) -> Fraction:
    """Higham, Accuracy and Stability of Numerical Algorithms, section 3.1."""
    return k * unit / (1 - k * unit)


def assert_within_bound(got: Array, a: Array, b: Array, what: object = "") -> None:
    """|got - a @ b| <= gamma_k |a| @ |b| + underflow, in exact arithmetic; finite 2-D operands.

    k fused multiply-adds round k times; each may besides lose half of the smallest denormal.
    """
    m, k = a.shape
    info = np.finfo(got.dtype)
    unit = Fraction(1, 2 ** (info.nmant + 1))
    lost = k * Fraction(float(info.smallest_subnormal)) / 2
    columns = [[Fraction(float(x)) for x in column] for column in b.T]
    for i in range(m):
        row = [Fraction(float(x)) for x in a[i]]
        for j, column in enumerate(columns):
            products = [x * y for x, y in zip(row, column, strict=True)]
            exact, size = sum(products), sum(map(abs, products))
            if size > Fraction(float(info.max)):
                continue  # a partial sum may overflow, and then so may the result
            error = abs(Fraction(float(got[i, j])) - exact)
            assert error <= gamma(k, unit) * size + lost, (
                f"{what}: C[{i}, {j}] is {got[i, j]!r}, exactly {float(exact)!r}, off by {float(error)!r}"
            )
