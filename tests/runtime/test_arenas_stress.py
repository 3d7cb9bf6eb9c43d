"""Runs arenas_stress.c under the thread sanitizer, and under those for addresses and undefined behaviour."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from sanitizers import SANITIZERS, run_sanitized


@pytest.mark.skipif(sys.platform == "win32", reason="the stress program uses POSIX threads")
@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_a_block_belongs_to_one_call(sanitizer: str, tmp_path: Path) -> None:
    run_sanitized(sanitizer, tmp_path, "arenas_stress.c", ("arenas.c",))
