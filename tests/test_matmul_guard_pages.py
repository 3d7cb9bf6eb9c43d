"""Row 27 through the front door: nj.matmul never touches memory outside its operands."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fence import SIDES, Fence
from hypothesis import given, settings
from hypothesis import strategies as st
from operands import Array, needs_kernels, plain, runnable_isas
from oracle import assert_same_bits, reference

import neurojit as nj

FENCES = [Fence(1 << 20) for _ in range(3)]

Strides = Callable[[int, int, int], tuple[int, int]]
STRIDES: dict[str, Strides] = {  # of rows x columns elements of `item` bytes
    "c": lambda rows, columns, item: (columns * item, item),
    "f": lambda rows, columns, item: (item, rows * item),
    "apart": lambda rows, columns, item: ((columns + 3) * item, item),
    "reversed": lambda rows, columns, item: (-columns * item, -item),
    "every second": lambda rows, columns, item: (columns * 2 * item, 2 * item),
    "odd": lambda rows, columns, item: (columns * (item + 1) + 3, item + 1),
}


def fenced(which: int, values: Array, strides: str, side: str) -> Array:
    return FENCES[which].hold(values, side, STRIDES[strides](*values.shape, values.itemsize))


def check(m: int, n: int, k: int, dtype: str, strides: tuple[str, str, str], side: str) -> None:
    a = fenced(0, plain(1, (m, k), dtype), strides[0], side)
    b = fenced(1, plain(2, (k, n), dtype), strides[1], side)
    c = fenced(2, np.full((m, n), np.nan, dtype), strides[2], side)
    expected = reference(a, b)
    for _ in range(2):  # the first call compiles
        c[...] = np.nan
        assert nj.matmul(a, b, c) is c
        assert_same_bits(c, expected, (m, n, k, strides, side))
    assert_same_bits(nj.matmul(a, b), expected)


@needs_kernels
@settings(max_examples=300)
@given(
    m=st.integers(1, 40),
    n=st.integers(1, 70),
    k=st.integers(1, 40),
    dtype=st.sampled_from(("f4", "f8")),
    strides=st.tuples(*[st.sampled_from(sorted(STRIDES))] * 3),
    side=st.sampled_from(SIDES),
)
def test_row_27_any_shape_and_strides(
    m: int, n: int, k: int, dtype: str, strides: tuple[str, str, str], side: str
) -> None:
    check(m, n, k, dtype, strides, side)


@needs_kernels
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(
    ("m", "n", "k"), [(200, 90, 300), (37, 61, 600), (150, 33, 520), (13, 1030, 15), (97, 1, 800)]
)
@pytest.mark.parametrize(
    "strides",
    [("c", "f", "c"), ("f", "f", "apart"), ("reversed", "every second", "c"), ("reversed", "f", "c")],
)
def test_row_27_the_blocked_driver(m: int, n: int, k: int, dtype: str, strides: Any, side: str) -> None:
    """Several blocks of k, so that C is read again; every kind of edge tile."""
    if max(m * k, k * n, m * n) * 16 > FENCES[0].size:
        dtype = "f4"
    if strides[1] == "every second" and k * n * 8 > FENCES[0].size:
        strides = ("c", "reversed", "c")
    check(m, n, k, dtype, strides, side)


@needs_kernels
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("b_order", ["c", "f"])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 517, 507), (519, 1, 505), (2, 1031, 253), (3, 253, 1031)])
def test_row_27_strips_on_threads(m: int, n: int, k: int, b_order: str, side: str) -> None:
    """The last strip, and each thread's own, end where their operands do."""
    for threads in (1, 3):
        with nj.num_threads(threads):
            check(m, n, k, "f4", ("c", b_order, "c"), side)
            check(m, n, k, "f4", ("f", b_order, "apart"), side)


@needs_kernels
@pytest.mark.parametrize("side", SIDES)
def test_row_27_vectors_and_batches(side: str) -> None:
    for n in range(1, 71):
        v = FENCES[0].hold(plain(1, (n,)), side)
        w = FENCES[1].hold(plain(2, (n, n)), side)
        assert_same_bits(nj.matmul(v, w), reference(v, w), n)
        assert_same_bits(nj.matmul(w, v), reference(w, v), n)
        assert_same_bits(nj.matmul(v, v), reference(v, v), n)
    for n in (1, 3, 7, 17):
        x = FENCES[0].hold(plain(1, (2, 3, n, n)), side)
        y = FENCES[1].hold(plain(2, (3, n, n)), side)
        z = FENCES[2].hold(plain(3, (2, 3, n, n)), side)
        assert nj.matmul(x, y, z) is z
        assert_same_bits(z, reference(x, y), n)


def test_the_fence_is_real(child: Any) -> None:
    """One element beyond ends the process: else the tests above prove nothing."""
    for element, side in ((-1, "low"), (10, "high")):
        done = child(f"""
import numpy as np, ctypes
from fence import Fence
x = Fence(1).hold(np.ones(10, np.float32), "{side}")
inside = ctypes.c_float.from_address(x.ctypes.data + {4 * (0 if element < 0 else 9)}).value
print("inside is", inside, flush=True)
ctypes.c_float.from_address(x.ctypes.data + {4 * element}).value
""")
        assert done.stdout == "inside is 1.0\n"
        assert done.returncode == -11, done.stderr


@pytest.mark.parametrize("isa", runnable_isas()[1:])
def test_the_whole_of_matmul_on_the_other_isas_of_this_machine(isa: str) -> None:
    """These very tests again, with the ISA capped."""
    if "NEUROJIT_ISA" in os.environ:
        pytest.skip("already capped")
    here = Path(__file__).parent
    names = (
        "test_matmul",
        "test_matmul_out",
        "test_matmul_numbers",
        "test_matmul_guard_pages",
        "test_compiler",
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider", *(f"{here}/{n}.py" for n in names)],
        env={**os.environ, "NEUROJIT_ISA": isa}, capture_output=True, text=True, timeout=300, cwd=here.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.not_emulated("it runs again, without kernels, what such a run is made of")
def test_everything_is_right_without_emitted_code() -> None:
    """NEUROJIT_ISA=none: NumPy answers all, whatever the layout; its bits need not be the reference's."""
    if "NEUROJIT_ISA" in os.environ:
        pytest.skip("already capped")
    here = Path(__file__).parent
    chosen = "wrong or odd_dtypes or keywords or no_plain or two_shapes or row_24 or pickle or signature"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", chosen,
         f"{here}/test_matmul.py", f"{here}/test_matmul_out.py"],
        env={**os.environ, "NEUROJIT_ISA": "none"},
        capture_output=True, text=True, timeout=300, cwd=here.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
