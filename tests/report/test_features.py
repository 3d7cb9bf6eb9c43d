"""The features report, as text, as JSON and raw; and the command line around it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from neurojit.__main__ import main
from neurojit.report.features import collect
from neurojit.report.layout import render
from neurojit.target import RawFacts, choose_isa, decode, gather, host

KEYS = {
    "cpu",
    "features",
    "caches",
    "isa",
    "pipes",
    "encoder",
    "executable_memory",
    "ceiling_gflops",
}


def text_of(raw: RawFacts) -> str:
    cpu = decode(raw)
    return render(collect(cpu, choose_isa(cpu)))


def test_text_names_this_cpu(capsys):
    assert main(["features"]) == 0
    text = capsys.readouterr().out
    cpu = host()
    for part in (cpu.vendor, cpu.microarchitecture, "because", "executable memory", "L1D", "encoder"):
        assert part in text
    assert all(len(line) <= 110 for line in text.splitlines())
    assert all(line == line.rstrip() for line in text.splitlines())


def test_json_has_the_keys(capsys):
    assert main(["features", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == KEYS
    assert document["ceiling_gflops"] is None
    assert {"name", "cpu", "os", "used", "purpose"} == set(document["features"][0])


def test_raw_round_trips(capsys):
    assert main(["features", "--raw"]) == 0
    raw = RawFacts.from_json(json.loads(capsys.readouterr().out))
    assert decode(raw).features == host().features
    assert decode(raw).microarchitecture == host().microarchitecture


def test_state_that_the_os_does_not_save_shows():
    raw = gather()
    if not decode(raw).has("avx512f"):
        pytest.skip("needs a CPU with AVX-512 to take it away")
    lines = text_of(replace(raw, xcr0=0x7)).splitlines()
    row = next(line.split() for line in lines if line.startswith("avx512f "))
    assert row[:4] == ["avx512f", "yes", "no", "-"]
    assert any("the OS does not allow it" in line for line in lines)


def test_a_machine_of_which_nothing_is_known():
    text = text_of(RawFacts(system="darwin"))
    assert "no ISA of neurojit's is for the architecture 'unknown'" in text
    assert "assumed: this machine hides them" in text
    assert "no features are known" in text


def test_no_command_prints_help(capsys):
    assert main([]) == 0
    assert "features" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["featurs"], "invalid choice: 'featurs'"),
        (["features", "--bogus"], "unrecognized arguments: --bogus"),
        (["features", "--json", "--raw"], "not allowed with argument"),
    ],
)
def test_bad_arguments_exit_with_2(argv, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(argv)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def run_module(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "neurojit", *argv],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_as_a_module_under_a_cap():
    done = run_module("features", "--json", NEUROJIT_ISA="none")
    document = json.loads(done.stdout)
    assert (done.returncode, document["isa"]["name"], document["encoder"]) == (0, "none", None)
    assert document["isa"]["reason"] == "NEUROJIT_ISA=none"
    assert not any(feature["used"] for feature in document["features"])


def test_a_bad_setting_is_a_message_not_a_traceback():
    done = run_module("features", NEUROJIT_ISA="sse9")
    assert done.returncode == 1
    assert done.stderr.startswith("neurojit: NEUROJIT_ISA='sse9': expected one of avx512,")


def test_a_reader_that_leaves_early():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "neurojit", "features"], stdout=closed, stderr=subprocess.PIPE
        )
    assert (done.returncode, done.stderr) == (0, b"")
