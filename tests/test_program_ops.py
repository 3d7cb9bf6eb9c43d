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
from operands import TARGETS, Array, runnable_isas

import neurojit as nj
from neurojit import bounds, nn
from neurojit.errors import AssertFailedError, ValidationError
from neurojit.ir import OPS, Builder, Function, Module, Value
from neurojit.ir.interpreter import held_as_float32
from neurojit.ir.numbers import to_element
from neurojit.ir.types import ELEMENTS
from neurojit.planner import plan_program
from neurojit.program_validation import validate_program

Case = Callable[[Any, Value, Value], Value | tuple[Value, ...]]
ROWS, EXTENT = 6, 29
"""Of a static program; of calls of one with a dynamic extent."""


@pytest.fixture(params=runnable_isas())
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("neurojit.contract.host_target", lambda: TARGETS[request.param])
    name: str = request.param
    return name


def one(name: str, **attributes: Any) -> Case:
    return lambda b, x, y: b.op(name, x, **attributes)


def two(name: str, **attributes: Any) -> Case:
    return lambda b, x, y: b.op(name, x, y, **attributes)


def weight_of(b: Any, shape: tuple[int, ...], element: str) -> Value:
    """A weight, which no pass can fold."""
    name = f"w{'x'.join(map(str, shape))}{element}"
    value: Value = b.weight(name=name, type=f"tensor<{'x'.join([*map(str, shape), element])}>")
    return value


def seed_of(b: Any) -> tuple[Value, Value]:
    return weight_of(b, (2,), "i32"), weight_of(b, (), "i32")


def scan_of(b: Any, x: Value, y: Value) -> tuple[Value, ...]:
    """Carries a row through the rows of x, which is 3 x 5 here."""
    element = x.type.element
    start = weight_of(b, (5,), element)
    rows = weight_of(b, (4, 5), element)

    def step(carried: Value, row: Value) -> tuple[list[Value], list[Value]]:
        new = b.op("or" if element == "i1" else "maximum", carried, row)
        return [new], [b.op("select", b.op("compare", new, row, predicate="eq"), row, new)]

    (last,), (stacked,) = b.scan(step, [start], [rows])
    return last, stacked


CASES: dict[str, Case] = {
    **{name: two(name) for name in ("add", "sub", "mul", "div", "maximum", "minimum", "and", "or")},
    **{
        name: one(name)
        for name in (
            "not", "neg", "abs", "exp", "tanh", "sigmoid", "erf", "silu", "gelu", "gelu_tanh", "relu",
        )
    },
    "sqrt": lambda b, x, y: b.op("sqrt", b.op("abs", x)),
    "rsqrt": lambda b, x, y: b.op("rsqrt", b.op("add", b.op("abs", x), b.op("mul", y, y))),
    "log": lambda b, x, y: b.op("log", b.op("abs", x)),
    "elu": one("elu", alpha=1.3),
    "leaky_relu": one("leaky_relu", alpha=0.1),
    "clamp": one("clamp", low=-0.7, high=0.6),
    "compare": lambda b, x, y: tuple(
        b.op("compare", x, y, predicate=p) for p in ("eq", "ne", "lt", "le", "gt", "ge")
    ),
    "select": lambda b, x, y: b.op("select", b.op("compare", x, y, predicate="lt"), y, x),
    "convert": lambda b, x, y: tuple(b.op("convert", x, dtype=dtype) for dtype in ELEMENTS),
    "outer": two("outer"),
    "matmul": lambda b, x, y: (
        b.op("matmul", x, weight_of(b, (5, 3), x.type.element)),
        b.op("matmul", x, weight_of(b, (3, 5), x.type.element), transpose_b=True),
    ),
    **{
        name: lambda b, x, y, name=name: (
            b.op(name, x, axes=(1,)),
            b.op(name, weight_of(b, (4, 2, 3, 5), x.type.element), axes=(0, 2)),
            b.op(name, weight_of(b, (2, 3, 5), x.type.element), axes=(0, 1, 2), keepdims=True),
            b.op(name, weight_of(b, (2, 3, 5), x.type.element), axes=(0,)),
            b.op(name, weight_of(b, (4, 2, 3, 5), x.type.element), axes=(1, 3), keepdims=True),
        )
        for name in ("sum", "mean", "max", "min")
    },
    **{
        name: lambda b, x, y, name=name: (
            b.op(name, x, axis=1),
            b.op(name, weight_of(b, (4, 3, 5), x.type.element), axis=0),
            b.op(name, weight_of(b, (4, 3, 5), x.type.element), axis=1),
        )
        for name in ("argmax", "logsumexp", "softmax", "cumsum")
    },
    "layer_norm": lambda b, x, y: b.op("layer_norm", x, *[weight_of(b, (5,), x.type.element)] * 2),
    "rms_norm": lambda b, x, y: b.op("rms_norm", x, weight_of(b, (5,), x.type.element)),
    "reshape": lambda b, x, y: b.op("reshape", x, shape=(-1, 5, 1)),
    "transpose": lambda b, x, y: (
        b.op("transpose", b.op("reshape", x, shape=(-1, 1, 5)), permutation=(0, 2, 1)),
        b.op("transpose", weight_of(b, (2, 3, 5), x.type.element), permutation=(2, 0, 1)),
    ),
    "broadcast": lambda b, x, y: b.op("broadcast", weight_of(b, (3, 1), x.type.element), shape=(2, 3, 4)),
    "slice": lambda b, x, y: b.op("slice", x, axis=1, start=1, end=5, step=2),
    "concat": lambda b, x, y: b.op("concat", x, y, x, axis=1),
    "pad": lambda b, x, y: b.op("pad", x, low=(0, 2), high=(0, 1), value=3.0),
    "gather": lambda b, x, y: (
        b.op("gather", x, b.constant(np.array([4, 0, -3, 99], np.int32), "i32"), axis=1),
        b.op("gather", weight_of(b, (4, 3), x.type.element), weight_of(b, (2, 1), "i32"), axis=0),
    ),
    **{
        name: lambda b, x, y, name=name: tuple(
            b.op(name, *seed_of(b), shape=shape, dtype=dtype)
            for shape in ((3, 7), (401,))
            for dtype in ("f32", "f64")
        )
        for name in ("random_uniform", "random_normal")
    },
    "constant": lambda b, x, y: weight_of(b, (2, 3), x.type.element),
    "weight": lambda b, x, y: b.weight(name="w", type=f"tensor<3x2x{x.type.element}>"),
    "scan": scan_of,
    "yield": scan_of,
    "return": lambda b, x, y: (x, y),
}  # fmt: skip
STATEFUL = ("state_read", "state_write")
CASES_ELSEWHERE = {*STATEFUL, "assert"}
INTERPRETED: dict[str, str] = {}
"""Op -> why it has no kernel."""


def test_every_op_has_a_case() -> None:
    assert {*CASES} | CASES_ELSEWHERE | {*INTERPRETED} == {*OPS}


def arrays(seed: int, shape: tuple[int, ...], element: str) -> Array:
    """As the interpreter holds them, bf16 as float32."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape)
    if ELEMENTS[element].kind == "int":
        values = rng.integers(-9, 9, shape) if seed % 2 else rng.integers(-128, 128, shape)
    if ELEMENTS[element].kind == "bool":
        values = values > 0
    return to_element(np.asarray(values), element)


def in_memory(array: Array, element: str) -> Array:
    return np.asarray(array.view(np.uint32) >> 16, np.uint16) if element == "bf16" else array


def function_of(case: Case, element: str, rows: int | str) -> Function:
    b = Builder("main")
    x, y = (b.parameter(name, f"tensor<{rows}x5x{element}>") for name in "xy")
    made = case(b, x, y)
    outputs = made if isinstance(made, tuple) else (made,)
    return b.build(*outputs)


def check(function: Function, inputs: list[Array], weights: dict[str, Array] | None = None) -> Any:
    """Compiled natively; its outputs within the bounds of what the interpreter means."""
    weights = weights or {}
    memory = {name: in_memory(array, function.weights[name].element) for name, array in weights.items()}
    program = nj.compile(Module("ops", (function,)), memory)
    assert program.compiled, program.explain()
    given = [
        in_memory(array, value.type.element) for array, value in zip(inputs, function.parameters, strict=True)
    ]
    got = program(*given)
    assert program.compiled, program.explain()
    compare(function, got, inputs, weights)
    return program


def compare(function: Function, got: Any, inputs: list[Array], weights: dict[str, Array]) -> None:
    expected, _ = bounds.bounds(function, inputs, weights, {}, len(inputs[0]))
    outputs = got if isinstance(got, tuple) else (got,)
    for value, output, meant in zip(function.outputs, outputs, expected, strict=True):
        element = value.type.element
        numbers = held_as_float32(output) if element == "bf16" else output
        assert numbers.dtype == ELEMENTS[element].dtype
        assert numbers.shape == meant.value.shape
        near = bounds.agrees(numbers, meant)
        assert near.all(), f"{value}: {numbers[~near][:5]}, expected {meant.value[~near][:5]}"
        assert np.isfinite(meant.error).all(), "the bound says something"


NATIVE = [(name, element) for name in CASES for element in OPS[name].elements]


@pytest.mark.parametrize("rows", [ROWS, "?"])
@pytest.mark.parametrize(("name", "element"), NATIVE)
def test_every_op_runs_natively(isa: str, name: str, element: str, rows: int | str) -> None:
    function = function_of(CASES[name], element, rows)
    extent = EXTENT if rows == "?" else ROWS
    inputs = [arrays(seed, (extent, 5), element) for seed in (1, 2)]
    weights = {name: arrays(3, type_.shape, type_.element) for name, type_ in function.weights.items()}  # type: ignore[misc]
    check(function, inputs, weights)


# State and asserts ---------------------------------------------------------------------------------------


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


# What is carried from row to row of a dynamic extent ---------------------------------------------------

EXTENTS = (0, 1, 2, 11, 12, 13, 16, 17, 29, 40)


def recurrent(b: Any, x: Value, y: Value) -> tuple[Value, ...]:
    """A scan along the rows, between ops of each row and ops of what it ends with."""
    start, matrix = b.weight(name="h", type="tensor<5xf32>"), b.weight(name="u", type="tensor<5x5xf32>")

    def step(h: Value, row: Value) -> tuple[list[Value], list[Value]]:
        new = b.tanh(b.reshape(b.matmul(b.reshape(b.add(h, row), shape=(1, 5)), matrix), shape=(5,)))
        return [new], [b.mul(new, 2.0)]

    (last,), (stacked,) = b.scan(step, [start], [b.exp(b.mul(x, 0.1))])
    return b.mul(last, 3.0), b.add(stacked, y)


def normalized(b: Any, x: Value, y: Value) -> Value:
    """By mean and variance of the batch: three loops over its rows."""
    z = b.exp(b.mul(x, 0.1))
    centred = b.sub(z, b.mean(z, axes=(0,)))
    variance = b.mean(b.mul(centred, centred), axes=(0,))
    return b.add(b.mul(centred, b.rsqrt(b.add(variance, 0.1))), y)


def attention(b: Any, x: Value, y: Value) -> Value:
    """Linear attention over the rows: what they add up to, for each of them."""
    return b.matmul(b.relu(x), b.matmul(b.relu(x), y, transpose_a=True))


def again(b: Any, x: Value, y: Value) -> tuple[Value, ...]:
    """A scan whose rows and whose end are both needed in the second loop."""
    start = b.weight(name="h", type="tensor<5xf32>")

    def step(h: Value, row: Value) -> tuple[list[Value], list[Value]]:
        new = b.tanh(b.add(h, row))
        return [new], [new]

    (last,), (stacked,) = b.scan(step, [start], [x])
    return b.mul(stacked, last), last, b.add(b.cumsum(y, axis=0), b.sum(stacked, axes=(0,)))


CARRIED: dict[str, tuple[Case, tuple[str, ...]]] = {
    "sum": (one("sum", axes=(0,)), ("f32", "f64", "bf16", "i32")),
    "mean": (lambda b, x, y: b.tanh(b.mean(x, axes=(0, 1))), ("f32", "f64", "bf16")),
    "max": (one("max", axes=(0,), keepdims=True), ("f32", "f64", "bf16", "i32", "i8")),
    "min": (lambda b, x, y: b.min(b.maximum(x, y), axes=(0, 1)), ("f32", "f64", "bf16", "i32", "i8")),
    "matmul": (two("matmul", transpose_a=True), ("f32", "f64", "bf16", "i32", "i8")),
    "cumsum": (lambda b, x, y: b.add(b.cumsum(x, axis=0), y), ("f32", "f64", "bf16", "i32")),
    "cumsum of one": (lambda b, x, y: b.cumsum(b.sum(x, axes=(1,)), axis=0), ("f32", "i32")),
    "scan": (recurrent, ("f32",)),
    "normalized": (normalized, ("f32", "f64")),
    "attention": (attention, ("f32",)),
    "again": (again, ("f32",)),
    "softmax": (lambda b, x, y: b.sum(b.mul(b.softmax(x, axis=0), y), axes=(0,)), ("f32", "f64")),
    "softmax of one": (lambda b, x, y: b.softmax(b.sum(x, axes=(1,)), axis=0), ("f32", "bf16")),
    "logsumexp": (lambda b, x, y: b.sub(x, b.logsumexp(x, axis=0)), ("f32", "f64", "bf16")),
    "logsumexp kept": (lambda b, x, y: b.logsumexp(b.exp(y), axis=0, keepdims=True), ("f32",)),
}


@pytest.mark.parametrize(("name", "element"), [(name, e) for name in CARRIED for e in CARRIED[name][1]])
def test_rows_in_order(isa: str, name: str, element: str) -> None:
    function = function_of(CARRIED[name][0], element, "?")
    weights = {name: arrays(3, type_.shape, type_.element) for name, type_ in function.weights.items()}  # type: ignore[misc]
    memory = {name: in_memory(array, function.weights[name].element) for name, array in weights.items()}
    program = nj.compile(Module("ops", (function,)), memory)
    assert program.compiled, program.explain()
    for extent in EXTENTS:
        if extent or name not in ("max", "min"):
            inputs = [arrays(seed, (extent, 5), element) for seed in (1, 2)]
            compare(function, program(*(in_memory(x, element) for x in inputs)), inputs, weights)


def test_random_numbers_of_rows_do_not_depend_on_the_parts(isa: str) -> None:
    def case(b: Any, x: Value, y: Value) -> tuple[Value, ...]:
        key, counter = seed_of(b)
        normal = b.random_normal(key, counter, shape=(-1, 3))
        wide = b.random_normal(key, counter, shape=(-1, 3), dtype="f64")
        return b.add(x, b.random_uniform(key, counter, shape=(-1, 5))), normal, wide

    function = function_of(case, "f32", "?")
    weights = {name: arrays(3, type_.shape, type_.element) for name, type_ in function.weights.items()}  # type: ignore[misc]
    program = nj.compile(Module("ops", (function,)), weights)
    assert program.compiled, program.explain()
    for extent in EXTENTS:
        inputs = [arrays(seed, (extent, 5), "f32") for seed in (1, 2)]
        compare(function, program(*inputs), inputs, weights)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (one("argmax", axis=0), "argmax mixes rows"),
    ],
)
def test_what_needs_all_rows_at_once_is_interpreted(case: Case, reason: str) -> None:
    function = function_of(case, "f32", "?")
    program = nj.compile(Module("ops", (function,)))
    assert not program.compiled
    assert reason in program.explain()
    inputs = [arrays(seed, (7, 5), "f32") for seed in (1, 2)]
    compare(function, program(*inputs), inputs, {})


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


def test_an_embedding_is_a_gather(isa: str) -> None:
    layer = nn.Embedding(10, 8)
    program = nj.compile([layer, nn.Linear(8, 3)], input_type="tensor<?xi32>")
    assert program.compiled, program.explain()
    tokens = np.array([3, 9, 0, 3, 77, -1], np.int32)
    clipped = program(np.clip(tokens, 0, 9))
    np.testing.assert_array_equal(program(tokens), clipped)


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


def test_the_example_of_the_language_runs_natively(isa: str) -> None:
    text = (Path(__file__).parents[1] / "docs/tensorlang.md").read_text()
    for example in re.findall(r"```mlir\n(.*?)```", text, re.S):
        module = nj.parse(example)
        module = Module(module.name, module.functions)  # the planner's own schedule, which suits any machine
        weights = {name: arrays(1, t.shape, t.element) for name, t in module.main.weights.items()}  # type: ignore[misc]
        program = nj.compile(module, weights)
        assert program.compiled, program.explain()
        assert "one native function" in program.explain()
