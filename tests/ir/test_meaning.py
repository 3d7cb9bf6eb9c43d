"""Every op's NumPy meaning against a plain definition, element by element, in exact or high precision.

The definitions here are loops over mpmath numbers: slow, and written without looking at the table. Results of
one rounding may differ from them by that rounding: 0.51 units in the last place of f32.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest

from neurojit.ir import OPS, Builder, evaluate
from neurojit.ir.random import threefry2x32
from neurojit.ir.types import ELEMENTS

mpmath.mp.dps = 40
Array = np.ndarray[Any, Any]
PHI = lambda x: (1 + mpmath.erf(x / mpmath.sqrt(2))) / 2  # noqa: E731
C = mpmath.sqrt(2 / mpmath.pi)
SIGMOID = lambda x: 1 / (1 + mpmath.exp(-x))  # noqa: E731

ONE: dict[str, tuple[Callable[..., Any], dict[str, float]]] = {
    "neg": (lambda x: -x, {}),
    "abs": (lambda x: x if x >= 0 else -x, {}),
    "sqrt": (lambda x: mpmath.sqrt(x) if x >= 0 else mpmath.nan, {}),
    "rsqrt": (lambda x: 1 / mpmath.sqrt(x) if x > 0 else mpmath.inf if x == 0 else mpmath.nan, {}),
    "exp": (mpmath.exp, {}),
    "log": (lambda x: mpmath.log(x) if x > 0 else -mpmath.inf if x == 0 else mpmath.nan, {}),
    "tanh": (mpmath.tanh, {}),
    "sigmoid": (SIGMOID, {}),
    "erf": (mpmath.erf, {}),
    "gelu": (lambda x: x * PHI(x), {}),
    "gelu_tanh": (lambda x: x / 2 * (1 + mpmath.tanh(C * (x + mpmath.mpf("0.044715") * x**3))), {}),
    "silu": (lambda x: x * SIGMOID(x), {}),
    "relu": (lambda x: max(x, 0), {}),
    "leaky_relu": (lambda x, alpha: x if x >= 0 else x * alpha, {"alpha": 0.125}),
    "elu": (lambda x, alpha: x if x >= 0 else alpha * mpmath.expm1(x), {"alpha": 0.5}),
    "clamp": (lambda x, low, high: min(max(x, low), high), {"low": -1.0, "high": 1.5}),
}
TWO: dict[str, Callable[..., Any]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "maximum": max,
    "minimum": min,
}
X = np.array([-3.7, -1.0, -0.3, 0.0, 1e-3, 0.5, 1.0, 2.5, 6.0, 11.0], "f4")
Y = np.array([2.0, -0.7, 3.3, 1.0, -4.1, 0.11, 1.0, -2.5, 7.0, 0.3], "f4")


def run(op: str, *arrays: Any, **attributes: Any) -> Array:
    b = Builder()
    names = {row.dtype: name for name, row in ELEMENTS.items() if name != "bf16"}
    arrays = tuple(np.asarray(array) for array in arrays)
    values = [
        b.parameter(f"p{i}", f"tensor<{'x'.join([*map(str, array.shape), names[array.dtype.name]])}>")
        for i, array in enumerate(arrays)
    ]
    return evaluate(b.build(b.op(op, *values, **attributes)), arrays).outputs[0]


def exactly(function: Callable[..., Any], *arrays: Array) -> list[Any]:
    return [function(*(mpmath.mpf(float(x)) for x in row)) for row in zip(*arrays, strict=True)]


def assert_rounded(got: Array, exact: list[Any], slack: float = 0.51) -> None:
    """Each element is what `exact` rounds to, up to `slack` units in the last place."""
    for value, wanted in zip(got.ravel().tolist(), exact, strict=True):
        if mpmath.isnan(wanted) or mpmath.isinf(wanted):
            assert str(value) == str(float(wanted))
            continue
        unit = float(np.spacing(np.abs(got.dtype.type(float(wanted)))))
        assert abs(mpmath.mpf(value) - wanted) <= slack * unit, (value, wanted)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("op", ONE)
def test_one_operand(op: str, dtype: str) -> None:
    function, attributes = ONE[op]
    got, exact = run(op, X.astype(dtype), **attributes), exactly(lambda x: function(x, **attributes), X)
    if dtype == "f8" and op in ("erf", "gelu", "gelu_tanh"):
        # From the C library's erf, which is no wider than f64, or constants in f64; the gelus count units
        # of the greater of the result and x / 2, as functions.py does.
        size = np.maximum(np.abs(got), np.abs(X) / 2 if op != "erf" else 0)
        assert all(
            abs(g - e) <= 1.1 * u for g, e, u in zip(got.tolist(), exact, np.spacing(size), strict=True)
        )
    else:
        assert_rounded(got, exact)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("op", TWO)
def test_two_operands(op: str, dtype: str) -> None:
    assert_rounded(run(op, X.astype(dtype), Y.astype(dtype)), exactly(TWO[op], X, Y))


def test_integers_wrap() -> None:
    low, high = np.array([-128], "i1"), np.array([127], "i1")
    assert run("neg", low) == run("abs", low) == run("add", high, np.array([1], "i1")) == -128
    assert run("mul", np.array([2**30], "i4"), np.array([4], "i4")) == 0
    assert run("sum", np.full(4, 2**30, "i4"), axes=0) == 0
    assert run("matmul", np.full((1, 300), 127, "i1"), np.full((300, 1), -128, "i1")) == -300 * 127 * 128
    assert run("cumsum", np.full(3, 2**30, "i4"), axis=0).tolist() == [2**30, -(2**31), -(2**30)]


PREDICATES = {"eq": "__eq__", "ne": "__ne__", "lt": "__lt__", "le": "__le__", "gt": "__gt__", "ge": "__ge__"}


@pytest.mark.parametrize("predicate", PREDICATES)
def test_compare(predicate: str) -> None:
    numbers = [-math.inf, -0.0, 0.0, 1.0, math.nan]
    pairs = np.array(list(itertools.product(numbers, numbers)), "f4")
    expected = [getattr(float(x), PREDICATES[predicate])(float(y)) for x, y in pairs]
    assert run("compare", pairs[:, 0], pairs[:, 1], predicate=predicate).tolist() == expected


def test_logic_and_select() -> None:
    x, y = np.array([False, False, True, True]), np.array([False, True, False, True])
    assert run("and", x, y).tolist() == [False, False, False, True]
    assert run("or", x, y).tolist() == [False, True, True, True]
    assert run("not", x).tolist() == [True, True, False, False]
    assert run("select", x, np.array(1.0, "f4"), np.arange(4, dtype="f4")).tolist() == [0, 1, 1, 1]
    assert run("convert", np.array([2.9, -2.9], "f4"), dtype="i32").tolist() == [2, -2]


def dot(a: Array, b: Array, i: int, j: int) -> Any:
    return mpmath.fsum(mpmath.mpf(float(a[i, k])) * mpmath.mpf(float(b[k, j])) for k in range(a.shape[1]))


@pytest.mark.parametrize(("ta", "tb"), [*itertools.product([False, True], repeat=2)])
def test_products(ta: bool, tb: bool) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((3, 17)).astype("f4"), rng.standard_normal((17, 4)).astype("f4")
    got = run("matmul", a.T if ta else a, b.T if tb else b, transpose_a=ta, transpose_b=tb)
    assert_rounded(got, [dot(a, b, i, j) for i in range(3) for j in range(4)])
    batched = run("matmul", np.stack([a, -a])[:, np.newaxis], np.stack([b, b, b]))
    assert batched.shape == (2, 3, 3, 4)
    np.testing.assert_array_equal(batched[1, 2], -run("matmul", a, b))
    np.testing.assert_array_equal(run("outer", a, a)[1], np.outer(a[1], a[1]))


def rows(x: Array) -> list[list[Any]]:
    return [[mpmath.mpf(float(v)) for v in row] for row in x]


def flat(lists: Iterable[list[Any]]) -> list[Any]:
    return [item for items in lists for item in items]


def softmax(row: list[Any]) -> list[Any]:
    total = mpmath.fsum(map(mpmath.exp, row))
    return [mpmath.exp(v) / total for v in row]


def layer_norm(row: list[Any], weight: Any, bias: Any) -> list[Any]:
    mean = mpmath.fsum(row) / len(row)
    variance = mpmath.fsum((v - mean) ** 2 for v in row) / len(row)
    epsilon = mpmath.mpf(float(np.float32(1e-5)))
    return [
        (v - mean) / mpmath.sqrt(variance + epsilon) * float(w) + float(c)
        for v, w, c in zip(row, weight, bias, strict=True)
    ]


def rms_norm(row: list[Any], weight: Any) -> list[Any]:
    epsilon = mpmath.mpf(float(np.float32(1e-5)))
    root = mpmath.sqrt(mpmath.fsum(v * v for v in row) / len(row) + epsilon)
    return [v / root * float(w) for v, w in zip(row, weight, strict=True)]


def test_reductions() -> None:
    rng = np.random.default_rng(2)
    x = (rng.standard_normal((5, 9)) * 4).astype("f4")
    weight, bias = rng.standard_normal((2, 9)).astype("f4")
    assert_rounded(run("sum", x, axes=1), [mpmath.fsum(row) for row in rows(x)])
    assert_rounded(run("sum", x, axes=0, keepdims=True), [mpmath.fsum(row) for row in rows(x.T)])
    assert_rounded(run("sum", x, axes=(0, 1)), [mpmath.fsum(flat(rows(x)))])
    assert_rounded(run("mean", x, axes=1), [mpmath.fsum(row) / 9 for row in rows(x)])
    assert_rounded(run("max", x, axes=1), [max(row) for row in rows(x)])
    assert_rounded(run("min", x, axes=0), [min(row) for row in rows(x.T)])
    assert_rounded(
        run("logsumexp", x, axis=1), [mpmath.log(mpmath.fsum(map(mpmath.exp, row))) for row in rows(x)]
    )
    assert_rounded(run("softmax", x, axis=-1), flat(softmax(row) for row in rows(x)))
    assert_rounded(run("cumsum", x, axis=1), [mpmath.fsum(row[: i + 1]) for row in rows(x) for i in range(9)])
    assert_rounded(run("layer_norm", x, weight, bias), flat(layer_norm(row, weight, bias) for row in rows(x)))
    assert_rounded(run("rms_norm", x, weight), flat(rms_norm(row, weight) for row in rows(x)))
    ties = np.array([[1, 3, 3], [2, 2, 2], [0, np.nan, 5]], "f4")
    assert run("argmax", ties, axis=1).tolist() == [1, 0, 1]
    assert run("argmax", ties.T, axis=0, keepdims=True).tolist() == [[1, 0, 1]]


def test_reductions_of_nothing_and_of_specials() -> None:
    none = np.zeros((2, 0), "f4")
    assert run("sum", none, axes=1).tolist() == [0, 0]
    assert run("max", none, axes=1).tolist() == [-np.inf, -np.inf]
    assert run("min", none.astype("i4"), axes=1).tolist() == [2**31 - 1] * 2
    assert np.isnan(run("mean", none, axes=1)).all()
    assert run("softmax", none, axis=1).shape == (2, 0)
    x = np.array([[1e4, 1e4, -1e4], [-np.inf, 0, 0], [np.inf, 0, 0], [-np.inf] * 3, [np.nan, 0, 1]], "f4")
    half, one = np.float32(0.5), np.float32(np.log(2))
    np.testing.assert_array_equal(run("softmax", x, axis=1)[:2], [[half, half, 0], [0, half, half]])
    assert np.isnan(run("softmax", x, axis=1)[2:]).any(axis=1).all()
    expected = [np.float32(1e4 + np.log(2)), one, np.inf, -np.inf, np.nan]
    np.testing.assert_array_equal(run("logsumexp", x, axis=1), np.array(expected, "f4"))
    assert np.isnan(run("max", x, axes=1)[4])


def test_movement() -> None:
    x = np.arange(24, dtype="f4").reshape(2, 3, 4)
    flat = x.ravel().tolist()
    assert run("reshape", x, shape=(4, -1)).tolist() == [flat[i : i + 6] for i in range(0, 24, 6)]
    moved = run("transpose", x, permutation=(2, 0, 1))
    assert all(moved[k, i, j] == x[i, j, k] for i in range(2) for j in range(3) for k in range(4))
    assert run("broadcast", x[:, :1, :1], shape=(2, 2, 3))[1].tolist() == [[12.0] * 3] * 2
    assert run("slice", x, axis=2, start=1, end=4, step=2)[0].tolist() == [[1, 3], [5, 7], [9, 11]]
    assert run("concat", x[0], x[1], axis=1)[0].tolist() == [0, 1, 2, 3, 12, 13, 14, 15]
    padded = run("pad", x[0, :2], low=(1, 0), high=(0, 2), value=9.0)
    assert padded.tolist() == [[9] * 6, [0, 1, 2, 3, 9, 9], [4, 5, 6, 7, 9, 9]]
    assert run("pad", np.array(3.0, "f4"), low=(), high=()) == 3
    index = np.array([-7, 0, 2, 99], "i4")
    np.testing.assert_array_equal(run("gather", x, index, axis=1), x[:, [0, 0, 2, 2]])


def test_random_numbers_follow_their_definition() -> None:
    key, counter = np.array([12, -34], "i4"), np.array(56, "i4")
    index = np.arange(6, dtype="u4")
    w0, w1 = threefry2x32((12, -34 & 0xFFFFFFFF), index, np.full(6, 56, "u4"))
    words = [(int(a), int(b)) for a, b in zip(w0, w1, strict=True)]
    arguments = {"shape": (2, 3)}
    assert_rounded(
        run("random_uniform", key, counter, **arguments), [mpmath.mpf(a >> 8) / 2**24 for a, _ in words], 0
    )
    doubles = run("random_uniform", key, counter, dtype="f64", **arguments)
    assert_rounded(doubles, [mpmath.mpf(((a << 32) | b) >> 11) / 2**53 for a, b in words], 0)

    def normal(a: int, b: int, dropped: int) -> Any:
        u, v = (mpmath.mpf((a >> dropped) + 1), mpmath.mpf(b >> dropped))
        scale = mpmath.mpf(2) ** (dropped - 32)
        return mpmath.sqrt(-2 * mpmath.log(u * scale)) * mpmath.cos(2 * mpmath.pi * v * scale)

    assert_rounded(run("random_normal", key, counter, **arguments), [normal(a, b, 8) for a, b in words])
    doubles = run("random_normal", key, counter, dtype="f64", **arguments)
    assert_rounded(doubles, [normal(a, b, 0) for a, b in words], 0.52)


def test_every_op_with_a_meaning_is_tested_here() -> None:
    here = Path(__file__).read_text()
    for name, row in OPS.items():
        if row.meaning is not None:
            assert name in ONE or name in TWO or f'run("{name}"' in here, name
