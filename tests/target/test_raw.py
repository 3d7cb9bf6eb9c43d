"""Raw facts: they survive JSON, malformed files are named, and nothing makes `decode` raise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurojit.errors import RecordingError
from neurojit.target import RawFacts, Registers, choose_isa, decode, gather, host, target_for
from neurojit.target.raw import _midr
from neurojit.target.sysfs import cpuinfo_midr, expand

CPUINFO = Path("/proc/cpuinfo")


def test_this_machine_survives_json():
    raw = gather()
    assert RawFacts.from_json(json.loads(json.dumps(raw.to_json()))) == raw


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda document: [], "expected a JSON object, got list"),
        (lambda document: {**document, "format": 7}, "expected format 1, got 7"),
        (lambda document: {k: v for k, v in document.items() if k != "midr"}, "field 'midr' is missing"),
        (lambda document: {**document, "xcr0": "xyz"}, "field 'xcr0' is malformed"),
        (lambda document: {**document, "cpuid": [["00"]]}, "field 'cpuid' is malformed"),
        (lambda document: {**document, "caches": [3]}, "field 'caches' is malformed"),
        (lambda document: {**document, "sysctl": {"hw.cpufamily": "x"}}, "field 'sysctl' is malformed"),
        (lambda document: {**document, "hwprobe": None}, "field 'hwprobe' is malformed"),
    ],
)
def test_malformed_recordings(spoil, message):
    with pytest.raises(RecordingError, match=message):
        RawFacts.from_json(spoil(RawFacts().to_json()))


SYSCTL_NAMES = [
    *("hw.cpufamily", "hw.logicalcpu", "hw.physicalcpu", "hw.cachelinesize", "hw.perflevel0.cpusperl2"),
    *("hw.perflevel0.l1dcachesize", "hw.perflevel0.l2cachesize", "hw.optional.arm.FEAT_FP16"),
]
words = st.one_of(st.none(), st.integers(0, 2**64 - 1))
registers = st.builds(Registers, *[st.integers(0, 2**32 - 1)] * 4)
leaves = st.sampled_from([0, 1, 4, 7, 0xD, 0x1A, 0x24, *range(0x80000000, 0x80000009), 0x8000001D])
field_names = st.sampled_from(["level", "type", "size", "ways_of_associativity", "shared_cpu_list"])
raw_facts = st.builds(
    RawFacts,
    architecture=st.one_of(st.sampled_from(["x86_64", "aarch64", "riscv64", "unknown"]), st.text()),
    system=st.text(),
    cpuid=st.dictionaries(st.tuples(leaves, st.integers(0, 8)), registers),
    xcr0=words,
    hwcap=words,
    hwcap2=words,
    sve_vl=words,
    hwprobe=st.dictionaries(st.integers(0, 12), st.integers(0, 2**64 - 1)),
    vector_control=words,
    vlenb=words,
    midr=st.lists(st.integers(0, 2**64 - 1)).map(tuple),
    sysctl=st.dictionaries(st.sampled_from(SYSCTL_NAMES), st.integers(-1, 2**64 - 1)),
    brand=st.text(),
    caches=st.lists(
        st.dictionaries(field_names, st.one_of(st.text(), st.sampled_from(["3", "32K", "0-9"])))
    ).map(tuple),
    siblings=st.lists(st.text()).map(tuple),
    usable=st.one_of(st.none(), st.integers(0, 10**6)),
)


@given(raw_facts, st.sampled_from([None, "avx512", "avx2", "neon", "rvv", "none"]))
def test_any_raw_facts_decode(raw, cap):
    cpu = decode(raw)
    choice = choose_isa(cpu, cap)
    assert choice.reason
    assert set(choice.isa.needs) <= cpu.allowed
    assert cpu.caches.l1d.size > 0
    assert cpu.caches.l2.size > 0
    assert min(cpu.cores, cpu.threads, cpu.usable) > 0
    assert hash(target_for(choice.isa.name, cpu)) is not None


@given(raw_facts)
def test_any_raw_facts_survive_json(raw):
    assert RawFacts.from_json(json.loads(json.dumps(raw.to_json()))) == raw


@given(st.text(alphabet="0123456789-, x"))
def test_any_cpu_list_expands(text):
    assert all(cpu >= 0 for cpu in expand(text))


def test_cpu_lists():
    assert expand("0-3,8,10-11\n") == (0, 1, 2, 3, 8, 10, 11)
    assert expand("") == ()
    assert len(expand("0-999999999")) == 1 << 16


ARM_CPUINFO = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

processor\t: 1
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1

Hardware\t: BCM2835
CPU revision\t: what
"""


def test_midr_comes_from_cpuinfo_or_the_core_itself_without_sysfs():
    assert cpuinfo_midr(ARM_CPUINFO) == (0x410FD083, 0x414FD0B1)
    assert cpuinfo_midr("") == cpuinfo_midr("processor\t: 0\nvendor_id\t: AuthenticAMD\n") == ()
    assert _midr((1, 2), 3, lambda: (4,)) == (1, 2)
    assert _midr((), 3, lambda: (4, 5)) == (4, 5)
    assert _midr((), 3, tuple) == (3,)
    assert _midr((), None, tuple) == ()


@pytest.mark.skipif(not CPUINFO.exists(), reason="no /proc/cpuinfo")
def test_proc_cpuinfo_agrees():
    """Linux decodes the same bits on its own: its flags are what both the CPU and the OS have."""
    cpu = host()
    text = CPUINFO.read_text()
    if cpu.architecture != "x86_64" or "flags" not in text:
        pytest.skip("flags of /proc/cpuinfo are compared on x86-64 only")
    fields = dict(line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    flags = set(fields["flags"].split())
    for state in cpu.features:
        if state.feature.name not in ("avx10", "apx", "ibt"):  # younger than many kernels; not user state
            assert state.allowed == (state.name in flags), state.name
    assert cpu.vendor == fields["vendor_id"]
    assert cpu.brand == " ".join(fields["model name"].split())
    assert cpu.signature is not None
    assert cpu.signature.family == int(fields["cpu family"])
    assert cpu.signature.model == int(fields["model"])
    assert cpu.signature.stepping == int(fields["stepping"])
