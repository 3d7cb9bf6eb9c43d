"""Layers against PyTorch's modules with the same weights, within the bounds of `neurojit.bounds`.

PyTorch computes in float64, so its own roundings are far below the bounds of float32 programs; those of
float64 programs are held to twice their bound. Skipped where PyTorch is absent.
"""

from __future__ import annotations

import numpy as np
import pytest

import neurojit as nj
from neurojit import nn
from neurojit.bounds import bounds

torch = pytest.importorskip("torch")

Array = np.ndarray
DTYPES = {"f32": np.float32, "f64": np.float64}
USEFUL = {"f32": 1e-3, "f64": 1e-12}
"""A bound above this would say nothing: values here are of the order of 1."""


def numbers(dtype: str, *shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(DTYPES[dtype])


def wide(array: Array):
    """In float64; neurojit's matrices are PyTorch's transposed."""
    return torch.from_numpy(array.T.astype(np.float64))


def load(module, **arrays: Array):
    module = module.double().eval()
    module.load_state_dict({name.replace("__", "."): wide(array) for name, array in arrays.items()})
    return module


def hold(program: nj.Program, x: Array, expected, dtype: str = "f32") -> Array:
    """A call's result, which must be what PyTorch gives, within the bound of this very call."""
    contract = program.contract
    (bounded,), _ = bounds(contract.function, [x], contract.arrays, contract.states, len(x))
    got = program(x)
    error = bounded.error.astype(np.float64) * (2 if dtype == "f64" else 1 + 1e-6)
    assert error.max() < USEFUL[dtype]
    distance = np.abs(got.astype(np.float64) - expected.detach().numpy())
    assert (distance <= error).all(), f"{distance.max():.3g} apart, bound {error[distance > error][0]:.3g}"
    return got


def of_tensor(x: Array):
    return torch.from_numpy(x.astype(np.float64))


@pytest.mark.parametrize("dtype", DTYPES)
def test_linear(dtype: str) -> None:
    layer = nn.Linear(13, 7, dtype=dtype, rng=1)
    module = load(torch.nn.Linear(13, 7), weight=layer.weight, bias=layer.bias)
    x = numbers(dtype, 5, 13)
    hold(nj.compile(layer), x, module(of_tensor(x)), dtype)


def recurrent(layer: nn.LSTM | nn.GRU) -> dict[str, Array]:
    return {
        "weight_ih": layer.input_weight,
        "weight_hh": layer.state_weight,
        "bias_ih": layer.input_bias,
        "bias_hh": layer.state_bias,
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [1, 3])
def test_lstm_steps_are_lstm_cell(batch: int, dtype: str) -> None:
    layer = nn.LSTM(11, 17, batch=batch, dtype=dtype, rng=2)
    cell = load(torch.nn.LSTMCell(11, 17), **recurrent(layer))
    program = nj.compile(layer)
    for x in numbers(dtype, 4, batch, 11):
        before = tuple(of_tensor(program.state[name].copy()) for name in ("0.h", "0.c"))
        h, c = cell(of_tensor(x), before)
        hold(program, x, h, dtype)
        np.testing.assert_allclose(program.state["0.c"], c.detach(), rtol=0, atol=USEFUL[dtype] / 100)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [1, 3])
def test_gru_steps_are_gru_cell(batch: int, dtype: str) -> None:
    layer = nn.GRU(11, 17, batch=batch, dtype=dtype, rng=2)
    cell = load(torch.nn.GRUCell(11, 17), **recurrent(layer))
    program = nj.compile(layer)
    for x in numbers(dtype, 4, batch, 11):
        hold(program, x, cell(of_tensor(x), of_tensor(program.state["0.h"].copy())), dtype)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_sequences(kind: str) -> None:
    layer = getattr(nn, kind)(11, 17, batch=2, steps=6, rng=3)
    weights = {f"{name}_l0": array for name, array in recurrent(layer).items()}
    module = load(getattr(torch.nn, kind)(11, 17), **weights)
    x = numbers("f32", 6, 2, 11)
    hold(nj.compile(layer), x, module(of_tensor(x))[0])


def test_gru_that_resets_before_the_product() -> None:
    """PyTorch has only the other convention as a module; this is Cho's formula in its functions."""
    layer = nn.GRU(11, 17, reset="before", rng=4)
    w, u, b, d = (wide(array) for array in recurrent(layer).values())
    program = nj.compile(layer)
    for x in numbers("f32", 4, 1, 11):
        h = of_tensor(program.state["0.h"].copy())
        of_x = torch.nn.functional.linear(of_tensor(x), w, b).chunk(3, 1)
        of_h = torch.nn.functional.linear(h, u[:34], d[:34]).chunk(2, 1)
        r, z = (torch.sigmoid(a + b) for a, b in zip(of_x, of_h, strict=False))
        n = torch.tanh(of_x[2] + torch.nn.functional.linear(r * h, u[34:], d[34:]))
        hold(program, x, (1 - z) * n + z * h)


def attention(layer: nn.MultiHeadAttention):
    a = layer.arrays
    return load(
        torch.nn.MultiheadAttention(layer.width, layer.heads, batch_first=True),
        in_proj_weight=a["weight"], in_proj_bias=a["bias"],
        out_proj__weight=a["out_weight"], out_proj__bias=a["out_bias"],
    )  # fmt: skip


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_attention(causal: bool, dtype: str) -> None:
    layer = nn.MultiHeadAttention(24, 3, tokens=9, causal=causal, dtype=dtype, rng=5)
    x = numbers(dtype, 9, 24)
    mask = torch.triu(torch.ones(9, 9, dtype=torch.bool), 1) if causal else None
    tokens = of_tensor(x)[None]
    expected, _ = attention(layer)(tokens, tokens, tokens, attn_mask=mask)
    hold(nj.compile(layer), x, expected[0], dtype)


def test_attention_with_a_cache_is_causal_attention() -> None:
    layer = nn.MultiHeadAttention(24, 3, cache=9, rng=5)
    program = nj.compile(layer)
    x = numbers("f32", 9, 24)
    tokens = of_tensor(x)[None]
    mask = torch.triu(torch.ones(9, 9, dtype=torch.bool), 1)
    expected, _ = attention(layer)(tokens, tokens, tokens, attn_mask=mask)
    for number in range(9):  # keys and values of before were rounded to float32 on their way into the cache
        hold(program, x[number : number + 1], expected[:, number].detach(), "f32")


@pytest.mark.parametrize("dtype", DTYPES)
def test_norms(dtype: str) -> None:
    x = 3 * numbers(dtype, 5, 33) + 1
    weight, bias = numbers(dtype, 33), numbers(dtype, 34)[:33]
    norm = load(torch.nn.LayerNorm(33, eps=1e-3), weight=weight, bias=bias)
    hold(nj.compile(nn.LayerNorm(33, weight, bias, epsilon=1e-3, dtype=dtype)), x, norm(of_tensor(x)), dtype)
    norm = load(torch.nn.RMSNorm(33, eps=1e-3), weight=weight)
    hold(nj.compile(nn.RMSNorm(33, weight, epsilon=1e-3, dtype=dtype)), x, norm(of_tensor(x)), dtype)


def test_embedding_gives_the_same_bits() -> None:
    layer = nn.Embedding(19, 6, rng=6)
    module = torch.nn.Embedding.from_pretrained(torch.from_numpy(layer.table))
    rows = np.array([3, 0, 18, 18, 7], np.int32)
    np.testing.assert_array_equal(nj.compile(layer)(rows), module(torch.from_numpy(rows)).numpy())


def test_an_encoder_block_is_transformer_encoder_layer() -> None:
    mix = nn.MultiHeadAttention(32, 4, tokens=7, rng=7)
    first, second = nn.Linear(32, 64, rng=8), nn.Linear(64, 32, rng=9)
    norms = [nn.LayerNorm(32, 1 + numbers("f32", 32) / 9, numbers("f32", 32) / 9) for _ in range(2)]
    a = mix.arrays
    module = load(
        torch.nn.TransformerEncoderLayer(32, 4, 64, batch_first=True),
        self_attn__in_proj_weight=a["weight"], self_attn__in_proj_bias=a["bias"],
        self_attn__out_proj__weight=a["out_weight"], self_attn__out_proj__bias=a["out_bias"],
        linear1__weight=first.weight, linear1__bias=first.bias,
        linear2__weight=second.weight, linear2__bias=second.bias,
        norm1__weight=norms[0].weight, norm1__bias=norms[0].bias,
        norm2__weight=norms[1].weight, norm2__bias=norms[1].bias,
    )  # fmt: skip
    program = nj.compile([nn.Residual(mix), norms[0], nn.Residual(first, "relu", second), norms[1]])
    x = numbers("f32", 7, 32)
    expected = module(of_tensor(x)[None])[0].detach().numpy()
    # the bound of so many products, each of the worst case, is loose: float32 itself stays within some units
    np.testing.assert_allclose(program(x), expected, rtol=0, atol=32 * np.finfo(np.float32).eps)
