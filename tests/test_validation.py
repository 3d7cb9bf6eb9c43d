"""Rows 39 and 40: the gate refuses kernels that are wrong in some place only, and says where."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from operands import transposed_gemm

from neurojit.errors import ValidationError
from neurojit.plan.gemm import Gemm, Matrix, Output
from neurojit.runtime import reference_matmul
from neurojit.validation import validate_gemm

Array = np.ndarray[Any, Any]
Fault = Callable[[Array, Array, Array], int | None]

M, N, K = 5, 19, 7
G = Gemm.contiguous("f32", M, N, K)
APART = Gemm("f32", M, N, K, Matrix(K), Matrix(N), Output(N + 3))
ACCUMULATING = Gemm("f32", M, N, K, Matrix(K), Matrix(N), Output(N), accumulate=True)


def right(a: Array, b: Array, c: Array) -> None:
    reference_matmul(a, b, c)


def last_column_left_out(a: Array, b: Array, c: Array) -> None:
    reference_matmul(a, b[:, :-1], c[:, :-1])


def last_row_left_out(a: Array, b: Array, c: Array) -> None:
    reference_matmul(a[:-1], b, c[:-1])


def last_step_left_out(a: Array, b: Array, c: Array) -> None:
    reference_matmul(a[:, :-1], b[:-1], c)


def nan_becomes_zero(a: Array, b: Array, c: Array) -> None:
    right(a, b, c)
    c[np.isnan(c)] = 0


def infinity_becomes_nan(a: Array, b: Array, c: Array) -> None:
    right(a, b, c)
    c[np.isinf(c)] = np.nan


def nan_where_there_is_none(a: Array, b: Array, c: Array) -> None:
    right(a, b, c)
    c[2, 3] = np.nan


def sign_of_zero_lost(a: Array, b: Array, c: Array) -> None:
    right(a, b, c)
    c[c == 0] *= -1


def one_bit_wrong(a: Array, b: Array, c: Array) -> None:
    right(a, b, c)
    c.view(np.uint32)[M - 1, N - 1] ^= 1


def rounded_twice(a: Array, b: Array, c: Array) -> None:
    """A multiplication and an addition where one fused operation is due."""
    c[...] = 0
    with np.errstate(all="ignore"):
        for p in range(a.shape[1]):
            c += np.multiply.outer(a[:, p], b[p])


def another_order(a: Array, b: Array, c: Array) -> None:
    reference_matmul(a[:, ::-1], b[::-1], c)


def denormals_flushed(a: Array, b: Array, c: Array) -> None:
    """As with MXCSR.FTZ: each step's result."""
    c[...] = 0
    for p in range(a.shape[1]):
        reference_matmul(a[:, p : p + 1], b[p : p + 1], c, accumulate=True)
        c[np.abs(c) < np.finfo(c.dtype).tiny] = 0


def zeros(a: Array, b: Array, c: Array) -> None:
    c[...] = 0


def nothing(a: Array, b: Array, c: Array) -> None:
    pass


def reads_c(a: Array, b: Array, c: Array) -> None:
    reference_matmul(a, b, c, accumulate=True)


def returns_nonzero(a: Array, b: Array, c: Array) -> int:
    right(a, b, c)
    return -3


def beside(offset: int) -> Fault:
    """Writes one element, `offset` from the first one of C."""

    def fault(a: Array, b: Array, c: Array) -> None:
        right(a, b, c)
        ctypes.c_float.from_address(c.ctypes.data + 4 * offset).value = 1.0

    return fault


def replays_the_first_answer() -> Fault:
    kept: list[Array] = []

    def fault(a: Array, b: Array, c: Array) -> None:
        if not kept:
            right(a, b, c)
            kept.append(c.copy())
        c[...] = kept[0]

    return fault


def edits(which: int) -> Fault:
    def fault(a: Array, b: Array, c: Array) -> None:
        right(a, b, c)
        (a, b)[which][1, 2] = 5

    return fault


def run_as(fault: Fault) -> Callable[[Array, Array, Array], int]:
    return lambda a, b, c: fault(a, b, c) or 0


def test_the_right_answer_passes() -> None:
    for g in (G, APART, transposed_gemm("f64", M, N, K), Gemm.contiguous("f32", 1, 1, 1)):
        assert g.k is not None
        assert g.c.row_stride is not None
        validate_gemm(g, g.k, g.c.row_stride, run_as(right), "kernel")
    validate_gemm(ACCUMULATING, K, N, run_as(reads_c), "kernel")


@pytest.mark.parametrize(
    "fault",
    [
        last_column_left_out,
        last_row_left_out,
        last_step_left_out,
        nan_becomes_zero,
        infinity_becomes_nan,
        nan_where_there_is_none,
        one_bit_wrong,
        rounded_twice,
        another_order,
        zeros,
        nothing,
        reads_c,
        replays_the_first_answer(),
    ],
    ids=lambda f: f.__qualname__.split(".")[0],
)
def test_row_39_wrong_in_one_place_is_refused_and_named(fault: Fault) -> None:
    with pytest.raises(
        ValidationError, match=r"^a kernel: C\[\d+, \d+\] is .*, the reference gives"
    ) as error:
        validate_gemm(G, K, N, run_as(fault), "a kernel")
    place = re.search(r"C\[(\d+), (\d+)\]", str(error.value))
    assert place is not None
    assert int(place[1]) < M
    assert int(place[2]) < N


def test_row_39_the_first_wrong_element_is_named() -> None:
    with pytest.raises(ValidationError, match=rf"C\[{M - 1}, {N - 1}\].*\(1 elements differ\)"):
        validate_gemm(G, K, N, run_as(one_bit_wrong), "a kernel")


@pytest.mark.parametrize("offset", [-16, -1, M * N, M * N + 15], ids=str)
def test_row_39_a_write_outside_c_is_refused(offset: int) -> None:
    with pytest.raises(ValidationError, match="the reference gives"):
        validate_gemm(G, K, N, run_as(beside(offset)), "a kernel")


@pytest.mark.parametrize("offset", [N, N + 2, 2 * N + 3, 3 * (N + 3) + N], ids=str)
def test_row_39_a_write_between_the_rows_of_c_is_refused(offset: int) -> None:
    with pytest.raises(ValidationError, match="the reference gives"):
        validate_gemm(APART, K, N + 3, run_as(beside(offset)), "a kernel")


def test_row_39_a_nonzero_result_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"^a kernel: returned -3, expected 0"):
        validate_gemm(G, K, N, run_as(returns_nonzero), "a kernel")


@pytest.mark.parametrize("which", [0, 1], ids=["a", "b"])
def test_row_40_a_kernel_that_edits_its_inputs_is_refused(which: int) -> None:
    with pytest.raises(ValidationError, match=f"^a kernel: wrote to {'AB'[which]}"):
        validate_gemm(G, K, N, run_as(edits(which)), "a kernel")


def test_row_39_an_accumulating_kernel_that_overwrites_is_refused() -> None:
    with pytest.raises(ValidationError, match="the reference gives"):
        validate_gemm(ACCUMULATING, K, N, run_as(right), "a kernel")


@pytest.mark.parametrize("k", [1, 3, 50, 500])
def test_row_39_a_kernel_that_flushes_denormals_is_refused(k: int) -> None:
    with pytest.raises(ValidationError, match="the reference gives"):
        validate_gemm(Gemm.contiguous("f32", 13, 17, k), k, 17, run_as(denormals_flushed), "a kernel")


def test_row_39_a_kernel_that_loses_the_sign_of_zero_is_refused() -> None:
    with pytest.raises(ValidationError, match="the reference gives"):
        validate_gemm(Gemm.contiguous("f32", 13, 17, 1), 1, 17, run_as(sign_of_zero_lost), "a kernel")


@pytest.mark.parametrize("k", [1, 3, 50, 500, 5000])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_row_39_a_kernel_wrong_only_on_nan_is_refused_at_any_depth(dtype: str, k: int) -> None:
    """Many specials must not drown each other: some results are NaN, some infinite, most are not."""
    seen = []

    def run(a: Array, b: Array, c: Array) -> int:
        right(a, b, c)
        seen.append((np.isnan(c).mean(), np.isinf(c).mean()))
        return 0

    validate_gemm(Gemm.contiguous(dtype, 20, 20, k), k, 20, run, "a kernel")
    (ordinary, special) = seen
    assert ordinary == (0, 0)
    assert 0 < special[0] < 0.7, "NaN"
    assert 0 < special[1] < 0.7, "infinite"
