"""The numbers that stand for epilogues in keys: few, given again, and never to two meanings at once."""

from __future__ import annotations

import numpy as np
import pytest
from machine_code import RETURN
from operands import runnable_isas

import neurojit as nj
from neurojit import _dense, compiler
from neurojit.dense import activation_of
from neurojit.runtime import SLOTS

pytestmark = [
    pytest.mark.usefixtures("cold"),
    pytest.mark.skipif(not runnable_isas(), reason="no emitted code runs here"),
]

NUMBERS = 1024
X, W = np.ones((2, 3), "f4"), np.ones((3, 5), "f4")


def test_one_meaning_has_one_number() -> None:
    same = [_dense.Number(("elu", 1)), _dense.Number(("elu", 1.0), "elu")]
    assert same[0].number == same[1].number
    for name in ("elu", ("elu", 1.0), ("elu", 1)):
        nj.linear(X, W, activation=name)
    before = compiler.counts["kernels"]
    for name in ("elu", ("elu", 1.0), ("elu", np.float64(1.0)), ("elu", True), activation_of("elu")):
        nj.linear(X, W, activation=name)
    assert compiler.counts["kernels"] == before


def many_parameters(count: int) -> tuple[int, int]:
    """Results of so many distinct activations are right; how many slots there were after three quarters of
    them, and at the end."""
    x = np.array([[-1.0, 2.0]], "f4")
    w = np.eye(2, dtype="f4")
    slots = []
    for i in range(count):
        slope = (i + 1) / count
        assert nj.linear(x, w, activation=("leaky_relu", slope)).tolist() == [[-np.float32(slope), 2.0]]
        if i % 5 == 0:
            assert nj.linear(x, w, alpha=slope).tolist() == [
                [-np.float32(slope), np.float32(2 * np.float32(slope))]
            ]
        if i % 97 == 0:  # used now and then, so never given up
            assert nj.linear(x, w, activation="relu").tolist() == [[0.0, 2.0]]
        slots.append(SLOTS.stats()["slots"])
    return max(slots[: -count // 4]), slots[-1]


def test_distinct_parameters_share_a_bounded_memory() -> None:
    before, after = many_parameters(3000)
    assert after == before
    assert not nj.info().fallbacks
    assert SLOTS.stats()["published"] < 2 * NUMBERS


@pytest.mark.slow
def test_a_hundred_thousand_distinct_parameters() -> None:
    before, after = many_parameters(100_000)
    assert after == before


def test_a_number_that_is_held_keeps_its_meaning() -> None:
    x = np.array([[-1.0, 2.0]], "f4")
    w, out = np.eye(2, dtype="f4"), np.empty((1, 2), "f4")
    bound = nj.linear.bind(x, w, activation=("leaky_relu", 0.75), out=out)
    assert bound().tolist() == [[-0.75, 2.0]]
    published = SLOTS.stats()["evictions"]
    numbers = [_dense.Number(("test", i)) for i in range(3 * NUMBERS)]
    held = [number.number for number in numbers if number.number >= 0]
    assert len(held) == len(set(held)) <= NUMBERS - 2, (
        "none twice, and neither the identity's nor the bound one's"
    )
    assert numbers[-1].number == -1
    assert any(number.given for number in numbers) == (len(held) > 0)
    assert nj.linear(x, w, activation=("leaky_relu", 0.25)).tolist() == [[-0.25, 2.0]]
    assert nj.info().fallbacks == {
        "linear in several passes: every number of an epilogue is held by a bound call": 1
    }
    assert bound().tolist() == [[-0.75, 2.0]]
    del numbers
    assert nj.linear(x, w, activation=("leaky_relu", 0.25)).tolist() == [[-0.25, 2.0]]
    assert sum(nj.info().fallbacks.values()) == 1
    assert SLOTS.stats()["evictions"] >= published
    assert bound().tolist() == [[-0.75, 2.0]]


def test_a_refusal_is_forgotten_when_its_key_means_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(compiler, "emit_gemm", lambda *_: RETURN)
        for i in range(NUMBERS + 50):
            nj.linear(X, W, activation=("leaky_relu", 2.0 + i))
    refused = len(nj.info().fallbacks)
    assert compiler._refused
    for i in range(NUMBERS + 50):
        nj.linear(X, W, activation=("leaky_relu", 4000.0 + i))
    assert len(nj.info().fallbacks) == refused
