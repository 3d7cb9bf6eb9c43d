"""RISC-V V kernels under emulation, through the gate before publication, at three vector lengths.

The operands lie between pages that cannot be touched, so a kernel that reads or writes too much dies.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from emulator import CHECKED_KERNEL, MICRO_KERNEL, EmulatedError, Emulator

from neurojit.codegen import emit_gemm, emit_gemv, emit_map
from neurojit.encoder import riscv64_forms
from neurojit.plan.blocking import micro_tile, one_tile
from neurojit.plan.epilogue import FUNCTIONS, Activation, Epilogue
from neurojit.plan.gemm import ELEMENT_SIZE, Gemm, Matrix, Output
from neurojit.plan.gemv import Gemv, schedule_gemv
from neurojit.plan.map import Map
from neurojit.plan.panels import NATIVE, STORAGES, Panels, panel_width
from neurojit.plan.tiling import schedule_gemm
from neurojit.target import Target, target_for
from neurojit.validation import validate_gemm, validate_gemv, validate_map

VECTOR_BITS = (128, 256, 512)
DTYPES = ("f32", "f64")

pytestmark = [pytest.mark.parametrize("bits", VECTOR_BITS), pytest.mark.parametrize("dtype", DTYPES)]


def target(bits: int) -> Target:
    generic = target_for("rvv")
    return replace(generic, isa=generic.isa.with_vectors_of(bits))


def check_gemm(emulator: Emulator, g: Gemm, bits: int) -> None:
    code = emit_gemm(g, schedule_gemm(g, target(bits)), target(bits).isa)

    def run(a, b, c, *others):
        operands = [b, a, c, *others] if g.swapped else [a, b, c, *others]
        return emulator.run(code, operands, call=CHECKED_KERNEL)

    validate_gemm(g, g.k, g.c.row_stride, run, f"{g}")


@pytest.mark.parametrize("n", [*range(1, 18), 23, 31, 32, 33, 64, 100])
def test_every_tail_of_columns(riscv64, bits, dtype, n):
    check_gemm(riscv64(bits), Gemm.contiguous(dtype, 5, n, 7), bits)


@pytest.mark.parametrize("m", [*range(1, 10), 16, 25])
def test_every_height(riscv64, bits, dtype, m):
    check_gemm(riscv64(bits), Gemm.contiguous(dtype, m, 37, 21), bits)


@pytest.mark.parametrize("k", [1, 2, 3, 16, 17, 19, 64])
def test_every_rest_of_depth(riscv64, bits, dtype, k):
    check_gemm(riscv64(bits), Gemm.contiguous(dtype, 8, 20, k), bits)


@pytest.mark.parametrize("stride", [40, 513, 3000])
def test_rows_beyond_the_reach_of_displacements(riscv64, bits, dtype, stride):
    g = Gemm(dtype, 9, 19, 22, Matrix(stride), Matrix(stride), Output(stride))
    check_gemm(riscv64(bits), g, bits)


def test_strides_of_a_transposed_a_and_swapped_operands(riscv64, bits, dtype):
    check_gemm(riscv64(bits), Gemm(dtype, 6, 12, 18, Matrix(1, 6), Matrix(12), Output(12)), bits)
    check_gemm(riscv64(bits), Gemm(dtype, 1, 13, 9, Matrix(9), Matrix(13), Output(13), swapped=True), bits)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_epilogues(riscv64, bits, dtype, name):
    activation = Activation(name, (0.25, 1.5)[: FUNCTIONS[name]])
    for epilogue in (
        Epilogue(alpha=0.5, bias="row", activation=activation),
        Epilogue(beta=-1.5, bias="column", residual=30, activation=activation),
    ):
        check_gemm(riscv64(bits), Gemm.contiguous(dtype, 7, 21, 5, epilogue), bits)


@pytest.mark.parametrize(
    "storage", sorted({*STORAGES} - {storage for of in NATIVE.values() for storage, *_ in of})
)
@pytest.mark.parametrize("n", [1, 5, 16, 37, 70])
def test_packed_weights(riscv64, bits, dtype, storage, n):
    if STORAGES[storage].element != dtype:
        pytest.skip(f"{storage} is widened to another type")
    for m, k in ((1, 19), (2, 4), (5, 3), (13, 33)):
        panels = Panels.of(storage, k, panel_width(dtype, target(bits).isa))
        row = panels.row_bytes // ELEMENT_SIZE[dtype] if panels.is_rounded else k
        check_gemm(riscv64(bits), Gemm(dtype, m, n, panels.depth, Matrix(row), panels, Output(n)), bits)


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("less", [0, 1, 5, 7])
def test_micro_kernels(riscv64, bits, dtype, less, accumulate):
    height, widest = micro_tile(dtype, target(bits))
    width = widest - less
    g = Gemm.micro_kernel(dtype, height, width, (height, width), accumulate)
    code = emit_gemm(g, one_tile(g, target(bits)), target(bits).isa)
    for depth in (1, 7, 24):
        stride = g.n + 3

        def run(a, b, c, depth=depth, stride=stride):
            row_stride = stride * ELEMENT_SIZE[dtype]
            return riscv64(bits).run(code, [a, b, c], depth, MICRO_KERNEL, row_stride)

        validate_gemm(g, depth, stride, run, f"{g}")


@pytest.mark.parametrize("k", [8, 15, 16, 17, 40, 100])
@pytest.mark.parametrize("m", [1, 2, 7, 13])
def test_gemv(riscv64, bits, dtype, m, k):
    g = Gemv(dtype, m, k, k + 3)
    code = emit_gemv(g, schedule_gemv(g, target(bits)), target(bits).isa)
    validate_gemv(g, lambda a, x, y: riscv64(bits).run(code, [a, x, y]), f"{g}")


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_functions_at_every_tail(riscv64, bits, dtype, name):
    activation = Activation(name, (0.25, 1.5)[: FUNCTIONS[name]])
    code = emit_map(Map.of_functions(dtype, (activation,)), target(bits).isa)
    validate_map(dtype, activation, lambda x, y: riscv64(bits).run(code, [x, y], x.size), name)


@pytest.mark.parametrize(
    ("form", "operands", "violation"),
    [
        ("addi x, x, i", (9, 9, 1), "s1"),
        ("addi x, x, i", (2, 2, -64), "sp"),
        ("flw f, i(x)", (8, 0, 2), "fs0"),
        ("addi x, x, i", (3, 3, 8), "gp or tp"),
        ("sd x, i(x)", (0, 16, 2), "caller's frame"),
    ],
)
def test_row_33_the_check_finds_what_a_kernel_breaks(riscv64, bits, dtype, form, operands, violation):
    """One vector length and type would do; the check is the same for all."""
    buffer = riscv64_forms.buffer()
    buffer.emit(riscv64_forms[form], *operands)
    buffer.emit(riscv64_forms["addi x, x, i"], 10, 0, 0)
    buffer.emit(riscv64_forms["ret"])
    with pytest.raises(EmulatedError, match=violation):
        riscv64(bits).run(buffer.finish(), [], call=CHECKED_KERNEL)
