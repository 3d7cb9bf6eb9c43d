"""Epilogues of gemm: every combination against NumPy through validation, guard bytes, the ABI, refusals."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from operands import planned
from test_math import ISAS, PARAMETERS

from neurojit import compiler
from neurojit.codegen import emit_gemm
from neurojit.compiler import compile_gemm, compile_gemv, compile_micro_kernel
from neurojit.errors import ValidationError
from neurojit.plan.blocking import micro_tile
from neurojit.plan.epilogue import FUNCTIONS, NO_EPILOGUE, Activation, Epilogue
from neurojit.plan.gemm import Gemm, Matrix, Output
from neurojit.plan.gemv import Gemv
from neurojit.runtime import Code
from neurojit.runtime._blocked import call_micro_kernel
from neurojit.target import target_for
from neurojit.validation import Array, validate_gemm

SHAPES = [(1, 1, 1), (2, 3, 5), (5, 17, 4), (13, 9, 19), (7, 70, 30), (37, 40, 9), (61, 33, 21)]


def epilogue(name: str, n: int = 0, **fields: object) -> Epilogue:
    e = Epilogue(activation=Activation(name, PARAMETERS.get(name, ())), **fields)  # type: ignore[arg-type]
    return replace(e, residual=n) if n else e


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_activations(shape: tuple[int, int, int], dtype: str, isa: str) -> None:
    for name in FUNCTIONS:
        compile_gemm(Gemm.contiguous(dtype, *shape, epilogue(name)), target_for(isa))
        every = epilogue(name, shape[1] + 3, alpha=0.3, beta=1.7, bias="row")
        compile_gemm(Gemm.contiguous(dtype, *shape, every), target_for(isa))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_are_exact(shape: tuple[int, int, int], isa: str) -> None:
    """validate_gemm compares bits where no function with a bound takes part."""
    biases, residuals, names = ("none", "row", "column"), (0, shape[1]), ("identity", "relu")
    terms = itertools.product((1.0, -0.7), (0.0, 1.0, 0.3), biases, residuals, names)
    for alpha, beta, bias, residual, name in terms:
        e = epilogue(name, residual, alpha=alpha, beta=beta, bias=bias)
        compile_gemm(Gemm.contiguous("f32", *shape, e), target_for(isa))


@pytest.mark.parametrize("isa", ISAS)
def test_strides(isa: str) -> None:
    e = epilogue("tanh", 23, bias="column", beta=0.5)
    compile_gemm(Gemm("f32", 11, 19, 7, Matrix(1, 11), Matrix(25), Output(29), epilogue=e), target_for(isa))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bias", ["row", "column"])
def test_abi(bias: str, isa: str) -> None:
    """Many loops and operands: callee-saved registers are used, and come back."""
    m, n, k = 96, 160, 40
    e = epilogue("gelu", n, bias=bias, beta=1.0)
    g = Gemm.contiguous("f32", m, n, k, e)
    target = target_for(isa)
    code = Code.map(emit_gemm(g, planned(g, target), target.isa))
    rng = np.random.default_rng(0)
    operands = [rng.normal(size=size).astype(np.float32) for size in (m * k, k * n, m * n, max(m, n), m * n)]
    for stack_offset in (0, 16, 32, 48):
        report = code.call_checked(tuple(o.ctypes.data for o in operands), stack_offset=stack_offset)
        assert report is not None
        assert report["violations"] == ()
        assert report["result"] == 0


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("k", "k_block"), [(19, 6), (24, 8), (9, 8), (17, 16)])
def test_several_passes_over_k(k: int, k_block: int, isa: str) -> None:
    """The last pass applies the epilogue; with a beta there is but one, for C must be read before."""
    target = target_for(isa)
    for beta in (0.0, 1.5):
        g = Gemm.contiguous("f32", 23, 45, k, epilogue("gelu", 50, bias="row", beta=beta, alpha=0.5))
        schedule = replace(planned(g, target), k_block=k_block)
        code = Code.map(emit_gemm(g, schedule, target.isa))
        validate_code(g, code)


def validate_code(g: Gemm, code: Code) -> None:
    def run(*operands: Array) -> int:
        return code.call(tuple(o.ctypes.data for o in operands))

    assert g.k is not None
    assert g.c.row_stride is not None
    validate_gemm(g, g.k, g.c.row_stride, run, "kernel")


def wrong_kernel(g: Gemm, made: Gemm, isa: str) -> None:
    """Validates the kernel of `made` as if it were that of `g`."""
    target = target_for(isa)
    validate_code(g, Code.map(emit_gemm(made, planned(made, target), target.isa)))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (Epilogue(bias="row"), Epilogue()),
        (Epilogue(bias="row"), Epilogue(bias="column")),
        (Epilogue(alpha=0.5), Epilogue(alpha=0.5000001)),
        (Epilogue(beta=1.0), Epilogue(beta=0.5)),
        (Epilogue(residual=7), Epilogue(residual=6)),
        (epilogue("gelu"), epilogue("gelu_tanh")),
        (epilogue("tanh"), epilogue("erf")),
        (epilogue("relu"), epilogue("identity")),
    ],
)
@pytest.mark.parametrize("isa", ISAS[:1])
def test_validation_catches_another_epilogue(right: Epilogue, wrong: Epilogue, isa: str) -> None:
    g = Gemm.contiguous("f32", 7, 7, 5, right)
    wrong_kernel(g, g, isa)
    with pytest.raises(ValidationError, match="not published"):
        wrong_kernel(g, replace(g, epilogue=wrong), isa)


def test_refusals() -> None:
    target = target_for("avx2")
    g = replace(Gemm.contiguous("f32", 4, 4, 4, epilogue("relu", beta=0.5)), accumulate=True)
    with pytest.raises(ValueError, match="expected `partial`"):
        emit_gemm(g, planned(g, target), target.isa)
    g = replace(g, partial=4)
    with pytest.raises(ValueError, match="only a micro-kernel"):
        emit_gemm(g, planned(g, target), target.isa)
    with pytest.raises(ValueError, match="at most 8 operands beside C, got 9"):
        call_micro_kernel(0, 0, 0, 0, 0, 0, (0,) * 9)


GEMV_EPILOGUES = [
    {},
    {"bias": "row"},
    {"bias": "column"},
    {"n": 1},
    {"beta": 1.0},
    {"alpha": 0.3, "beta": -1.7, "bias": "row", "n": 1},
    {"alpha": -1.0, "bias": "column", "n": 1},
]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("swapped", [False, True])
def test_gemv(swapped: bool, dtype: str, isa: str) -> None:
    """Every function and every sum, on every count of rows in a block and tail of k."""
    names = itertools.cycle(FUNCTIONS)
    for m, k in ((1, 8), (2, 33), (3, 100), (5, 9), (16, 64), (17, 31), (35, 300)):
        for fields in GEMV_EPILOGUES:
            for name in (next(names), next(names)):
                compile_gemv(Gemv(dtype, m, k, k + 1, swapped, epilogue(name, **fields)), target_for(isa))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_micro_kernels(dtype: str, isa: str) -> None:
    """From nothing, from sums in C, from sums beside C; every width of a tile's edge."""
    target = target_for(isa)
    height, nr = micro_tile(dtype, target)
    names = itertools.cycle(FUNCTIONS)
    for width in (nr, *range(1, nr, 5)):
        for partial, beta in ((None, 0.0), (width + 2, 1.0), (300, -0.7)):
            e = epilogue(next(names), 200, alpha=0.3, beta=beta, bias=("row", "column", "none")[width % 3])
            for accumulate in (partial is not None, partial is not None or not beta):
                g = Gemm.micro_kernel(dtype, height, width, (height, width), accumulate, e, partial)
                compile_micro_kernel(g, target)
    e = epilogue("tanh", beta=2.0, bias="row")  # several terms, and no sums before
    compile_micro_kernel(Gemm.micro_kernel(dtype, height, nr, (height, nr), False, e), target)


@pytest.mark.parametrize("isa", ISAS)
def test_a_wrong_epilogue_of_gemv_is_caught(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    emit = compiler.emit_gemv
    for right, wrong in (
        (epilogue("tanh", bias="row"), epilogue("erf", bias="row")),
        (epilogue("relu", bias="row"), epilogue("relu", bias="column")),
        (epilogue("relu", 1, beta=1.0), epilogue("relu", 1, beta=2.0)),
    ):
        g = Gemv("f32", 19, 40, 40, epilogue=right)
        with monkeypatch.context() as patch:
            patch.setattr(
                compiler, "emit_gemv", lambda g, *rest, e=wrong: emit(replace(g, epilogue=e), *rest)
            )
            with pytest.raises(ValidationError, match="gemv f32 19x40"):
                compile_gemv(g, target_for(isa))


def test_where_the_operands_of_a_part_of_c_lie() -> None:
    assert Epilogue(bias="row", residual=9).steps(4) == ((0, 4), (36, 4))
    assert Epilogue(bias="column").steps(8) == ((8, 0),)
    assert NO_EPILOGUE.steps(4) == ()


def test_a_column_as_a_row() -> None:
    assert NO_EPILOGUE.transposed(5) == NO_EPILOGUE
    assert Epilogue(bias="column", residual=1).transposed(5) == Epilogue(bias="row", residual=5)
    assert Epilogue(bias="row", beta=2.0).transposed(5) == Epilogue(bias="column", beta=2.0)


def test_text() -> None:
    e = epilogue("clamp", 8, alpha=0.5, beta=2.0, bias="row")
    assert str(e) == "clamp(-1.0, 1.5)(0.5 acc + 2.0 C + row bias + residual)"
    assert str(NO_EPILOGUE) == "identity(acc)"
    assert e.buffers == 2
