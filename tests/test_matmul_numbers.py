"""The numbers: an error bound from exact arithmetic, on inputs that are hard on arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operands import NUMBERS, Array, cancelling, needs_kernels, plain, special, wide
from oracle import assert_same_bits, assert_within_bound, reference

import neurojit as nj

pytestmark = needs_kernels

FINITE = sorted(set(NUMBERS) - {"special"})


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("numbers", FINITE)
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (1, 5, 40), (5, 7, 30), (3, 19, 17), (2, 3, 300)])
def test_row_31_within_the_bound_of_exact_arithmetic(
    m: int, n: int, k: int, numbers: str, dtype: str
) -> None:
    a, b = NUMBERS[numbers](m, (m, k), dtype), NUMBERS[numbers](n, (k, n), dtype)
    c = nj.matmul(a, b)
    assert_within_bound(c, a, b, numbers)
    assert_same_bits(c, reference(a, b), numbers)


def floats(dtype: str) -> st.SearchStrategy[float]:
    width = 32 if dtype == "f4" else 64
    most = 2.0**60 if dtype == "f4" else 2.0**500
    return st.floats(-most, most, width=width)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@settings(max_examples=150)
@given(data=st.data(), m=st.integers(1, 3), n=st.integers(1, 5), k=st.integers(1, 8))
def test_row_31_any_finite_numbers_are_within_the_bound(
    dtype: str, data: Any, m: int, n: int, k: int
) -> None:
    def matrix(rows: int, columns: int) -> Array:
        size = rows * columns
        values = data.draw(st.lists(floats(dtype), min_size=size, max_size=size))
        return np.array(values, dtype).reshape(rows, columns)

    a, b = matrix(m, k), matrix(k, n)
    c = nj.matmul(a, b)
    assert_within_bound(c, a, b)
    with np.errstate(all="ignore"):
        assert_same_bits(c, reference(a, b))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shape", [(4, 4, 4), (7, 33, 21), (30, 70, 300), (1, 64, 64), (64, 1, 64)])
def test_row_31_nan_and_infinity_appear_where_ieee_says(shape: tuple[int, int, int], dtype: str) -> None:
    """Among small integers, so that every finite sum is exact whatever its order."""
    m, n, k = shape
    a, b = special(m, (m, k), dtype), special(n, (k, n), dtype)
    with np.errstate(all="ignore"):
        expected = sum(np.multiply.outer(a[:, i], b[i]).astype("f8") for i in range(k))
    np.testing.assert_array_equal(nj.matmul(a, b), expected)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_row_31_the_sign_of_zero(dtype: str) -> None:
    """The chain starts at +0, and +0 + -0 is +0: as the reference, and as IEEE 754."""
    a, b = np.full((5, 3), -0.0, dtype), np.ones((3, 18), dtype)
    assert not np.signbit(nj.matmul(a, b)).any()
    assert_same_bits(nj.matmul(a, b), reference(a, b))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_row_31_denormals_are_neither_flushed_nor_rounded(dtype: str) -> None:
    least = np.finfo(dtype).smallest_subnormal
    a = (np.arange(1, 36, dtype=dtype) * least).reshape(5, 7).astype(dtype)
    c = nj.matmul(a, np.eye(7, 18, dtype=dtype))
    np.testing.assert_array_equal(c[:, :7], a)
    assert (c[:, :7] != 0).all()


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_each_product_is_rounded_once(dtype: str) -> None:
    """(1 + u)(1 - u) - 1 is -u^2: a separate multiplication would round it to 0."""
    u = np.finfo(dtype).eps
    a, b = np.array([[-1, 1 + u]], dtype), np.array([[1], [1 - u]], dtype)
    assert nj.matmul(a, b)[0, 0] == -(np.dtype(dtype).type(u) ** 2)


def test_overflow_is_infinity_without_a_warning() -> None:
    """Any warning is an error in these tests."""
    big = np.full((3, 3), np.finfo(np.float32).max)
    assert (nj.matmul(big, big) == np.inf).all()


@pytest.mark.parametrize("shape", [(200, 70, 90), (130, 130, 130), (33, 300, 1100), (17, 600, 600)])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("numbers", [plain, wide, cancelling])
def test_larger_products_have_the_references_bits(
    shape: tuple[int, int, int], dtype: str, numbers: Any
) -> None:
    m, n, k = shape
    a, b = numbers(1, (m, k), dtype), numbers(2, (k, n), dtype)
    with np.errstate(all="ignore"):
        assert_same_bits(nj.matmul(a, b), reference(a, b))


def test_the_same_call_gives_the_same_bits_however_it_is_laid_out() -> None:
    a, b = cancelling(1, (40, 50)), cancelling(2, (50, 60))
    first = nj.matmul(a, b)
    for x in (a, np.asfortranarray(a), a[::-1].copy()[::-1]):
        for y in (b, np.asfortranarray(b), b[:, ::-1].copy()[:, ::-1]):
            assert_same_bits(nj.matmul(x, y), first)
    assert_same_bits(nj.matmul(np.stack([a, a]), b)[1], first)
