"""Layers against their definitions in NumPy, through the interpreter and through compiled programs."""

from __future__ import annotations

import numpy as np
import pytest

import neurojit as nj
from neurojit import nn
from neurojit.errors import TensorLangError
from neurojit.ir import Builder, TensorType
from neurojit.ir.layer import as_layer, module_of, type_of

RNG = np.random.default_rng(7)


def numbers(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return RNG.standard_normal(shape).astype(dtype)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def close(got: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-6)


def test_linear_is_x_w_plus_b() -> None:
    layer = nn.Linear(5, 3, rng=1)
    x = numbers(4, 5)
    close(nj.compile(layer)(x), x @ layer.weight + layer.bias)
    plain = nn.Linear(5, 3, layer.weight, bias=False)
    assert plain.bias is None
    close(nj.compile(plain)(x), x @ layer.weight)


def test_a_list_of_layers_names_functions_and_builders() -> None:
    first, last = nn.Linear(6, 8, rng=2), nn.Linear(8, 2, rng=3)
    twice = lambda b, x: b.add(x, x)  # noqa: E731
    program = nj.compile([first, "tanh", twice, ("leaky_relu", 0.1), last])
    x = numbers(9, 6)
    h = 2 * np.tanh(x @ first.weight + first.bias)
    close(program(x), np.where(h < 0, 0.1 * h, h) @ last.weight + last.bias)
    assert sorted(program.weights) == ["0.bias", "0.weight", "4.bias", "4.weight"]


def test_given_weights_take_the_place_of_the_layers() -> None:
    layer = nn.Linear(3, 3, rng=1)
    program = nj.compile(layer, {"0.weight": np.eye(3, dtype=np.float32)})
    x = numbers(2, 3)
    close(program(x), x + layer.bias)


def test_mlp_is_linear_layers_with_functions_between() -> None:
    mlp = nn.MLP(4, 8, 8, 2, activation="tanh", last="sigmoid", rng=5)
    x = h = numbers(3, 4)
    linear = [layer for layer in mlp.layers if isinstance(layer, nn.Linear)]
    for number, layer in enumerate(linear):
        h = h @ layer.weight + layer.bias
        h = np.tanh(h) if number < 2 else sigmoid(h)
    close(nj.compile(mlp)(x), h)
    assert "Linear(4, 8)" in repr(mlp)


def test_norms_and_residual() -> None:
    x = numbers(5, 12)
    weight, bias = numbers(12), numbers(12)
    norm = nn.LayerNorm(12, weight, bias, epsilon=1e-3)
    centred = x - x.mean(-1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-3) * weight + bias
    close(nj.compile(norm)(x), expected)
    close(nj.compile(nn.Residual(norm))(x), x + expected)
    rms = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * weight
    close(nj.compile(nn.RMSNorm(12, weight))(x), rms)
    close(nj.compile(nn.LayerNorm(12))(x), nj.compile(nn.LayerNorm(12, np.ones(12), np.zeros(12)))(x))


def test_embedding_picks_rows() -> None:
    layer = nn.Embedding(7, 4, rng=1)
    rows = np.array([3, 0, 6, 6], np.int32)
    np.testing.assert_array_equal(nj.compile(layer)(rows), layer.table[rows])


def lstm(layer: nn.LSTM, x: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    gates = x @ layer.input_weight + h @ layer.state_weight + layer.input_bias + layer.state_bias
    i, f, g, o = np.split(gates, 4, axis=1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru(layer: nn.GRU, x: np.ndarray, h: np.ndarray) -> np.ndarray:
    of_x = np.split(x @ layer.input_weight + layer.input_bias, 3, axis=1)
    of_h = np.split(h @ layer.state_weight + layer.state_bias, 3, axis=1)
    r, z = (sigmoid(a + b) for a, b in zip(of_x[:2], of_h[:2], strict=True))
    if layer.reset == "after":
        n = np.tanh(of_x[2] + r * of_h[2])
    else:
        cut = 2 * layer.hidden
        n = np.tanh(of_x[2] + (r * h) @ layer.state_weight[:, cut:] + layer.state_bias[cut:])
    return (1 - z) * n + z * h


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", ["lstm", "after", "before"])
def test_recurrent_steps_and_sequences(batch: int, kind: str) -> None:
    options = {} if kind == "lstm" else {"reset": kind}
    cell = nn.LSTM if kind == "lstm" else nn.GRU
    layer = cell(6, 10, batch=batch, rng=4, **options)
    weights = (layer.input_weight, layer.state_weight, layer.input_bias, layer.state_bias)
    step = nj.compile(layer)
    sequence = nj.compile(cell(6, 10, *weights, batch=batch, steps=5, **options))
    xs = numbers(5, batch, 6)
    h = c = np.zeros((batch, 10), np.float32)
    expected = []
    for x in xs:
        h, c = lstm(layer, x, h, c) if kind == "lstm" else (gru(layer, x, h), c)
        expected.append(h)
        close(step(x), h)
    close(sequence(xs), np.stack(expected))
    close(sequence(xs), np.stack(expected))  # from zeros again
    step.reset()
    close(step(xs[0]), expected[0])


def attended(layer: nn.MultiHeadAttention, x: np.ndarray, causal: bool) -> np.ndarray:
    a, tokens, d = layer.arrays, len(x), layer.width // layer.heads
    q, k, v = np.split(x @ a["weight"] + a["bias"], 3, axis=1)
    heads = []
    for head in range(layer.heads):
        own = slice(head * d, (head + 1) * d)
        scores = q[:, own] @ k[:, own].T / np.sqrt(d)
        if causal:
            scores = np.where(np.tril(np.ones((tokens, tokens))) > 0, scores, -np.inf)
        powers = np.exp(scores - scores.max(1, keepdims=True))
        heads.append(powers / powers.sum(1, keepdims=True) @ v[:, own])
    return np.concatenate(heads, axis=1) @ a["out_weight"] + a["out_bias"]


@pytest.mark.parametrize("causal", [False, True])
def test_attention_over_a_sequence(causal: bool) -> None:
    layer = nn.MultiHeadAttention(12, 3, tokens=5, causal=causal, rng=6)
    x = numbers(5, 12)
    close(nj.compile(layer)(x), attended(layer, x, causal))


def test_attention_with_a_cache_is_causal_attention_over_the_last_tokens() -> None:
    layer = nn.MultiHeadAttention(8, 2, cache=4, rng=6)
    program = nj.compile(layer)
    xs = numbers(7, 8)
    for token in range(7):
        seen = xs[max(0, token - 3) : token + 1]
        close(program(xs[token : token + 1])[0], attended(layer, seen, causal=True)[-1])
    program.reset()
    close(program(xs[:1])[0], attended(layer, xs[:1], causal=True)[0])


def test_a_transformer_encoder_is_layers_of_layers() -> None:
    attention = nn.MultiHeadAttention(16, 4, tokens=6, rng=1)
    block = [
        nn.Residual(nn.LayerNorm(16), attention),
        nn.Residual(nn.LayerNorm(16), nn.MLP(16, 32, 16, activation="gelu", rng=2)),
    ]
    module, weights = module_of(block, input_type=TensorType((6, 16)))
    assert nj.parse(module.text).text == module.text
    program = nj.compile(block, input_type="tensor<6x16xf32>")
    x = numbers(6, 16)
    assert program(x).shape == (6, 16)
    assert len(weights) == 2 + 4 + 2 + 4


def test_float64_layers() -> None:
    layer = nn.Linear(4, 4, dtype="f64", rng=1)
    x = numbers(2, 4, dtype=np.float64)
    np.testing.assert_allclose(nj.compile(layer)(x), x @ layer.weight + layer.bias, rtol=1e-13)


def test_seeds_give_the_same_weights() -> None:
    np.testing.assert_array_equal(nn.Linear(3, 3, rng=1).weight, nn.Linear(3, 3, rng=1).weight)
    assert (nn.Linear(3, 3, rng=1).weight != nn.Linear(3, 3, rng=2).weight).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(0, 3), r"Linear\(0, 3\): inputs=0, expected an integer of at least 1"),
        (lambda: nn.Linear(3, 2, np.ones((2, 3))), r"weight: shape \(2, 3\), expected \(3, 2\)"),
        (lambda: nn.Linear(2, 1, [[1.0], [np.nan]]), r"weight: nan at \(1, 0\), expected finite"),
        (lambda: nn.Linear(2, 2, dtype="i32"), "dtype 'i32', expected 'f32' or 'f64'"),
        (lambda: nn.MLP(4), r"MLP\(4,\): expected the width of the input"),
        (lambda: nn.Sequential(), "Sequential: no layers"),
        (lambda: nn.GRU(3, 3, reset="never"), "reset 'never', expected 'after' or 'before'"),
        (lambda: nn.LSTM(3, 3, steps=0), "steps=0, expected an integer"),
        (lambda: nn.MultiHeadAttention(6, 4, tokens=2), "width 6 is no multiple of 4 heads"),
        (lambda: nn.MultiHeadAttention(6, 3), "expected either tokens or cache"),
        (lambda: nj.compile([]), "a network of no layers"),
        (lambda: nj.compile(["tanh"]), "takes inputs of any width"),
        (lambda: as_layer("tahn"), "layer 'tahn': expected a function of one element"),
        (lambda: as_layer(("leaky_relu",)), "0 parameters, expected alpha"),
    ],
)
def test_errors_say_what_was_expected(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_what_is_no_layer() -> None:
    with pytest.raises(TypeError, match="layer 3: expected a Layer"):
        as_layer(3)
    with pytest.raises(TypeError, match="weight of int64: expected float32"):
        type_of(np.ones(2, np.int64))


def test_widths_that_do_not_fit_are_found_when_built() -> None:
    with pytest.raises(TensorLangError, match="matmul"):
        nj.compile([nn.Linear(4, 5), nn.Linear(4, 5)])


def test_a_layer_of_ones_own() -> None:
    class Scaled(nn.Layer):
        input_type = TensorType((None, 3))

        def build(self, scope: nn.Scope, x):
            return scope.b.mul(x, scope.weight("scale", np.array([1, 2, 3], np.float32)))

    program = nj.compile(nn.Sequential(Scaled(), Scaled()))
    np.testing.assert_array_equal(program(np.ones((1, 3), np.float32)), [[1, 4, 9]])
    assert sorted(program.weights) == ["0.0.scale", "0.1.scale"]
    assert isinstance(Builder(), Builder)
