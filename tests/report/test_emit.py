"""`neurojit emit`: the kernel on paper."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from operands import runnable_isas

import neurojit as nj
from neurojit.__main__ import main
from neurojit.errors import UnknownIsaError
from neurojit.report.emit import emit, render

GEMM = ["emit", "gemm", "--m", "8", "--n", "12", "--k", "64"]


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("target", ["x86_64-avx2", "x86_64-avx512"])
def test_counts_and_listing_agree(dtype: str, target: str) -> None:
    emission = emit("gemm", 5, 7, 3, dtype, target)
    instructions = [
        line for line in emission.listing.splitlines() if line[:1] != "L" and " bytes of " not in line
    ]
    assert sum(emission.counts.values()) == len(instructions)
    assert emission.counts["ret"] == emission.counts["endbr64"] == 1
    assert list(emission.counts.values()) == sorted(emission.counts.values(), reverse=True)


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*GEMM, "--target", "avx2"]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("gemm f32 8x12x64 for x86_64-avx2, tuned for ")
    tiles = [line for line in rest if line.startswith("tiles of C ")]
    assert rest[: len(tiles)] == tiles
    assert re.search(r"\b4 folded\) columns, rows \d", tiles[-1])
    rest = rest[len(tiles) - 1 :]
    assert rest[2].startswith("instructions  ")
    assert rest[4].startswith("0000  f3 0f 1e fa ")


def test_json_is_the_same_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*GEMM, "--target", "avx512", "--dtype", "f64", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    emission = emit("gemm", 8, 12, 64, "f64", "avx512")
    assert document["listing"] == emission.listing.splitlines()
    assert (document["bytes"], document["counts"]) == (emission.size, emission.counts)
    assert document["schedule"]["unroll"] == emission.schedule.unroll
    assert f"{emission.size} bytes" in render(emission)


def test_an_isa_without_a_vector_machine() -> None:
    with pytest.raises(UnknownIsaError, match="'none' has no vector machine: expected one of x86_64-avx2"):
        emit("gemm", 1, 1, 1, "f32", "none")


def test_a_kernel_for_another_architecture(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*GEMM, "--target", "aarch64-neon"]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("gemm f32 8x12x64 for aarch64-neon, tuned for ")
    assert rest[4] == "0000  d503245f    bti c"
    assert sum("    fmla v" in line for line in rest) % 24 == 0


def test_an_unknown_isa(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*GEMM, "--target", "sse9"]) == 1
    assert capsys.readouterr().err.startswith("neurojit: ISA 'sse9': expected one of ")


@pytest.mark.parametrize("extent", ["0", "-1", "1048577", "x"])
def test_bad_extents_exit_with_2(extent: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["emit", "gemm", "--m", "1", "--n", "1", f"--k={extent}"])
    assert exit_.value.code == 2
    assert "--k" in capsys.readouterr().err


def test_the_public_function_lists_for_any_target() -> None:
    emission = nj.emit("gemm", 8, 12, 64, target="aarch64-neon")
    assert "fmla" in emission.listing
    assert "vfmacc" in nj.emit("gemm", 8, 12, 64, "f64", "riscv64-rvv").listing


def test_the_public_function_names_what_it_cannot_emit() -> None:
    with pytest.raises(ValueError, match="kernel 'gem': expected one of gemm"):
        nj.emit("gem", 1, 1, 1)
    with pytest.raises(ValueError, match="emit: n = 0: expected 1 to 1048576"):
        nj.emit("gemm", 1, 0, 1)


def test_neurojit_dump_prints_what_is_compiled() -> None:
    script = "import neurojit as nj, numpy as np; x = np.ones((8, 8), np.float32); nj.matmul(x, x)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "NEUROJIT_DUMP": "asm", "NEUROJIT_ISA": "avx2"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not runnable_isas() or "vfmadd231ps" in done.stderr or "fmla" in done.stderr
