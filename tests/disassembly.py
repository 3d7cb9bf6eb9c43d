"""Machine code read back by capstone; tests that need it are skipped where there is none."""

from __future__ import annotations

from typing import Any

import pytest


def disassemble(code: bytes, architecture: str) -> list[Any]:
    """capstone's instructions: .address, .size, .mnemonic, .op_str."""
    capstone = pytest.importorskip("capstone")
    kinds = {
        "x86_64": (capstone.CS_ARCH_X86, capstone.CS_MODE_64),
        "aarch64": (capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM),
    }
    return list(capstone.Cs(*kinds[architecture]).disasm(code, 0))
