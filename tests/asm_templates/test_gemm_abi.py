"""Rows 32 and 33: every family of kernels leaves the machine as the ABI wants it.

`Code.call_checked` compares, before and after, what the ABI of this machine wants kept: the lists are in
csrc/abi_check.h.
"""

from __future__ import annotations

import numpy as np
import pytest
from kernels import Kernel, byte_strides
from machine_code import FLOAT_CONTROL, FROM_BUFFERS, SPOILED, SPOILS
from operands import DTYPES, TARGETS, plain, runnable_isas, transposed_gemm

from neurojit.plan.blocking import micro_tile
from neurojit.plan.gemm import Gemm
from neurojit.runtime import Code

SHAPES = [
    (1, 1, 1),
    (1, 5, 3),
    (3, 7, 20),
    (8, 16, 16),
    (13, 31, 40),
    (24, 24, 24),
    (70, 70, 5),
    (1, 130, 64),
]

pytestmark = [
    pytest.mark.parametrize("isa", runnable_isas()),
    pytest.mark.parametrize("dtype", sorted(DTYPES)),
]


def buffers(g: Gemm, k: int) -> list[np.ndarray]:
    item = DTYPES[g.dtype].itemsize
    sizes = [
        (rows - 1) * row // item + (columns - 1) * column // item + 1
        for (row, column), rows, columns in zip(byte_strides(g), (g.m, k, g.m), (k, g.n, g.n), strict=True)
    ]
    return [plain(seed, (size,), DTYPES[g.dtype]) for seed, size in enumerate(sizes)]


@pytest.mark.parametrize("make", [Gemm.contiguous, transposed_gemm], ids=["contiguous", "transposed"])
@pytest.mark.parametrize("stack_offset", [0, 16, 32, 48])
@pytest.mark.parametrize("control", FLOAT_CONTROL)
def test_rows_32_33_kernels_keep_the_abi(
    isa: str, dtype: str, make: object, stack_offset: int, control: str
) -> None:
    for m, n, k in SHAPES:
        g = make(dtype, m, n, k)  # type: ignore[operator]
        operands = buffers(g, k)
        code = Code.map(Kernel(isa, g).bytes)
        report = code.call_checked(
            tuple(x.ctypes.data for x in operands),
            stack_offset=stack_offset,
            float_control=FLOAT_CONTROL[control],
        )
        if report is None:
            pytest.skip("no trampoline is written for this platform")
        assert report == {"result": 0, "violations": ()}, g


@pytest.mark.parametrize("accumulate", [False, True])
def test_rows_32_33_micro_kernels_keep_the_abi(isa: str, dtype: str, accumulate: bool) -> None:
    mr, nr = micro_tile(dtype, TARGETS[isa])
    for height in (1, mr - 1, mr):
        for width in (1, 3, nr // 2, nr - 1, nr):
            g = Gemm.micro_kernel(dtype, height, width, (mr, nr), accumulate)
            code = Code.map(FROM_BUFFERS + Kernel(isa, g).bytes)
            for depth in (1, 4, 7):
                a, b = plain(1, (depth * mr,), DTYPES[dtype]), plain(2, (depth * nr,), DTYPES[dtype])
                c = np.zeros(height * width, DTYPES[dtype])
                arguments = (a.ctypes.data, b.ctypes.data, c.ctypes.data, depth, width * c.itemsize)
                report = code.call_checked(arguments)
                if report is None:
                    pytest.skip("no trampoline is written for this platform")
                assert report == {"result": 0, "violations": ()}, (g, depth)
                assert c.any()


def test_the_check_sees_a_kernel_that_breaks_the_abi(isa: str, dtype: str) -> None:
    """The same kernel behind an instruction that spoils a register of the caller's."""
    g = Gemm.contiguous(dtype, 3, 5, 4)
    spoiled = SPOILS + Kernel(isa, g).bytes
    report = Code.map(spoiled).call_checked(tuple(x.ctypes.data for x in buffers(g, 4)))
    if report is None:
        pytest.skip("no trampoline is written for this platform")
    assert report["violations"] == (SPOILED,)
