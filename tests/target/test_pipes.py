"""Cost facts: consistent with each other, and with the arithmetic that planners do on them."""

from __future__ import annotations

import pytest

from neurojit.target.microarchitecture import AMD, APPLE_FAMILIES, ARM_PARTS, INTEL
from neurojit.target.pipes import PIPES, PerWidth, pipes_of


def test_names_are_unique_and_belong_to_a_design():
    names = [row.name for row in PIPES]
    assert len(set(names)) == len(names)
    designs = {design.name for design in (*INTEL, *AMD)} | {*ARM_PARTS.values(), *APPLE_FAMILIES.values()}
    assert set(names) <= designs


@pytest.mark.parametrize("row", PIPES, ids=lambda row: row.name)
def test_wider_never_costs_less(row):
    assert row.fma_slots[128] <= row.fma_slots[256] <= row.fma_slots[512]
    assert row.loads_per_cycle[128] >= row.loads_per_cycle[256] >= row.loads_per_cycle[512]
    assert row.stores_per_cycle[128] >= row.stores_per_cycle[256] >= row.stores_per_cycle[512]
    assert row.free_shuffles[128] >= row.free_shuffles[256] >= row.free_shuffles[512] >= 0
    assert row.source


@pytest.mark.parametrize(
    ("name", "bits", "flop", "accumulators"),
    [
        ("Haswell", 256, 32, 10),
        ("Skylake", 256, 32, 8),
        ("Skylake-X", 512, 64, 8),
        ("Ice Lake", 512, 32, 4),
        ("Zen 1", 256, 16, 5),
        ("Zen 3", 256, 32, 8),
        ("Zen 4", 256, 32, 8),
        ("Zen 4", 512, 32, 4),
        ("Zen 5", 512, 64, 8),
    ],
)
def test_throughput(name, bits, flop, accumulators):
    row = pipes_of(name, "x86_64")
    assert row.name == name
    assert row.flop_per_cycle(bits) == flop
    assert row.flop_per_cycle(bits, element_bits=64) == flop / 2
    assert row.accumulators_needed(bits) == accumulators


def test_widths_that_do_not_exist():
    with pytest.raises(KeyError, match="vector width 1024: expected 64, 128, 256 or 512"):
        PerWidth(1, 2, 4)[1024]


def test_no_model_number_is_claimed_twice():
    for table in (INTEL, AMD):
        claims = [(d.family, m, s) for d in table for m in d.models for s in d.steppings]
        assert len(set(claims)) == len(claims)
