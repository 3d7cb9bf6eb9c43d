"""Bodies of kernels, one after another in one function: each gives back what it took."""

from __future__ import annotations

import numpy as np
import pytest
from operands import TARGETS, plain, runnable_isas

from neurojit.asm_templates import gemm, gemv
from neurojit.asm_templates import map as map_template
from neurojit.asm_templates.machine import F32, Machine
from neurojit.codegen import machine_class, machine_for
from neurojit.functions import agrees
from neurojit.plan.epilogue import Activation, Epilogue
from neurojit.plan.gemm import Gemm
from neurojit.plan.gemv import Gemv, schedule_gemv
from neurojit.plan.map import Map, schedule_map
from neurojit.plan.tiling import schedule_gemm
from neurojit.runtime import Code

M, K, N = 5, 19, 23  # partial vectors everywhere, so that each body has masks of its own


def left_in(m: Machine) -> tuple[int, ...]:
    pools = [m.pointers, m.vectors, *([m.masks] if hasattr(m, "masks") else [])]
    return tuple(pool.free for pool in pools)


@pytest.mark.parametrize("isa", runnable_isas())
def test_bodies_follow_each_other_in_one_function(isa: str) -> None:
    """c = relu(a @ b + bias), d = c @ v, e = sigmoid(d): a gemm with an epilogue, a gemv, a map."""
    target = TARGETS[isa]
    product = Gemm.contiguous("f32", M, N, K, Epilogue(bias="row", activation=Activation("relu")))
    sums = Gemv("f32", M, N, N)
    buffer = machine_class(target.isa).new_buffer("table")
    m = machine_for(target.isa, buffer, F32, "program")
    schedule = schedule_gemm(product, target)
    m.save_pointers(6)
    a, b, c, bias, v, d, e = m.operands(7)
    before = left_in(m)
    for _ in range(3):  # three times: what is not given back runs out, or shows in the sums
        moved = tuple(m.copy(pointer) for pointer in (a, b, c, bias))
        gemm.body(m, product, schedule, moved)
        for pointer in moved:
            m.release(pointer)
        assert left_in(m) == before
    gemv.body(m, sums, schedule_gemv(sums, target), (m.copy(c), v, m.copy(d)))
    count = m.constant(M)
    map_of = Map.of_functions("f32", (Activation("sigmoid"),))
    map_template.body(m, map_of, schedule_map(map_of, target.isa), (d, e), count)
    m.leave()
    code = Code.map(buffer.finish())

    arrays = [plain(i, shape) for i, shape in enumerate([(M, K), (K, N), (M, N), (N,), (N,), (M,), (M,)])]
    x, w, y, added, weights, sums_of, result = arrays
    for output in (y, sums_of, result):
        output.fill(np.nan)
    assert code.call(tuple(array.ctypes.data for array in arrays)) == 0
    exact = np.maximum(x.astype(np.float64) @ w + added, 0)
    np.testing.assert_allclose(y, exact, rtol=0, atol=2e-6 * K)
    np.testing.assert_allclose(sums_of, y.astype(np.float64) @ weights, rtol=0, atol=2e-6 * N * abs(y).max())
    assert agrees(Activation("sigmoid"), sums_of, result)[1].all()
