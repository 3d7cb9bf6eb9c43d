"""Faults of the process and the machine: rows 16 to 21, 23, 32 and 35 of FAULTS.md, for compiled programs.

Each runs in a fresh interpreter. Where code may be gone for a moment, the interpreter answers, and so
`agree` asks for what a program gave before within rounding; elsewhere bits are compared.
"""

from __future__ import annotations

from typing import Any

import pytest
from operands import needs_kernels
from test_matmul_faults import succeeds

pytestmark = needs_kernels

PRELUDE = """
import threading, time
import networks, numpy as np, neurojit as nj
from neurojit.runtime import SLOTS, _runtime

module, weights = networks.perceptron((8, 16, 4))  # keeps the GIL
x = np.linspace(-2, 2, 24, dtype=np.float32).reshape(3, 8)
large_module, large_weights = networks.perceptron((256, 384, 128))  # gives it up
large_x = np.linspace(-2, 2, 48 * 256, dtype=np.float32).reshape(48, 256)

def compiled(module=module, weights=weights):
    program = nj.compile(module, weights)
    assert program.compiled, program.explain()
    return program

def agree(got, expected):
    assert np.allclose(got, expected, rtol=1e-4, atol=1e-5), np.abs(got - expected).max()
"""


@pytest.mark.parametrize("error", ["EMFILE", "ENOMEM", "EPERM"])
def test_row_16_code_that_cannot_be_mapped_is_interpreted_until_it_can(child: Any, error: str) -> None:
    """At compile time, and when evicted code is made again; nothing leaks."""
    succeeds(
        child(
            PRELUDE
            + f"""
import errno, os
program = compiled()
expected = program(x)
descriptors = len(os.listdir("/proc/self/fd"))
for step in _runtime.map_steps():
    if "platform" not in step:
        _runtime.inject_map_failure(step, errno.{error}, 10**6)
agree(program(x), expected)  # code that is mapped already runs on
other = nj.compile(*networks.perceptron((8, 17, 4)))
assert not other.compiled and "{error}" in other.explain(), other.explain()
interpreted = other(x)
SLOTS.evict_bytes(1 << 62)
agree(program(x), expected)
assert not program.compiled and "{error}" in program.explain(), program.explain()
_runtime.reset_executable_memory()
assert len(os.listdir("/proc/self/fd")) == descriptors
again = compiled(*networks.perceptron((8, 17, 4)))
agree(again(x), interpreted)
"""
        )
    )


def test_row_16_no_descriptors_and_no_address_space(child: Any) -> None:
    succeeds(
        child(
            PRELUDE
            + """
import resource
program = compiled(large_module, large_weights)
expected = program(large_x)
out = np.empty_like(expected)
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
SLOTS.evict_bytes(1 << 62)
program(large_x, out)  # made again, by mprotect
assert program.compiled and (out == expected).all()
resource.setrlimit(resource.RLIMIT_NOFILE, limits)
limits = resource.getrlimit(resource.RLIMIT_AS)
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * 4096, limits[1]))
out[...] = 0
program(large_x, out)
resource.setrlimit(resource.RLIMIT_AS, limits)
assert (out == expected).all()
""",
            OPENBLAS_NUM_THREADS="1",
        )
    )


def test_row_17_a_forked_child_calls_compiles_and_evicts(child: Any) -> None:
    succeeds(
        child(
            PRELUDE
            + """
import os
program, large = compiled(), compiled(large_module, large_weights)
memory = compiled(*networks.recurrent())
step = np.ones((1, 12), np.float32)
expected, large_expected, h = program(x), large(large_x), memory(step)
pid = os.fork()
if pid == 0:
    status = 1
    try:
        assert (program(x) == expected).all() and (large(large_x) == large_expected).all()
        memory(step)
        compiled(*networks.perceptron((8, 19, 4)))(x)
        SLOTS.evict_bytes(1 << 62)
        assert (program(x) == expected).all() and program.compiled
        status = 0
    finally:
        os._exit(status)
assert os.waitpid(pid, 0)[1] == 0
assert program.compiled and (program(x) == expected).all(), "the parent's code is its own"
twin = memory.clone()
twin.reset()
assert (twin(step) == h).all()
assert (memory.state["h"] == h).all(), "the child's step was the child's"
"""
        )
    )


@pytest.mark.not_emulated("a fork of a process of several threads is qemu's affair")
def test_row_18_forks_while_other_threads_compile_and_call(child: Any) -> None:
    succeeds(
        child(
            PRELUDE
            + """
import itertools, os
program, large = compiled(), compiled(large_module, large_weights)
expected, large_expected = program(x), large(large_x)
done = threading.Event()

def compile_all():
    for width in itertools.cycle(range(3, 9)):
        if done.is_set():
            return
        SLOTS.evict_bytes(1 << 62)
        compiled(*networks.perceptron((8, width, 4)))

def call():
    while not done.is_set():
        agree(large(large_x), large_expected)

threads = [threading.Thread(target=work, daemon=True) for work in (compile_all, call, call)]
for thread in threads:
    thread.start()
for _ in range(12):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            agree(program(x), expected)
            agree(large(large_x), large_expected)
            agree(nj.compile(module, weights)(x), expected)
            status = 0
        finally:
            os._exit(status)
    end = time.monotonic() + 30
    while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if time.monotonic() > end:
            os.kill(pid, 9)
            raise AssertionError("the child hangs")
        time.sleep(0.01)
    assert ended[1] == 0, ended
done.set()
for thread in threads:
    thread.join()
""",
            timeout=120,
        )
    )


def test_row_19_code_is_evicted_during_calls(child: Any) -> None:
    """Of a program without state, and of one with, whose every step must take effect once."""
    succeeds(
        child(
            PRELUDE
            + """
large, memory = compiled(large_module, large_weights), compiled(*networks.recurrent())
expected = large(large_x)
steps = np.linspace(-1, 1, 240, dtype=np.float32).reshape(20, 1, 12)
once = memory.clone()
path = [once(step) for step in steps]
done, errors = threading.Event(), []

def evict():
    while not done.is_set():
        SLOTS.evict_bytes(1 << 62)
        SLOTS.reclaim()
        time.sleep(1e-4)

def call(own):
    try:
        for _ in range(2):
            own.reset()
            for step, right in zip(steps, path):
                agree(large(large_x), expected)
                agree(own(step), right)
    except BaseException as error:
        errors.append(error)

threads = [threading.Thread(target=evict)]
threads += [threading.Thread(target=call, args=(memory.clone(),)) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads[1:]:
    thread.join()
done.set()
threads[0].join()
assert not errors, errors
assert nj.info().evictions > 10, nj.info()
SLOTS.evict_bytes(1 << 62)
SLOTS.reclaim()
assert SLOTS.stats()["retired"] == 0
""",
            timeout=120,
        )
    )


def test_rows_20_and_21_many_threads_compile_one_network_and_many(child: Any) -> None:
    succeeds(
        child(
            PRELUDE
            + """
nets = [networks.perceptron((8, 5 + i % 7, 4)) for i in range(24)]  # seven networks, several times each
right = {}
for net, weights in nets[:7]:
    right[net.main.weights["w0"].shape] = nj.compile(net, weights)(x)
SLOTS.evict_bytes(1 << 62)
barrier, errors = threading.Barrier(24), []

def run(net, weights):
    try:
        barrier.wait()
        program = compiled(net, weights)
        for _ in range(20):
            agree(program(x), right[net.main.weights["w0"].shape])
    except BaseException as error:
        errors.append(error)

threads = [threading.Thread(target=run, args=net) for net in nets]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not errors, errors
""",
            timeout=120,
        )
    )


def test_row_23_exit_while_daemon_threads_are_in_a_program(child: Any) -> None:
    out = succeeds(
        child(
            PRELUDE
            + """
import atexit
program, large = compiled(), compiled(large_module, large_weights)
large(large_x)

def forever():
    while True:
        program(x)
        large(large_x)

class Late:
    def __del__(self, program=program, x=x):
        program(x)
        print("del")

for _ in range(3):
    threading.Thread(target=forever, daemon=True).start()
atexit.register(lambda: print(program(x).shape))
late = Late()
time.sleep(0.2)
print("leaving", flush=True)
"""
        )
    )
    assert out.startswith("leaving\n(3, 4)\n")


def test_row_32_float_control_is_the_same_after_programs(child: Any) -> None:
    succeeds(
        child(
            "from float_control import float_control as control\nbefore = control()\n"
            + PRELUDE
            + """
with np.errstate(all="ignore"):
    for activation in ("tanh", "sigmoid", "gelu", "exp", "relu"):
        program = compiled(*networks.perceptron((8, 16, 4), activation=activation))
        for special in (1e-40, 3e38, np.inf, np.nan):
            program(np.full((3, 8), special, np.float32))
            assert control() == before, (activation, special)
compiled(large_module, large_weights)(large_x)
assert control() == before
"""
        )
    )


@pytest.mark.not_emulated("signals come faster there than their handler ends")
def test_row_35_a_storm_of_signals_and_interrupts_leaves_programs_right(child: Any) -> None:
    """Handlers call the program that is running; KeyboardInterrupt anywhere in a compile or a call."""
    succeeds(
        child(
            PRELUDE
            + """
import random, signal
program, large = compiled(), compiled(large_module, large_weights)
expected, large_expected = program(x), large(large_x)
seen = 0

def handler(number, frame):
    global seen
    seen += 1
    assert (program(x) == expected).all() and (large(large_x) == large_expected).all()

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 3e-4, 3e-4)
end = time.monotonic() + 1
while time.monotonic() < end:
    assert (large(large_x) == large_expected).all() and (program(x) == expected).all()
signal.setitimer(signal.ITIMER_REAL, 0)
assert seen > 50, seen

signal.signal(signal.SIGALRM, signal.default_int_handler)
random.seed(1)
interrupted, end = 0, time.monotonic() + 2
while time.monotonic() < end:
    SLOTS.evict_bytes(1 << 62)
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 6e-3))
        compiled()
        program(x)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        interrupted += 1
    try:
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        interrupted += 1
    assert (program(x) == expected).all() and (nj.compile(module, weights)(x) == expected).all()
assert interrupted > 20, interrupted
""",
            timeout=120,
        )
    )
