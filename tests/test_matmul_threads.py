"""Rows 17 to 21: forks, evictions during calls, many threads on cold kernels."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from operands import needs_kernels, plain
from oracle import assert_same_bits, reference

import neurojit as nj
from neurojit import compiler
from neurojit.runtime import SLOTS

pytestmark = [
    pytest.mark.usefixtures("cold"),
    needs_kernels,
]


def at_once(work: Callable[[int], None], count: int) -> None:
    """`work(i)` in so many threads that start together; the first exception is raised here."""
    barrier, errors = threading.Barrier(count), []

    def run(i: int) -> None:
        try:
            barrier.wait()
            work(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def close(got: Any, expected: Any) -> None:
    """NumPy may have answered some calls: its rounding may differ."""
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(7, 11, 13), (40, 700, 600)], ids=["in place", "blocked"])
def test_row_20_many_threads_on_one_cold_shape_compile_it_once(shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    a, b = plain(1, (m, k)), plain(2, (k, n))
    expected = reference(a, b)
    for _ in range(5):
        SLOTS.evict_bytes(1 << 62)
        before = compiler.counts["kernels"] + compiler.counts["blocked"]
        at_once(lambda _: close(nj.matmul(a, b), expected), 12)
        assert compiler.counts["kernels"] + compiler.counts["blocked"] == before + 1
    assert set(nj.info().fallbacks) <= {"another thread is compiling this kernel"}
    assert_same_bits(nj.matmul(a, b), expected)


def test_row_21_many_threads_on_many_cold_shapes() -> None:
    work = [(plain(i, (1 + i % 9, 1 + i % 7)), plain(i + 1, (1 + i % 7, 1 + i))) for i in range(60)]
    expected = [reference(a, b) for a, b in work]

    def all_of_them(thread: int) -> None:
        for i in range(len(work)):
            j = (i * 7 + thread * 11) % len(work)
            close(nj.matmul(*work[j]), expected[j])

    at_once(all_of_them, 20)
    for (a, b), right in zip(work, expected, strict=True):
        assert_same_bits(nj.matmul(a, b), right)


def test_row_19_evictions_during_calls() -> None:
    """Large products release the GIL, so that evictions really happen inside them."""
    work = [(plain(1, (90, 100)), plain(2, (100, 110))), (plain(3, (5, 6)), plain(4, (6, 7))),
            (plain(5, (200, 150)), np.asfortranarray(plain(6, (150, 140))))]  # fmt: skip
    expected = [reference(a, b) for a, b in work]
    done = threading.Event()

    def evict() -> None:
        while not done.is_set():
            SLOTS.evict_bytes(1 << 62)
            SLOTS.reclaim()

    def call(thread: int) -> None:
        for i in range(120):
            j = (i + thread) % len(work)
            out = np.empty_like(expected[j])
            close(nj.matmul(*work[j], out), expected[j])
            close(nj.matmul(*work[j]), expected[j])

    storm = threading.Thread(target=evict)
    storm.start()
    try:
        at_once(call, 4)
    finally:
        done.set()
        storm.join()
    assert nj.info().evictions > 10
    assert not any("Error" in reason for reason in nj.info().fallbacks)
    SLOTS.evict_bytes(1 << 62)
    SLOTS.reclaim()
    assert SLOTS.stats()["retired"] == 0, "all that was evicted is unmapped once its callers left"


def test_row_19_a_batch_survives_the_eviction_of_its_kernel() -> None:
    a, b = plain(1, (40, 30, 31)), plain(2, (40, 31, 32))
    expected = reference(a, b)
    done = threading.Event()

    def evict() -> None:
        while not done.is_set():
            SLOTS.evict_bytes(1 << 62)

    storm = threading.Thread(target=evict)
    storm.start()
    try:
        for _ in range(200):
            close(nj.matmul(a, b), expected)
    finally:
        done.set()
        storm.join()


FORKING = """
import os, sys, threading, time, signal
import numpy as np, neurojit as nj
from neurojit.runtime import SLOTS
a, b = np.arange(12, dtype="f4").reshape(3, 4), np.arange(20, dtype="f4").reshape(4, 5)
assert np.array_equal(nj.matmul(a, b), a @ b)

def in_child(work):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(code)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            assert status == 0, status
            return
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    raise SystemExit("the child hangs")

def work():
    assert np.array_equal(nj.matmul(a, b), a @ b)  # warm
    SLOTS.evict_bytes(1 << 62)
    before = dict(nj.info().fallbacks)
    for n in range(1, 20):  # cold
        x = np.arange(3 * n, dtype="f8").reshape(3, n)
        assert np.array_equal(nj.matmul(x.T, x), x.T @ x)
    assert nj.info().kernels > 0
    assert nj.info().fallbacks == before, nj.info()
"""


def test_row_17_a_forked_child_compiles_and_evicts_for_itself(child: Any) -> None:
    done = child(
        FORKING
        + """
nj.matmul(b.T, b)
kernels = nj.info().kernels
in_child(work)
assert nj.info().kernels == kernels
assert np.array_equal(nj.matmul(a, b), a @ b)
work()
"""
    )
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_row_18_forks_while_other_threads_compile_and_run(child: Any) -> None:
    done = child(
        FORKING
        + """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: fork with threads
stop = False
def busy(seed):
    n = seed
    big = np.ones((120, 120), np.float32)
    nj.matmul(big, big)
    while not stop:
        n += 4
        m = 1 + n % 50
        x, y = np.ones((m, 7), np.float32), np.ones((7, 1 + n // 50 % 60), np.float32)
        assert (nj.matmul(x, y) == 7).all()
        assert (nj.matmul(big, big) == 120).all()
for seed in range(4):
    threading.Thread(target=busy, args=(seed,), daemon=True).start()
end = time.monotonic() + 2.5
while time.monotonic() < end:
    in_child(work)
stop = True
""",
        OPENBLAS_NUM_THREADS="1",
    )
    assert done.returncode == 0, done.stderr + done.stdout
