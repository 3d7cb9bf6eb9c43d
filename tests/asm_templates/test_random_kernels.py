"""random: TensorLang's numbers, bit for bit where they are exact, at every count; and cos of turns."""

from __future__ import annotations

import numpy as np
import pytest
from fence import SIDES, Fence
from operands import TARGETS, Array, runnable_isas
from oracle import assert_same_bits

from neurojit.asm_templates.machine import ELEMENTS
from neurojit.asm_templates.math import cos_turns
from neurojit.codegen import emit_random, machine_class, machine_for
from neurojit.encoder import new_buffer
from neurojit.errors import MissingStepError
from neurojit.ir import random
from neurojit.plan.random import Random
from neurojit.runtime import Code

ISAS = runnable_isas()
KEYS = [(0, 0), (1, -2), (-(2**31), 2**31 - 1), (123456789, 987654321)]


def run(isa: str, g: Random, key: tuple[int, int], counter: int, target: Array | None = None) -> Array:
    words, at = np.array(key, np.int32), np.array([counter], np.int32)
    target = np.full(g.count, np.nan, np.float32) if target is None else target
    code = Code.map(emit_random(g, TARGETS[isa].isa))
    report = code.call_checked((words.ctypes.data, at.ctypes.data, target.ctypes.data))
    assert report is not None
    assert report["violations"] == ()
    return target


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("counter", [0, 7, -1])
def test_uniform_numbers_are_tensorlangs(isa: str, key: tuple[int, int], counter: int) -> None:
    for count in (1, 2, 7, 16, 33, 100, 1000):
        expected = random.uniform(np.array(key), np.array(counter), (count,), "f32").astype(np.float32)
        assert_same_bits(run(isa, Random("uniform", count), key, counter), expected, (key, counter, count))


@pytest.mark.parametrize("isa", ISAS)
def test_normal_numbers_are_tensorlangs(isa: str) -> None:
    """In double precision there; here every step is rounded, of which cos near 0 shows most."""
    count = 200_000
    got = run(isa, Random("normal", count), (1, -2), 3)
    exact = random.normal(np.array((1, -2)), np.array(3), (count,), "f32")
    assert (np.abs(got - exact) <= 4 * np.spacing(np.maximum(np.abs(exact), 1e-30).astype(np.float32))).all()
    assert abs(got.mean()) < 5 / count**0.5
    assert abs(got.std() - 1) < 5 / count**0.5
    assert_same_bits(run(isa, Random("normal", 37), (1, -2), 3), got[:37], "a prefix is the same")


@pytest.mark.skipif(len(ISAS) < 2, reason="compares AVX2 with AVX-512")
def test_isas_agree_in_every_bit() -> None:
    got = [run(isa, Random("normal", 5000), (5, 6), 7) for isa in ISAS]
    assert got[0].tobytes() == got[1].tobytes()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("side", SIDES)
def test_row_27_between_guard_pages(isa: str, side: str) -> None:
    fence = Fence(1 << 12)
    for count in range(1, 40):
        target = fence.hold(np.full(count, np.nan, np.float32), side)
        assert (run(isa, Random("uniform", count), (1, 2), 3, target) < 1).all()


@pytest.mark.parametrize("isa", ISAS)
def test_cos_of_every_turn_of_24_bits(isa: str) -> None:
    buffer = machine_class(TARGETS[isa].isa).new_buffer("table")
    m = machine_for(TARGETS[isa].isa, buffer, ELEMENTS["f32"], "test")
    left, (x, y) = m.extent(), m.operands(2)
    m.expect(frozenset())
    lanes = m.widest_lanes
    with m.while_positive(left, lanes):
        vector = m.load(lanes, x, 0)
        cos_turns(m, vector)
        m.store(vector, y, 0)
        m.drop(vector)
        m.advance(x, 4 * lanes)
        m.advance(y, 4 * lanes)
    m.leave()
    code = Code.map(buffer.finish())
    worst = 0.0
    for first in range(0, 1 << 24, 1 << 20):
        turns = (np.arange(first, first + (1 << 20)) / 2.0**24).astype(np.float32)
        got = np.empty_like(turns)
        assert code.call((turns.ctypes.data, got.ctypes.data), turns.size) == 0
        folded = 0.25 - np.abs(turns.astype(np.float64) - np.rint(turns.astype(np.float64)))
        exact = np.sin(2 * np.pi * folded)  # exact zeros where cos is 0
        unit = np.spacing(np.maximum(np.abs(exact), 2.0**-126).astype(np.float32)).astype(np.float64)
        worst = max(worst, float((np.abs(got - exact) / unit).max()))
    assert 0.5 < worst <= 2.05, worst


def test_what_is_refused() -> None:
    for count in (0, 1 << 31):
        with pytest.raises(ValueError, match=rf"count {count}, expected 1 to 2\^31 - 1"):
            Random("uniform", count)
    m = machine_for(TARGETS["avx2"].isa, new_buffer(), ELEMENTS["f64"], "random")
    m.expect(frozenset())
    with pytest.raises(MissingStepError, match="no step 'to_integer of f64'"):
        m.to_integer(m.zero(4))
