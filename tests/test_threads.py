"""Threads: the same bits for every number of them, and nobody waits, hangs, burns or fails for their sake."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from oracle import assert_same_bits, reference

import neurojit as nj
from neurojit.config import Config
from neurojit.errors import ConfigurationError
from neurojit.runtime import _blocked, reference_matmul
from neurojit.target import host_choice
from neurojit.threads import MOST_THREADS, usable_cores

needs_kernels = pytest.mark.skipif(
    host_choice().isa.name == "none", reason="no ISA: NumPy answers everything"
)
pytestmark = needs_kernels


@pytest.fixture(autouse=True)
def limit_restored() -> Iterator[None]:
    before = nj.get_num_threads()
    yield
    _blocked.inject_thread_failure(0)
    _blocked.inject_scratch_failure(0)
    nj.set_num_threads(before)


def operands(m: int, n: int, k: int, dtype: str = "f4", order: str = "nn") -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(m * 7 + n * 5 + k)
    a = random.standard_normal((m, k) if order[0] == "n" else (k, m)).astype(dtype)
    b = random.standard_normal((k, n) if order[1] == "n" else (n, k)).astype(dtype)
    return a if order[0] == "n" else a.T, b if order[1] == "n" else b.T


def in_child(script: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment.update(NEUROJIT_NUM_THREADS="4", OPENBLAS_NUM_THREADS="1")
    command = [sys.executable, "-W", "ignore", "-c", script]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


# The same bits ---------------------------------------------------------------------------------------

SHAPES = [
    (1, 700, 3000),
    (3, 1100, 700),
    (7, 333, 1500),
    (13, 1024, 1030),
    (17, 1024, 1024),
    (64, 1024, 1024),
    (128, 128, 128),
    (129, 130, 131),
    (333, 334, 335),
    (500, 65, 1025),
    (1023, 16, 1024),
    (3000, 3, 300),
    (2000, 1, 400),
    (800, 800, 2),
    (512, 513, 1),
    pytest.param((401, 401, 2050), marks=pytest.mark.not_emulated("too much arithmetic")),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
@pytest.mark.parametrize("order", ["nn", "tn", "nt", "tt"])
def test_same_bits_for_every_number_of_threads(shape: tuple[int, int, int], order: str) -> None:
    for dtype in ("f4", "f8"):
        a, b = operands(*shape, dtype, order)
        results = []
        for threads in (1, 2, 3, 4, 7):
            with nj.num_threads(threads):
                results.append(nj.matmul(a, b))
        assert all(results[0].tobytes() == other.tobytes() for other in results[1:])
        for rows in (slice(0, 20), slice(-20, None)):  # the reference is slow
            assert_same_bits(results[0][rows], reference(a[rows], b))


@pytest.mark.parametrize("order", ["nn", "nt", "tn"])
@pytest.mark.parametrize("shape", [(1, 700, 500), (1, 33, 9000), (900, 1, 400)], ids=str)
def test_a_layer_of_one_row_or_column_on_any_number_of_threads(
    shape: tuple[int, int, int], order: str
) -> None:
    """Bias and residual are cut along with C; one thread runs the kernel that is not cut, or all strips."""
    m, n, k = shape
    x, w = operands(m, n, k, "f4", order)
    bias, residual = np.arange(n, dtype="f4"), np.arange(m * n, dtype="f4").reshape(m, n) / 7
    results = []
    for threads in (1, 2, 3, 5):
        with nj.num_threads(threads):
            out = np.full((m, n), 3, "f4")
            nj.linear(x, w, bias, "leaky_relu", out=out, alpha=0.5, beta=2.0, residual=residual)
            results.append(out)
    sums = np.float32(0.5) * nj.matmul(x, w) + np.float32(6) + bias + residual
    assert_same_bits(results[0], np.where(sums < 0, np.float32(0.01) * sums, sums))
    assert all(results[0].tobytes() == other.tobytes() for other in results[1:])


@pytest.mark.parametrize("storage", [None, "bf16", "int8"])
def test_packed_weights_times_one_row_on_any_number_of_threads(storage: str | None) -> None:
    x, w = operands(1, 1030, 1100)
    packed = nj.pack(w, storage)
    results = []
    for threads in (1, 2, 3, 5):
        with nj.num_threads(threads):
            results.append(nj.matmul(x, packed))
    assert all(results[0].tobytes() == other.tobytes() for other in results[1:])
    np.testing.assert_allclose(results[0], x @ packed.unpack(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_any_stride_and_nothing_beside_c(dtype: str) -> None:
    m, n, k = 150, 210, 1100
    random = np.random.default_rng(3)
    large = random.standard_normal((2 * k, 2 * k)).astype(dtype)
    frame = np.full((m + 2, n + 9), 7, dtype)
    inside = frame[1:-1, 4:-5]
    for a in (large[: 2 * m : 2, :k], large[:m, : 2 * k : 2], large[m:0:-1, k:0:-1], large[:k, :m].T):
        for b in (large[:k, : 2 * n : 2], large[: 2 * k : 2, :n], large[:n, k:0:-1].T, large[k:0:-1, n:0:-1]):
            frame[...] = 7
            expected = np.empty((m, n), dtype)
            reference_matmul(np.ascontiguousarray(a), np.ascontiguousarray(b), expected)
            for threads in (1, 3):
                with nj.num_threads(threads):
                    nj.matmul(a, b, inside)
                assert inside.tobytes() == expected.tobytes()
            inside[...] = 7
            assert (frame == 7).all()


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((200, 30, 40), (200, 40, 50)),
        ((3, 50, 30, 40), (50, 40, 50)),
        ((3, 1, 30, 40), (1, 50, 40, 50)),
        ((100, 30, 40), (40, 50)),
        ((7, 30, 40), (1, 40, 50)),
        ((30, 40), (300, 40, 50)),
        ((3, 200, 300), (3, 300, 200)),
        ((2, 700, 300), (2, 300, 400)),
        ((4, 3, 0, 5), (4, 3, 5, 6)),
    ],
)
def test_batches(left: tuple[int, ...], right: tuple[int, ...], dtype: str) -> None:
    random = np.random.default_rng(5)
    a, b = random.standard_normal(left).astype(dtype), random.standard_normal(right).astype(dtype)
    transposed = np.swapaxes(np.ascontiguousarray(np.swapaxes(b, -1, -2)), -1, -2)
    results = []
    left_to_numpy = sum(nj.info().fallbacks.values())
    for threads in (1, 2, 5):
        with nj.num_threads(threads):
            results += [nj.matmul(a, b), nj.matmul(a, transposed)]
    np.testing.assert_allclose(results[0], a @ b, rtol=1e-3, atol=1e-3)
    assert all(results[0].tobytes() == other.tobytes() for other in results[1:])
    assert sum(nj.info().fallbacks.values()) == left_to_numpy


# The limit -------------------------------------------------------------------------------------------


def test_limit_is_set_read_and_restored() -> None:
    nj.set_num_threads(3)
    with nj.num_threads(2):
        assert nj.get_num_threads() == 2
        with pytest.raises(ZeroDivisionError), nj.num_threads(5):
            raise ZeroDivisionError
        assert nj.get_num_threads() == 2
    assert nj.get_num_threads() == 3
    nj.set_num_threads(np.int64(10**9))
    assert nj.get_num_threads() == MOST_THREADS


@pytest.mark.parametrize("wrong", [0, -1])
def test_limit_below_one(wrong: int) -> None:
    with pytest.raises(ValueError, match=f"{wrong}, expected at least 1"):
        nj.set_num_threads(wrong)


def test_limit_is_no_integer() -> None:
    with pytest.raises(TypeError):
        nj.set_num_threads(1.5)  # type: ignore[arg-type]


def test_environment() -> None:
    assert Config.from_environment({}).num_threads is None
    assert Config.from_environment({"NEUROJIT_NUM_THREADS": "3"}).num_threads == 3
    for wrong in ("0", "-1", "two", "1.5"):
        with pytest.raises(ConfigurationError, match="NEUROJIT_NUM_THREADS"):
            Config.from_environment({"NEUROJIT_NUM_THREADS": wrong})
    done = in_child("import neurojit as nj; print(nj.get_num_threads())")
    assert done.stdout == "4\n", done.stderr


def test_default_is_the_affinity_mask() -> None:
    affinity = getattr(os, "sched_getaffinity", None)
    assert usable_cores() == (len(affinity(0)) if affinity else os.cpu_count())


@pytest.mark.parametrize("first", ["threadpoolctl", "neurojit.threads"])
def test_threadpoolctl_sees_and_sets_the_limit(first: str) -> None:
    pytest.importorskip("threadpoolctl", minversion="3.2")
    done = in_child(f"""
import sys, {first}
import neurojit as nj, threadpoolctl
nj.get_num_threads()
mine = [one for one in threadpoolctl.threadpool_info() if one["user_api"] == "neurojit"]
assert len(mine) == 1 and mine[0]["num_threads"] == 4 and mine[0]["version"] == nj.__version__, mine
with threadpoolctl.threadpool_limits(1):
    assert nj.get_num_threads() == 1
assert nj.get_num_threads() == 4
assert not any("neurojit" in type(finder).__module__ for finder in sys.meta_path)
print("ok")
""")
    assert done.stdout == "ok\n", done.stderr


def test_threadpoolctl_missing_is_missing() -> None:
    done = in_child(
        """
import sys
sys.path[:] = []
import importlib.machinery
importlib.machinery.PathFinder.invalidate_caches()
try:
    import threadpoolctl
except ImportError as error:
    print(error.name)
""".replace("import sys\n", "import neurojit.threads, sys\n", 1)
    )
    assert done.stdout == "threadpoolctl\n", done.stderr


# Many callers, forks, exits --------------------------------------------------------------------------


def test_many_python_threads_at_once_while_the_limit_changes() -> None:
    shapes = [(256, 256, 256), (401, 300, 500), (64, 1000, 700), (700, 33, 900)]
    cases = [(*operands(*shape), nj.matmul(*operands(*shape)).tobytes()) for shape in shapes]
    wrong: list[int] = []
    stop = threading.Event()

    def multiply(number: int) -> None:
        a, b, expected = cases[number % len(cases)]
        for _ in range(25):
            if nj.matmul(a, b).tobytes() != expected:
                wrong.append(number)

    def meddle() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            nj.set_num_threads(turn % 5 + 1)

    threads = [threading.Thread(target=multiply, args=(number,)) for number in range(8)]
    meddler = threading.Thread(target=meddle)
    for thread in (*threads, meddler):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    meddler.join()
    assert wrong == []


@pytest.mark.skipif(sys.platform != "linux", reason="workers are placed on Linux alone")
@pytest.mark.skipif(usable_cores() < 2, reason="one core")
@pytest.mark.not_emulated("threads of the emulator")
def test_a_worker_parked_on_the_callers_core_is_woken_on_another() -> None:
    done = in_child("""
import os, time
import numpy as np, neurojit as nj
nj.set_num_threads(2)
here, there, *_ = sorted(os.sched_getaffinity(0))
a = np.ones((256, 256), np.float32)
nj.matmul(a, a)
(worker,) = {int(name) for name in os.listdir("/proc/self/task")} - {os.getpid()}

def core(thread):
    return int(open(f"/proc/self/task/{thread}/stat").read().rpartition(")")[2].split()[36])

os.sched_setaffinity(0, {here})
for _ in range(3):
    os.sched_setaffinity(worker, {here})
    nj.matmul(a, a)  # after it the worker parks, on the caller's core
    time.sleep(0.05)
    assert core(worker) == here
    os.sched_setaffinity(worker, {here, there})
    assert core(worker) == here
    nj.matmul(a, a)
    end = time.monotonic() + 10
    while core(worker) != there and time.monotonic() < end:
        time.sleep(0.01)
    assert core(worker) == there
    while os.sched_getaffinity(worker) != {here, there} and time.monotonic() < end:
        time.sleep(0.01)
    assert os.sched_getaffinity(worker) == {here, there}, "the bar is lifted"
os.sched_setaffinity(worker, {here})
time.sleep(0.05)
assert (nj.matmul(a, a) == 256).all(), "nowhere else to go"
assert os.sched_getaffinity(worker) == {here}, "what its owner forbids stays forbidden"
print("placed")
""")
    assert done.stdout == "placed\n", done.stderr


def test_idle_workers_use_no_cpu() -> None:
    a, b = operands(400, 400, 400)
    with nj.num_threads(4):
        nj.matmul(a, b)
        nj.matmul(a, b)
    assert _blocked.workers() >= 3
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.02


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.not_emulated("qemu-user does not follow a fork into a child with new threads")
def test_fork_after_threaded_work() -> None:
    done = in_child("""
import os, signal, threading
import numpy as np, neurojit as nj
from neurojit.runtime import _blocked
a = np.random.default_rng(0).standard_normal((400, 400)).astype("f4")
expected = nj.matmul(a, a).tobytes()
nj.matmul(a, a)
assert _blocked.workers() == 3
stop = threading.Event()
def busy():  # another thread has the pool while this one forks
    while not stop.is_set():
        assert nj.matmul(a, a).tobytes() == expected
thread = threading.Thread(target=busy)
thread.start()
for _ in range(20):
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        good = _blocked.workers() == 0 and all(nj.matmul(a, a).tobytes() == expected for _ in range(3))
        os._exit(0 if good and _blocked.workers() == 3 else 1)
    assert os.waitpid(pid, 0)[1] == 0
stop.set()
thread.join()
assert nj.matmul(a, a).tobytes() == expected
print("ok")
""")
    assert done.stdout == "ok\n", done.stderr


def test_exit_with_workers_parked_and_working() -> None:
    done = in_child("""
import threading
import numpy as np, neurojit as nj
a = np.ones((500, 500), "f4")
nj.matmul(a, a)
def forever():
    while True: nj.matmul(a, a)
for _ in range(2): threading.Thread(target=forever, daemon=True).start()
nj.matmul(a, a)
print("leaving")
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "leaving\n", "")


# Injected failures -----------------------------------------------------------------------------------


def test_no_thread_to_be_had() -> None:
    done = in_child("""
import numpy as np, neurojit as nj
from neurojit.runtime import _blocked
a = np.random.default_rng(0).standard_normal((400, 400)).astype("f4")
expected = nj.matmul(a, a).tobytes() if nj.set_num_threads(1) is None else None
nj.set_num_threads(4)
_blocked.inject_thread_failure(1)
assert nj.matmul(a, a).tobytes() == expected
assert _blocked.workers() == 0
_blocked.inject_thread_failure(10**6)
assert nj.matmul(a, a).tobytes() == expected
_blocked.inject_thread_failure(0)
assert nj.matmul(a, a).tobytes() == expected
assert _blocked.workers() == 3
print("ok")
""")
    assert done.stdout == "ok\n", done.stderr


@pytest.mark.parametrize("shape", [(600, 600), (3, 600, 600)], ids=["one", "batch"])
def test_no_scratch_to_be_had(shape: tuple[int, ...]) -> None:
    a = np.random.default_rng(0).standard_normal(shape).astype("f4")
    b = np.ascontiguousarray(np.swapaxes(a, -1, -2))
    b = np.swapaxes(b, -1, -2)
    expected = nj.matmul(a, b)
    out = np.full_like(expected, 7)
    caught: list[BaseException] = []

    def in_fresh_thread() -> None:  # whose scratch has yet to grow
        _blocked.inject_scratch_failure(1)
        try:
            nj.matmul(a, b, out)
        except MemoryError as error:
            caught.append(error)
            assert (out == 7).all()
        nj.matmul(a, b, out)

    thread = threading.Thread(target=in_fresh_thread)
    thread.start()
    thread.join()
    assert len(caught) == 1
    assert "no memory for packed panels" in str(caught[0])
    assert out.tobytes() == expected.tobytes()


def test_worker_without_scratch_leaves_its_share_to_others() -> None:
    a = np.random.default_rng(0).standard_normal((64, 96, 80)).astype("f4")
    b = np.swapaxes(np.random.default_rng(1).standard_normal((64, 96, 80)).astype("f4"), -1, -2)
    with nj.num_threads(1):
        expected = nj.matmul(a, b).tobytes()
    with nj.num_threads(3):
        _blocked.inject_scratch_failure(2)
        assert nj.matmul(a, b).tobytes() == expected
