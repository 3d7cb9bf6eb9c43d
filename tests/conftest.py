"""`--bless` writes golden files anew; PeachPy is taken from where `make encodings` put it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PEACHPY = Path(__file__).parent.parent / "build/peachpy/usr/lib/python3/dist-packages"
if PEACHPY.is_dir():  # before neurojit is imported, which freezes the configuration
    os.environ.setdefault("PEACHPY_PATH", str(PEACHPY))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bless", action="store_true", help="write golden files anew")
