"""Runs slots_stress.c under the thread sanitizer, and under those for addresses and undefined behaviour."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from sanitizers import SANITIZERS, run_sanitized


@pytest.mark.skipif(sys.platform == "win32", reason="the stress program uses POSIX threads")
@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_no_race_and_no_use_after_destruction(sanitizer: str, tmp_path: Path) -> None:
    sources = ("slots.c", "code.c", "executable_memory.c", "map_linux.c", "instruction_sync.c")
    run_sanitized(sanitizer, tmp_path, "slots_stress.c", sources)
