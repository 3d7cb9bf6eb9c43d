"""nj.linear.bind: the same layer again and again, with nothing looked up."""

from __future__ import annotations

import gc
import sys
from typing import Any

import numpy as np
import pytest
from operands import plain, runnable_isas

import neurojit as nj
from neurojit._bound import Bound
from neurojit.runtime import SLOTS

LAYERS: dict[str, Any] = {
    "plain": {},
    "row bias": {"b": plain(3, (7,)), "activation": "relu"},
    "column bias": {"b": plain(3, (5, 1)), "activation": ("leaky_relu", 0.3)},
    "all": {
        "b": plain(3, (7,)),
        "activation": "tanh",
        "alpha": 0.5,
        "beta": 1.0,
        "residual": plain(4, (5, 7)),
    },
}


def operands(dtype: str = "f4") -> tuple[Any, Any, Any]:
    return plain(1, (5, 6), dtype), plain(2, (6, 7), dtype), plain(5, (5, 7), dtype)


@pytest.mark.parametrize("name", LAYERS)
def test_each_call_computes_what_the_operands_hold_then(name: str) -> None:
    x, w, out = operands()
    bound = nj.linear.bind(x, w, **LAYERS[name], out=out)
    assert isinstance(bound, Bound) == bool(runnable_isas())
    for _ in range(3):
        x += 1
        expected = nj.linear(x, w, **LAYERS[name], out=out.copy())
        assert bound() is out
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(
    "arrays",
    [
        lambda x, w, out: (np.asfortranarray(x), w[::-1], np.asfortranarray(out)),
        lambda x, w, out: (x[:, ::-1], w, np.zeros((5, 14), "f4")[:, ::2]),
        lambda x, w, out: (x[:0], w, out[:0]),
        lambda x, w, out: (x[:, :0], w[:0], out),
        lambda x, w, out: (np.stack([x, x]), w, np.stack([out, out])),
        lambda x, w, out: (x[0], w, out[0]),
        lambda x, w, out: (np.ones((6, 6), "f4"), np.ones((6, 6), "f4"), np.ones((6, 6), "f4")),
    ],
)
def test_any_layout(arrays: Any) -> None:
    x, w, out = arrays(*operands())
    b = plain(3, (w.shape[1],))
    expected = nj.linear(x.copy(), w.copy(), b, "relu")
    bound = nj.linear.bind(x, w, b, "relu", out)
    for _ in range(2):
        assert bound() is out
        np.testing.assert_allclose(out, expected, rtol=1e-6)


def test_row_28_an_overlap_is_as_if_there_were_none() -> None:
    x = plain(1, (6, 6))
    expected = nj.linear(x.copy(), x.copy(), activation="relu")
    nj.linear.bind(x, x, activation="relu", out=x)()
    np.testing.assert_array_equal(x, expected)


def test_wrong_arguments_are_an_error_at_once() -> None:
    x, w, out = operands()
    with pytest.raises(ValueError, match=r"linear\.bind: out: expected the array that receives each result"):
        nj.linear.bind(x, w)
    with pytest.raises(ValueError, match=r"x \(5, 6\) and w \(5, 6\)"):
        nj.linear.bind(x, x, out=out)
    with pytest.raises(ValueError, match="out"):
        nj.linear.bind(x, w, out=out[:4])
    bound = nj.linear.bind(x, w, out=out)
    with pytest.raises(TypeError, match=r"no arguments|positional"):
        bound(1)  # type: ignore[call-arg]


def test_row_29_an_out_made_read_only_is_refused_at_the_call() -> None:
    x, w, out = operands()
    bound = nj.linear.bind(x, w, out=out)
    before = out.copy()
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        bound()
    np.testing.assert_array_equal(out, before)


def test_row_19_evicted_it_is_compiled_again() -> None:
    x, w, out = operands()
    bound = nj.linear.bind(x, w, activation="gelu", out=out)
    expected = bound().copy()
    SLOTS.evict_bytes(1 << 62)
    out.fill(0)
    np.testing.assert_array_equal(bound(), expected)


def test_operands_live_as_long_as_the_bound_layer() -> None:
    arrays = [*operands(), plain(3, (7,)), plain(4, (5, 7))]
    x, w, out, b, residual = arrays
    counts = [sys.getrefcount(array) for array in arrays]
    bound = nj.linear.bind(x, w, b, "relu", out, residual=residual)
    for _ in range(100):
        bound()
    assert all(sys.getrefcount(array) > count for array, count in zip(arrays, counts, strict=True))
    del bound
    gc.collect()
    assert [sys.getrefcount(array) for array in arrays] == counts


@pytest.mark.skipif(not runnable_isas(), reason="no emitted code runs here")
def test_what_a_bound_call_cannot_be_made_of() -> None:
    x, w, out = operands()
    assert repr(nj.linear.bind(x, w, out=out)) == "<bound neurojit.linear (5, 6) @ (6, 7)>"
    with pytest.raises(ValueError, match="3 to 5 operands, got 2"):
        Bound((1, 2, 3, 4), (x, w), out, print, "")
    with pytest.raises(ValueError, match="no kernel was published"):
        Bound((1, 2, 3, 4 << 60), (x, w, out), out, print, "")
