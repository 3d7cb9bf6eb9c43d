"""C programs and libraries of the tests: compiled for the machine that runs the tests, which may be emulated.

`make test-arm64` and `make test-riscv64` name a cross compiler in NEUROJIT_TEST_CC and, in NEUROJIT_TEST_RUN,
what runs a program of that machine; otherwise it is this machine's own compiler, and programs run by
themselves.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[1] / "csrc"
STRICT = ("-std=c11", "-g", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", f"-I{CSRC}")

EMULATED = "NEUROJIT_TEST_RUN" in os.environ
PATIENCE = 8 if EMULATED else 1  # to multiply time limits by
COMPILER = (
    os.environ.get("NEUROJIT_TEST_CC", "").split()
    or [found for name in ("gcc", "clang") if (found := shutil.which(name))][:1]
)
RUNNER = os.environ.get("NEUROJIT_TEST_RUN", "").split()

needs_compiler = pytest.mark.skipif(not COMPILER, reason="no C compiler: gcc or clang")


def run(command: Sequence[str], timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Without a sanitizer's report going unseen: each ends the program."""
    stop = {"TSAN_OPTIONS": "halt_on_error=1", "UBSAN_OPTIONS": "halt_on_error=1"}
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **stop}, timeout=timeout, check=False
    )


def build(target: Path, sources: Sequence[Path], *flags: str) -> None:
    """Compiles the sources; skips the test where the compiler lacks what a flag asks for."""
    libraries = [flag for flag in flags if flag.startswith("-l")]
    others = [flag for flag in flags if flag not in libraries]
    done = run([*COMPILER, *STRICT, *others, *map(str, sources), "-o", str(target), *libraries])
    if done.returncode != 0 and ("cannot find" in done.stderr or "unrecognized" in done.stderr):
        pytest.skip(f"{COMPILER[0]} cannot {' '.join(flags)}: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr


def run_program(program: Path, *arguments: str) -> None:
    """Runs what `build` made; asserts that it ends well and says nothing."""
    command = [*RUNNER, str(program), *arguments]
    done = run(command)
    if "unexpected memory mapping" in done.stderr and shutil.which("setarch"):
        done = run(["setarch", "-R", *command])  # older sanitizers do not know today's address randomisation
        if "unexpected memory mapping" in done.stderr or "setarch" in done.stderr:
            pytest.skip(f"this sanitizer cannot run here: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
