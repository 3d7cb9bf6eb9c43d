"""Configuration: what is read from the environment, and what is said of a value that makes no sense."""

from __future__ import annotations

import dataclasses

import pytest

from neurojit.config import Config
from neurojit.errors import ConfigurationError


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Config.from_environment({}) == Config()
    names = ("NEUROJIT_ISA", "NEUROJIT_ENCODER", "PEACHPY_PATH", "NEUROJIT_CODE_CACHE_BYTES")
    assert Config.from_environment(dict.fromkeys(names, "")) == Config()


def test_every_variable_is_read() -> None:
    environment = {
        "NEUROJIT_ISA": "avx2",
        "NEUROJIT_ENCODER": "peachpy",
        "PEACHPY_PATH": "/somewhere",
        "NEUROJIT_CODE_CACHE_BYTES": "4096",
        "NEUROJIT_NUM_THREADS": "3",
        "NEUROJIT_DUMP": "plan,,ir",
        "NEUROJIT_LEVEL": "O1",
    }
    expected = Config("avx2", "peachpy", "/somewhere", 4096, 3, ("ir", "plan"), "O1")
    assert Config.from_environment(environment) == expected


def test_an_unknown_stage_is_named_with_the_known_ones() -> None:
    with pytest.raises(
        ConfigurationError, match=r"^NEUROJIT_DUMP='ir,il': expected any of ir, plan, asm, got 'il'"
    ):
        Config.from_environment({"NEUROJIT_DUMP": "ir,il"})


@pytest.mark.parametrize("name", ["NEUROJIT_ISA", "NEUROJIT_ENCODER", "NEUROJIT_LEVEL"])
@pytest.mark.parametrize("value", ["AVX2", "sse", " avx2", "1"])
def test_an_unknown_choice_is_named_with_the_known_ones(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}='{value}': expected one of .*unset it"):
        Config.from_environment({name: value})


@pytest.mark.parametrize("value", ["0", "-1", "1e6", "many", "64M", "１２"])
def test_a_size_is_a_positive_integer(value: str) -> None:
    with pytest.raises(ConfigurationError, match="expected a positive integer; unset it for 67108864"):
        Config.from_environment({"NEUROJIT_CODE_CACHE_BYTES": value})


def test_it_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().isa = "avx2"  # type: ignore[misc]
