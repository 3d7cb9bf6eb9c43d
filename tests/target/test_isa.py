"""The ISA table, the cap, and targets made by name."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from neurojit.config import ISA_CHOICES
from neurojit.errors import UnknownIsaError
from neurojit.target import ISAS, choose_isa, decode, gather, host_target, isa_named, target_for
from neurojit.target.features import FEATURES


def test_every_choice_of_the_configuration_is_a_row():
    assert tuple(isa.option for isa in ISAS) == ISA_CHOICES


def test_needs_are_rows_of_the_feature_table():
    known = {(feature.architecture, feature.name) for feature in FEATURES}
    assert len(known) == len(FEATURES)
    for isa in ISAS:
        assert all((isa.architecture, name) in known for name in isa.needs)


@pytest.mark.parametrize(
    ("machine", "cap", "chosen", "reason"),
    [
        ("zen4", None, "x86_64-avx512", "best that the CPU and the OS allow"),
        ("zen4", "avx512", "x86_64-avx512", "NEUROJIT_ISA=avx512"),
        ("zen4", "avx2", "x86_64-avx2", "NEUROJIT_ISA=avx2"),
        ("zen4", "none", "none", "NEUROJIT_ISA=none"),
        ("haswell", None, "x86_64-avx2", "x86_64-avx512: avx512f"),
        ("haswell", "avx512", "x86_64-avx2", "NEUROJIT_ISA=avx512 cannot run here; x86_64-avx512: avx512f"),
        ("haswell", "avx2", "x86_64-avx2", "NEUROJIT_ISA=avx2"),
        ("haswell", "neon", "none", "this CPU's architecture is x86_64"),
        ("haswell", "rvv", "none", "this CPU's architecture is x86_64"),
        ("neoverse_n1", "neon", "aarch64-neon", "NEUROJIT_ISA=neon"),
        ("neoverse_n1", "avx512", "aarch64-neon", "this CPU's architecture is aarch64"),
        ("spacemit_x60", "none", "none", "NEUROJIT_ISA=none"),
    ],
)
def test_cap(machine, cap, chosen, reason, recorded):
    choice = choose_isa(decode(recorded(machine)), cap)
    assert choice.isa.name == chosen
    assert choice.cap == cap
    assert reason in choice.reason


def test_unknown_names():
    with pytest.raises(UnknownIsaError, match="'sse2': expected one of x86_64-avx512, x86_64-avx2"):
        isa_named("sse2")


@pytest.mark.parametrize("cap", ["none", "avx2", "avx512", "neon"])
def test_cap_from_the_environment(cap):
    script = (
        "from neurojit.target import host_choice; c = host_choice(); print(c.isa.name, c.reason, sep='|')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "NEUROJIT_ISA": cap},
        capture_output=True,
        text=True,
        check=True,
    )
    expected = choose_isa(decode(gather()), cap)
    assert done.stdout.strip() == f"{expected.isa.name}|{expected.reason}"


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
def test_targets_can_be_made_for_every_isa(isa):
    target = target_for(isa.name)
    assert target == target_for(isa.option)
    assert target.isa is isa
    assert target.pipes.source == "assumed"
    assert set(isa.needs) <= target.features
    assert hash(target) == hash(target_for(isa.name))
    assert all(target.pipes.fma_slots[bits] >= 1 for bits in isa.vector_bits)


def test_target_of_a_cpu(recorded):
    zen4 = decode(recorded("zen4"))
    target = target_for("avx2", zen4)
    assert (target.isa.name, target.pipes.name, target.caches) == ("x86_64-avx2", "Zen 4", zen4.caches)
    assert target_for("neon", zen4) == target_for("neon")
    x60 = decode(recorded("spacemit_x60"))
    assert target_for("rvv", x60).isa.widest == 256
    assert target_for("rvv", replace(x60, vector_bytes=2048)).isa.widest == 512  # of longer ones a part
    assert target_for("avx512", zen4).isa.widest == 512


@pytest.mark.parametrize(("isa", "bits"), [("rvv", 64), ("rvv", 384), ("avx512", 512)])
def test_vectors_no_machine_has_are_refused(isa, bits):
    with pytest.raises(ValueError, match=f"vectors of {bits} bits: expected a power of two, at least 128"):
        isa_named(isa).with_vectors_of(bits)


def test_host_target_can_run_here():
    target = host_target()
    assert set(target.isa.needs) <= decode(gather()).allowed


def test_importing_is_light():
    """No argparse, no subprocess, no JSON, and not even the extension module, until a host is asked for."""
    script = "import sys, neurojit.target; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True, check=True)
    heavy = {"argparse", "subprocess", "json", "numpy", "neurojit.target._cpu"}
    assert not heavy & set(done.stdout.split())
