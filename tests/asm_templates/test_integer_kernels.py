"""Kernels that multiply integers: exact sums on every ISA and in both layouts, inside guard pages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fence import SIDES, Fence
from operands import TARGETS, plain, runnable_isas
from oracle import assert_same_bits
from test_gemm_guard_pages import all_pairs

from neurojit.codegen import emit_gemm
from neurojit.compiler import compile_gemm
from neurojit.errors import ValidationError
from neurojit.plan.epilogue import Activation, Epilogue
from neurojit.plan.gemm import Gemm, Matrix, Output
from neurojit.plan.panels import Panels, panel_width, rounded_storage
from neurojit.plan.tiling import schedule_gemm
from neurojit.runtime import Code
from neurojit.storage import Stored, lay_out, lay_out_rows, product_of_integers, round_rows, to_int8
from neurojit.target import host
from neurojit.validation import validate_gemm

LAYOUTS = [(isa, "int8 words") for isa in runnable_isas()]
LAYOUTS += [
    (isa, native)
    for isa in runnable_isas()
    if (native := rounded_storage("int8", TARGETS[isa].isa, host().allowed)) != "int8 words"
]
"""And for the instruction that this CPU may have."""
pytestmark = pytest.mark.parametrize(("isa", "storage"), LAYOUTS)

FENCES = [Fence(1 << 17) for _ in range(3)]
SIZES = (1, 2, 3, 4, 5, 7, 8, 12, 15, 16, 17, 31, 33, 63, 64, 65, 100, 128, 130)


def integer_gemm(isa: str, storage: str, m: int, n: int, k: int) -> Gemm:
    panels = Panels.of(storage, k, panel_width("f32", TARGETS[isa].isa))
    return Gemm("f32", m, n, panels.depth, Matrix(panels.row_bytes // 4), panels, Output(n))


@pytest.mark.parametrize("side", SIDES)
def test_row_27_every_tail_of_m_n_and_k(isa: str, storage: str, side: str) -> None:
    for m, n, k in all_pairs(SIZES):
        g = integer_gemm(isa, storage, m, n, k)
        assert isinstance(g.b, Panels)
        rows, weights = round_rows(plain(1, (m, k)), "int8"), to_int8(plain(2, (k, n)))
        used = g.b.depth * 4 + 4
        a = FENCES[0].place((m, used), np.uint8, (g.b.row_bytes, 1), side)
        a[...] = lay_out_rows(rows, g.b)[:, :used]
        b = FENCES[1].hold(lay_out(weights, g.b), side)
        c = FENCES[2].place((m, n), np.float32, (n * 4, 4), side)
        code = Code.map(emit_gemm(g, schedule_gemm(g, TARGETS[isa]), TARGETS[isa].isa))
        assert code.call((a.ctypes.data, b.ctypes.data, c.ctypes.data)) == 0
        assert_same_bits(c, product_of_integers(rows, weights), g)


def test_extremes_do_not_saturate(isa: str, storage: str) -> None:
    """All products at their largest, of both signs, and more of them than 16 bits or a float32 can count."""
    for sign in (1, -1):
        g = integer_gemm(isa, storage, 2, 17, 3000)
        assert isinstance(g.b, Panels)
        rows = Stored(np.full((2, 3000), 127, np.int8), np.ones(2, np.float32))
        weights = Stored(np.full((3000, 17), sign * 127, np.int8), np.ones(17, np.float32))
        a, b, c = lay_out_rows(rows, g.b), lay_out(weights, g.b), np.empty((2, 17), np.float32)
        code = Code.map(emit_gemm(g, schedule_gemm(g, TARGETS[isa]), TARGETS[isa].isa))
        assert code.call((a.ctypes.data, b.ctypes.data, c.ctypes.data)) == 0
        assert (c == np.float32(sign * 127 * 127 * 3000)).all()


def test_epilogues_and_both_encoders(isa: str, storage: str) -> None:
    target = TARGETS[isa]
    for m, n, k in ((1, 37, 21), (14, 130, 40)):
        g = integer_gemm(isa, storage, m, n, k)
        for e in (
            Epilogue(bias="row", activation=Activation("gelu")),
            Epilogue(alpha=0.3, beta=1.7, bias="column", residual=n + 3),
        ):
            compile_gemm(replace(g, epilogue=e), target)
    pytest.importorskip("neurojit.encoder.peachpy_encoder").version()
    schedule = schedule_gemm(g, target)
    assert emit_gemm(g, schedule, target.isa, "table") == emit_gemm(g, schedule, target.isa, "peachpy")


def test_the_gate_catches_a_wrong_layout(isa: str, storage: str) -> None:
    g = integer_gemm(isa, storage, 3, 150, 24)
    assert isinstance(g.b, Panels)
    made = replace(g, b=g.b._replace(width=g.b.width // 2))
    code = Code.map(emit_gemm(made, schedule_gemm(made, TARGETS[isa]), TARGETS[isa].isa))
    assert g.k is not None
    with pytest.raises(ValidationError, match="not published"):
        validate_gemm(g, g.k, 150, lambda *x: code.call(tuple(y.ctypes.data for y in x)), "wrong width")
    with pytest.raises(ValidationError, match="returned 1"):
        validate_gemm(g, g.k, 150, lambda *x: 1, "refuses")
