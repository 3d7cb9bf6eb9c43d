"""What is carried from row to row of a dynamic extent, and what is gone through more than once for."""

from __future__ import annotations

from typing import Any

import pytest
from op_cases import (
    Case,
    arrays,
    compare,
    function_of,
    in_memory,
    one,
    seed_of,
    two,
)

import neurojit as nj
from neurojit.ir import Module, Value

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
