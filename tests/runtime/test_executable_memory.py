"""Mapping: every strategy, every failing step, every denial that a sandbox can bring about."""

from __future__ import annotations

import ctypes
import errno
import os
import threading

import pytest
from machine_code import RETURNS_N, TRAP, returns
from process import MAPS, Child, code_mappings, needs_kernels, resources, writable_and_executable

from neurojit.errors import ExecutableMemoryError
from neurojit.runtime import Code, executable_memory
from neurojit.runtime._runtime import inject_map_failure, map_steps

pytestmark = needs_kernels

PAGE = os.sysconf("SC_PAGESIZE")
MEMFD_STEPS = ("memfd_create", "write", "fcntl(F_ADD_SEALS)", "mmap(memfd, R|X)")
ANONYMOUS_STEPS = ("mmap(anonymous, R|W)", "mprotect(R|X)")
SYNCHRONISE = "membarrier(SYNC_CORE)"


def test_every_step_is_tested() -> None:
    assert map_steps() == ("platform", *MEMFD_STEPS, *ANONYMOUS_STEPS, "mmap(MAP_JIT)", SYNCHRONISE)


def test_mapped_code_runs_and_is_given_back() -> None:
    before = executable_memory()
    code = Code.map(returns(42))
    assert code.call(()) == 42
    during = executable_memory()
    assert during.strategy == "memfd"
    assert during.reasons == ()
    assert during.live_mappings == before.live_mappings + 1
    assert during.live_bytes == before.live_bytes + PAGE == before.live_bytes + code.size
    del code
    after = executable_memory()
    assert after.live_bytes == before.live_bytes
    assert after.total_mappings == before.total_mappings + 1


@pytest.mark.parametrize("length", [1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE])
@pytest.mark.parametrize("denied", [None, "memfd_create"])
def test_rest_of_the_last_page_traps(length: int, denied: str | None) -> None:
    if denied:
        inject_map_failure(denied, errno.EPERM)
    text = (RETURNS_N + b"\x90" * length)[:length]
    code = Code.map(text)
    assert code.size % PAGE == 0
    assert ctypes.string_at(code.address, code.size) == text.ljust(code.size, TRAP)


def test_sealed_file_cannot_be_written_through_proc() -> None:
    code = Code.map(returns(1))
    areas = [line.split()[0] for line in MAPS.read_text().splitlines()]
    (area,) = (area for area in areas if area.startswith(f"{code.address:x}-"))
    with pytest.raises(PermissionError):  # by the seal, or before that for want of privilege
        overwrite(f"/proc/self/map_files/{area}")
    assert code.call(()) == 1


def overwrite(path: str) -> None:
    file = os.open(path, os.O_RDWR)
    try:
        os.write(file, TRAP)
    finally:
        os.close(file)


@pytest.mark.parametrize("step", MEMFD_STEPS)
def test_refused_memfd_falls_back_and_is_not_asked_again(step: str) -> None:
    before = resources()
    inject_map_failure(step, errno.EPERM)
    code = Code.map(returns(3))
    assert code.call(()) == 3
    state = executable_memory()
    assert state.strategy == "mprotect"
    assert state.reasons == (f"memfd: {step}: Operation not permitted (EPERM); not tried again",)
    del code
    Code.map(returns(4))
    assert executable_memory().strategy == "mprotect"
    assert resources() == before


@pytest.mark.parametrize("step", MEMFD_STEPS)
@pytest.mark.parametrize("shortage", [errno.ENOMEM, errno.EMFILE, errno.ENOSPC, errno.EFBIG])
def test_shortage_passes(step: str, shortage: int) -> None:
    inject_map_failure(step, shortage)
    assert Code.map(returns(3)).call(()) == 3
    assert executable_memory().strategy == "mprotect"
    assert Code.map(returns(4)).call(()) == 4
    assert executable_memory().strategy == "memfd"
    (reason,) = executable_memory().reasons
    assert step in reason
    assert "not tried again" not in reason


@pytest.mark.parametrize("step", MEMFD_STEPS)
@pytest.mark.parametrize("other", ANONYMOUS_STEPS)
def test_no_strategy_left(step: str, other: str) -> None:
    usage = executable_memory()
    before = resources()
    inject_map_failure(step, errno.EACCES)
    inject_map_failure(other, errno.EACCES)
    with pytest.raises(ExecutableMemoryError) as error:
        Code.map(returns(5))
    assert f"memfd: {step}: Permission denied (EACCES)" in str(error.value)
    assert f"mprotect: {other}: Permission denied (EACCES)" in str(error.value)
    assert executable_memory().strategy == "none"
    assert executable_memory()[2:5] == usage[2:5]
    with pytest.raises(ExecutableMemoryError):  # the injections are spent; the refusals stay
        Code.map(returns(5))
    assert resources() == before


def test_interrupted_write_is_made_again() -> None:
    inject_map_failure("write", errno.EINTR, times=5)
    assert Code.map(returns(6)).call(()) == 6
    assert executable_memory().strategy == "memfd"


def test_empty_code_is_refused() -> None:
    with pytest.raises(ValueError, match="0 bytes"):
        Code.map(b"")


@pytest.mark.parametrize("denied", [None, "memfd_create"])
def test_never_writable_and_executable_in_a_storm(denied: str | None) -> None:
    if denied:
        inject_map_failure(denied, errno.EPERM)
    before = code_mappings()
    stop = threading.Event()
    wrong: list[int] = []

    def map_and_unmap() -> None:
        value = 0
        while not stop.is_set():
            value += 1
            if Code.map(returns(value) + b"\x90" * 10000).call(()) != value:
                wrong.append(value)

    threads = [threading.Thread(target=map_and_unmap) for _ in range(3)]
    for thread in threads:
        thread.start()
    seen = [writable_and_executable() for _ in range(60)]
    stop.set()
    for thread in threads:
        thread.join()
    assert not any(seen)
    assert not wrong
    assert code_mappings() == before


needs_sync = pytest.mark.aarch64("elsewhere cores need no barrier of their own")


def permissions(address: int) -> str | None:
    """Of the mapping that holds the address, as in /proc; None: nothing is mapped there."""
    for line in MAPS.read_text().splitlines():
        first, _, end = line.split()[0].partition("-")
        if int(first, 16) <= address < int(end, 16):
            return line.split()[1]
    return None


@needs_sync
def test_addresses_are_given_back_where_cores_can_be_synchronised() -> None:
    before = resources()
    for value in range(20):
        code = Code.map(returns(value))
        assert code.call(()) == value
        address = code.address
        assert permissions(address) == "r-xp"
        del code
        assert permissions(address) is None
    assert resources() == before
    assert executable_memory().reasons == ()


@needs_sync
@pytest.mark.parametrize("refusal", [errno.ENOSYS, errno.EPERM, errno.EINVAL])
def test_without_membarrier_no_address_holds_code_twice(refusal: int) -> None:
    """A core may have fetched what an address held before; nothing tells it to fetch again."""
    before, usage = resources(), executable_memory()
    inject_map_failure(SYNCHRONISE, refusal)
    addresses = set()
    for value in range(50):
        code = Code.map(returns(value) + bytes(PAGE))
        assert code.call(()) == value
        addresses.add(code.address)
        del code
    assert len(addresses) == 50
    assert {permissions(address) for address in addresses} == {"---p"}
    after = executable_memory()
    assert (after.strategy, after.reasons, after.live_bytes) == ("memfd", (), usage.live_bytes)
    assert resources() == before  # the pages are given back, and nothing there can be executed


@needs_sync
def test_a_barrier_that_fails_once_it_worked_fails_the_mapping() -> None:
    Code.map(returns(1))
    before = resources()
    inject_map_failure(SYNCHRONISE, errno.ENOMEM, 2)
    with pytest.raises(ExecutableMemoryError, match=r"membarrier\(SYNC_CORE\): Cannot allocate memory"):
        Code.map(returns(2))
    assert resources() == before
    assert Code.map(returns(3)).call(()) == 3


DENY_WRITE_EXECUTE = """
import ctypes
PR_SET_MDWE, REFUSE_EXEC_GAIN = 65, 1
if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0) != 0:
    print("no MDWE"); raise SystemExit
"""


def test_memfd_works_where_gaining_execution_is_denied(child: Child) -> None:
    done = child(
        DENY_WRITE_EXECUTE
        + """
from neurojit.runtime import Code, executable_memory
from machine_code import returns
print(Code.map(returns(42)).call(()), executable_memory().strategy, executable_memory().reasons)
"""
    )
    if "no MDWE" in done.stdout:
        pytest.skip("this kernel has no PR_SET_MDWE")
    assert done.stdout == "42 memfd ()\n", done.stderr


def test_no_jit_where_everything_is_denied(child: Child) -> None:
    done = child(
        DENY_WRITE_EXECUTE
        + """
import resource
from neurojit.errors import ExecutableMemoryError
from neurojit.runtime import Code, executable_memory
from machine_code import returns
resource.setrlimit(resource.RLIMIT_NOFILE, (0, 10))
for attempt in range(2):
    try:
        Code.map(returns(1))
    except ExecutableMemoryError as error:
        print(error)
print(executable_memory().strategy, executable_memory().live_bytes)
resource.setrlimit(resource.RLIMIT_NOFILE, (10, 10))
print(Code.map(returns(42)).call(()), executable_memory().strategy)
"""
    )
    if "no MDWE" in done.stdout:
        pytest.skip("this kernel has no PR_SET_MDWE")
    refused = (
        f"cannot map {len(returns(1))} bytes of machine code: "
        "memfd: memfd_create: Too many open files (EMFILE); "
        "mprotect: mprotect(R|X): Permission denied (EACCES); not tried again\n"
    )
    assert done.stdout == refused * 2 + "none 0\n42 memfd\n", done.stderr


LIMITED = """
import os, resource
from process import resources
from neurojit.errors import ExecutableMemoryError
from neurojit.runtime import Code, executable_memory
from machine_code import returns
code = None
text = returns(42) + bytes({size})
before = resources()
hard_and_soft = resource.getrlimit(resource.{name})
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.{name}, ({soft}, hard_and_soft[1]))
try:
    code = Code.map(text)
    print(code.call(()), executable_memory().strategy, *executable_memory().reasons)
except ExecutableMemoryError as error:
    print(error)
resource.setrlimit(resource.{name}, hard_and_soft)
del code
assert resources() == before, (resources(), before)
assert executable_memory().live_bytes == 0
print(Code.map(returns(43)).call(()), executable_memory().strategy)
"""


def limited(name: str, soft: str, size: int) -> str:
    return LIMITED.format(name=name, soft=soft, size=size)


def test_no_file_descriptors(child: Child) -> None:
    done = child(limited("RLIMIT_NOFILE", "0", 1 << 20))
    assert done.stdout == "42 mprotect memfd: memfd_create: Too many open files (EMFILE)\n43 memfd\n", (
        done.stderr
    )


def test_file_size_limit(child: Child) -> None:
    done = child(limited("RLIMIT_FSIZE", "4096", 1 << 20))
    assert done.stdout == "42 mprotect memfd: write: File too large (EFBIG)\n43 memfd\n", done.stderr


@pytest.mark.not_emulated("qemu-user takes no notice of RLIMIT_AS")
def test_no_address_space(child: Child) -> None:
    done = child(limited("RLIMIT_AS", "used + (32 << 20)", 64 << 20))
    assert done.stdout == (
        f"cannot map {(64 << 20) + len(returns(42))} bytes of machine code: "
        "memfd: mmap(memfd, R|X): Cannot allocate memory (ENOMEM); "
        "mprotect: mmap(anonymous, R|W): Cannot allocate memory (ENOMEM)\n43 memfd\n"
    ), done.stderr
