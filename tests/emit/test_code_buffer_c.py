"""The C code buffer on its own, under the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPILER = shutil.which("cc")


@pytest.mark.skipif(
    COMPILER is None, reason="no C compiler: fields of other ISAs and size limits stay untested"
)
def test_code_buffer_alone(tmp_path: Path) -> None:
    sources = [Path(__file__).with_name("code_buffer_test.c"), ROOT / "csrc/code_buffer.c"]
    flags = ["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'csrc'}"]
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover"]
    program = tmp_path / "code_buffer_test"
    compiled = subprocess.run(
        [str(COMPILER), *flags, *sanitizers, *map(str, sources), "-o", str(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert compiled.returncode == 0, compiled.stderr
    run = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
