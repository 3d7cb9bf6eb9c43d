"""gemv: guard pages, the ABI and the order of additions, for every tail of m and k."""

from __future__ import annotations

import numpy as np
import pytest
from fence import SIDES, Fence
from operands import DTYPES, TARGETS, Array, cancelling, runnable_isas
from oracle import assert_same_bits, in_halves

from neurojit.codegen import emit_gemv
from neurojit.plan.gemv import Gemv, schedule_gemv
from neurojit.runtime import Code

FENCES = [Fence(1 << 18) for _ in range(3)]

pytestmark = [
    pytest.mark.parametrize("isa", runnable_isas()),
    pytest.mark.parametrize("dtype", sorted(DTYPES)),
]


def load(isa: str, g: Gemv) -> Code:
    target = TARGETS[isa]
    return Code.map(emit_gemv(g, schedule_gemv(g, target), target.isa))


def place(g: Gemv, side: str) -> tuple[Array, Array, Array]:
    """A with its row stride, x and y, against the fences."""
    dtype = DTYPES[g.dtype]
    a = FENCES[0].place((g.m, g.k), dtype, (g.a_row_stride * dtype.itemsize, dtype.itemsize), side)
    a[...] = cancelling(1, a.shape, dtype)
    x = FENCES[1].hold(cancelling(2, (g.k, 1), dtype), side)
    return a, x, FENCES[2].hold(np.full((g.m, 1), np.nan, dtype), side)


def check(isa: str, g: Gemv, side: str) -> None:
    a, x, y = place(g, side)
    order = (x, a, y) if g.swapped else (a, x, y)
    assert load(isa, g).call(tuple(operand.ctypes.data for operand in order)) == 0
    assert_same_bits(y, in_halves(np.array(a), np.array(x)), g)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("swapped", [False, True])
def test_row_27_every_tail_of_m_and_k(isa: str, dtype: str, side: str, swapped: bool) -> None:
    for m in range(1, 36):
        for k in range(1 + m % 3, 80, 3):
            check(isa, Gemv(dtype, m, k, k, swapped), side)


@pytest.mark.parametrize("side", SIDES)
def test_row_27_rows_apart_reversed_or_the_same(isa: str, dtype: str, side: str) -> None:
    for m in (1, 2, 5, 16, 17, 33):
        for k in (1, 7, 8, 15, 16, 17, 31, 32, 33, 64, 100, 300):
            for stride in (k + 3, -k, -k - 5):
                check(isa, Gemv(dtype, m, k, stride), side)
    a = Gemv(dtype, 9, 20, 0)
    check(isa, a, side)


@pytest.mark.parametrize("stack_offset", [0, 16, 32, 48])
def test_rows_32_33_kernels_keep_the_abi(isa: str, dtype: str, stack_offset: int) -> None:
    for m, k in ((1, 1), (1, 100), (7, 33), (16, 64), (35, 300)):
        g = Gemv(dtype, m, k, k)
        addresses = tuple(operand.ctypes.data for operand in place(g, "high"))
        report = load(isa, g).call_checked(addresses, stack_offset=stack_offset)
        if report is None:
            pytest.skip("no trampoline is written for this platform")
        assert report == {"result": 0, "violations": ()}, g
