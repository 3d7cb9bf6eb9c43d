"""Runners of other ISAs' kernels, built once a session."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from emulator import Emulator, build_runner, why_not

sys.path.append(str(Path(__file__).parents[1] / "asm_templates"))  # what these tests share with those


@pytest.fixture(scope="session")
def riscv64(tmp_path_factory):
    """An Emulator for a vector length in bits."""
    missing = why_not("riscv64")
    if missing:
        pytest.skip(missing)
    runner = build_runner("riscv64", tmp_path_factory.mktemp("riscv64"))
    return lambda bits: Emulator(runner, "riscv64", f"rv64,v=true,vlen={bits}")
