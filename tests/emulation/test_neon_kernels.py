"""NEON kernels under emulation, through the gate before publication: the bits of every other ISA.

The operands lie between pages that cannot be touched, so a kernel that reads or writes too much dies; and the
caller's registers, the low halves of v8 to v15 among them, are compared where csrc has a trampoline.
"""

from __future__ import annotations

import numpy as np
import pytest
from emulator import CHECKED_KERNEL, MICRO_KERNEL, Emulator, build_runner, why_not

from neurojit.codegen import emit_ceiling, emit_gemm, emit_gemv, emit_map
from neurojit.plan.blocking import micro_tile, one_tile
from neurojit.plan.epilogue import FUNCTIONS, Activation, Epilogue
from neurojit.plan.gemm import ELEMENT_SIZE, Gemm, Matrix, Output
from neurojit.plan.gemv import Gemv, schedule_gemv
from neurojit.plan.map import Map
from neurojit.plan.panels import NATIVE, STORAGES, Panels, panel_width
from neurojit.plan.tiling import schedule_gemm
from neurojit.runtime import Code
from neurojit.target import host_choice, target_for
from neurojit.validation import validate_gemm, validate_gemv, validate_map

NEON = target_for("aarch64-neon")
TYPES = {"f32": np.float32, "f64": np.float64}

pytestmark = pytest.mark.parametrize("dtype", sorted(TYPES))


@pytest.fixture(scope="module")
def cpu(tmp_path_factory: pytest.TempPathFactory) -> Emulator:
    """A CPU with no more than NEON."""
    return emulator(tmp_path_factory, "cortex-a57")


@pytest.fixture(scope="module")
def latest_cpu(tmp_path_factory: pytest.TempPathFactory) -> Emulator:
    """One that has sdot and bfdot too."""
    return emulator(tmp_path_factory, "max")


def emulator(tmp_path_factory: pytest.TempPathFactory, cpu: str) -> Emulator:
    missing = why_not("aarch64")
    if missing:
        pytest.skip(missing)
    return Emulator(build_runner("aarch64", tmp_path_factory.mktemp("aarch64")), "aarch64", cpu)


def check_gemm(cpu: Emulator, g: Gemm) -> None:
    code = emit_gemm(g, schedule_gemm(g, NEON), NEON.isa)

    def run(a, b, c, *others):
        return cpu.run(code, [b, a, c, *others] if g.swapped else [a, b, c, *others], call=CHECKED_KERNEL)

    validate_gemm(g, g.k, g.c.row_stride, run, f"{g}")


@pytest.mark.parametrize("n", [*range(1, 14), 16, 17, 23, 24, 33, 48, 100])
def test_every_tail_of_columns(cpu: Emulator, dtype: str, n: int) -> None:
    check_gemm(cpu, Gemm.contiguous(dtype, 5, n, 7))


@pytest.mark.parametrize("m", [*range(1, 17), 25, 31])
def test_every_height(cpu: Emulator, dtype: str, m: int) -> None:
    check_gemm(cpu, Gemm.contiguous(dtype, m, 13, 21))


@pytest.mark.parametrize("k", [*range(1, 10), 15, 16, 17, 18, 19, 20, 63, 64])
def test_every_rest_of_depth(cpu: Emulator, dtype: str, k: int) -> None:
    check_gemm(cpu, Gemm.contiguous(dtype, 7, 12, k))


@pytest.mark.parametrize("stride", [40, 41, 513, 1025, 5000])
def test_rows_beyond_the_reach_of_immediates(cpu: Emulator, dtype: str, stride: int) -> None:
    for k in (9, 22):
        check_gemm(cpu, Gemm(dtype, 9, 19, k, Matrix(stride), Matrix(stride), Output(stride)))


@pytest.mark.parametrize(
    "g",
    [
        Gemm("", 6, 12, 18, Matrix(1, 6), Matrix(12), Output(12)),
        Gemm("", 30, 4, 18, Matrix(1, 31), Matrix(5), Output(7)),
        Gemm("", 5, 7, 20, Matrix(-23, 1), Matrix(-9), Output(11)),
        Gemm("", 5, 7, 20, Matrix(0, 2), Matrix(0), Output(7)),
        Gemm("", 4, 7, 20, Matrix(3, -4), Matrix(7), Output(7)),
        Gemm("", 1, 13, 9, Matrix(9), Matrix(13), Output(13), swapped=True),
    ],
    ids=lambda g: f"{g.a} {g.b}",
)
def test_strides(cpu: Emulator, dtype: str, g: Gemm) -> None:
    check_gemm(cpu, Gemm(dtype, g.m, g.n, g.k, g.a, g.b, g.c, swapped=g.swapped))


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_epilogues(cpu: Emulator, dtype: str, name: str) -> None:
    activation = Activation(name, (0.25, 1.5)[: FUNCTIONS[name]])
    for epilogue in (
        Epilogue(alpha=0.5, bias="row", activation=activation),
        Epilogue(beta=-1.5, bias="column", residual=30, activation=activation),
    ):
        check_gemm(cpu, Gemm.contiguous(dtype, 7, 21, 5, epilogue))


NEEDS_MORE = {storage for rows in NATIVE.values() for storage, isa, _ in rows if isa == NEON.isa.name}
"""Storage types whose instructions not every CPU has."""


@pytest.mark.parametrize("storage", sorted(set(STORAGES) - {"int8 bytes"}))  # that one is x86-64's
@pytest.mark.parametrize("n", [1, 3, 4, 5, 12, 13, 31, 48, 67])
def test_packed_weights(cpu: Emulator, latest_cpu: Emulator, dtype: str, storage: str, n: int) -> None:
    if STORAGES[storage].element != dtype:
        pytest.skip(f"{storage} is widened to another type")
    cpu = latest_cpu if storage in NEEDS_MORE else cpu
    for m, k in ((1, 1), (1, 19), (2, 4), (5, 3), (7, 18), (13, 33)):
        panels = Panels.of(storage, k, panel_width(dtype, NEON.isa))
        row = panels.row_bytes // ELEMENT_SIZE[dtype] if panels.is_rounded else k
        check_gemm(cpu, Gemm(dtype, m, n, panels.depth, Matrix(row), panels, Output(n)))


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("height", [1, 2, 3, 4, 5, 7, 8])
def test_micro_kernels(cpu: Emulator, dtype: str, height: int, accumulate: bool) -> None:
    panel = micro_tile(dtype, NEON)
    for width in (1, 3, panel[1] - 1, panel[1]):
        g = Gemm.micro_kernel(dtype, height, width, panel, accumulate)
        code = emit_gemm(g, one_tile(g, NEON), NEON.isa)
        for depth in (1, 7):
            stride = g.n + 3

            def run(a, b, c, depth=depth, stride=stride, code=code):
                return cpu.run(code, [a, b, c], depth, MICRO_KERNEL, stride * ELEMENT_SIZE[dtype])

            validate_gemm(g, depth, stride, run, f"{g}")


@pytest.mark.parametrize("k", [8, 9, 15, 16, 17, 31, 40, 100])
@pytest.mark.parametrize("m", [1, 2, 3, 4, 5, 13])
def test_gemv(cpu: Emulator, dtype: str, m: int, k: int) -> None:
    g = Gemv(dtype, m, k, k + 3)
    code = emit_gemv(g, schedule_gemv(g, NEON), NEON.isa)
    validate_gemv(g, lambda a, x, y: cpu.run(code, [a, x, y], call=CHECKED_KERNEL), f"{g}")


def function(name: str, dtype: str) -> tuple[Activation, bytes]:
    activation = Activation(name, (0.25, 1.5)[: FUNCTIONS[name]])
    return activation, emit_map(Map.of_functions(dtype, (activation,)), NEON.isa)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_functions_are_within_their_bounds(cpu: Emulator, dtype: str, name: str) -> None:
    activation, code = function(name, dtype)
    run = lambda x, y: cpu.run(code, [x, y], x.size, CHECKED_KERNEL)  # noqa: E731
    validate_map(dtype, activation, run, name)


@pytest.mark.skipif(host_choice().isa.architecture != "x86_64", reason="no kernels of this host to compare")
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_functions_have_the_bits_of_this_host(cpu: Emulator, dtype: str, name: str) -> None:
    """Every exponent, both signs, denormals, zeros, infinities; NaN stays NaN."""
    kind = TYPES[dtype]
    info, rng = np.finfo(kind), np.random.default_rng(7)
    exponents = np.repeat(np.arange(info.minexp - info.nmant, info.maxexp), 8)
    with np.errstate(over="ignore"):
        numbers = np.ldexp(rng.uniform(1, 2, exponents.size), exponents).astype(kind)
    special = np.array([0, np.inf, np.nan, info.tiny, info.max, 1, 0.5, 88.7, 104, 710, 746], kind)
    x = np.concatenate([numbers, -numbers, special, -special, rng.normal(0, 4, 4001).astype(kind)])
    x = x.astype(kind)
    activation, code = function(name, dtype)
    here, there = np.full_like(x, 7), np.full_like(x, 7)
    native = Code.map(emit_map(Map.of_functions(dtype, (activation,)), host_choice().isa))
    assert native.call((x.ctypes.data, here.ctypes.data), x.size) == 0
    assert cpu.run(code, [x, there], x.size, CHECKED_KERNEL) == 0
    bits = np.dtype(f"u{x.itemsize}")
    same = (here.view(bits) == there.view(bits)) | (np.isnan(here) & np.isnan(there))
    assert same.all(), [(x[n], here[n], there[n]) for n in np.flatnonzero(~same)[:5]]


@pytest.mark.parametrize("count", [*range(1, 20), 63, 64, 65])
def test_every_tail_of_a_map(cpu: Emulator, dtype: str, count: int) -> None:
    x = np.linspace(-3, 3, count).astype(TYPES[dtype])
    y = np.full_like(x, np.nan)
    code = function("leaky_relu", dtype)[1]
    assert cpu.run(code, [x, y], count, CHECKED_KERNEL) == 0
    assert np.array_equal(y, np.where(x < 0, x * TYPES[dtype](0.25), x))


def test_the_ceiling_runs(cpu: Emulator, dtype: str) -> None:
    for chains in (1, 24, 31):
        assert cpu.run(emit_ceiling(dtype, 16 // ELEMENT_SIZE[dtype], chains, NEON.isa), [], 100) == 0
