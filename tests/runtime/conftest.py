"""What the tests of the runtime share: children, this process's mappings, a clean executable memory."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machine_code import KNOWN, MACHINE
from native import PATIENCE

from neurojit.runtime import _runtime

MAPS = Path("/proc/self/maps")

needs_kernels = pytest.mark.skipif(
    sys.platform != "linux" or MACHINE not in KNOWN,
    reason="the hand-made kernels are for x86-64 and AArch64, and mapping is tested on Linux alone",
)

Child = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def child() -> Child:
    """Runs a script in a fresh interpreter that can import neurojit and this folder."""

    def run(script: str, timeout: float = 20.0) -> subprocess.CompletedProcess[str]:
        here = str(Path(__file__).parent)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([here, *filter(None, sys.path)])}
        return subprocess.run(
            [sys.executable, "-c", script],
            env=environment, capture_output=True, text=True, timeout=timeout * PATIENCE,
        )  # fmt: skip

    return run


@pytest.fixture(autouse=True)
def executable_memory_reset() -> Iterator[None]:
    """No test sees another's refusals and injections."""
    _runtime.reset_executable_memory()
    yield
    _runtime.reset_executable_memory()


def writable_and_executable() -> list[str]:
    """The mappings of this process that are both."""
    return [line for line in MAPS.read_text().splitlines() if {"w", "x"} <= set(line.split()[1])]


def code_mappings() -> int:
    """Mappings made through memfd."""
    return MAPS.read_text().count("/memfd:neurojit")


def resources() -> tuple[int, int]:
    """(open file descriptors, executable mappings) of this process."""
    executable = sum("x" in line.split()[1] for line in MAPS.read_text().splitlines())
    return len(os.listdir("/proc/self/fd")), executable


def in_thread(target: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread
