"""What the whole process may rely on: floating-point state, signals, faults, a clean exit."""

from __future__ import annotations

import signal
import sys

import pytest
from process import Child, needs_kernels

pytestmark = needs_kernels


@pytest.mark.parametrize(("kernel", "death"), [("ILLEGAL", signal.SIGILL), ("READS_NULL", signal.SIGSEGV)])
def test_fault_in_a_kernel_is_dumped(child: Child, kernel: str, death: signal.Signals) -> None:
    done = child(f"""
import faulthandler; faulthandler.enable()
from machine_code import {kernel}
from neurojit.runtime import Code
def the_faulting_call():
    Code.map({kernel}).call(())
the_faulting_call()
""")
    assert done.returncode == -death
    assert "Fatal Python error" in done.stderr
    assert "the_faulting_call" in done.stderr


def test_no_signal_handler_is_replaced(child: Child) -> None:
    done = child("""
import signal
numbers = [n for n in signal.valid_signals() if n not in (signal.SIGKILL, signal.SIGSTOP)]
before = [signal.getsignal(n) for n in numbers]
caught = [line for line in open("/proc/self/status") if line.startswith("Sig")]
import neurojit.runtime as runtime
from machine_code import returns
runtime.Code.map(returns(1)).call(())
assert before == [signal.getsignal(n) for n in numbers]
assert caught == [line for line in open("/proc/self/status") if line.startswith("Sig")]
print("ok")
""")
    assert done.stdout == "ok\n", done.stderr


def test_import_leaves_floating_point_control_alone(child: Child) -> None:
    done = child("""
from float_control import DEFAULT, float_control
before = float_control()
import neurojit.runtime as runtime
from machine_code import returns
runtime.Code.map(returns(1)).call(())
assert float_control() == before == DEFAULT, (hex(float_control()), hex(before))
print("ok")
""")
    assert done.stdout == "ok\n", done.stderr


@pytest.mark.parametrize(("timer", "number"), [("ITIMER_REAL", "SIGALRM"), ("ITIMER_PROF", "SIGPROF")])
def test_signal_storm(child: Child, timer: str, number: str) -> None:
    done = child(f"""
import signal
from machine_code import RETURNS_N
from neurojit.runtime import Code, SLOTS, executable_memory
count = 0
def handler(*_):
    global count
    count += 1
signal.signal(signal.{number}, handler)
signal.setitimer(signal.{timer}, 0.0005, 0.0005)
slot = SLOTS.insert((1, 2, 3, 4))
turn = 0
while count < 100:
    turn += 1
    SLOTS.publish(slot, Code.map(RETURNS_N + bytes(100_000)))
    assert slot.call_repeatedly((), 3, 10_000) == (10_000, 30_000)
signal.setitimer(signal.{timer}, 0)
assert executable_memory().strategy == "memfd" and not executable_memory().reasons, executable_memory()
print("ok")
""")
    assert done.stdout == "ok\n", done.stderr


def test_interrupt_arrives_after_the_call(child: Child) -> None:
    done = child("""
import array, os, signal, threading
from machine_code import WAITS
from neurojit.runtime import Code
flags = array.array("i", [0, 0])
code = Code.map(WAITS, release_gil=True)
def interrupt():
    while flags[0] == 0: pass
    os.kill(os.getpid(), signal.SIGINT)
    flags[1] = 1
threading.Thread(target=interrupt).start()
try:
    code.call((flags.buffer_info()[0],))
    while True: pass
except KeyboardInterrupt:
    print("interrupted after the call:", flags[1] == 1, code.call((flags.buffer_info()[0],)))
""")
    assert done.stdout == "interrupted after the call: True 7\n", done.stderr


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="_xxsubinterpreters became _interpreters")
def test_second_interpreter_gets_a_clean_error(child: Child) -> None:
    done = child("""
import _xxsubinterpreters as interpreters
import neurojit.runtime
second = interpreters.create()
try:
    interpreters.run_string(second, "import neurojit.runtime")
except interpreters.RunFailedError as error:
    print(error)
interpreters.destroy(second)
from machine_code import returns
print(neurojit.runtime.Code.map(returns(42)).call(()))
""")
    assert "ImportError" in done.stdout, done.stderr
    assert done.stdout.endswith("42\n")


def test_exit_while_threads_are_inside_kernels(child: Child) -> None:
    done = child("""
import array, threading
from machine_code import NEVER_RETURNS, WAITS
from neurojit.runtime import Code, SLOTS, SlotTable
flags = array.array("i", [0, 0])
address = flags.buffer_info()[0]
local = SlotTable()
for table in (SLOTS, local):
    slot = table.insert((1, 2, 3, 4))
    table.publish(slot, Code.map(NEVER_RETURNS))
    threading.Thread(target=slot.call, args=((address,),), daemon=True).start()
code = Code.map(NEVER_RETURNS, release_gil=True)
threading.Thread(target=code.call, args=((address,),), daemon=True).start()
while flags[0] < 3: pass
print("leaving")
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "leaving\n", "")


def test_exit_while_threads_come_and_go(child: Child) -> None:
    done = child("""
import threading, time
from machine_code import RETURNS_N, returns
from neurojit.runtime import Code, SLOTS
slot = SLOTS.insert((1, 2, 3, 4))
def calls():
    while True: slot.call_repeatedly((), 1, 100)
def swaps():
    while True: SLOTS.publish(slot, Code.map(RETURNS_N))
for target in (calls, calls, swaps):
    threading.Thread(target=target, daemon=True).start()
time.sleep(0.1)
print("leaving")
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "leaving\n", "")
