"""`neurojit emit`: the kernel on paper."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from operands import runnable_isas

import neurojit as nj
from neurojit import nn
from neurojit.__main__ import main
from neurojit.errors import UnknownIsaError
from neurojit.ir.layer import module_of
from neurojit.ir.printer import print_module
from neurojit.report.emit import emit, render
from neurojit.target import host_choice

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


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("gem", 1, 1, 1), {}, "kernel 'gem': expected one of gemm"),
        (("gemm", 1, 0, 1), {}, "emit gemm: n = 0: expected 1 to 1048576"),
        (("gemm", 1, 1), {}, "emit gemm: k = None: expected 1 to 1048576"),
        (("gemv", 1, 2, 3), {}, "emit gemv: n = 2: expected none"),
        (("map",), {}, "emit map: function None: expected the name of one"),
        (("map",), {"function": "gelo"}, "emit map: function 'gelo': expected one of clamp, "),
        (("reduce", 2, 3), {"function": "gelu"}, "emit reduce: function 'gelu': expected one of softmax, "),
        (("transpose", 2, 3), {"function": "gelu"}, "emit transpose: function 'gelu': expected none"),
    ],
)
def test_the_public_function_names_what_it_cannot_emit(arguments, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        nj.emit(*arguments, **options)


TARGETS = ["x86_64-avx2", "x86_64-avx512", "aarch64-neon", "riscv64-rvv"]
OTHERS = {
    "gemv": ((9, None, 70), {}),
    "map": ((), {"function": "leaky_relu"}),
    "reduce": ((5, 70), {"function": "softmax"}),
    "transpose": ((9, 17), {}),
    "cumsum": ((5, 40), {}),
}
ENDS = {"x86_64": "c3", "aarch64": "d65f03c0", "riscv64": "00008067"}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kernel", sorted(OTHERS))
def test_other_kernels_for_any_target(kernel: str, target: str) -> None:
    extents, options = OTHERS[kernel]
    for dtype in ("f32", "f64"):
        emission = nj.emit(kernel, *extents, dtype=dtype, target=target, **options)
        assert emission.what.startswith(f"{kernel} ")
        assert emission.size == len(emission.code) > 100
        assert ENDS[emission.target.isa.architecture] in emission.listing
        assert render(emission).startswith(f"{emission.what} for {target}, tuned for ")
    softmax = nj.emit("reduce", 5, 70, function="sum", target=target)
    assert softmax.code != nj.emit("reduce", 5, 70, function="softmax", target=target).code


@pytest.mark.parametrize("target", TARGETS)
def test_a_network_for_any_target(target: str) -> None:
    layers = [nn.Linear(16, 32), "tanh", nn.Linear(32, 8)]
    emission = nj.emit(layers, target=target)
    assert emission.kernel == "program"
    assert any("gemm" in line and "tanh" in line for line in emission.how)
    assert emission.listing.count(": gemm of ") == len([line for line in emission.how if "gemm" in line])
    program = nj.compile(layers)
    assert nj.emit(program, target=target).code == emission.code
    assert program.listing(target=target) == emission.listing
    if target == host_choice().isa.name:
        assert program.listing() == emission.listing


def test_what_is_no_network() -> None:
    with pytest.raises(TypeError, match="emit: int: expected a TensorLang text, a Module, a layer"):
        nj.emit(3)
    with pytest.raises(UnknownIsaError, match="'none' has no vector machine"):
        nj.compile([nn.Linear(4, 4)]).listing(target="none")


def test_the_command_prints_other_kernels_and_networks(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["emit", "reduce", "--function", "softmax", "--m", "4", "--n", "40", "--target", "neon"]) == 0
    assert capsys.readouterr().out.startswith("reduce softmax f32 4x40 for aarch64-neon")
    module, _ = module_of([nn.Linear(16, 8), "tanh"])
    file = tmp_path / "policy.tl"
    file.write_text(print_module(module))
    assert main(["emit", "program", str(file), "--target", "rvv", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["kernel"] == "program"
    assert any("vfmacc" in line for line in document["listing"])
    for wrong, message in (
        (["program"], "emit program: expected a file of TensorLang text; name one"),
        (["program", str(tmp_path / "none")], "No such file"),
        (["gemv", str(file), "--m", "1", "--k", "1"], "emit gemv: got a file"),
        (["gemv", "--m", "1"], "emit gemv: k = None: expected 1 to 1048576"),
    ):
        assert main(["emit", *wrong]) == 1
        assert message in capsys.readouterr().err


def test_neurojit_dump_prints_what_is_compiled() -> None:
    """Products of every kind, and programs."""
    script = """
import neurojit as nj, numpy as np
from neurojit import nn
x = np.ones((8, 8), np.float32)
nj.matmul(x, x)
nj.matmul(x, x[0])
nj.matmul(np.ones((70, 600), np.float32), np.ones((600, 80), np.float32).T.copy().T)
nj.compile([nn.Linear(8, 8), "relu"])(x)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "NEUROJIT_DUMP": "asm", "NEUROJIT_ISA": "avx2"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    if runnable_isas():
        printed = done.stderr
        assert any(fma in printed for fma in ("vfmadd231ps", "fmla", "vfmacc"))
        assert "; Gemm(dtype='f32', m=8, n=8, k=8" in printed
        assert "; Gemv(dtype='f32', m=8, k=8" in printed
        assert "; Gemm(dtype='f32', m=" in printed.split("; Gemv", 1)[1]  # micro-kernels
        assert ": gemm of " in printed
