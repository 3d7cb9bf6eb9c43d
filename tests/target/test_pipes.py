"""Cost facts: consistent with each other, and with the arithmetic that planners do on them."""

from __future__ import annotations

import re
import shutil
import subprocess

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


MODELLED = {row.name: row.name.lower().replace(" ", "-") for row in PIPES if "L" in row.source.split()}
"""Rows that name LLVM as a source, and its name for the core."""


def cycles(instructions: list[str], cpu: str) -> float:
    """Of the instructions, over and over, by LLVM's model of the core."""
    command = ["llvm-mca-19", "-mtriple=aarch64", f"-mcpu={cpu}", "-iterations=100"]
    done = subprocess.run(command, input="\n".join(instructions), capture_output=True, text=True, check=True)
    total = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
    assert total is not None
    return int(total[1]) / 100


@pytest.mark.skipif(shutil.which("llvm-mca-19") is None, reason="not installed: llvm-mca-19")
@pytest.mark.parametrize("name", MODELLED)
def test_no_row_promises_more_than_llvms_model(name):
    row, cpu, some = pipes_of(name, "aarch64"), MODELLED[name], range(32)
    fmas = cycles([f"fmla v{n}.4s, v{n}.4s, v{n}.s[0]" for n in some], cpu)
    chain = cycles(["fmla v0.4s, v0.4s, v2.s[0]"] * 8, cpu)
    loads = cycles([f"ldr q{n}, [x{n % 8}, #{16 * n}]" for n in some], cpu)
    stores = cycles([f"str q{n}, [x0, #{16 * n}]" for n in some], cpu)
    assert row.fma_per_cycle(128) <= 1.05 * len(some) / fmas
    assert row.fma_latency >= chain / 8 - 0.05
    assert row.loads_per_cycle[128] <= 1.05 * len(some) / loads
    assert row.stores_per_cycle[128] <= 1.05 * len(some) / stores


def test_what_has_no_source_says_so():
    assert {row.name for row in PIPES if row.source == "assumed"} == {
        *("Cortex-A72", "Cortex-X3", "Cortex-X4", "Cortex-A710", "Neoverse N3", "Neoverse V3"),
        *("Apple M3", "Apple M4"),
    }
