"""Levels: the same bits from plain C loops to tuned tiles, chosen for a process or for one bound call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from operands import DTYPES, TARGETS, cancelling, runnable_isas
from oracle import assert_same_bits, reference

import neurojit as nj
from neurojit.plan.blocking import Blocking
from neurojit.plan.gemm import Gemm
from neurojit.plan.level import Level, key_at, level_of
from neurojit.plan.product import Product, plan_product
from neurojit.plan.tiling import schedule_gemm
from neurojit.runtime import SLOTS

needs_isa = pytest.mark.skipif(not runnable_isas(), reason="no emitted code runs here")
SHAPES = [(1, 1, 1), (1, 37, 20), (21, 1, 33), (5, 7, 9), (20, 24, 17), (37, 70, 41), (70, 33, 130)]


@needs_isa
@pytest.mark.usefixtures("cold")
@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("layout", ["rows", "a transposed", "b transposed"])
def test_every_level_has_the_bits_of_the_reference(dtype: str, layout: str) -> None:
    for m, n, k in SHAPES:
        a, b = cancelling(m, (m, k), DTYPES[dtype]), cancelling(n, (k, n), DTYPES[dtype])
        a = np.asfortranarray(a) if layout == "a transposed" else a
        b = np.asfortranarray(b) if layout == "b transposed" else b
        for level in Level:
            out = np.full((m, n), np.nan, DTYPES[dtype])
            assert nj.matmul.bind(a, b, out, level.name)() is out
            assert_same_bits(out, reference(a, b), (level, m, n, k))
    assert not nj.info().fallbacks


@needs_isa
@pytest.mark.usefixtures("cold")
def test_levels_have_slots_of_their_own() -> None:
    a, b, out = np.ones((6, 5), np.float32), np.ones((5, 9), np.float32), np.empty((6, 9), np.float32)
    before = SLOTS.stats()["published"]
    for level in Level:
        nj.matmul.bind(a, b, out, level.name)
    assert SLOTS.stats()["published"] - before == len(Level)
    nj.matmul(a, b, out)
    assert SLOTS.stats()["published"] - before == len(Level), "the process's level is the slot of every call"


def test_keys_of_levels_differ_in_bits_that_extents_leave_free() -> None:
    key = (5 | 9 << 32, 7 | 0xFFFFFFFF << 32, 1 | 9 << 32, 1 | 9 << 32)
    keys = [key_at(key, level) for level in Level]
    assert len(set(keys)) == len(Level)
    assert key_at(key, level_of(None)) == key
    free = (1 << 63, 1 << 31, 0, 0)
    assert all(word & ~bits == old for new in keys for word, bits, old in zip(new, free, key, strict=True))


def test_an_unknown_level_is_named_with_the_known_ones() -> None:
    a = np.ones((2, 2), np.float32)
    with pytest.raises(ValueError, match="level 'O4': expected one of O0, O1, O2, O3, or None"):
        nj.matmul.bind(a, a, np.empty_like(a), "O4")


@pytest.mark.parametrize("isa", sorted(TARGETS))
def test_a_level_is_a_preset_of_the_same_plan(isa: str) -> None:
    target = TARGETS[isa]
    full = target.isa.widest // 32
    g = Gemm.contiguous("f32", 9, 5 * full + 3, 100)
    for level, height, vectors in ((Level.O1, 1, 4), (Level.O2, 2, 2)):
        *whole, edge = schedule_gemm(g, target, level).columns
        assert [block.lanes for block in whole] == [(full,) * vectors]
        assert edge.lanes == (full,) * (5 % vectors) + (3,)
        assert all(block.rows.size == height for block in (*whole, edge))


def test_below_the_highest_level_nothing_is_packed_that_vectors_can_follow() -> None:
    target = TARGETS["avx512"]
    wide = Product(2000, 2000, 2000, 2000, 1, 2000, 1, 2000, 4)
    assert isinstance(plan_product(wide, target), Blocking)
    assert isinstance(plan_product(wide, target, level=Level.O2), Gemm)
    transposed = wide._replace(b_row=1, b_column=2000)
    assert isinstance(plan_product(transposed, target, level=Level.O1), Blocking)


AT_A_LEVEL = """
import numpy as np, neurojit as nj
a, b = np.random.default_rng(0).standard_normal((2, 40, 40)).astype(np.float32)
for _ in range(2):
    c = nj.matmul(a, b)
y = nj.linear(a, b, np.ones(40, np.float32), activation="relu")
assert np.array_equal(y, np.maximum(c + np.float32(1), 0))
print(c.tobytes().hex()[:32], len(nj.explain_matmul(a, b, measure=False).listing) > 0)
"""


@needs_isa
@pytest.mark.parametrize("level", [level.name for level in Level])
def test_neurojit_level_chooses_for_the_process(level: str, child: Any) -> None:
    done = child(AT_A_LEVEL, NEUROJIT_LEVEL=level)
    a, b = np.random.default_rng(0).standard_normal((2, 40, 40)).astype(np.float32)
    c = nj.matmul(a, b)
    assert done.stdout.split() == [c.tobytes().hex()[:32], str(level != "O0")], done.stderr


@needs_isa
@pytest.mark.parametrize("level", list(Level))
def test_explain_says_what_a_level_does(level: Level) -> None:
    a, b = np.ones((12, 20), np.float32), np.ones((20, 40), np.float32)
    explained = nj.explain_matmul(a, b, measure=False, level=level.name)
    assert explained.kernel == ("reference" if level == Level.O0 else "gemm in place")
    assert bool(explained.code_bytes) == (level != Level.O0)
    assert 0 < explained.predicted <= 1
