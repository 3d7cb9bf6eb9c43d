"""compile_tensor_kernel: every kind of kernel over tensors, through its gate, on the machine at hand."""

from __future__ import annotations

import numpy as np
import pytest
from operands import plain

from neurojit import tensor_compiler as compiler
from neurojit.codegen import TensorKernel
from neurojit.errors import RegisterPressureError, ValidationError
from neurojit.plan import reduce as plan
from neurojit.plan.cumsum import Cumsum
from neurojit.plan.epilogue import Activation
from neurojit.plan.expression import Builder
from neurojit.plan.gather import Gather
from neurojit.plan.map import Access, Map
from neurojit.plan.random import Random
from neurojit.plan.reduce import Reduce
from neurojit.plan.transpose import Transpose
from neurojit.runtime import Code
from neurojit.target import host_choice, host_target

pytestmark = pytest.mark.skipif(host_choice().isa.name == "none", reason="no ISA")


def softmax(n: int) -> Reduce:
    build = Builder()
    e = build.done(plan.softmax(build, build.input(0)))
    return Reduce("f32", (None, n), (Access(0, (n, 1)),), (Access(1, (n, 1)),), e)


KERNELS: list[TensorKernel] = [
    Map.of_functions("f32", (Activation("gelu"), Activation("exp"))),
    softmax(37),
    Transpose("f32", (9, 20), Access(0, (1, 9)), Access(1, (20, 1))),
    Cumsum.contiguous("f64", 9, 20),
    Gather("f32", 5, 21, 9, 21, 21),
    Random("uniform", 50),
]


@pytest.mark.parametrize("g", KERNELS, ids=lambda g: type(g).__name__)
def test_every_kind_passes_its_gate(g: TensorKernel) -> None:
    assert compiler.compile_tensor_kernel(g, host_target()).size > 0


def test_what_passed_computes() -> None:
    x = plain(1, (4, 37))
    y = np.empty_like(x)
    assert (
        compiler.compile_tensor_kernel(softmax(37), host_target()).call((x.ctypes.data, y.ctypes.data), 4)
        == 0
    )
    powers = np.exp(x.astype(np.float64))
    np.testing.assert_allclose(y, powers / powers.sum(1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("g", KERNELS, ids=lambda g: type(g).__name__)
def test_row_39_what_does_nothing_is_refused(g: TensorKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    emitted = compiler.emit_tensor_kernel(Cumsum.contiguous("f32", 1, 1), host_target().isa)
    monkeypatch.setattr(compiler, "emit_tensor_kernel", lambda g, isa: emitted)
    with pytest.raises(ValidationError, match="on x86_64-avx"):
        compiler.compile_tensor_kernel(g, host_target())


def test_functions_without_a_kernel_are_computed_by_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without bits to ask for, the gate may refuse what is right, never the reverse."""
    monkeypatch.setattr(compiler, "map_kernel", lambda dtype, activation: None)
    exact = Map.of_functions("f32", (Activation("relu"),))
    assert isinstance(compiler.compile_tensor_kernel(exact, host_target()), Code)


def test_too_many_values_are_an_error() -> None:
    build = Builder()
    inputs = [build.input(k) for k in range(80)]
    total = inputs[0]
    for x in inputs[1:]:
        total = build.apply("add", total, x)
    product = total
    for x in inputs:
        product = build.apply("mul", product, build.apply("sub", total, x))
    accesses = tuple(Access(0, (1,), 8 * k) for k in range(80))
    g = Map("f32", (8,), accesses, (Access(1, (1,)),), build.done(product))
    with pytest.raises(RegisterPressureError, match="template map"):
        compiler.compile_tensor_kernel(g, host_target())
