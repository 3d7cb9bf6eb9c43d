"""examples/crowd.py: its short form runs, libraries agree, and characters go where the network steers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parent.parent / "examples" / "crowd.py"


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLE), *arguments]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run(command, text=True, timeout=300, **options)


@pytest.mark.parametrize("policy", ["mlp", "lstm"])
def test_the_short_form_steers_a_crowd(policy: str) -> None:
    done = run("--short", "--sizes", "300", "1000", "--policy", policy)
    assert done.returncode == 0, done.stderr
    for library in ("neurojit", "numpy"):
        assert len(re.findall(rf" {library} +\d", done.stdout)) == 2, done.stdout
    after, before = map(float, re.findall(r"(\d\.\d+) (?:away|at the start)", done.stdout))
    assert after < 0.75 * before


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "crowd.png"
    done = run("--sizes", "10", "100", "--frames", "3", "--picture", str(picture))
    assert done.returncode == 0, done.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_terminal_gets_a_progress_bar() -> None:
    pytest.importorskip("rich")
    reader, terminal = os.openpty()
    try:
        # rich draws nothing on a terminal that calls itself dumb
        environment = {**os.environ, "TERM": "xterm"}
        done = run("--sizes", "10", "--frames", "3", stderr=terminal, env=environment)
        shown = os.read(reader, 1 << 16).decode()
    finally:
        os.close(reader)
        os.close(terminal)
    assert done.returncode == 0, shown
    assert "10 by " in shown


def test_what_cannot_be_played_is_said() -> None:
    done = run("--sizes", "0")
    assert done.returncode == 2
    assert "expected at least 1" in done.stderr
