"""Each recorded CPU is recognised, and gets the ISA that it can run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from neurojit.target import Registers, choose_isa, decode

RECORDED = Path(__file__).parent / "recorded"

# file: microarchitecture, ISA, cores, L1d KiB, L2 KiB, f32 FLOP a cycle with the widest FMA in use
KNOWN = {
    "haswell": ("Haswell", "x86_64-avx2", 4, 32, 256, 32),
    "skylake_x": ("Skylake-X", "x86_64-avx512", 10, 32, 1024, 64),
    "tiger_lake": ("Tiger Lake", "x86_64-avx512", 4, 48, 1280, 32),
    "sapphire_rapids": ("Sapphire Rapids", "x86_64-avx512", 20, 48, 2048, 64),
    "zen2": ("Zen 2", "x86_64-avx2", 64, 32, 512, 32),
    "zen4": ("Zen 4", "x86_64-avx512", 2, 32, 1024, 32),
    "zen5": ("Zen 5", "x86_64-avx512", 8, 48, 1024, 64),
    "neoverse_n1": ("Neoverse N1", "aarch64-neon", 64, 64, 1024, 16),
    "neoverse_v1": ("Neoverse V1", "aarch64-neon", 64, 64, 1024, 32),
    "neoverse_v2": ("Neoverse V2", "aarch64-neon", 8, 64, 2048, 32),
    "neoverse_n2": ("Neoverse N2", "aarch64-neon", 4, 64, 1024, 16),
    "cortex_a72": ("Cortex-A72", "aarch64-neon", 4, 32, 256, 8),
    "cortex_x1_a76_a55": ("Cortex-A55 + Cortex-A76 + Cortex-X1", "aarch64-neon", 8, 32, 128, 32),
    "apple_m1": ("Apple M1 (Firestorm)", "none", 8, 128, 12288, 32),
    "cortex_a76_a55": ("Cortex-A55 + Cortex-A76", "aarch64-neon", 8, 32, 128, 16),
    "spacemit_x60": ("SpacemiT X60", "riscv64-rvv", 8, 32, 512, 8),
}


def test_every_file_is_known_and_says_where_it_comes_from():
    assert {path.stem for path in RECORDED.glob("*.json")} == set(KNOWN)
    for path in RECORDED.glob("*.json"):
        origin = json.loads(path.read_text())["origin"]
        assert origin["kind"] in ("recorded", "composed")
        assert origin["note"]


@pytest.mark.parametrize("name", KNOWN)
def test_identity_and_choice(name, recorded):
    microarchitecture, isa, cores, l1d, l2, flop = KNOWN[name]
    cpu = decode(recorded(name))
    choice = choose_isa(cpu)
    assert cpu.microarchitecture == microarchitecture
    assert choice.isa.name == isa
    assert cpu.cores == cores
    assert (cpu.caches.l1d.size >> 10, cpu.caches.l2.size >> 10) == (l1d, l2)
    assert cpu.pipes.flop_per_cycle(choice.isa.widest or 128) == flop


def test_x86_signature_and_brand(recorded):
    cpu = decode(recorded("haswell"))
    assert cpu.vendor == "GenuineIntel"
    assert cpu.brand == "Intel(R) Core(TM) i7-4770 CPU @ 3.40GHz"
    assert tuple(cpu.signature) == (6, 0x3C, 3)
    assert tuple(decode(recorded("zen2")).signature) == (0x17, 0x31, 0)
    assert tuple(decode(recorded("zen5")).signature) == (0x1A, 0x02, 1)


def test_caches_come_from_cpuid_without_sysfs(recorded):
    """The real machine's sysfs and its CPUID leaf 0x8000001D tell the same sizes."""
    raw = recorded("zen4")
    sysfs, cpuid = decode(raw).caches, decode(replace(raw, caches=())).caches
    assert (sysfs.source, cpuid.source) == ("sysfs", "cpuid")
    for level in ("l1d", "l1i", "l2", "l3"):
        assert getattr(sysfs, level) == getattr(cpuid, level)
    assert decode(replace(raw, caches=(), cpuid={})).caches.source == "assumed"


@pytest.mark.parametrize("name", ["skylake_x", "zen4", "sapphire_rapids"])
def test_cpuid_says_avx512_and_xcr0_does_not(name, recorded):
    """An OS or hypervisor that does not save zmm registers: executing EVEX code would fault."""
    cpu = decode(replace(recorded(name), xcr0=0x7))
    avx512f = next(state for state in cpu.features if state.name == "avx512f")
    assert (avx512f.cpu, avx512f.os, avx512f.allowed) == (True, False, False)
    assert not cpu.has("avx512f")
    assert cpu.has("avx2")
    choice = choose_isa(cpu)
    assert choice.isa.name == "x86_64-avx2"
    assert "avx512f" in choice.reason
    assert "the OS does not allow it" in choice.reason
    assert choose_isa(cpu, "avx512").isa.name == "x86_64-avx2"


@pytest.mark.parametrize("xcr0", [0xC7, 0xA7, 0x67, 0x27, 0xE1])
def test_part_of_the_zmm_state_is_not_enough(xcr0, recorded):
    assert not decode(replace(recorded("zen4"), xcr0=xcr0)).has("avx512f")


@pytest.mark.parametrize("xcr0", [None, 0x1, 0x3])
def test_an_os_without_ymm_state_leaves_no_isa(xcr0, recorded):
    choice = choose_isa(decode(replace(recorded("haswell"), xcr0=xcr0)))
    assert choice.isa.name == "none"
    assert "the OS does not allow it" in choice.reason


def test_tiles_need_their_own_state(recorded):
    raw = recorded("sapphire_rapids")
    assert decode(raw).has("amx_tile")
    assert not decode(replace(raw, xcr0=0xE7)).has("amx_tile")


@pytest.mark.parametrize("bit", [16, 17, 30, 31])
def test_each_avx512_subset_is_needed(bit, recorded):
    """f, dq, bw, vl: without any one of them (Knights Landing has no bw, dq, vl) it is AVX2."""
    raw = recorded("skylake_x")
    leaf7 = raw.leaf(7)
    cpuid = {**raw.cpuid, (7, 0): leaf7._replace(ebx=leaf7.ebx & ~(1 << bit))}
    choice = choose_isa(decode(replace(raw, cpuid=cpuid)))
    assert choice.isa.name == "x86_64-avx2"
    assert "the CPU lacks it" in choice.reason


def test_arm_features(recorded):
    n1, v1 = decode(recorded("neoverse_n1")), decode(recorded("neoverse_v1"))
    assert {"asimd", "asimddp", "fphp", "asimdhp", "atomics"} <= n1.allowed
    assert not {"sve", "bf16", "i8mm"} & n1.allowed
    assert {"sve", "bf16", "i8mm", "svebf16"} <= v1.allowed
    assert not v1.has("sve2")
    assert (n1.vendor, n1.vector_bytes, v1.vector_bytes) == ("Arm", 0, 32)


def test_arm_features_of_younger_and_older_cores(recorded):
    v2, n2, a72 = (decode(recorded(name)) for name in ("neoverse_v2", "neoverse_n2", "cortex_a72"))
    assert {"sve2", "bf16", "i8mm", "bti", "asimdfhm"} <= v2.allowed & n2.allowed
    assert (v2.vector_bytes, n2.vector_bytes) == (16, 16)
    assert a72.allowed == {"fp", "asimd"}
    assert (a72.caches.source, a72.pipes.accumulators_needed(128)) == ("assumed", 7)


def test_apple_silicon_is_known_by_sysctl_and_not_trusted_untried(recorded, monkeypatch):
    raw = recorded("apple_m1")
    cpu = decode(raw)
    assert (cpu.vendor, cpu.brand, cpu.cores, cpu.threads) == ("Apple", "Apple M1", 8, 8)
    assert {"fp", "asimd", "atomics", "asimdhp", "asimddp"} <= cpu.allowed
    assert not {"bf16", "i8mm", "bti", "sve", "sme"} & cpu.allowed
    assert (cpu.caches.source, cpu.caches.l2.shared_by, cpu.caches.l1d.line) == ("sysctl", 4, 128)
    unknown = decode(replace(raw, sysctl={"hw.cpufamily": -1}))
    assert unknown.microarchitecture == "unknown (cpufamily 0xffffffff)"
    assert (unknown.caches.source, unknown.cores) == ("assumed", 1)
    assert {"fp", "asimd"} == unknown.allowed


def test_kernels_that_never_ran_on_a_system_must_be_asked_for(recorded):
    raw = recorded("zen4")  # any CPU with an ISA, under a system that has no tests of it
    elsewhere = decode(replace(raw, system="darwin"))
    choice = choose_isa(elsewhere)
    assert choice.isa.name == "none"
    assert "never ran on darwin; NEUROJIT_ISA=avx512 tries them" in choice.reason
    assert choose_isa(elsewhere, "avx2").isa.name == "x86_64-avx2"


def test_riscv_vector_may_be_switched_off_for_the_process(recorded):
    raw = recorded("spacemit_x60")
    assert {"v", "zvfh", "zfh"} <= decode(raw).allowed
    off = decode(replace(raw, vector_control=1, vlenb=None))
    assert off.why_not("v") == "the OS does not allow it"
    assert off.has("zfh")
    assert decode(replace(raw, vector_control=None)).has("v")
    assert not decode(replace(raw, hwprobe={})).has("v")


def test_unknown_model_has_numbers_and_generic_pipes(recorded):
    raw = recorded("haswell")
    cpu = decode(replace(raw, cpuid={**raw.cpuid, (1, 0): Registers(0x000F06F0)}))
    assert cpu.microarchitecture == "unknown (family 0x6 model 0xff)"
    assert cpu.pipes.source == "assumed"
