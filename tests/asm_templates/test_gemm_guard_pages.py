"""Row 27: no kernel touches memory outside its operands, whatever the shape.

A, B and C lie flush against inaccessible pages, below or above, and C is compared with the reference
bit by bit. A wrong access ends this process; pytest's faulthandler then names the test.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from fence import SIDES, Fence
from kernels import Kernel, byte_strides
from operands import DTYPES, TARGETS, Array, plain, runnable_isas, transposed_gemm
from oracle import assert_same_bits

from neurojit.plan.blocking import micro_tile
from neurojit.plan.gemm import Gemm, Matrix, Output
from neurojit.runtime import reference_matmul

pytestmark = [
    pytest.mark.parametrize("isa", runnable_isas()),
    pytest.mark.parametrize("dtype", sorted(DTYPES)),
    pytest.mark.parametrize("side", SIDES),
]

FENCES = [Fence(1 << 16) for _ in range(3)]
VALUES = {dtype: [plain(seed, (1 << 13,), dtype) for seed in (1, 2, 3)] for dtype in DTYPES.values()}


def within_the_fences(kernel: Kernel, side: str, depth: int | None = None) -> None:
    g = kernel.g
    k = g.k if g.k is not None else depth
    assert k is not None
    dtype, shapes = DTYPES[g.dtype], ((g.m, k), (k, g.n), (g.m, g.n))
    operands = [
        fence.place(shape, dtype, strides, side)
        for fence, shape, strides in zip(FENCES, shapes, byte_strides(g), strict=True)
    ]
    for x, values, shape in zip(operands, VALUES[dtype], shapes, strict=True):
        x[...] = values[: shape[0] * shape[1]].reshape(shape)
    a, b, c = operands
    expected = c.copy() if g.accumulate else np.empty(c.shape, dtype)
    reference_matmul(a, b, expected, accumulate=g.accumulate)
    assert kernel.load()(a, b, c) == 0
    assert_same_bits(c, expected, kernel)


def all_pairs(extents: Iterable[int]) -> list[tuple[int, int, int]]:
    """Every (m, n), (n, k) and (m, k) of the extents: a Latin square."""
    values = list(extents)
    size = len(values)
    return [(values[i], values[j], values[(i + j) % size]) for i in range(size) for j in range(size)]


def test_row_27_every_tail_of_m_n_and_k(isa: str, dtype: str, side: str) -> None:
    for m, n, k in all_pairs(range(1, 36)):
        within_the_fences(Kernel(isa, Gemm.contiguous(dtype, m, n, k)), side)


def test_row_27_transposed_a_and_rows_apart(isa: str, dtype: str, side: str) -> None:
    for m, n, k in all_pairs((*range(1, 20), 23, 24, 32, 33)):
        within_the_fences(Kernel(isa, transposed_gemm(dtype, m, n, k)), side)


def test_row_27_every_width_to_130(isa: str, dtype: str, side: str) -> None:
    for n in range(1, 131):
        for m, k in ((1, 1), (1, 19), (5, 2), (14, 3)):
            within_the_fences(Kernel(isa, Gemm.contiguous(dtype, m, n, k)), side)


def test_row_27_negative_and_zero_strides(isa: str, dtype: str, side: str) -> None:
    for m, n, k in all_pairs((1, 2, 3, 5, 8, 13, 17, 21)):
        for a, b in (
            (Matrix(-k), Matrix(-n)),
            (Matrix(k, -1), Matrix(n)),
            (Matrix(0), Matrix(n)),
            (Matrix(k), Matrix(0)),
            (Matrix(0, 0), Matrix(0)),
            (Matrix(2 * k, 2), Matrix(n)),
        ):
            g = Gemm(dtype, m, n, k, a, b, Output(n))
            # one value wherever memory is shared, so that the order of writing it does not matter
            within_the_fences_as_read(Kernel(isa, g), side)


def within_the_fences_as_read(kernel: Kernel, side: str) -> None:
    """As above, for operands whose elements may share memory."""
    g = kernel.g
    assert g.k is not None
    dtype = DTYPES[g.dtype]
    shapes = ((g.m, g.k), (g.k, g.n), (g.m, g.n))
    a, b, c = (
        fence.place(shape, dtype, strides, side)
        for fence, shape, strides in zip(FENCES, shapes, byte_strides(g), strict=True)
    )
    rng = np.random.default_rng(5)
    a[...], b[...], c[...] = rng.random(a.shape), rng.random(b.shape), np.nan
    expected = np.empty(c.shape, dtype)
    reference_matmul(a, b, expected)
    assert kernel.load()(a, b, c) == 0
    assert_same_bits(c, expected, kernel)


@pytest.mark.parametrize("accumulate", [False, True])
def test_row_27_micro_kernels_of_every_edge(isa: str, dtype: str, side: str, accumulate: bool) -> None:
    mr, nr = micro_tile(dtype, TARGETS[isa])
    for height in range(1, mr + 1):
        for width in range(1, nr + 1):
            g = Gemm.micro_kernel(dtype, height, width, (mr, nr), accumulate)
            for depth in (1, 3, 4, 9):
                within_the_fences(Kernel(isa, g), side, depth)


def test_row_27_off_by_one_byte(isa: str, dtype: str, side: str) -> None:
    """Against the page as before, and every address odd."""
    item = DTYPES[dtype].itemsize
    for m, n, k in all_pairs((1, 3, 4, 7, 8, 16, 31)):
        g = Gemm.contiguous(dtype, m, n, k)
        operands: list[Array] = []
        for fence, rows, columns in zip(FENCES, (m, k, m), (k, n, n), strict=True):
            room = fence.place((rows * columns * item + 1,), np.uint8, (1,), side)
            odd: Any = room[1:] if side == "low" else room[:-1]
            operands.append(odd.view(dtype=DTYPES[dtype]).reshape(rows, columns))
        a, b, c = operands
        a[...], b[...] = plain(1, a.shape), plain(2, b.shape)
        expected = np.empty(c.shape, c.dtype)
        reference_matmul(np.array(a), np.array(b), expected)
        assert Kernel(isa, g).load()(a, b, c) == 0
        assert_same_bits(np.array(c), expected, g)
