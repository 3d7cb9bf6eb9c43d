"""Fork: the child maps, publishes, evicts and reclaims; the parent does not notice."""

from __future__ import annotations

import pytest
from process import Child, needs_kernels

pytestmark = needs_kernels

PRELUDE = """
import array, os, signal, sys, threading, warnings
from machine_code import *
from neurojit.runtime import Code, SLOTS, executable_memory
warnings.simplefilter("ignore")  # Python 3.12 warns of forks with threads: that is the point here

def in_child(work):
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)  # a deadlock dies of it
        try:
            work()
        except BaseException as error:
            print("child:", repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    assert status == 0, f"child: {status}"
"""


@pytest.mark.parametrize(
    "denied",
    [
        "",
        "import errno; from neurojit.runtime import _runtime; "
        "_runtime.inject_map_failure('memfd_create', errno.EPERM)",
    ],
)
def test_child_compiles_and_evicts(child: Child, denied: str) -> None:
    done = child(
        PRELUDE
        + denied
        + """
slots = [SLOTS.insert((number, 0, 0, 0)) for number in range(20)]
for number, slot in enumerate(slots):
    SLOTS.publish(slot, Code.map(returns(number)))
state = executable_memory(), SLOTS.stats()

def work():
    assert [slot.call(()) for slot in slots] == list(range(20))
    for number, slot in enumerate(slots[:10]):
        SLOTS.publish(slot, Code.map(returns(100 + number)))
    assert [slot.call(()) for slot in slots[:10]] == list(range(100, 110))
    SLOTS.evict_bytes(1 << 30)
    SLOTS.reclaim()
    assert executable_memory().live_mappings == 0, executable_memory()
    assert all(slot.call(()) is None for slot in slots)

in_child(work)
assert (executable_memory(), SLOTS.stats()) == state
assert [slot.call(()) for slot in slots] == list(range(20))
print("ok")
"""
    )
    assert done.stdout == "ok\n", done.stdout + done.stderr


def test_counts_of_threads_that_are_not_in_the_child(child: Child) -> None:
    """A kernel in flight in the parent holds its code there, but not in the child."""
    done = child(
        PRELUDE
        + """
slot = SLOTS.insert((1, 0, 0, 0))
SLOTS.publish(slot, Code.map(WAITS))
flags = array.array("i", [0, 0])
thread = threading.Thread(target=slot.call, args=((flags.buffer_info()[0],),), daemon=True)
thread.start()
while flags[0] == 0: pass
assert slot.claim()

def work():
    assert slot.claim()
    assert SLOTS.evict(slot)
    assert SLOTS.stats()["retired"] == 0, SLOTS.stats()

in_child(work)
SLOTS.evict(slot)
assert SLOTS.stats()["retired"] == 1, SLOTS.stats()
flags[1] = 1
thread.join()
assert SLOTS.reclaim() == 1
print("ok")
"""
    )
    assert done.stdout == "ok\n", done.stdout + done.stderr


def test_fork_while_other_threads_publish_and_evict(child: Child) -> None:
    done = child(
        PRELUDE
        + """
slots = [SLOTS.insert((number, 0, 0, 0)) for number in range(8)]
stop = threading.Event()

def storm(number):
    fresh = 0
    while not stop.is_set():
        SLOTS.publish(slots[number], Code.map(returns(number)))
        SLOTS.evict_bytes(1)
        for _ in range(50):
            fresh += 1
            SLOTS.insert((number, fresh, 1, 1))
        SLOTS.stats()

threads = [threading.Thread(target=storm, args=(number,), daemon=True) for number in range(3)]
for thread in threads: thread.start()

def work():
    for number in range(8):
        SLOTS.publish(slots[number], Code.map(returns(number)))
        assert slots[number].call(()) == number
        SLOTS.insert((number, 1, 2, 3))
    SLOTS.evict_bytes(1 << 30)
    SLOTS.reclaim()
    assert SLOTS.stats()["retired"] == 0

for _ in range(40):
    in_child(work)
stop.set()
for thread in threads: thread.join()
print("ok")
"""
    )
    assert done.stdout == "ok\n", done.stdout + done.stderr
