"""No leak, no lost reference, no allocation where none is needed."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from operands import Array, needs_kernels, plain

import neurojit as nj

A, B, OUT = plain(1, (5, 6)), plain(2, (6, 7)), np.zeros((5, 7), np.float32)
TRANSPOSED = np.asfortranarray(B)
STRIDED_OUT = np.empty((5, 14), np.float32)[:, ::2]
INTEGERS = np.ones((5, 5), int)


class Refuses:
    """Not an operand of anything."""

    __array_ufunc__ = None


def failing(call: Callable[[], Any]) -> Callable[[], None]:
    def run() -> None:
        with pytest.raises((TypeError, ValueError)):
            call()

    return run


READ_ONLY = np.zeros((5, 7), np.float32)
READ_ONLY.flags.writeable = False
REFUSES = Refuses()

CALLS: dict[str, Callable[[], Any]] = {
    "new result": lambda: nj.matmul(A, B),
    "out": lambda: nj.matmul(A, B, OUT),
    "out keyword": lambda: nj.matmul(A, B, out=OUT),
    "out tuple": lambda: nj.matmul(A, B, out=(OUT,)),
    "strided out": lambda: nj.matmul(A, B, STRIDED_OUT),
    "blocked": lambda: nj.matmul(A, TRANSPOSED),
    "vectors": lambda: nj.matmul(A[0], B[:, 0]),
    "overlap": lambda: nj.matmul(OUT, OUT.T.copy(), OUT[:, :5]),
    "integers": lambda: nj.matmul(INTEGERS, INTEGERS),
    "lists": lambda: nj.matmul([[1.0, 2.0]], [[3.0], [4.0]]),
    "keyword": lambda: nj.matmul(A, B, casting="no"),
    "wrong shapes": failing(lambda: nj.matmul(A, A)),
    "wrong arguments": failing(lambda: nj.matmul(A)),  # type: ignore[call-arg]
    "read-only out": failing(lambda: nj.matmul(A, B, READ_ONLY)),
    "refused": failing(lambda: nj.matmul(A, REFUSES)),
}
OBJECTS: list[Any] = [A, B, OUT, TRANSPOSED, STRIDED_OUT, INTEGERS, READ_ONLY, REFUSES, nj.matmul, None]


def counts() -> list[int]:
    return [sys.getrefcount(x) for x in OBJECTS[:-1]] + [sys.getrefcount(A.dtype), sys.getrefcount(B.dtype)]


@pytest.mark.parametrize("name", CALLS)
def test_references_are_given_back(name: str) -> None:
    call = CALLS[name]
    for _ in range(3):
        call()
    gc.collect()
    before = counts()
    for _ in range(100):
        call()
    gc.collect()
    difference = [now - then for now, then in zip(counts(), before, strict=True)]
    assert all(abs(d) < 20 for d in difference), difference  # a leak is 100


def test_the_result_is_the_callers_alone() -> None:
    for _ in range(3):
        assert sys.getrefcount(nj.matmul(A, B)) == 1 or sys.version_info < (3, 14)
        result = nj.matmul(A, B)
        assert sys.getrefcount(result) == 2
        assert nj.matmul(A, B, result) is result
        assert sys.getrefcount(result) == 2


@pytest.mark.parametrize("name", CALLS)
def test_nothing_leaks_in_python(name: str) -> None:
    call = CALLS[name]
    for _ in range(20):
        call()
    tracemalloc.start()
    try:
        call()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(300):
            call()
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 3000, f"{grown} bytes in 300 calls"


def resident() -> int:
    """Bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux only")
@pytest.mark.not_emulated("a hundred thousand calls take minutes; the tests above count the same things")
@pytest.mark.parametrize("name", ["new result", "out", "blocked"])
def test_nothing_leaks_in_a_hundred_thousand_calls(name: str) -> None:
    call = CALLS[name]
    for _ in range(1000):
        call()
    before = resident()
    for _ in range(100_000):
        call()
    assert resident() - before < 1_000_000, "10 bytes a call"


@needs_kernels
@pytest.mark.parametrize("order", ["c", "f"], ids=["in place", "blocked"])
def test_with_out_nothing_is_allocated(order: str) -> None:
    matmul, a, out = nj.matmul, A, OUT
    b: Array = B if order == "c" else TRANSPOSED
    matmul(a, b, out)
    matmul(a, b, out)
    tracemalloc.start()
    try:
        matmul(a, b, out)
        blocks, peak = sys.getallocatedblocks(), tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        matmul(a, b, out)
        matmul(a, b, out=out)
        assert tracemalloc.get_traced_memory()[1] - peak < 64, "the two integers read above"
        assert sys.getallocatedblocks() - blocks <= 3
    finally:
        tracemalloc.stop()


def test_compiling_and_evicting_leaves_no_mapping_behind() -> None:
    from neurojit.runtime import SLOTS, executable_memory

    def churn() -> None:
        for n in range(1, 40):
            nj.matmul(np.ones((3, n), np.float32), np.ones((n, 5), np.float32))
        SLOTS.evict_bytes(1 << 62)
        SLOTS.reclaim()

    churn()
    mapped, before = executable_memory().live_mappings, resident()
    for _ in range(20):
        churn()
    assert executable_memory().live_mappings == mapped
    assert resident() - before < 4_000_000
