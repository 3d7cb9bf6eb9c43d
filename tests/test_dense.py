"""`nj.linear`: activation(x @ w + b), fused or not, against its meaning in double precision."""

from __future__ import annotations

import inspect
import pickle
import sys
from typing import Any

import numpy as np
import pytest
from operands import runnable_isas

import neurojit as nj
from neurojit import functions, tensor_compiler
from neurojit.dense import activation_of
from neurojit.errors import ExecutableMemoryError, ValidationError
from neurojit.plan.epilogue import Activation
from neurojit.plan.map import Map
from neurojit.runtime import SLOTS
from neurojit.validation import validate_map

ACTIVATIONS = [
    None, "identity", "exp", "tanh", "sigmoid", "erf", "relu", "leaky_relu", "elu", "silu", "gelu",
    "gelu_tanh", ("leaky_relu", 0.2), ("elu", 0.5), ("clamp", -0.5, 0.25), Activation("clamp", (0.0, 1.0)),
]  # fmt: skip
ONES = np.ones((2, 3), "f4"), np.ones((3, 5), "f4")
SHAPES = [
    (1, 64, 64),
    (1, 7, 3),
    (8, 16, 4),
    (17, 33, 65),
    (3, 7, 1),
    (5, 1, 9),
    (100, 16, 32),
    (40, 600, 700),
]
DTYPES = ["f4", "f8"]


def layer(shape: tuple[int, int, int], dtype: str, seed: int = 0) -> tuple[Any, Any, Any]:
    m, k, n = shape
    rng = np.random.default_rng(seed)
    x, w, b = rng.standard_normal((m, k)), rng.standard_normal((k, n)) / np.sqrt(k), rng.standard_normal(n)
    return x.astype(dtype), w.astype(dtype), b.astype(dtype)


def assert_means(got: Any, x: Any, w: Any, b: Any, activation: Any) -> None:
    """Bit for bit up to the activation, which is held to its own bound."""
    before = nj.matmul(x, w)
    if b is not None:
        before = before + b
    function = activation_of(activation)
    if function.name in functions.EXACT:
        exact = functions.apply_exactly(function, before)
        near = got == exact
    else:
        exact, near = functions.agrees(function, before, got)
    assert near.all(), (activation, x.shape, w.shape, exact[~near][:3], got[~near][:3])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_every_activation_at_every_kind_of_shape(activation: Any, dtype: str) -> None:
    for shape in SHAPES:
        x, w, b = layer(shape, dtype)
        for bias in (None, b):
            got = nj.linear(x, w, bias, activation=activation)
            assert_means(got, x, w, bias, activation)
            assert nj.linear(x, w, bias, activation).tobytes() == got.tobytes()
            out = np.full_like(got, np.nan)
            assert nj.linear(x, w, b=bias, activation=activation, out=out) is out
            assert out.tobytes() == got.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_in_any_layout(dtype: str) -> None:
    x, w, b = layer((9, 20, 30), dtype)
    wide = np.zeros((40, 60), dtype)
    wide[::2, ::2] = w
    for weights in (w, np.asfortranarray(w), wide[::2, ::2], w[::-1, ::-1][::-1, ::-1]):
        assert_means(nj.linear(x, weights, b, "relu"), x, weights, b, "relu")
    for inputs in (np.asfortranarray(x), np.repeat(x, 2, 1)[:, ::2], x[:, :1].repeat(20, 1)):
        assert_means(nj.linear(inputs, w, b, "tanh"), np.ascontiguousarray(inputs), w, b, "tanh")


def test_leading_dimensions_and_vectors() -> None:
    x, w, b = layer((24, 8, 5), "f4")
    expected = nj.linear(x, w, b, "sigmoid")
    assert nj.linear(x.reshape(2, 3, 4, 8), w, b, "sigmoid").tobytes() == expected.tobytes()
    assert nj.linear(x.reshape(2, 3, 4, 8), w, b, "sigmoid").shape == (2, 3, 4, 5)
    one = nj.linear(x[0], w, b, "sigmoid")
    assert one.shape == (5,)
    assert one.tobytes() == nj.linear(x[:1], w, b, "sigmoid").tobytes()


def test_nothing_to_add_up_and_nothing_to_compute() -> None:
    assert nj.linear(np.ones((0, 4), "f4"), np.ones((4, 3), "f4"), np.ones(3, "f4"), "relu").shape == (0, 3)
    got = nj.linear(np.ones((2, 0), "f4"), np.ones((0, 3), "f4"), np.array([1, -2, 3], "f4"), "relu")
    assert got.tolist() == [[1, 0, 3]] * 2


def test_row_28_out_may_overlap_every_operand() -> None:
    x, w, b = layer((6, 6, 6), "f4")
    expected = nj.linear(x, w, b, "relu")
    for place in (0, 1):
        operands = [x.copy(), w.copy()]
        assert nj.linear(*operands, b, "relu", out=operands[place]).tobytes() == expected.tobytes()
    row = layer((1, 6, 6), "f4")
    bias = row[2].copy()
    before = nj.linear(row[0], w, bias.copy(), "relu")
    assert nj.linear(row[0], w, bias, "relu", out=bias.reshape(1, 6)).tobytes() == before.tobytes()


def test_row_31_nan_and_infinities_are_as_the_function_says() -> None:
    x = np.array([[np.nan, 1], [np.inf, 1], [-np.inf, 1], [-0.0, 0]], "f4")
    w = np.array([[1.0], [0.0]], "f4")
    w2 = np.repeat(w, 20, 1)
    assert np.isnan(nj.linear(x, w2, activation="tanh")[0]).all()
    assert nj.linear(x, w2, activation="tanh")[1:3, 0].tolist() == [1.0, -1.0]
    assert nj.linear(x, w2, activation="sigmoid")[1:, 0].tolist() == [1.0, 0.0, 0.5]
    assert np.isnan(nj.linear(x, w2, activation="relu")[0]).all()


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((np.ones((2, 3), "f4"), np.ones((4, 5), "f4")), ValueError, r"x \(2, 3\) and w \(4, 5\)"),
        ((np.ones((2, 3), "f4"), np.ones(3, "f4")), ValueError, r"expected \(..., k\) and \(k, n\)"),
        ((np.float32(1), np.ones((1, 1), "f4")), ValueError, "linear: x"),
        ((*ONES, np.ones(4, "f4")), ValueError, r"b \(4,\): expected \(5,\)"),
        ((np.ones((2, 3), "f8"), np.ones((3, 5), "f4")), TypeError, "dtypes float64, float32"),
        ((np.ones((2, 3), "i4"), np.ones((3, 5), "i4")), TypeError, "dtypes int32, int32"),
        ((*ONES, np.ones(5, "f8")), TypeError, "float64"),
        ((*ONES, None, "rule"), ValueError, "activation 'rule'"),
        ((*ONES, None, ("clamp", 1)), ValueError, "1 parameters, expected 2"),
        ((*ONES, None, ["relu"]), ValueError, "expected None, a name"),
        ((*ONES, None, ()), ValueError, "expected None, a name"),
        ((ONES[0],), TypeError, "linear"),
    ],
)  # fmt: skip
def test_refused(arguments: tuple[Any, ...], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        nj.linear(*arguments)


def test_row_29_a_wrong_out_is_refused_and_untouched() -> None:
    x, w, b = layer((2, 3, 5), "f4")
    for out, error in (
        (np.zeros((2, 4), "f4"), ValueError),
        (np.zeros((2, 5), "f8"), TypeError),
        ([[0.0] * 5] * 2, TypeError),
    ):
        with pytest.raises(error, match="out"):
            nj.linear(x, w, b, "relu", out=out)
        assert not np.any(out)
    read_only = np.zeros((2, 5), "f4")
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        nj.linear(x, w, b, "relu", out=read_only)
    assert not read_only.any()


@pytest.mark.usefixtures("cold")
@pytest.mark.skipif(not runnable_isas(), reason="no emitted code runs here")
@pytest.mark.parametrize(
    "shape",
    [(300, 120, 200), (30, 300, 2000), (301, 1100, 250), (1, 700, 900), (700, 900, 1)],
    ids=["strips of rows", "strips of columns", "blocked", "one row", "one column"],
)
def test_every_kind_of_kernel_has_the_same_bits_on_any_number_of_threads(shape: tuple[int, int, int]) -> None:
    x, w, b = layer(shape, "f4")
    for weights in (w, np.asfortranarray(w)):
        got = set()
        for threads in (1, 2, 3):
            SLOTS.evict_bytes(1 << 62)
            with nj.num_threads(threads):
                got.add(nj.linear(x, weights, b, "gelu").tobytes())
        assert len(got) == 1
        assert_means(np.frombuffer(got.pop(), "f4").reshape(x.shape[0], -1), x, weights, b, "gelu")
    assert not nj.info().fallbacks, "one kernel, not several passes"


def test_references_are_kept_and_given_back() -> None:
    x, w, b = layer((4, 4, 4), "f4")
    out = np.empty((4, 4), "f4")
    nj.linear(x, w, b, "relu", out)
    before = [sys.getrefcount(array) for array in (x, w, b, out)]
    for _ in range(1000):
        nj.linear(x, w, b, activation="relu", out=out)
        nj.linear(x, w, b, activation="relu")
    assert [sys.getrefcount(array) for array in (x, w, b, out)] == before


def test_without_emitted_code_numpy_computes_the_same_function(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w, b = layer((4, 9, 8), "f4", seed=5)
    monkeypatch.setattr("neurojit.compiler.publish_product", lambda *_, **__: "not now")
    monkeypatch.setattr("neurojit.tensor_compiler.map_kernel", lambda *_: None)
    for activation in ("tanh", "gelu", ("clamp", -1, 1)):
        got = nj.linear(x, w, b, activation=activation)
        exact = functions.reference(activation_of(activation), (x.astype("f8") @ w + b))
        np.testing.assert_allclose(got, exact, rtol=1e-5, atol=1e-6)


def test_a_function_that_cannot_be_mapped_has_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ExecutableMemoryError("refused")

    monkeypatch.setattr(tensor_compiler, "_maps", {})
    monkeypatch.setattr(tensor_compiler, "Code", type("Code", (), {"map": staticmethod(refuse)}))
    assert tensor_compiler.map_kernel("f32", Activation("tanh")) is None


def test_a_map_kernel_that_is_wrong_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    other = tensor_compiler.emit_map
    monkeypatch.setattr(tensor_compiler, "_maps", {})
    monkeypatch.setattr(
        tensor_compiler,
        "emit_map",
        lambda g, isa: other(Map.of_functions(g.dtype, (Activation("sigmoid"),)), isa),
    )
    assert tensor_compiler.map_kernel("f32", Activation("tanh")) is None
    assert not tensor_compiler._maps


@pytest.mark.parametrize("fault", ["returns", "last", "beyond", "nan"])
def test_the_gate_of_functions(fault: str) -> None:
    def run(x: Any, y: Any) -> int:
        y[...] = functions.reference(Activation("tanh"), x)
        if fault == "last":
            y[0, -1] = 0.0
        elif fault == "beyond":
            np.lib.stride_tricks.as_strided(y, (1, y.size + 1))[0, -1] = 1.0
        elif fault == "nan":
            y[np.isnan(y)] = 0.0
        return 7 if fault == "returns" else 0

    with pytest.raises(ValidationError, match="tanh"):
        validate_map("f32", Activation("tanh"), run, "tanh")


def test_what_it_says_of_itself() -> None:
    assert repr(nj.linear) == "<function neurojit.linear>"
    assert str(inspect.signature(nj.linear)) == (
        "(x: 'Any', w: 'Any', b: 'Any' = None, activation: 'Any' = None, out: 'Any' = None, *, "
        "alpha: 'float' = 1.0, beta: 'float' = 0.0, residual: 'Any' = None) -> 'Any'"
    )
    assert pickle.loads(pickle.dumps(nj.linear)) is nj.linear
    assert "dense layer" in (nj.linear.__doc__ or "")
