"""C stress programs built and run under a sanitizer; skipped where the compiler or the kernel has none."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CSRC = HERE.parent.parent / "csrc"
SANITIZERS = ("thread", "address,undefined")


def run_sanitized(
    sanitizer: str, folder: Path, program: str, sources: tuple[str, ...], arguments: tuple[str, ...] = ()
) -> None:
    """Build `program`, a C file of this folder, with sources of csrc; run it; it must not say a word."""
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    binary = str(folder / program.removesuffix(".c"))
    flags = ["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", f"-I{CSRC}"]
    files = [str(HERE / program), *(str(CSRC / source) for source in sources)]
    sanitize = f"-fsanitize={sanitizer}"
    built = _run([compiler, *flags, sanitize, *files, "-pthread", "-o", binary])
    if built.returncode != 0 and ("cannot find" in built.stderr or "unrecognized" in built.stderr):
        pytest.skip(f"{compiler} has no {sanitize}: {built.stderr.strip().splitlines()[-1]}")
    assert built.returncode == 0, built.stderr

    command = [binary, *arguments]
    done = _run(command)
    if "unexpected memory mapping" in done.stderr and shutil.which("setarch"):
        done = _run(["setarch", "-R", *command])  # older sanitizers do not know today's address randomisation
        if "unexpected memory mapping" in done.stderr or "setarch" in done.stderr:
            pytest.skip(f"{sanitize} cannot run on this kernel: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1", "UBSAN_OPTIONS": "halt_on_error=1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
