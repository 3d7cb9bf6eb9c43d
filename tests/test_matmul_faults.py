"""Faults of the process and the machine: rows 15, 16, 22, 23, 32, 35 and 36 of FAULTS.md, for nj.matmul.

Each runs in a fresh interpreter. `check()` there compares every way of calling with NumPy.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from operands import runnable_isas

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not runnable_isas(), reason="emitted code is mapped and run on Linux only"
)

PRELUDE = """
import numpy as np, neurojit as nj
from neurojit.runtime import _runtime

def check(*shapes):
    for m, n, k in shapes or [(1, 1, 1), (3, 5, 4), (17, 33, 20), (70, 70, 70)]:
        for dtype in "f4", "f8":
            a = np.arange(m * k).reshape(m, k).astype(dtype) % 7 - 3  # small integers: exact in any order
            b = np.arange(k * n).reshape(k, n).astype(dtype) % 5 - 2
            for x, y in ((a, b), (np.asfortranarray(a), b), (a, np.asfortranarray(b))):
                out = np.full((m, n), np.nan, dtype)
                for got in (nj.matmul(x, y), nj.matmul(x, y), nj.matmul(x, y, out)):
                    assert np.array_equal(got, np.einsum("ij,jk", a, b)), (m, n, k, dtype)
"""


def succeeds(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


# Row 15, 16: no executable memory ---------------------------------------------------------------------


@pytest.mark.parametrize("step", ["memfd_create", "write", "SEALS", "mmap(memfd"])
def test_row_15_memfd_refused_the_next_strategy_serves(child: Any, step: str) -> None:
    succeeds(
        child(
            PRELUDE
            + f"""
import errno
step = [s for s in _runtime.map_steps() if "{step}" in s][0]
_runtime.inject_map_failure(step, errno.EPERM, 10**6)
check()
info = nj.info()
assert info.strategy == "mprotect", info
assert info.kernels > 0 and not info.fallbacks, info
assert any("memfd" in reason and "EPERM" in reason for reason in info.strategy_reasons), info
"""
        )
    )


@pytest.mark.parametrize("error", ["EPERM", "EACCES", "ENOSYS", "ENOMEM", "EMFILE"])
def test_row_15_every_mapping_refused_numpy_answers_and_says_why(child: Any, error: str) -> None:
    """A refusal is for good; a shortage may pass, and is asked about again."""
    succeeds(
        child(
            PRELUDE
            + f"""
import errno
for step in _runtime.map_steps():
    if "platform" not in step:
        _runtime.inject_map_failure(step, errno.{error}, 10**6)
check()
info = nj.info()
assert info.strategy == "none" and info.kernels == 0 and info.code_bytes == 0, info
assert any("{error}" in reason for reason in info.strategy_reasons), info
assert info.fallbacks and all("{error}" in reason for reason in info.fallbacks), info
_runtime.reset_executable_memory()
check()
assert nj.info().kernels > 0, nj.info()
"""
        )
    )


def test_row_15_a_kernel_that_denies_executable_memory(child: Any) -> None:
    """PR_SET_MDWE: no mapping becomes executable later; the sealed memfd still maps."""
    out = succeeds(
        child(
            PRELUDE
            + """
import ctypes
PR_SET_MDWE, REFUSE_EXEC_GAIN = 65, 1
if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0):
    print("unsupported")
else:
    check()
    assert nj.info().strategy == "memfd" and not nj.info().fallbacks, nj.info()
    import errno
    _runtime.inject_map_failure([s for s in _runtime.map_steps() if "create" in s][0], errno.EPERM, 10**6)
    check((9, 9, 9), (11, 40, 3))
    info = nj.info()
    assert info.strategy == "none" and any("mprotect" in r for r in info.strategy_reasons), info
"""
        )
    )
    if "unsupported" in out:
        pytest.skip("this Linux has no PR_SET_MDWE")


@pytest.mark.parametrize("resource", ["RLIMIT_NOFILE", "RLIMIT_AS"])
def test_row_16_no_descriptors_or_address_space_left(child: Any, resource: str) -> None:
    """No descriptors: mprotect serves. No address space: NumPy answers, until there is some again."""
    succeeds(
        child(
            PRELUDE
            + f"""
import os, resource
from neurojit import compiler, numpy_matmul
numpy_matmul.general  # all is imported
check((2, 2, 2))
np.matmul = lambda a, b, out=None: np.einsum("ij,jk", a, b, out=out)  # OpenBLAS exits without memory
descriptors = len(os.listdir("/proc/self/fd"))
limits = resource.getrlimit(resource.{resource})
if "{resource}" == "RLIMIT_NOFILE":
    resource.setrlimit(resource.{resource}, (0, limits[1]))
else:
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.{resource}, (pages * 4096, limits[1]))
check((3, 4, 5), (6, 7, 8))
resource.setrlimit(resource.{resource}, limits)
if "{resource}" == "RLIMIT_NOFILE":
    assert nj.info().strategy == "mprotect", nj.info()
assert len(os.listdir("/proc/self/fd")) == descriptors
check((3, 4, 5), (9, 10, 11))
a = np.ones((3, 5), "f4"); before = dict(nj.info().fallbacks)
nj.matmul(a, a.T)
assert nj.info().fallbacks == before, "kernels are made again"
""",
            OPENBLAS_NUM_THREADS="1",
        )
    )


def test_row_16_no_memory_to_map_code_is_not_remembered(child: Any) -> None:
    succeeds(
        child(
            PRELUDE
            + """
import errno
a = np.ones((3, 4), "f4"); b = np.ones((4, 5), "f4")
for step in _runtime.map_steps():
    if "platform" not in step:
        _runtime.inject_map_failure(step, errno.ENOMEM, 1)
nj.matmul(a, b)
assert list(nj.info().fallbacks.values()) == [1], nj.info()
assert "ENOMEM" in str(nj.info().fallbacks)
_runtime.reset_executable_memory()
nj.matmul(a, b)
assert nj.info().kernels == 1 and list(nj.info().fallbacks.values()) == [1], nj.info()
"""
        )
    )


# Row 22: another interpreter --------------------------------------------------------------------------


def test_row_22_a_second_interpreter_works_or_says_importerror(child: Any) -> None:
    out = succeeds(
        child("""
import numpy as np, neurojit as nj
a = np.ones((3, 3), np.float32)
nj.matmul(a, a)
try:
    import _interpreters as interpreters
except ImportError:
    try:
        import _xxsubinterpreters as interpreters
    except ImportError:
        print("no interpreters"); raise SystemExit
script = '''
import warnings; warnings.simplefilter("ignore")
try:
    import neurojit as nj
    nj.matmul
    import numpy as np
    a = np.ones((3, 3), np.float32)
    assert (nj.matmul(a, a) == 3).all()
    print("works", flush=True)
except ImportError as error:
    print("ImportError", flush=True)
'''
second = interpreters.create()
interpreters.run_string(second, script)
interpreters.destroy(second)
assert (nj.matmul(a, a) == 3).all()  # the first goes on
print("first goes on")
""")
    )
    if "no interpreters" in out:
        pytest.skip("this Python has no subinterpreters")
    assert out.splitlines()[-1] == "first goes on"
    assert out.startswith(("works", "ImportError"))


# Row 23: the end of the process -----------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 200, 700])
def test_row_23_exit_while_daemon_threads_are_in_kernels(child: Any, n: int) -> None:
    out = succeeds(
        child(f"""
import threading, time, numpy as np, neurojit as nj
a = np.ones(({n}, {n}), np.float32)
for b in a, np.asfortranarray(a):
    nj.matmul(a, b)  # now warm: NumPy's own threads may hang at exit
def forever():
    while True:
        nj.matmul(a, a)
        nj.matmul(a, np.asfortranarray(a))
for _ in range(4):
    threading.Thread(target=forever, daemon=True).start()
time.sleep(0.2)
print("leaving")
""")
    )
    assert out == "leaving\n"


def test_row_23_calls_from_atexit_and_del(child: Any) -> None:
    out = succeeds(
        child("""
import atexit, numpy as np, neurojit as nj
a = np.ones((3, 3), np.float32)
class Late:
    def __del__(self, a=a, matmul=nj.matmul):
        assert matmul(a, a)[0, 0] == 3
        print("del")
atexit.register(lambda: print(nj.matmul(a, a)[0, 0]))
late = Late()
""")
    )
    assert out.split() == ["3.0", "del"]


# Row 32: MXCSR, FPCR ----------------------------------------------------------------------------------


def test_row_32_float_control_is_the_same_after_import_and_after_kernels(child: Any) -> None:
    succeeds(
        child(
            "from float_control import DEFAULT, float_control as control\n"
            "before = control()\nassert before == DEFAULT, hex(before)\n"
            "import neurojit\nassert control() == before\n"
            + PRELUDE
            + """
assert control() == before
check()
check((300, 200, 400))
assert control() == before
assert np.float32(1e-40) * np.float32(1) != 0, "denormals are not flushed"
nj.matmul(np.full((2, 2), np.finfo("f4").max), np.full((2, 2), np.finfo("f4").max))
assert control() == before
"""
        )
    )


# Row 35: signals --------------------------------------------------------------------------------------


@pytest.mark.not_emulated("signals come faster there than their handler ends")
def test_row_35_a_storm_of_signals_changes_no_result(child: Any) -> None:
    """Cold and warm calls, kernels and the blocked driver, under thousands of SIGALRM and SIGPROF."""
    succeeds(
        child(
            PRELUDE
            + """
import signal, time
check()  # imports the compiler: CPython 3.11 does not survive imports that signals interrupt
seen = {signal.SIGALRM: 0, signal.SIGPROF: 0}
inner = np.ones((4, 4), np.float32)
def handler(number, frame):
    seen[number] += 1
    n = seen[number] % 13 + 1
    assert (nj.matmul(inner[:, :n], inner[:n]) == min(n, 4)).all()  # cold or warm, within any call
signal.signal(signal.SIGALRM, handler)
signal.signal(signal.SIGPROF, handler)
signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
signal.setitimer(signal.ITIMER_PROF, 1e-4, 1e-4)
end, n = time.monotonic() + 2, 0
while time.monotonic() < end:
    n += 1
    check((1 + n % 40, 1 + n % 37, 1 + n % 31), (90, 90, 90))
signal.setitimer(signal.ITIMER_REAL, 0)
signal.setitimer(signal.ITIMER_PROF, 0)
assert seen[signal.SIGALRM] > 100, seen
assert nj.info().kernels > 10
assert not any("Error" in reason for reason in nj.info().fallbacks), nj.info()
"""
        )
    )


def test_row_35_interrupted_anywhere_the_next_call_is_right(child: Any) -> None:
    """KeyboardInterrupt at random moments of cold calls: no slot stays claimed, no result is wrong."""
    succeeds(
        child(
            PRELUDE
            + """
import random, signal, time
from neurojit.runtime import SLOTS
nj.matmul(np.ones((2, 2), "f4"), np.ones((2, 2), "f4"))  # all is imported
signal.signal(signal.SIGALRM, signal.default_int_handler)
random.seed(1)
interrupted = 0
a = np.arange(12, dtype="f4").reshape(3, 4); b = np.arange(20, dtype="f4").reshape(4, 5)
end = time.monotonic() + 2
while time.monotonic() < end or interrupted <= 20:  # an emulator needs longer
    SLOTS.evict_bytes(1 << 62)
    before = dict(nj.info().fallbacks)
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 4e-4))
        nj.matmul(a, b)
        nj.matmul(a, b)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        interrupted += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        assert np.array_equal(nj.matmul(a, b), a @ b)
    except KeyboardInterrupt:
        continue
    assert not nj.info().fallbacks, nj.info()
"""
        )
    )


def test_row_35_an_interrupt_during_a_long_product_comes_after_it(child: Any) -> None:
    """Compiled code is not interrupted: the result is complete, then KeyboardInterrupt."""
    succeeds(
        child("""
import os, signal, threading, time, numpy as np, neurojit as nj
n = 1200
a = np.ones((n, n), np.float32)
out = np.zeros((n, n), np.float32)
nj.matmul(a, a, out)
out[...] = 0
threading.Timer(0.005, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    while True:
        out[...] = 0
        nj.matmul(a, a, out)
except KeyboardInterrupt:
    pass
assert set(np.unique(out)) <= {0, n}
out[...] = 0
nj.matmul(a, a, out)
assert (out == n).all()
""")
    )


# Row 36: faults inside kernels ------------------------------------------------------------------------


@pytest.mark.parametrize("m", [3, 400], ids=["kernel", "blocked"])
def test_row_36_a_fault_inside_a_kernel_is_faulthandlers(child: Any, m: int) -> None:
    """An array whose memory is gone: the dump names the line that called nj.matmul."""
    done = child(
        f"""
import faulthandler
faulthandler.enable()
import numpy as np, neurojit as nj
from fence import Fence
a = np.ones(({m}, 300), np.float32)
b = np.ones((300, 600), np.float32)
assert (nj.matmul(a, b) == 300).all()
nj.matmul(a, b)
gone = Fence(1)
beyond = np.ndarray((1,), np.float32, gone._map, gone.guard_address - gone._address)
b = np.lib.stride_tricks.as_strided(beyond, (300, 600), (2400, 4))
def the_guilty_function():
    nj.matmul(a, b)
the_guilty_function()
print("not reached")
""",
        NEUROJIT_NUM_THREADS="1",  # two threads that fault at once cut each other's dump short
    )
    assert done.returncode == -11, (done.returncode, done.stderr)
    assert "Segmentation fault" in done.stderr
    assert "in the_guilty_function" in done.stderr
    assert "not reached" not in done.stdout


def test_row_36_import_and_calls_replace_no_signal_handler(child: Any) -> None:
    succeeds(
        child(
            """
import signal, ctypes
libc = ctypes.CDLL(None)
def actions():
    found = []
    for number in range(1, 32):
        action = ctypes.create_string_buffer(256)
        libc.sigaction(number, None, action)
        found.append((action.raw[:16], action.raw[136:140]))  # handler, mask, flags; the rest is not written
    return found
import numpy
before = actions()
"""
            + PRELUDE
            + """
check()
assert actions() == before
"""
        )
    )


def test_this_process_agrees() -> None:
    """The prelude's check, here: so that a failure in a child is the child's fault."""
    scope: dict[str, Any] = {"np": np}
    exec(PRELUDE, scope)
    scope["check"]()
