"""What cannot be traced: each error names the line of the function, what was met, and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from operands import plain

import neurojit as nj
from neurojit.errors import TensorLangError
from neurojit.frontends.jit import trace

F4, X = np.float32, plain(1, (4, 6))
I = np.arange(6, dtype=np.int32)  # noqa: E741
TABLE = plain(2, (9, 3))


def add_in_place(x: Any) -> Any:
    x += 1
    return x


def assign(x: Any) -> Any:
    x[0] = 1
    return x


def branch(x: Any) -> Any:
    return x if x.sum() > 0 else -x


TYPE_ERRORS: list[tuple[Callable[..., Any], Any, str]] = [
    (branch, X, "truth value of .*bool.*numpy.where"),
    (add_in_place, X, "in-place assignment.* x = x "),
    (assign, X, "in-place assignment"),
    (lambda x: np.add(x, 1, out=np.empty_like(X)), X, "numpy.add: out: .*changes no array"),
    (lambda x: np.sum(x, out=np.empty(())), X, "numpy.sum: out: .*changes no array"),
    (lambda x: int(x[0, 0]), X, r"int\(\) of"),
    (lambda x: float(x[0, 0]), X, r"float\(\) of"),
    (lambda x: complex(x[0, 0]), X, r"complex\(\) of"),
    (lambda x: [1, 2][x[0]], I, "index of .*numpy.take"),
    (lambda x: np.asarray(x), X, "an array of .*NumPy's functions"),
    (lambda i: np.take(TABLE, i, axis=0, mode="clip"), I, "pass that array as an argument"),
    (lambda x: 3 in x, X, "`in` of .*numpy.any"),
    (lambda x: len(x[0, 0]), X, r"len\(\) of a traced array without axes"),
    (lambda x: np.arctan(x), X, "numpy.arctan: not known to nj.jit; it knows absolute, add,"),
    (lambda x: np.add.reduce(x), X, "numpy.add.reduce: not known"),
    (lambda x: np.linalg.norm(x), X, "numpy.norm: not known to nj.jit; it knows .*argmax"),
    (lambda x: np.add(x, 1, where=x > 0), X, "numpy.add: keyword where: expected none"),
    (lambda x: np.sum(x, initial=3), X, r"numpy.sum: .*unexpected keyword argument 'initial'"),
    (lambda x: x * np.arange(6), I, "multiply: int64: expected one of float32, .*astype"),
    (lambda x: np.exp(x.astype(np.int8)), I, "exp: float16: expected one of"),
    (lambda x: x.astype(np.float16), X, "operand: float16: expected one of"),
    (lambda x: x - x, X > 0, "subtract: .*boolean subtract"),
    (lambda x: x & 1, I, "bitwise_and: int32: expected bool"),
    (lambda x: x + None, X, "add: NoneType of object: expected an array or number"),
    (lambda x: x**x, X, "numpy.power: exponent .*: expected a number"),
    (lambda x: 2**x, X, "numpy.power: exponent .*: expected a number"),
    (lambda x: x**2.5, X, "numpy.power: exponent 2.5: expected 1 to 8"),
    (lambda x: x**-1, I, "numpy.power: exponent -1: expected 1 to 8|Integers to negative"),
    (lambda x: x.sum(), I, "numpy.sum of int32 gives int64.*dtype=np.int32"),
    (lambda x: np.cumsum(x, dtype=np.int8), I, "numpy.cumsum: dtype int8: expected float32"),
    (lambda x: np.where(x > 0), X, "numpy.where: one argument"),
    (lambda x: np.take(x, [0.5]), X, "numpy.take: indices of float64: expected integers"),
    (lambda x: np.take(x, x, mode="clip"), X, "numpy.take: indices of float32: expected int32"),
    (lambda x: np.take(x, x), I, "mode 'raise' with traced indices: expected 'clip'"),
    (lambda x: x[x > 0], X, "index: a traced mask.*numpy.where"),
    (lambda x: x[x], I, "index: a traced array; use numpy.take"),
    (lambda x: x[: x[0]], I, "index: a slice whose ends are traced"),
    (lambda x: x[[0, 1], [1, 0]], X, "index: one array of integers"),
    (lambda x: x[0, [1, 0]], X, "index: one array of integers"),
    (lambda x: x[1.5], X, "index: float of float64: expected integers"),
    (lambda x: np.pad(x, 1, mode="edge"), X, "numpy.pad: mode 'edge': expected 'constant'"),
    (lambda x: x.astype(bool) @ x.astype(bool).T, X, "numpy.matmul of bool: expected float32"),
    (lambda x: np.dot(x, np.ones((2, 6, 3), F4)), X, "numpy.dot of more than two axes"),
    (lambda x: {"y": x}, X, "output 0: dict of object: expected an array"),
    (lambda x: x + 1, X.astype(np.int64), "int64: expected one of float32"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "x", "text"), TYPE_ERRORS)
def test_what_cannot_be_traced(function: Callable[..., Any], x: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        nj.jit(function)(x)


def test_an_error_begins_with_the_line_of_the_function() -> None:
    line = branch.__code__.co_firstlineno + 1
    with pytest.raises(TypeError, match=rf"^{re.escape(__file__)}:{line}: truth value"):
        nj.jit(branch)(X)


@pytest.mark.parametrize("nothing", [lambda x: None, lambda x: ()])
def test_a_function_without_outputs(nothing: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=r"traced returned (None|\(\)): expected an array or a tuple"):
        nj.jit(nothing)(X)


NUMPYS_ERRORS: list[tuple[Callable[..., Any], Any, type[Exception]]] = [
    (lambda x: x + np.ones(5, F4), X, ValueError),
    (lambda x: x @ np.ones((5, 2), F4), X, ValueError),
    (lambda x: x @ np.float32(2), X, ValueError),
    (lambda x: x.reshape(5, 5), X, ValueError),
    (lambda x: x.reshape(-1, -1), X, ValueError),
    (lambda x: x.sum(axis=2), X, ValueError),
    (lambda x: x.sum(axis=(0, 0)), X, ValueError),
    (lambda x: np.max(x), np.zeros((0, 2), F4), ValueError),
    (lambda x: np.argmax(x), np.zeros((0, 2), F4), ValueError),
    (lambda x: np.transpose(x, (0, 0)), X, ValueError),
    (lambda x: np.squeeze(x, 0), X, ValueError),
    (lambda x: np.broadcast_to(x, (5, 6)), X, ValueError),
    (lambda x: np.concatenate([x, X[:, :2]]), X, ValueError),
    (lambda x: np.concatenate([x, 1.0]), X, ValueError),
    (lambda x: np.stack([x, X[:2]]), X, ValueError),
    (lambda x: np.split(x, 5), X, ValueError),
    (lambda x: np.pad(x, -1), X, ValueError),
    (lambda x: x[4], X, IndexError),
    (lambda x: x[0, 0, 0], X, IndexError),
    (lambda x: x[..., ...], X, IndexError),
    (lambda x: x[[7]], X, IndexError),
    (lambda x: x[:, :: 0], X, ValueError),
    (lambda x: x + 2**40, I, OverflowError),
]  # fmt: skip


@pytest.mark.parametrize(("function", "x", "error"), NUMPYS_ERRORS)
def test_numpys_errors_stay_numpys(function: Callable[..., Any], x: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        function(x)
    with pytest.raises(error):
        nj.jit(function)(x)


def test_shapes_that_do_not_fit_name_the_line() -> None:
    with pytest.raises(TensorLangError, match=r"test_jit_errors.py:\d+: add: shapes do not broadcast"):
        nj.jit(lambda x: x + np.ones(5, F4))(X)


def test_tracers_that_outlive_their_call_or_stray() -> None:
    kept: list[Any] = []

    def leaks(x: Any) -> Any:
        kept.append(x)
        return x + 1

    nj.jit(leaks)(X)
    for use in (lambda x: x + 1, lambda x: x.T, lambda x: x.astype(np.float64)):
        with pytest.raises(TypeError, match="a tracer outlived its call"):
            use(kept[0])

    def outer(x: Any) -> Any:
        def inner(y: Any) -> Any:
            return y + x

        return trace(inner, X)

    with pytest.raises(TypeError, match="a tracer of another traced function"):
        trace(outer, X)


class Policy:
    @nj.jit
    def act(self, x: Any) -> Any:
        return x


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: nj.jit(iter), "no signature found for builtin .*; wrap it in a function"),
        (lambda: nj.jit(3), "nj.jit: int: expected a Python function"),
        (lambda: nj.jit(lambda x: x)([1.0]), "argument 0: list: expected an array, or a number"),
        (lambda: nj.jit(lambda x: x)((X, 1)), "argument 0: tuple: expected an array, or a number"),
        (
            lambda: nj.jit(lambda x: x)(np.ma.masked_array(X)),
            "argument 0: MaskedArray: expected a plain array",
        ),
        (lambda: nj.jit(lambda *, k: k)(k={}), "k: dict: expected an array, or a number"),
        (lambda: Policy().act(X), "argument 0: Policy: expected an array"),
        (lambda: nj.jit(lambda x: x)(), "missing a required argument: 'x'"),
    ],
)
def test_arguments_that_are_neither_arrays_nor_constants(call: Callable[[], Any], text: str) -> None:
    with pytest.raises(TypeError, match=text):
        call()
