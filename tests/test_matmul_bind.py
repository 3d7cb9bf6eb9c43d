"""nj.matmul.bind: the same product again and again, with nothing looked up."""

from __future__ import annotations

import gc
import sys
import threading
from typing import Any

import numpy as np
import pytest
from fence import SIDES, Fence
from operands import LAYOUTS, needs_kernels, plain, runnable_isas
from oracle import assert_same_bits, reference

import neurojit as nj
from neurojit.runtime import SLOTS

SHAPES = [
    ((3, 4), (4, 5)),
    ((1, 1), (1, 1)),
    ((4,), (4, 5)),
    ((3, 4), (4,)),
    ((4,), (4,)),
    ((40, 700), (700, 600)),
    ((2, 3, 4), (4, 5)),
    ((0, 3), (3, 4)),
    ((3, 0), (0, 4)),
]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "f2"])
def test_each_call_multiplies_what_the_operands_hold_then(shapes: Any, dtype: str) -> None:
    a, b = (plain(1, shapes[0]) * 9).astype(dtype), (plain(2, shapes[1]) * 9).astype(dtype)
    out = np.zeros(np.matmul(a, b).shape, dtype)
    bound = nj.matmul.bind(a, b, out)
    for _ in range(3):
        a += 1
        assert bound() is out
        if dtype in ("f4", "f8") and runnable_isas():
            assert_same_bits(out, reference(a, b))
        else:
            np.testing.assert_allclose(out, np.matmul(a, b), rtol=1e-4)


@pytest.mark.parametrize("a_layout", sorted(set(LAYOUTS) - {"read_only"}))
@pytest.mark.parametrize("out_layout", ["c_order", "f_order", "rows_apart", "odd_strides", "reversed_rows"])
def test_row_26_any_layout(a_layout: str, out_layout: str) -> None:
    a, b = LAYOUTS[a_layout](plain(1, (5, 6))), plain(2, (6, 7))
    out = LAYOUTS[out_layout](np.zeros((5, 7), np.float32))
    assert nj.matmul.bind(a, b, out)() is out
    expected: Any = reference(a, b) if runnable_isas() else np.matmul(a, b)
    np.testing.assert_allclose(np.array(out), expected, rtol=1e-5)


def test_row_28_overlap_is_as_if_there_were_none() -> None:
    a, b = plain(1, (6, 6)), plain(2, (6, 6))
    expected = reference(a, b)
    nj.matmul.bind(a, b, a)()
    np.testing.assert_allclose(a, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda a, b: (a, a, np.zeros((3, 5), "f4")),
        lambda a, b: (a, b, np.zeros((3, 6), "f4")),
        lambda a, b: (a, b, np.zeros((3, 5), "i4")),
        lambda a, b: (a, b, np.broadcast_to(np.zeros(5, "f4"), (3, 5))),
        lambda a, b: (a, b, LAYOUTS["read_only"](np.zeros((3, 5), "f4"))),
    ],
)
def test_row_29_a_wrong_operand_is_an_error_at_the_latest_at_the_call(wrong: Any) -> None:
    operands = wrong(plain(1, (3, 4)), plain(2, (4, 5)))
    before = operands[2].copy()
    with pytest.raises((ValueError, TypeError)):
        nj.matmul.bind(*operands)()
    np.testing.assert_array_equal(operands[2], before)


@pytest.mark.parametrize("arguments", [((1,), {}), ((), {"out": None})])
def test_a_bound_product_takes_no_arguments(arguments: Any) -> None:
    bound = nj.matmul.bind(plain(1, (3, 4)), plain(2, (4, 5)), np.zeros((3, 5), "f4"))
    args, keywords = arguments
    with pytest.raises(TypeError):
        bound(*args, **keywords)


def test_the_operands_live_as_long_as_the_bound_product() -> None:
    a, b, out = plain(1, (3, 4)), plain(2, (4, 5)), np.zeros((3, 5), "f4")
    counts = [sys.getrefcount(x) for x in (a, b, out)]
    bound = nj.matmul.bind(a, b, out)
    for _ in range(100):
        bound()
    assert all(sys.getrefcount(x) > count for x, count in zip((a, b, out), counts, strict=True))
    del bound
    gc.collect()
    assert [sys.getrefcount(x) for x in (a, b, out)] == counts


@needs_kernels
def test_row_19_evicted_between_and_during_calls() -> None:
    a, b, out = plain(1, (90, 100)), plain(2, (100, 110)), np.zeros((90, 110), np.float32)
    bound, expected = nj.matmul.bind(a, b, out), reference(a, b)
    SLOTS.evict_bytes(1 << 62)
    bound()
    assert_same_bits(out, expected)
    done = threading.Event()

    def evict() -> None:
        while not done.is_set():
            SLOTS.evict_bytes(1 << 62)
            SLOTS.reclaim()

    storm = threading.Thread(target=evict)
    storm.start()
    try:
        for _ in range(200):
            out.fill(0)
            bound()
            np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)
    finally:
        done.set()
        storm.join()


@pytest.mark.parametrize("side", SIDES)
def test_row_27_within_the_operands(side: str) -> None:
    fences = [Fence(1 << 16) for _ in range(3)]
    for n in range(1, 40):
        a, b = fences[0].hold(plain(1, (3, n)), side), fences[1].hold(plain(2, (n, n)), side)
        out = fences[2].hold(np.zeros((3, n), np.float32), side)
        nj.matmul.bind(a, b, out)()
        np.testing.assert_allclose(out, reference(a, b), rtol=1e-4, atol=1e-5)
