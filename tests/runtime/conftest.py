"""Fixtures of the runtime's tests: a child process, a clean executable memory. The rest is in process.py."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from native import PATIENCE
from process import Child

from neurojit.runtime import _runtime


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
