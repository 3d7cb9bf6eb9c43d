"""Kernels that multiply bf16 by bf16: exact where sums are, else within the bound, inside guard pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from fence import SIDES, Fence
from operands import NUMBERS, TARGETS, Array, plain, runnable_isas
from oracle import assert_same_bits
from test_gemm_guard_pages import all_pairs

from neurojit.codegen import emit_gemm
from neurojit.compiler import compile_gemm
from neurojit.errors import ValidationError
from neurojit.plan.epilogue import Activation, Epilogue
from neurojit.plan.gemm import Gemm, Matrix, Output
from neurojit.plan.panels import Panels, panel_width, rounded_storage
from neurojit.plan.tiling import schedule_gemm
from neurojit.runtime import Code, reference_matmul
from neurojit.storage import (
    Stored,
    from_bf16,
    lay_out,
    lay_out_rows,
    products_of_bf16,
    round_rows,
    to_bf16,
)
from neurojit.target import host
from neurojit.validation import validate_gemm

LAYOUTS = [(isa, "bf16 wide") for isa in runnable_isas()]
LAYOUTS += [
    (isa, native)
    for isa in runnable_isas()
    if (native := rounded_storage("bf16", TARGETS[isa].isa, host().allowed)) != "bf16 wide"
]
"""And for the instruction that this CPU may have."""
pytestmark = pytest.mark.parametrize(("isa", "storage"), LAYOUTS)

FENCES = [Fence(1 << 17) for _ in range(3)]
SIZES = (1, 2, 3, 4, 5, 7, 8, 12, 15, 16, 17, 31, 33, 63, 64, 65, 100, 128, 130)


def bf16_gemm(isa: str, storage: str, m: int, n: int, k: int) -> Gemm:
    panels = Panels.of(storage, k, panel_width("f32", TARGETS[isa].isa))
    return Gemm("f32", m, n, panels.depth, Matrix(panels.row_bytes // 4), panels, Output(n))


def run_in_fences(isa: str, g: Gemm, x: Array, w: Array, side: str) -> tuple[Array, Stored, Stored]:
    """(C, the operands): each up against an inaccessible page."""
    assert isinstance(g.b, Panels)
    rows, weights = round_rows(x, "bf16"), Stored(to_bf16(w), None)
    used = g.b.depth * 4
    a = FENCES[0].place((g.m, used), np.uint8, (g.b.row_bytes, 1), side)
    a[...] = lay_out_rows(rows, g.b)[:, :used]
    b = FENCES[1].hold(lay_out(weights, g.b), side)
    c = FENCES[2].place((g.m, g.n), np.float32, (g.n * 4, 4), side)
    c[...] = np.nan
    code = Code.map(emit_gemm(g, schedule_gemm(g, TARGETS[isa]), TARGETS[isa].isa))
    assert code.call((a.ctypes.data, b.ctypes.data, c.ctypes.data)) == 0
    return c, rows, weights


@pytest.mark.parametrize("side", SIDES)
def test_row_27_every_tail_of_m_n_and_k(isa: str, storage: str, side: str) -> None:
    """Of integers whose sums are exact however they are added: the bits are known."""
    for m, n, k in all_pairs(SIZES):
        x, w = (np.rint(50 * plain(seed, shape)) for seed, shape in ((1, (m, k)), (2, (k, n))))
        c, _, _ = run_in_fences(isa, bf16_gemm(isa, storage, m, n, k), x, w, side)
        assert_same_bits(c, (x.astype(np.float64) @ w + 0.0).astype(np.float32), (m, n, k))


@pytest.mark.parametrize("numbers", sorted(NUMBERS))
def test_row_31_hard_numbers(isa: str, storage: str, numbers: str) -> None:
    for m, n, k in ((1, 70, 33), (5, 40, 64), (13, 130, 21), (2, 17, 900), (1, 1, 1)):
        x, w = NUMBERS[numbers](1, (m, k)), NUMBERS[numbers](2, (k, n))
        c, rows, weights = run_in_fences(isa, bf16_gemm(isa, storage, m, n, k), x, w, "high")
        assert products_of_bf16(rows, weights).agree(c).all()
        if storage == "bf16 wide":
            expected = np.empty_like(c)
            reference_matmul(from_bf16(rows.values), from_bf16(weights.values), expected)
            assert_same_bits(c, expected)


def test_passes_over_k_and_epilogues_pass_the_gate(isa: str, storage: str) -> None:
    target = TARGETS[isa]
    for m, n, k in ((1, 37, 21), (14, 130, 40), (3, 20, 700)):
        g = bf16_gemm(isa, storage, m, n, k)
        for e in (
            Epilogue(),
            Epilogue(bias="row", activation=Activation("gelu")),
            Epilogue(alpha=0.3, beta=1.7, bias="column", residual=n + 3),
        ):
            compile_gemm(replace(g, epilogue=e), target)
        schedule = replace(schedule_gemm(g, target), k_block=8)
        code = Code.map(emit_gemm(g, schedule, target.isa))
        assert g.k is not None
        validate_gemm(g, g.k, n, lambda *x, c=code: c.call(tuple(y.ctypes.data for y in x)), "passes")


def test_both_encoders_give_the_same_bytes(isa: str, storage: str) -> None:
    pytest.importorskip("neurojit.encoder.peachpy_encoder").version()
    g, target = bf16_gemm(isa, storage, 6, 70, 18), TARGETS[isa]
    schedule = schedule_gemm(g, target)
    assert emit_gemm(g, schedule, target.isa, "table") == emit_gemm(g, schedule, target.isa, "peachpy")


def test_the_gate_catches_a_wrong_layout(isa: str, storage: str) -> None:
    g = bf16_gemm(isa, storage, 3, 150, 24)
    assert isinstance(g.b, Panels)
    made = replace(g, b=g.b._replace(width=g.b.width // 2))
    code = Code.map(emit_gemm(made, schedule_gemm(made, TARGETS[isa]), TARGETS[isa].isa))
    assert g.k is not None
    with pytest.raises(ValidationError, match="not published"):
        validate_gemm(g, g.k, 150, lambda *x: code.call(tuple(y.ctypes.data for y in x)), "wrong width")
    with pytest.raises(ValidationError, match="returned 1"):
        validate_gemm(g, g.k, 150, lambda *x: 1, "refuses")


def spoil(change: Callable[[Array], None], g: Gemm, isa: str) -> Callable[..., int]:
    """A kernel whose results are changed after it."""
    code = Code.map(emit_gemm(g, schedule_gemm(g, TARGETS[isa]), TARGETS[isa].isa))

    def run(a: Array, b: Array, c: Array, *others: Array) -> int:
        done = code.call(tuple(x.ctypes.data for x in (a, b, c, *others)))
        change(c)
        return done

    return run


@pytest.mark.parametrize("relative", [2.0**-8, 2.0**-18, 2.0**-22])
def test_the_gate_catches_sums_that_are_a_little_off(isa: str, storage: str, relative: float) -> None:
    g = bf16_gemm(isa, storage, 3, 40, 24)
    assert g.k is not None

    def change(c: Array) -> None:
        c *= np.float32(1 + relative)

    with np.errstate(all="ignore"), pytest.raises(ValidationError, match="elements differ"):
        validate_gemm(g, g.k, 40, spoil(change, g, isa), "a little off")


def test_the_bound_catches_what_exact_sums_do_not(isa: str, storage: str) -> None:
    """A kernel right for integers alone: what it must round, it rounds to bf16."""
    if storage == "bf16 wide":
        pytest.skip("compared bit by bit")
    g = bf16_gemm(isa, storage, 3, 40, 4)
    assert g.k is not None

    def change(c: Array) -> None:
        fraction = np.isfinite(c) & (c != np.rint(c))
        c[...] = np.where(fraction, from_bf16(to_bf16(c)), c)

    with pytest.raises(ValidationError, match="elements differ"):
        validate_gemm(g, g.k, 40, spoil(change, g, isa), "integers alone")
