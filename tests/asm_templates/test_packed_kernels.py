"""Kernels that read packed panels: the reference's bits for every ISA, storage and edge, in guard pages."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from fence import SIDES, Fence
from operands import DTYPES, NUMBERS, TARGETS, Array, plain, runnable_isas
from oracle import assert_same_bits
from test_gemm_guard_pages import all_pairs

from neurojit.asm_templates.machine import F32, Machine, Vector
from neurojit.codegen import emit_gemm, machine_class, machine_for
from neurojit.compiler import compile_gemm
from neurojit.errors import StorageError, ValidationError
from neurojit.plan.epilogue import Activation, Epilogue
from neurojit.plan.gemm import Gemm, Matrix, Output
from neurojit.plan.panels import ROUNDED, STORAGES, Panels, panel_width
from neurojit.plan.tiling import schedule_gemm
from neurojit.runtime import Code, reference_matmul
from neurojit.storage import lay_out, store, widen
from neurojit.validation import validate_gemm

WIDENED = [storage for storage in STORAGES if storage not in ROUNDED]
pytestmark = [pytest.mark.parametrize("isa", runnable_isas()), pytest.mark.parametrize("storage", WIDENED)]

FENCES = [Fence(1 << 17) for _ in range(3)]
SIZES = (*range(1, 18), 20, 31, 32, 33, 47, 48, 63, 64, 65, 80, 100, 127, 128, 129, 200)


def packed_gemm(storage: str, isa: str, m: int, n: int, k: int) -> Gemm:
    dtype = STORAGES[storage].element
    panels = Panels(storage, k, panel_width(dtype, TARGETS[isa].isa))
    return Gemm(dtype, m, n, k, Matrix(k), panels, Output(n))


def run_in_fences(isa: str, g: Gemm, x: Array, w: Array, side: str) -> None:
    """The kernel, its operands against inaccessible pages, is the reference on the widened weights."""
    assert isinstance(g.b, Panels)
    assert g.k is not None
    stored = store(w, g.b.storage)
    memory = lay_out(stored, g.b)
    a, b = FENCES[0].hold(x, side), FENCES[1].hold(memory, side)
    c = FENCES[2].place((g.m, g.n), x.dtype, (g.n * x.itemsize, x.itemsize), side)
    c[...] = np.nan
    expected = np.empty(c.shape, c.dtype)
    reference_matmul(np.array(a), widen(stored, g.b.storage), expected)
    if stored.scales is not None:
        with np.errstate(all="ignore"):
            expected *= stored.scales
    code = Code.map(emit_gemm(g, schedule_gemm(g, TARGETS[isa]), TARGETS[isa].isa))
    assert code.call((a.ctypes.data, b.ctypes.data, c.ctypes.data)) == 0
    assert_same_bits(c, expected, g)
    assert (b == memory).all()


@pytest.mark.parametrize("side", SIDES)
def test_row_27_every_tail_of_m_n_and_k(storage: str, isa: str, side: str) -> None:
    dtype = DTYPES[STORAGES[storage].element]
    for m, n, k in all_pairs(SIZES):
        if m * k + k * n < 8000:
            g = packed_gemm(storage, isa, m, n, k)
            run_in_fences(isa, g, plain(1, (m, k), dtype), plain(2, (k, n), dtype), side)


@pytest.mark.parametrize("side", SIDES)
def test_row_27_every_width_to_200(storage: str, isa: str, side: str) -> None:
    dtype = DTYPES[STORAGES[storage].element]
    for n, (m, k) in itertools.product(range(1, 201, 3), ((1, 1), (1, 19), (2, 4), (7, 18))):
        run_in_fences(
            isa, packed_gemm(storage, isa, m, n, k), plain(1, (m, k), dtype), plain(2, (k, n), dtype), side
        )


@pytest.mark.parametrize("numbers", sorted(set(NUMBERS) - {"plain"}))
def test_row_31_hard_numbers(storage: str, isa: str, numbers: str) -> None:
    dtype = DTYPES[STORAGES[storage].element]
    for m, n, k in ((1, 70, 33), (5, 40, 64), (13, 130, 21)):
        x, w = NUMBERS[numbers](1, (m, k), dtype), NUMBERS[numbers](2, (k, n), dtype)
        if storage == "int8":
            w = np.nan_to_num(w, nan=1, posinf=2, neginf=-3)
        run_in_fences(isa, packed_gemm(storage, isa, m, n, k), x, w, "high")


def test_passes_over_k_and_epilogues_pass_the_gate(storage: str, isa: str) -> None:
    target = TARGETS[isa]
    for m, n, k in ((1, 37, 21), (14, 130, 40), (7, 64, 9)):
        g = packed_gemm(storage, isa, m, n, k)
        for e in (
            Epilogue(bias="row", activation=Activation("gelu")),
            Epilogue(alpha=0.3, beta=1.7, bias="column", residual=n + 3),
            Epilogue(activation=Activation("relu")),
        ):
            compile_gemm(replace(g, epilogue=e), target)
        if storage != "int8":
            schedule = replace(schedule_gemm(g, target), k_block=8)
            code = Code.map(emit_gemm(g, schedule, target.isa))
            validate_gemm(g, k, n, lambda *x, c=code: c.call(tuple(y.ctypes.data for y in x)), "passes")


def test_strides_of_activations_and_results(storage: str, isa: str) -> None:
    for a in (Matrix(1, 13), Matrix(50, 2), Matrix(-40, 1), Matrix(0, 0)):
        g = replace(packed_gemm(storage, isa, 13, 70, 19), a=a, c=Output(75))
        compile_gemm(g, TARGETS[isa])


def test_the_gate_catches_another_layout(storage: str, isa: str) -> None:
    """A kernel of another depth or width reads the same memory differently."""
    g = packed_gemm(storage, isa, 3, 150, 24)
    assert isinstance(g.b, Panels)
    made = replace(g, b=g.b._replace(width=g.b.width // 2))
    code = Code.map(emit_gemm(made, schedule_gemm(made, TARGETS[isa]), TARGETS[isa].isa))
    with pytest.raises(ValidationError, match="not published"):
        validate_gemm(g, 24, 150, lambda *x: code.call(tuple(y.ctypes.data for y in x)), "wrong width")


def test_both_encoders_give_the_same_bytes(storage: str, isa: str) -> None:
    pytest.importorskip("neurojit.encoder.peachpy_encoder").version()
    g, target = packed_gemm(storage, isa, 6, 70, 18), TARGETS[isa]
    schedule = schedule_gemm(g, target)
    assert emit_gemm(g, schedule, target.isa, "table") == emit_gemm(g, schedule, target.isa, "peachpy")


def test_a_machine_that_does_not_widen_says_so(storage: str, isa: str) -> None:
    machine = machine_for(TARGETS[isa].isa, machine_class(TARGETS[isa].isa).new_buffer("table"), F32, "test")
    with pytest.raises(StorageError, match=f"does not widen {storage}"):
        Machine.expect_storage(machine, storage)
    with pytest.raises(StorageError, match=f"does not widen {storage}"):
        Machine.load_as(machine, storage, 0, 4, 0, 0)
    vector = Vector(0, 4, 128)
    with pytest.raises(StorageError, match=f"does not multiply {storage}"):
        Machine.dot(machine, storage, vector, vector, vector)
    assert Machine.whole_lanes(machine, 3) == 3
