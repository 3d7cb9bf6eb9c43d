"""Cases of every op, and how a compiled program of them is held against the interpreter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from operands import Array

import neurojit as nj
from neurojit import bounds
from neurojit.ir import Builder, Function, Module, Value
from neurojit.ir.interpreter import held_as_float32
from neurojit.ir.numbers import to_element
from neurojit.ir.types import ELEMENTS

Case = Callable[[Any, Value, Value], Value | tuple[Value, ...]]
ROWS, EXTENT = 6, 29
"""Of a static program; of calls of one with a dynamic extent."""


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
