"""What the tests of the runtime look at: this process's mappings and threads."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from machine_code import KNOWN, MACHINE

MAPS = Path("/proc/self/maps")

needs_kernels = pytest.mark.skipif(
    sys.platform != "linux" or MACHINE not in KNOWN,
    reason="the hand-made kernels are for x86-64 and AArch64, and mapping is tested on Linux alone",
)

Child = Callable[..., "subprocess.CompletedProcess[str]"]


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
