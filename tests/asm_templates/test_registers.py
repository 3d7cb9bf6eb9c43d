"""What is planned fits the registers: of each ISA and vector length, those that are not here as well."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest
from operands import TARGETS
from test_epilogue import epilogue

from neurojit.codegen import emit_gemm
from neurojit.plan.gemm import Gemm, Matrix, Output
from neurojit.plan.panels import NATIVE, STORAGES, Panels, panel_width
from neurojit.plan.tiling import schedule_gemm
from neurojit.target import Isa, Target, target_for

RVV = target_for("riscv64-rvv")
LENGTHS = (128, 256, 512)  # of RISC-V V
MACHINES = {
    **{name: target for name, target in TARGETS.items() if not target.isa.scalable},
    **{f"rvv-{bits}": replace(RVV, isa=RVV.isa.with_vectors_of(bits)) for bits in LENGTHS},
}
ROWS = range(1, 19)
COLUMNS = (1, 3, 4, 7, 8, 12, 15, 16, 17, 20, 23, 31, 33, 36, 40, 48, 52, 64, 65, 100)

pytestmark = [
    pytest.mark.not_emulated("code for any ISA is the same from any host"),
    pytest.mark.parametrize("target", MACHINES.values(), ids=MACHINES),
]


def test_epilogues(target: Target) -> None:
    """Of any height and width: a bias and other terms stand beside the sums, and what functions need."""
    functions = ("identity", "relu", "leaky_relu", "tanh")
    every = list(
        itertools.product((1.0, -0.7), (0.0, 1.0, 0.3), ("none", "row", "column"), (False, True), functions)
    )
    chosen = random.Random(1)
    for m, n in itertools.product(ROWS, COLUMNS):
        for alpha, beta, bias, residual, name in chosen.sample(every, 3):
            e = epilogue(name, n * residual, alpha=alpha, beta=beta, bias=bias)
            g = Gemm.contiguous(chosen.choice(("f32", "f64")), m, n, 5, e)
            assert emit_gemm(g, schedule_gemm(g, target), target.isa), g


def is_planned(storage: str, isa: Isa) -> bool:
    """Whether weights are laid out so for some CPU with the ISA."""
    native = [(name, of) for rows in NATIVE.values() for name, of, _ in rows]
    return (storage, isa.name) in native or storage not in dict(native)


def test_packed_weights(target: Target) -> None:
    for storage, m, n in itertools.product(STORAGES, ROWS, COLUMNS):
        if not is_planned(storage, target.isa):
            continue
        dtype = "f64" if storage == "f64" else "f32"
        panels = Panels.of(storage, 5, panel_width(dtype, target.isa))
        k, row = (panels.depth, panels.row_bytes // 4) if panels.is_dot else (5, 5)
        g = Gemm(dtype, m, n, k, Matrix(row), panels, Output(n))
        assert emit_gemm(g, schedule_gemm(g, target), target.isa), g
