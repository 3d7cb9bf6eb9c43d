"""Every op of the table in a compiled program: each element type that it takes, static and dynamic extents.

A new op fails here until it has a case and kernels, or stands in INTERPRETED with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from op_cases import (
    CASES,
    CASES_ELSEWHERE,
    EXTENT,
    INTERPRETED,
    ROWS,
    arrays,
    check,
    compare,
    function_of,
    in_memory,
)
from operands import TARGETS, runnable_isas

import neurojit as nj
from neurojit import nn
from neurojit.asm_templates import program as program_template
from neurojit.asm_templates.machine import F32
from neurojit.codegen import machine_class, machine_for
from neurojit.ir import OPS, Builder, Module, Value
from neurojit.ir.numbers import to_element
from neurojit.planner import plan_program
from neurojit.planner.tensors import UnplannedError
from neurojit.program_compiler import planned_program
from neurojit.target import Target


def test_every_op_has_a_case() -> None:
    assert {*CASES} | CASES_ELSEWHERE | {*INTERPRETED} == {*OPS}


NATIVE = [(name, element) for name in CASES for element in OPS[name].elements]


@pytest.mark.parametrize("rows", [ROWS, "?"])
@pytest.mark.parametrize(("name", "element"), NATIVE)
def test_every_op_runs_natively(isa: str, name: str, element: str, rows: int | str) -> None:
    function = function_of(CASES[name], element, rows)
    extent = EXTENT if rows == "?" else ROWS
    inputs = [arrays(seed, (extent, 5), element) for seed in (1, 2)]
    weights = {name: arrays(3, type_.shape, type_.element) for name, type_ in function.weights.items()}  # type: ignore[misc]
    check(function, inputs, weights)


@pytest.mark.not_emulated("code for any ISA is the same from any host")
@pytest.mark.parametrize("rows", [ROWS, "?"])
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_every_op_has_code_for_every_isa(target: Target, rows: int | str) -> None:
    """Machines that are not here as well; and each kernel gives back every register that it took, so that
    those after it find what they would find alone."""
    for name, element in NATIVE:
        plan = planned_program(function_of(CASES[name], element, rows), target).plan
        m = machine_for(target.isa, machine_class(target.isa).new_buffer("table"), F32, "program")
        at_first = m.vectors.free
        free: list[tuple[int, int]] = []
        program_template.emit(m, plan, lambda step: free.append((m.vectors.free, m.pointers.free)))  # noqa: B023
        assert len(set(free)) <= 1, (name, element)
        assert m.vectors.free == at_first, (name, element)


def test_float32_arrays_are_rounded_to_bf16(isa: str) -> None:
    b = Builder("main")
    x = b.parameter("x", "tensor<3x5xbf16>")
    function = b.build(b.add(x, b.weight(name="w", type="tensor<5xbf16>")))
    wide, w = (
        np.random.default_rng(seed).standard_normal(n).astype("f4") for seed, n in ((1, (3, 5)), (2, 5))
    )
    program = nj.compile(Module("ops", (function,)), {"w": w})
    assert program.compiled, program.explain()
    rounded = to_element(wide, "bf16")
    np.testing.assert_array_equal(program(wide), program(in_memory(rounded, "bf16")))
    compare(function, program(wide), [rounded], {"w": to_element(w, "bf16")})
    with pytest.raises(TypeError, match="expected uint16, got float64"):
        program(wide.astype(np.float64))


def test_degenerate_functions_are_selections(isa: str) -> None:
    b = Builder("main")
    x = b.parameter("x", "tensor<7xf32>")
    outputs = [b.clamp(x, low=1.0, high=-1.0), b.leaky_relu(x, alpha=0.0), b.leaky_relu(x, alpha=-0.0)]
    function = b.build(*outputs, b.relu(b.clamp(b.mul(x, 2.0), low=1.0, high=-1.0)))
    check(function, [np.array([-np.inf, -2, -1, 0, 1, 3, np.inf], np.float32)])


def test_an_embedding_is_a_gather(isa: str) -> None:
    layer = nn.Embedding(10, 8)
    program = nj.compile([layer, nn.Linear(8, 3)], input_type="tensor<?xi32>")
    assert program.compiled, program.explain()
    tokens = np.array([3, 9, 0, 3, 77, -1], np.int32)
    clipped = program(np.clip(tokens, 0, 9))
    np.testing.assert_array_equal(program(tokens), clipped)


def test_the_example_of_the_language_runs_natively(isa: str) -> None:
    text = (Path(__file__).parents[1] / "docs/tensorlang.md").read_text()
    for example in re.findall(r"```mlir\n(.*?)```", text, re.S):
        module = nj.parse(example)
        module = Module(module.name, module.functions)  # the planner's own schedule, which suits any machine
        weights = {name: arrays(1, t.shape, t.element) for name, t in module.main.weights.items()}  # type: ignore[misc]
        program = nj.compile(module, weights)
        assert program.compiled, program.explain()
        assert "one native function" in program.explain()


UNPLANNED: dict[str, tuple[Callable[[Any], Value], str]] = {
    "positions": (
        lambda b: b.gather(
            b.weight(name="w", type="tensor<40000000x32xf32>"), b.constant([1], "i32"), axis=0
        ),
        "gather: strides .* expected to stay below",
    ),
    "sums": (
        lambda b: b.cumsum(b.parameter("x", "tensor<3000000xi32>"), axis=0),
        "no kernel sums up more than 2097152 integers",
    ),
    "empty": (lambda b: b.exp(b.parameter("x", "tensor<0x3xf32>")), "an empty tensor has no kernel"),
    "state": (
        lambda b: b.state_read(name="s", type="tensor<0xf32>"),
        r"state 's': tensor<0xf32> has no kernel",
    ),
}


@pytest.mark.parametrize("name", UNPLANNED)
def test_what_no_kernel_reaches_is_not_planned(name: str) -> None:
    make, reason = UNPLANNED[name]
    b = Builder("main")
    with pytest.raises(UnplannedError, match=reason):
        plan_program(b.build(make(b)), TARGETS[runnable_isas()[0]])


def test_an_op_that_the_planner_does_not_know_is_not_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurojit.planner.lowering.VIEWS", ())
    b = Builder("main")
    function = b.build(b.reshape(b.parameter("x", "tensor<6xf32>"), shape=(2, 3)))
    with pytest.raises(UnplannedError, match="reshape has no kernel"):
        plan_program(function, TARGETS[runnable_isas()[0]])
