"""thread_pool_stress.c under the thread sanitizer, and under those for addresses and undefined behaviour."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from sanitizers import SANITIZERS, run_sanitized


@pytest.mark.skipif(sys.platform == "win32", reason="the stress program uses POSIX threads")
@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_no_race_and_no_unit_lost(sanitizer: str, tmp_path: Path) -> None:
    # neither the thread sanitizer's runtime nor qemu follows a fork into a child with new threads
    arguments = ("fork",) if sanitizer == "address,undefined" else ()
    run_sanitized(sanitizer, tmp_path, "thread_pool_stress.c", ("thread_pool.c",), arguments)
