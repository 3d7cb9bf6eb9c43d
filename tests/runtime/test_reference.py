"""The reference GEMM against one fused multiply-add at a time, done by the C library."""

from __future__ import annotations

import ctypes
import ctypes.util
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import DTypeLike, NDArray

from neurojit.runtime import error_function, reference_matmul

libm = ctypes.CDLL(ctypes.util.find_library("m"))
libm.fmaf.restype, libm.fmaf.argtypes = ctypes.c_float, [ctypes.c_float] * 3
libm.fma.restype, libm.fma.argtypes = ctypes.c_double, [ctypes.c_double] * 3
FMA = {np.dtype(np.float32): libm.fmaf, np.dtype(np.float64): libm.fma}

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
Array = NDArray[np.generic]


def chain(a: Array, b: Array, start: Array) -> Array:
    """The meaning: for each element one chain of fused multiply-adds in order of k."""
    out = start.copy()
    fma = FMA[a.dtype]
    for i, j in np.ndindex(out.shape):
        total = out[i, j]
        for k in range(a.shape[1]):
            total = fma(a[i, k], b[k, j], total)
        out[i, j] = total
    return out


def same_bits(x: Array, y: Array) -> bool:
    """Equal, with -0 apart from 0; any NaN is as good as another."""
    return bool(np.array_equal(x, y, equal_nan=True)) and bool(np.array_equal(np.signbit(x), np.signbit(y)))


def normal(shape: tuple[int, int], dtype: DTypeLike, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@DTYPES
@given(m=st.integers(0, 5), n=st.integers(0, 5), k=st.integers(0, 40), seed=st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_bits(dtype: DTypeLike, m: int, n: int, k: int, seed: int) -> None:
    a, b = normal((m, k), dtype, seed), normal((k, n), dtype, seed + 1)
    out = np.full((m, n), np.nan, dtype)  # never read
    reference_matmul(a, b, out)
    assert same_bits(out, chain(a, b, np.zeros((m, n), dtype)))
    reference_matmul(a, b, out, accumulate=True)
    assert same_bits(out, chain(a, b, chain(a, b, np.zeros((m, n), dtype))))


@DTYPES
def test_extreme_values(dtype: DTypeLike) -> None:
    info = np.finfo(dtype)
    values = [0.0, -0.0, 1.0, -1.5, np.inf, -np.inf, np.nan, info.max, info.tiny, info.smallest_subnormal]
    a = np.array(values, dtype).reshape(-1, 1)
    for column in (a, np.repeat(a, 3, axis=1)):
        row = np.ascontiguousarray(column.T)
        out = np.empty((len(values), len(values)), dtype)
        with np.errstate(all="ignore"):
            reference_matmul(column, row, out)
            assert same_bits(out, chain(column, row, np.zeros_like(out)))


@DTYPES
def test_strides(dtype: DTypeLike) -> None:
    base = normal((20, 30), dtype)
    a_views = [base[:4, :6], base[8:4:-1, :6], base[:4, 12:0:-2], base[:6, :4].T, base[1:12:3, 1:24:4]]
    a_views.append(np.broadcast_to(base[:1, :6], (4, 6)))
    b_views = [base[:6, :5], base[10:4:-1, 9:4:-1], base[:5, :6].T, np.broadcast_to(base[:6, :1], (6, 5))]
    for a in a_views:
        for b in b_views:
            expected = chain(a, b, np.zeros((4, 5), dtype))
            canvas = np.full((9, 11), 7, dtype)
            for out in (canvas[:4, :5], canvas[7:3:-1, 9:4:-1], canvas[:5, :4].T, canvas[:8:2, :10:2]):
                canvas[...] = 7
                reference_matmul(a, b, out)
                assert same_bits(out, expected)
                assert np.count_nonzero(canvas == 7) == canvas.size - 20  # nothing else was written


@DTYPES
def test_empty_sums(dtype: DTypeLike) -> None:
    out = np.full((2, 3), np.nan, dtype)
    reference_matmul(np.empty((2, 0), dtype), np.empty((0, 3), dtype), out, accumulate=True)
    assert np.isnan(out).all()
    reference_matmul(np.empty((2, 0), dtype), np.empty((0, 3), dtype), out)
    assert (out == 0).all()


def test_refused() -> None:
    f32, f64 = np.ones((2, 2), np.float32), np.ones((2, 2))
    out = np.full((2, 2), 5, np.float32)
    frozen = out.copy()
    frozen.flags.writeable = False
    packed = np.zeros((2, 2), np.dtype([("byte", "i1"), ("value", "f4")]))["value"]
    for error, match, arguments in [
        (TypeError, "float32 or float64", (f32.astype(">f4"), f32, out)),
        (TypeError, "float32 or float64", (f32.astype(int), f32, out)),
        (TypeError, "differ in type", (f32, f64, out)),
        (TypeError, "differ in type", (f64, f64, out)),
        (TypeError, "buffer|bytes-like", ([[1.0]], f32, out)),
        (ValueError, "2 dimensions", (f32[0], f32, out)),
        (ValueError, "do not fit", (f32, np.ones((3, 2), np.float32), out)),
        (ValueError, "do not fit", (f32, f32, out[:1])),
        (ValueError, "not a multiple", (packed, f32, out)),
        (ValueError, "read-only", (f32, f32, frozen)),
    ]:
        with pytest.raises(error, match=match):
            reference_matmul(*arguments)
    assert (out == 5).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 15, 7), (2, 16, 5), (4, 17, 9), (5, 33, 64), (3, 48, 0)])
def test_the_wide_form_has_the_same_bits(dtype: type, accumulate: bool, shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    rng = np.random.default_rng(7)
    for a, b in (
        (rng.standard_normal((m, k)), rng.standard_normal((k, n))),
        (rng.standard_normal((k, m)).T, rng.standard_normal((n, k)).T),
    ):
        x, y = a.astype(dtype), b.astype(dtype)
        start = rng.standard_normal((m, n)).astype(dtype)
        plain, wide = start.copy(), start.copy()
        reference_matmul(x, y, plain, accumulate=accumulate)
        reference_matmul(x, y, wide, accumulate=accumulate, wide=True)
        assert plain.tobytes() == wide.tobytes()


def test_the_error_function_is_the_one_of_the_c_library() -> None:
    x = np.concatenate([np.linspace(-7, 30, 999), [0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324]])
    y = np.empty_like(x)
    for complement, meant in ((False, math.erf), (True, math.erfc)):
        error_function(x, y, complement=complement)
        np.testing.assert_array_equal(y, [meant(number) for number in x])
        assert (np.signbit(y) == [math.copysign(1, meant(number)) < 0 for number in x])[:-2].all()
    with pytest.raises(ValueError, match="y has 3 elements, expected 1005 as x"):
        error_function(x, np.empty(3))
