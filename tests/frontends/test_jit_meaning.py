"""Traced functions mean what NumPy means: both stay within one bound of the exact value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operands import Array, plain

import neurojit as nj
from neurojit import bounds
from neurojit.frontends.jit import trace

F4, F8, I4, I1, B = np.float32, np.float64, np.int32, np.int8, np.bool_


def agree(function: Callable[..., Any], *inputs: Any) -> None:
    """Result for result: NumPy's shape and dtype, and both answers within the bound of the exact one."""
    jitted = nj.jit(function)
    got, meant = jitted(*inputs), function(*inputs)
    traced = trace(function, *inputs)
    arrays = [np.asarray(each) for each in inputs if isinstance(each, (np.ndarray, np.generic))]
    exact, _ = bounds.bounds(traced.module.main, arrays, traced.weights, {})
    assert isinstance(got, tuple) == isinstance(meant, tuple)
    pairs = zip(got, meant, strict=True) if isinstance(meant, tuple) else [(got, meant)]
    for (mine, numpys), bounded in zip(pairs, exact, strict=True):
        assert mine.shape == np.shape(numpys)
        assert mine.dtype == np.asarray(numpys).dtype
        assert bounds.agrees(mine, bounded).all(), (mine, numpys)
        assert bounds.agrees(np.asarray(numpys), bounded).all(), (mine, numpys)


def ints(seed: int, shape: tuple[int, ...], dtype: Any = I4) -> Array:
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(dtype)


def bools(seed: int, shape: tuple[int, ...]) -> Array:
    return np.random.default_rng(seed).random(shape) < 0.5


X, Y, V = plain(1, (4, 6)), plain(2, (6, 3)), plain(3, (6,))
Z = plain(4, (2, 3, 4))
CAPTURED = plain(5, (6, 7))

ONE: list[tuple[str, Callable[..., Any], Array]] = [
    ("numbers", lambda x: 2 * x + 1 - x / 3 - 1 / (x * x + 1), X),
    ("reflected matmul", lambda x: [1, 2, 3, 4] @ x, X),
    ("reflected", lambda x: (1 - x) * V, X),
    ("promotes to float64", lambda x: x + np.float64(0.1), X),
    ("promotes with an array", lambda x: x * np.arange(6), X),
    ("keeps float32", lambda x: x * 0.1, X),
    ("keeps int32", lambda x: x * 3 - 1, ints(1, (5,))),
    ("int divides to float64", lambda x: x / 4, ints(1, (5,))),
    ("int8", lambda x: x + x, ints(2, (5,), I1)),
    ("exp of int32", lambda x: np.exp(x), ints(2, (5,))),
    ("float64", lambda x: np.tanh(np.exp(x) - np.sqrt(np.abs(x))), plain(3, (4, 6), F8)),
    ("log", lambda x: np.log(x * x + 0.5), X),
    ("captured weight", lambda x: x @ CAPTURED + np.ones(7, F4), X),
    ("captured list", lambda x: np.add(x, [1, 2, 3, 4, 5, 6]), X),
    ("matmul with a vector", lambda x: (x @ V, V @ x.T, V @ np.ones(6, F4) * x), X),
    ("batched matmul", lambda x: x @ np.swapaxes(x, 1, 2), Z),
    ("batched matmul broadcast", lambda x: x @ np.ones((4, 2), F4), Z),
    ("int matmul", lambda x: x @ x.T, ints(1, (3, 4))),
    ("dot", lambda x: (np.dot(x, Y), x.dot(V), np.dot(x, 2.0)), X),
    ("outer", lambda x: np.outer(x, V), X),
    ("powers", lambda x: (x**2, x**3, x**7, (x * x) ** 0.5, (x * x + 1) ** -1, x**1), X),
    ("int powers", lambda x: (x**2, x**5), ints(1, (5,))),
    ("square and reciprocal", lambda x: (np.square(x), np.reciprocal(x * x + 1)), X),
    ("extremes", lambda x: (np.maximum(x, V), np.minimum(x, 0.1), np.clip(x, -0.1, V)), X),
    ("clip by name", lambda x: np.clip(x, min=-0.5) + x.clip(None, 0.5), X),
    ("comparisons", lambda x: (x > 0, x >= V, x < 0.1, x <= 0, x == x, x != x), X),
    ("ints compare with floats", lambda x: x > 0.5, ints(1, (9,))),
    ("where", lambda x: np.where(x > 0, x, 0) + np.where(V > 0, 1.0, x), X),
    ("logic", lambda x: np.logical_and(x, x > 0) | ~(x > 1) & np.logical_or(x, V), X),
    ("booleans", lambda x: (x + x, x * ~x, x | True, x & x, np.maximum(x, ~x), abs(x)), bools(1, (3, 4))),
    ("reflected booleans", lambda x: (True | x, False & x), bools(1, (3, 4))),
    ("any and all", lambda x: (x.T.max(0), np.any(x, axis=1), np.all(x), np.max(x)), bools(2, (3, 4))),
    ("sums", lambda x: (x.sum(), x.sum(0), x.sum(axis=(0, -1), keepdims=True), np.sum(x, dtype=F8)), Z),
    ("means", lambda x: (x.mean(), x.mean(-1), np.mean(x, axis=(0, 1), keepdims=True)), Z),
    ("int mean and sum", lambda x: (x.mean(0), x.sum(0, dtype=I4)), ints(3, (4, 3))),
    ("max and min", lambda x: (x.max(), x.min(1), np.max(x, axis=2, keepdims=True), np.amin(x)), Z),
    ("cumsum", lambda x: (np.cumsum(x, axis=1), x.cumsum()), X),
    ("shapes", lambda x: (x.T, x.reshape(4, -1), x.reshape((-1,)), np.ravel(x), x.transpose(1, 0, 2)), Z),
    ("shape methods", lambda x: (x.ravel(), x.flatten(), x[:1].squeeze()), Z),
    ("transposes", lambda x: (np.transpose(x, (2, 0, -2)), np.swapaxes(x, 0, -1), x.transpose()), Z),
    ("axes", lambda x: (np.expand_dims(x, (0, -1)), np.squeeze(x[:1]), np.squeeze(x[:, :1], 1)), Z),
    ("broadcast", lambda x: np.broadcast_to(x[:, :1], (2, 4, 6)), X),
    ("concatenate", lambda x: (np.concatenate([x, V[None]]), np.concatenate((x, x), -1)), X),
    ("concatenate flat and promoted", lambda x: np.concatenate([x, np.zeros(2)], axis=None), X),
    ("stack", lambda x: (np.stack([x, x + 1]), np.stack((x, x), axis=-1)), X),
    ("split", lambda x: tuple(np.split(x, 3, axis=1)) + tuple(np.split(x, [1, 3])), X),
    ("pad", lambda x: (np.pad(x, 1), np.pad(x, ((0, 2), (1, 0)), constant_values=0.5)), X),
    ("pad booleans", lambda x: np.pad(x, 1), bools(1, (3,))),
    ("take", lambda x: (np.take(x, [1, -1], axis=1), x.take(3), x[:, np.array([[0, 1], [5, -6]])]), X),
    ("take many", lambda x: (np.take(x, np.arange(40)[::-1] % 24), x[:, [0, 0, 1, 2, 5, 4]]), X),
    ("take from nothing", lambda x: (x[[]], x[:, [[]]], np.take(x, np.zeros((2, 0), int), axis=0)), X[:0]),
    ("gather", lambda i: np.take(i * 2, i, mode="clip"), ints(1, (5,))),
    ("index", lambda x: (x[0], x[-1, 2], x[1:, ::2], x[..., None, -2:], x[3:1], x[::-1, ::-3], x[None]), X),
    ("index deep", lambda x: (x[1, ..., 0], x[:, 1:2, 3], x[0, 1, 2], x[()], x[2:, 5:]), Z),
    ("iterate", lambda x: sum(row * (i + 1) for i, row in enumerate(x)), X),
    ("like", lambda x: (np.zeros_like(x) + x, np.ones_like(x, dtype=F8) * x), X),
    ("casts", lambda x: (x.astype(F8) * 0.1, x.astype(I4), x.astype(bool), (x > 0).astype(F4)), X),
    ("known facts", lambda x: x / x.shape[0] * len(x) + x.size - x.ndim + np.ndim(x) - np.shape(x)[1], X),
    ("inputs and captured come out", lambda x: (x, V, x, 1.5 * CAPTURED, np.float32(3)), X),
    ("nan", lambda x: (np.isnan(x), np.maximum(x, 0.0), x != x), np.array([np.nan, 1, -np.inf], F4)),
    ("unary", lambda x: (-x, +x, abs(x), np.fabs(x), np.positive(x), x.copy()), X),
    ("rank 0", lambda x: (x + 1, x.sum(), np.exp(x), x.reshape(1)), np.array(0.5, F4)),
    ("nothing", lambda x: (x.sum(0), x + 1, x.T @ x, np.any(x), np.all(x)), np.zeros((0, 3), F4)),
]  # fmt: skip


@pytest.mark.parametrize(("function", "x"), [pytest.param(f, x, id=name) for name, f, x in ONE])
def test_it_means_what_numpy_means(function: Callable[..., Any], x: Array) -> None:
    with np.errstate(all="ignore"):
        agree(function, x)


def test_argmax_is_numpys_as_int32() -> None:
    x = plain(1, (3, 4, 5))
    function = nj.jit(
        lambda x: (x.argmax(), np.argmax(x, axis=1), x.argmax(-1, keepdims=True), (x > 0).argmax(0))
    )
    for got, meant in zip(function(x), function.function(x), strict=True):
        assert got.dtype == np.int32
        np.testing.assert_array_equal(got, meant)
    np.testing.assert_array_equal(
        nj.jit(lambda x: np.argmax(x, keepdims=True))(x), np.argmax(x, keepdims=True)
    )


@pytest.mark.parametrize("shape", [(4, 6), (5,), (2, 3, 4)])
def test_reversed_and_picked_rows_are_compiled(shape: tuple[int, ...]) -> None:
    def function(x: Any) -> Any:
        return np.tanh(x[::-1]), x[..., [2, 0, -1]] * 2, x[::-2]

    program = nj.jit(function).program(plain(1, shape))
    assert program.compiled, program.explain()
    agree(function, plain(1, shape))


UNARY: list[Callable[..., Any]] = [
    np.negative, np.absolute, np.tanh, np.square, lambda x: np.exp(-np.abs(x)), lambda x: np.sqrt(np.abs(x)),
    lambda x: x.T, lambda x: x[::2], lambda x: x[..., 1:], lambda x: x.sum(-1, keepdims=True),
    lambda x: np.max(x, axis=0), lambda x: x.reshape(-1), lambda x: np.expand_dims(x, 0),
    lambda x: np.where(x > 0.25, x, 0.5), lambda x: np.mean(x, axis=0, keepdims=True), lambda x: x * 3 - 0.5,
    lambda x: np.cumsum(x, axis=-1), lambda x: np.concatenate([x, x], axis=0), lambda x: x.astype(F8),
]  # fmt: skip
BINARY = [np.add, np.subtract, np.multiply, np.maximum, np.minimum, lambda x, y: x / (1 + y * y)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 9)), min_size=1, max_size=6),
    st.sampled_from([F4, F8]),
    st.integers(0, 1 << 30),
)
def test_random_expressions(shape: list[int], steps: list[tuple[int, int]], dtype: Any, seed: int) -> None:
    """Steps on the latest value, joined with an earlier one where the shapes broadcast."""

    def function(x: Any, y: Any) -> Any:
        values = [x, y]
        for which, other in steps:
            latest = values[-1]
            joined = values[other % len(values)]
            if which < 50 and _broadcasts(latest.shape, joined.shape):
                values.append(BINARY[which % len(BINARY)](latest, joined))
            elif latest.ndim:
                values.append(UNARY[which % len(UNARY)](latest))
        return values[-1], values[len(values) // 2]

    x, y = plain(seed, tuple(shape), dtype), plain(seed + 1, tuple(shape[-1:]), F4)
    try:
        with np.errstate(all="ignore"):
            function(x, y)
    except ValueError:  # an empty maximum
        with pytest.raises(ValueError, match="zero-size"):
            nj.jit(function)(x, y)
        return
    agree(function, x, y)


def _broadcasts(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    try:
        return len(np.broadcast_shapes(a, b)) <= 5
    except ValueError:
        return False
