"""What a product must be: the reference's bits, NumPy's shape, and an error bound from exact arithmetic."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from neurojit.plan.gemv import LEAST_DEPTH
from neurojit.runtime import reference_matmul

Array = np.ndarray[Any, Any]


def same_bits(got: Array, expected: Array) -> Array:
    """Elementwise; any NaN equals any other."""
    integers = np.dtype(f"u{expected.itemsize}")
    bits = np.ascontiguousarray(got).view(integers) == np.ascontiguousarray(expected).view(integers)
    return bits | (np.isnan(got) & np.isnan(expected))


class Reference:
    """What a product may be, bit for bit: `chain`, one chain of fused multiply-adds in the order of k; or
    `halved`, for a row or a column of results whose matrix is read along k (see neurojit.plan.gemv).
    Everywhere else the two are the same array. NumPy's functions see the chain."""

    def __init__(self, chain: Array, halved: Array) -> None:
        self.chain, self.halved = chain, halved
        self.shape, self.dtype, self.ndim, self.size = chain.shape, chain.dtype, chain.ndim, chain.size

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        return self.chain if dtype is None else self.chain.astype(dtype)

    def __getitem__(self, index: Any) -> Reference:
        return Reference(self.chain[index], self.halved[index])


def assert_same_bits(got: Any, expected: Any, what: object = "") -> None:
    got = np.atleast_1d(got)
    if isinstance(expected, Reference):
        halved = np.atleast_1d(expected.halved)
        if (got.dtype, got.shape) == (halved.dtype, halved.shape) and same_bits(got, halved).all():
            return
        expected = expected.chain
    expected = np.atleast_1d(expected)
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape), what
    same = same_bits(got, expected)
    if not same.all():
        at = tuple(int(i) for i in np.argwhere(~same)[0])
        raise AssertionError(
            f"{what}: {int((~same).sum())} of {same.size} elements differ, the first at {at}: "
            f"{got[at]!r}, expected {expected[at]!r}"
        )


def reference(a: Any, b: Any) -> Reference:
    """a @ b by the reference: float32 or float64, any batch, one or more dimensions."""
    a, b = np.asarray(a), np.asarray(b)
    dtype = np.result_type(a.dtype, b.dtype).newbyteorder("=")
    x = np.ascontiguousarray(a if a.ndim > 1 else a[None, :], dtype)
    y = np.ascontiguousarray(b if b.ndim > 1 else b[:, None], dtype)
    (m, k), n = x.shape[-2:], y.shape[-1]
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    x = np.broadcast_to(x, (*batch, m, k))
    y = np.broadcast_to(y, (*batch, k, n))
    chain = np.zeros((*batch, m, n), dtype)
    halved = np.zeros_like(chain) if 1 in (m, n) and k >= LEAST_DEPTH else chain
    if chain.size and k:
        for index in np.ndindex(*batch):
            reference_matmul(np.array(x[index]), np.array(y[index]), chain[index])
            if halved is not chain:
                halved[index] = in_halves(np.array(x[index]), np.array(y[index]))
    kept = (*batch, *((m,) if a.ndim > 1 else ()), *((n,) if b.ndim > 1 else ()))
    return Reference(chain.reshape(kept), halved.reshape(kept))


def in_halves(a: Array, b: Array) -> Array:
    """Lane l of 64 bytes sums the elements k = l, l + L, ...; then the lanes are added in halves."""
    lanes = 64 // a.itemsize
    partial = np.zeros((lanes, len(a), b.shape[1]), a.dtype)
    for lane in range(min(lanes, a.shape[1])):
        reference_matmul(a[:, lane::lanes], b[lane::lanes], partial[lane])
    with np.errstate(all="ignore"):
        while len(partial) > 1:
            half = len(partial) // 2
            partial = partial[:half] + partial[half:]
    return partial[0]


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
