"""thread_pool_stress.c under the thread sanitizer, and under those for addresses and undefined behaviour."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CSRC = HERE.parent.parent / "csrc"


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1", "UBSAN_OPTIONS": "halt_on_error=1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


@pytest.mark.skipif(sys.platform == "win32", reason="the stress program uses POSIX threads")
@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_no_race_and_no_unit_lost(sanitizer: str, tmp_path: Path) -> None:
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    program = str(tmp_path / "thread_pool_stress")
    flags = ["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", f"-I{CSRC}"]
    sources = [str(HERE / "thread_pool_stress.c"), str(CSRC / "thread_pool.c")]
    sanitize = f"-fsanitize={sanitizer}"
    built = run([compiler, *flags, sanitize, *sources, "-pthread", "-o", program])
    if built.returncode != 0 and ("cannot find" in built.stderr or "unrecognized" in built.stderr):
        pytest.skip(f"{compiler} has no {sanitize}: {built.stderr.strip().splitlines()[-1]}")
    assert built.returncode == 0, built.stderr

    # the thread sanitizer's own runtime does not follow a fork into a child with new threads
    command = [program] if sanitizer == "thread" else [program, "fork"]
    done = run(command)
    if "unexpected memory mapping" in done.stderr and shutil.which("setarch"):
        done = run(["setarch", "-R", *command])  # older sanitizers do not know today's address randomisation
        if "unexpected memory mapping" in done.stderr or "setarch" in done.stderr:
            pytest.skip(f"{sanitize} cannot run on this kernel: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
