"""Asserts and state in compiled programs: which assert is named; a call that fails changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from op_cases import (
    arrays,
    in_memory,
)
from operands import TARGETS, runnable_isas

import neurojit as nj
from neurojit.errors import AssertFailedError, ValidationError
from neurojit.ir import Builder, Function, Module, Value
from neurojit.ir.types import ELEMENTS
from neurojit.planner import plan_program
from neurojit.program_validation import validate_program


@pytest.mark.parametrize("element", ELEMENTS)
def test_state_of_every_element_type(isa: str, element: str) -> None:
    """Read, computed with, written, across calls; and what `state` shows is of its type."""
    b = Builder("main")
    x = b.parameter("x", f"tensor<3x5x{element}>")
    old = b.state_read(name="s", type=f"tensor<3x5x{element}>")
    new = b.op("or", old, x) if element == "i1" else b.op("maximum", old, x)
    b.state_write(new, name="s")
    function = b.build(b.op("select", b.op("compare", new, x, predicate="eq"), old, new))
    program = nj.compile(Module("ops", (function,)))
    assert program.compiled, program.explain()
    state = np.zeros((3, 5), ELEMENTS[element].dtype)
    for seed in (2, 4, 6):
        array = arrays(seed, (3, 5), element)
        given = in_memory(array, element)
        got = program(given)
        later = np.maximum(state, array)
        meant = np.where(later == array, state, later)
        assert (got == in_memory(meant.astype(state.dtype), element)).all()
        state = later
        held = program.state["s"]
        assert held.dtype == given.dtype
        assert (held == in_memory(state, element)).all()


def asserting(rows: int | str = 4) -> Function:
    b = Builder("main")
    x = b.parameter("x", f"tensor<{rows}x5xf32>")
    total = b.state_read(name="calls", type="tensor<f32>")
    getattr(b, "assert")(b.compare(x, 10.0, predicate="lt"), text="x is below ten")
    getattr(b, "assert")(b.compare(x, -10.0, predicate="gt"), text="x is above minus ten")
    b.state_write(b.add(total, 1.0), name="calls")
    return b.build(b.mul(x, 2.0))


@pytest.mark.parametrize("rows", [4, "?"])
def test_a_failed_assert_names_itself_and_changes_no_state(isa: str, rows: int | str) -> None:
    function = asserting(rows)
    program = nj.compile(Module("ops", (function,)))
    assert program.compiled, program.explain()
    x = np.zeros((40 if rows == "?" else 4, 5), np.float32)
    np.testing.assert_array_equal(program(x), x)
    for at in [(0, 0), (-1, 4), (2, 3)]:
        for value, number in ((11, 1), (np.nan, 1), (-11, 2)):
            broken = x.copy()
            broken[at] = value
            with pytest.raises(AssertFailedError) as caught:
                program(broken)
            op = function.asserts[number - 1]
            assert str(op.attributes["text"]) in str(caught.value)
            assert str(caught.value).startswith(f"{op.span}: ")
    both = x.copy()
    both[0, 0], both[-1, -1] = -11, 11
    with pytest.raises(AssertFailedError, match="x is below ten"):  # the first one in the text
        program(both)
    assert program.state["calls"] == 1
    program(x)
    assert program.state["calls"] == 2
    bound = program.bind(both)
    with pytest.raises(AssertFailedError, match="x is below ten"):
        bound()


def test_an_assert_of_a_text_says_its_line_and_column(isa: str) -> None:
    program = nj.compile(
        """module @m attributes {nj.version = 1} {
  func.func @main(%x: tensor<3xf32>, %i: tensor<2xi32>) -> tensor<2xf32> {
    %limit = "nj.constant"() {value = dense<3> : tensor<i32>} : () -> tensor<i32>
    %fits = "nj.compare"(%i, %limit) {predicate = "lt"} : (tensor<2xi32>, tensor<i32>) -> tensor<2xi1>
    "nj.assert"(%fits) {text = "indices below 3"} : (tensor<2xi1>) -> ()
    %y = "nj.gather"(%x, %i) {axis = 0} : (tensor<3xf32>, tensor<2xi32>) -> tensor<2xf32>
    func.return %y : tensor<2xf32>
  }
}"""
    )
    assert program.compiled, program.explain()
    x = np.array([5, 6, 7], np.float32)
    np.testing.assert_array_equal(program(x, np.array([2, 0], np.int32)), [7, 5])
    with pytest.raises(AssertFailedError, match=r"5:5: indices below 3"):
        program(x, np.array([0, 3], np.int32))


def test_asserts_in_every_step_of_a_scan(isa: str) -> None:
    b = Builder("main")
    x = b.parameter("x", "tensor<6x4xf64>")

    def step(total: Value, row: Value) -> tuple[list[Value], list[Value]]:
        new = b.add(total, row)
        getattr(b, "assert")(b.compare(new, 9.0, predicate="lt"), text="small")
        return [new], [b.compare(row, 0.0, predicate="gt")]

    (last,), (positive,) = b.scan(step, [b.constant(np.zeros(4), "f64")], [x])
    program = nj.compile(Module("ops", (b.build(last, positive),)))
    assert program.compiled, program.explain()
    got, signs = program(np.ones((6, 4)))
    assert (got == 6).all()
    assert signs.dtype == np.bool_
    assert signs.all()
    for step_number in range(6):
        x_bad = np.ones((6, 4))
        x_bad[step_number, 2] = 20
        with pytest.raises(AssertFailedError, match="small"):
            program(x_bad)


@pytest.mark.parametrize(
    ("code", "writes", "message"),
    [
        (0, True, r"returned 0, expected 2"),
        (2, True, r"state 'calls'.* is "),
        (1, False, r"returned 1, expected 2"),
    ],
)
def test_the_gate_refuses_a_wrong_assert(code: int, writes: bool, message: str) -> None:
    """Of inputs that are made up, one at least fails the assert: below -10 are some of the special ones."""
    b = Builder("main")
    x = b.parameter("x", "tensor<4x5xf32>")
    total = b.state_read(name="calls", type="tensor<f32>")
    for bound in (np.inf, -np.inf):
        getattr(b, "assert")(b.compare(x, float(bound), predicate="le"), text=f"at most {bound}")
    b.state_write(b.add(total, 1.0), name="calls")
    function = b.build(b.mul(x, 2.0))
    plan = plan_program(function, TARGETS[runnable_isas()[0]])

    def run(inputs: Any, outputs: Any, weights: Any, states: Any, extent: int) -> int:
        outputs[0][...] = inputs[0] * 2
        if writes:
            states["calls"] += 1
        return code

    with np.errstate(all="ignore"), pytest.raises(ValidationError, match=message):
        validate_program(plan, function, run)


def test_threads_give_the_first_assert_of_the_text() -> None:
    """Whichever rows fail, and whoever computes them."""
    b = Builder("main")
    x = b.parameter("x", "tensor<?x64xf32>")
    y = b.matmul(x, b.weight(name="w", type="tensor<64x64xf32>"))
    getattr(b, "assert")(b.compare(x, 10.0, predicate="lt"), text="first")
    getattr(b, "assert")(b.compare(x, -10.0, predicate="gt"), text="second")
    program = nj.compile(Module("ops", (b.build(y),)), {"w": np.eye(64, dtype=np.float32)})
    assert program.compiled, program.explain()
    x_good = np.zeros((2000, 64), np.float32)
    for threads in (1, 2):
        with nj.num_threads(threads):
            np.testing.assert_array_equal(program(x_good), x_good)
            for row, later in ((0, 1999), (1999, 0), (1000, 1001)):
                x_bad = x_good.copy()
                x_bad[row, 3] = -11
                with pytest.raises(AssertFailedError, match="second"):
                    program(x_bad)
                x_bad[later, 60] = 11
                with pytest.raises(AssertFailedError, match="first"):
                    program(x_bad)
