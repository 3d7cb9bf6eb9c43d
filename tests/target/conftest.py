"""Recorded CPUs: raw facts from files, so that every machine can be every other one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from neurojit.target import RawFacts

RECORDED = Path(__file__).parent / "recorded"


@pytest.fixture
def recorded() -> Callable[[str], RawFacts]:
    """The raw facts of tests/target/recorded/NAME.json."""
    return lambda name: RawFacts.from_json(json.loads((RECORDED / f"{name}.json").read_text()))
