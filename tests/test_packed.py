"""nj.pack, and products with packed weights: the bits of the unpacked product, bounds, faults, lifetimes."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from operands import LAYOUTS, NUMBERS, plain, runnable_isas, special
from oracle import assert_same_bits

import neurojit as nj
from neurojit.packed import _unpickled
from neurojit.runtime import SLOTS, reference_matmul
from neurojit.storage import from_bf16, product_of_integers, products_of_bf16, round_rows, to_bf16, widen

SHAPES = [(1, 1), (7, 5), (64, 64), (33, 130), (100, 65), (257, 300)]
ROWS = (1, 2, 3, 6, 16, 50, 200)
ROUNDED = {"int8 x int8": "int8", "bf16 x bf16": "bf16"}
STORAGES = (None, "bf16", "int8", *ROUNDED)
emitted = pytest.mark.skipif(not runnable_isas(), reason="nothing is emitted on this machine")


def pack(weights: Any, storage: str | None) -> nj.PackedWeights:
    """storage of STORAGES."""
    both = ROUNDED.get(storage or "", storage)
    return nj.pack(weights, both, both if storage in ROUNDED else None)


def row_by_row(x: Any, w: nj.PackedWeights) -> Any:
    """Of products whose bits are the CPU's own: each row alone, by one thread, and within the bound."""
    x = np.ascontiguousarray(x)
    with nj.num_threads(1):
        rows = [nj.matmul(row, w) for row in x]
    y = np.array(rows, np.float32).reshape(len(x), w.shape[1])
    assert products_of_bf16(round_rows(x, "bf16"), w.stored()).agree(y).all()
    return y


def expected(x: Any, w: nj.PackedWeights) -> Any:
    """One chain in the order of k with the stored weights, then the scales; of integers, the exact sums."""
    stored = w.stored()
    if w.activations is not None:
        rows = round_rows(np.ascontiguousarray(x), w.activations)
        if w.activations == "int8":
            return product_of_integers(rows, stored)
        if w.panels.storage == "bf16 pairs":
            return row_by_row(x, w)
        x = from_bf16(rows.values)
    y = np.empty((x.shape[0], w.shape[1]), w.dtype)
    reference_matmul(x, widen(stored, w.storage), y, wide=True)
    with np.errstate(all="ignore"):
        return y if stored.scales is None else y * stored.scales


@emitted
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bits_from_every_entry(shape: tuple[int, int], storage: str | None) -> None:
    k, n = shape
    w = pack(plain(1, shape), storage)
    bias = plain(3, (n,))
    for m in ROWS:
        x, out = plain(2, (m, k)), np.empty((m, n), np.float32)
        y = expected(x, w)
        for _ in range(2):  # compiled, then found
            assert_same_bits(nj.matmul(x, w), y)
            assert nj.matmul(x, w, out) is out
            assert_same_bits(out, y)
            assert_same_bits(x @ w, y)
            assert_same_bits(nj.linear(x, w, bias, activation="relu"), np.maximum(y + bias, 0))
        bound = nj.matmul.bind(x, w, out)
        x += 1
        assert bound() is out
        assert_same_bits(out, expected(x, w))
    if m == 1:
        assert_same_bits(nj.matmul(x[0], w), y[0])


@emitted
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_bits_of_the_unpacked_product(dtype: str) -> None:
    for k, n in SHAPES:
        weights = plain(4, (k, n), dtype)
        for layout in (
            "c_order",
            "f_order",
            "every_third_column",
            "reversed_rows",
            "odd_strides",
            "swapped_bytes",
        ):
            w = nj.pack(LAYOUTS[layout](weights))
            assert (w.shape, w.dtype, w.storage) == (
                (k, n),
                np.dtype(dtype),
                "f32" if dtype == "f4" else "f64",
            )
            assert (w.unpack() == weights).all()
            for m in (2, 40):  # one row of a matrix of one column has partial sums: decision 14
                x = plain(5, (m, k), dtype)
                if n > 1:
                    assert_same_bits(nj.matmul(x, w), nj.matmul(x, weights))


@emitted
@pytest.mark.parametrize("storage", STORAGES)
def test_row_26_activations_of_any_layout(storage: str | None) -> None:
    w = pack(plain(1, (24, 70)), storage)
    for name, layout in LAYOUTS.items():
        for shape in ((5, 24), (2, 3, 24), (24,), (0, 24), (2, 0, 24)):
            x = layout(plain(2, shape))
            y = expected(np.array(x, np.float32).reshape(-1, 24), w).reshape(*shape[:-1], 70)
            for _ in range(2):
                assert_same_bits(nj.matmul(x, w), y, name)
                if x.dtype.isnative:  # linear takes no others
                    assert_same_bits(nj.linear(x, w), y, name)


@emitted
def test_out_of_any_layout() -> None:
    x, w = plain(1, (6, 24)), nj.pack(plain(2, (24, 70)))
    for name in sorted(set(LAYOUTS) - {"read_only", "swapped_bytes", "zero_rows", "zero_columns"}):
        out = LAYOUTS[name](np.zeros((6, 70), np.float32))
        assert nj.matmul(x, w, out) is out
        assert_same_bits(np.array(out), expected(x, w), name)
        nj.matmul.bind(x, w, out)()
        assert_same_bits(np.array(out), expected(x, w), name)


@emitted
def test_row_28_out_overlaps_x() -> None:
    w = nj.pack(plain(1, (32, 32)))
    for m in (1, 7, 32):
        memory = plain(2, (m + 1, 32))
        y = expected(memory[:m].copy(), w)
        assert_same_bits(nj.matmul(memory[:m], w, memory[1:]), y)
        memory = plain(2, (m, 32))
        assert_same_bits(nj.linear(memory, w, out=memory), y)
        memory = plain(2, (m, 32))
        nj.matmul.bind(memory, w, memory)()
        assert_same_bits(memory, y)


@emitted
@pytest.mark.parametrize("storage", STORAGES)
def test_threads_change_no_bit(storage: str | None) -> None:
    w = pack(plain(1, (300, 1000)), storage)
    for m in (1, 9, 100, 700):
        x = plain(2, (m, 300))
        bias, results = plain(3, (1000,)), []
        for threads in (1, 2, 5):
            with nj.num_threads(threads):
                results.append((nj.matmul(x, w), nj.linear(x, w, bias, activation="tanh")))
        assert_same_bits(results[0][0], expected(x, w))
        for y, z in results[1:]:
            assert_same_bits(y, results[0][0])
            assert_same_bits(z, results[0][1])


@emitted
def test_row_20_many_threads_call_at_once(cold: None) -> None:
    w, x = nj.pack(plain(1, (40, 90)), "bf16"), plain(2, (3, 40))
    y, wrong = expected(x, w), []

    def call() -> None:
        for _ in range(200):
            got = nj.matmul(x, w)
            if not np.allclose(got, y, atol=1e-5):
                wrong.append(got)

    threads = [threading.Thread(target=call) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert_same_bits(nj.matmul(x, w), y)


@pytest.mark.parametrize("storage", ["bf16", "int8"])
@pytest.mark.parametrize("shape", [(1, 64, 10), (5, 300, 40), (64, 1000, 33)], ids=str)
def test_the_stated_error(shape: tuple[int, int, int], storage: str) -> None:
    """Against float64 on the weights as they were: storing, plus k + 1 roundings of the sum."""
    m, k, n = shape
    x, weights = plain(1, (m, k)).astype(np.float64), plain(2, (k, n)).astype(np.float64)
    weights[:, 0] *= 1e-3
    w = nj.pack(weights.astype(np.float32), storage)
    y = nj.matmul(x.astype(np.float32), w)
    x, weights = x.astype(np.float32).astype(np.float64), weights.astype(np.float32).astype(np.float64)
    if storage == "int8":
        assert w.scales is not None
        by_storing = np.broadcast_to(w.scales.astype(np.float64) / 2, weights.shape)
    else:
        by_storing = np.abs(weights) / 256
    stored_size = np.abs(weights) + by_storing
    unit = 2.0**-24
    bound = np.abs(x) @ by_storing + (k + 1) * unit / (1 - (k + 1) * unit) * (np.abs(x) @ stored_size)
    assert (np.abs(y - x @ weights) <= bound).all()
    assert (np.abs(y - x @ weights) > 0).any()


def test_special_weights_are_kept() -> None:
    weights, x = special(1, (20, 30)), plain(2, (4, 20))
    with np.errstate(all="ignore"):
        y = x @ weights
    for storage in (None, "bf16"):
        w = nj.pack(weights, storage)
        got = nj.matmul(x, w)
        assert (np.isnan(got) == np.isnan(y)).all()
        assert (np.isinf(got) == np.isinf(y)).all()
        assert_same_bits(w.unpack(), weights)


@pytest.mark.parametrize("storage", STORAGES)
def test_row_24_nothing_to_multiply(storage: str | None) -> None:
    for k, n, m in ((0, 5, 3), (5, 0, 3), (0, 0, 3), (5, 7, 0)):
        w, x = pack(np.zeros((k, n), np.float32), storage), np.zeros((m, k), np.float32)
        out = np.full((m, n), np.nan, np.float32)
        assert nj.matmul(x, w, out) is out
        assert (out == 0).all()
        assert (nj.matmul(x, w) == np.zeros((m, n))).all()
        assert nj.linear(x, w, np.ones(n, np.float32)).tolist() == np.ones((m, n)).tolist()
        nj.matmul.bind(x, w, out)()
        assert w.unpack().shape == (k, n)
        assert repr(pickle.loads(pickle.dumps(w))) == repr(w)


@pytest.mark.parametrize(
    ("given", "storage", "error", "match"),
    [
        (np.zeros((2, 2), "i4"), None, TypeError, "dtype int32: expected float32 or float64"),
        (np.zeros((2, 2), "f2"), "bf16", TypeError, "dtype float16"),
        (np.zeros((2, 2)), "bf16", TypeError, "bf16 is of float32 weights, got float64"),
        (np.zeros((2, 2)), "int8", TypeError, "int8 is of float32"),
        (np.zeros(3, "f4"), None, ValueError, r"shape \(3,\): expected \(k, n\)"),
        (np.zeros((1, 2, 3), "f4"), None, ValueError, r"expected \(k, n\)"),
        (np.float32(1), None, ValueError, r"shape \(\)"),
        (np.zeros((2, 2), "f4"), "fp8", ValueError, "storage 'fp8': expected None or one of bf16, int8"),
        (np.full((2, 2), np.nan, "f4"), "int8", ValueError, r"w\[0, 0\] is nan"),
        (object(), None, TypeError, "dtype object"),
        (np.zeros((2, 2), "c8"), None, TypeError, "dtype complex64"),
    ],
)
def test_what_pack_refuses(given: Any, storage: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        nj.pack(given, storage)


def test_row_29_what_a_product_refuses() -> None:
    w, x = nj.pack(np.ones((4, 3), np.float32)), np.ones((2, 4), np.float32)
    out = np.full((2, 3), 7, np.float32)
    read_only = out.copy()
    read_only.flags.writeable = False
    cases: list[tuple[type[Exception], str, Any, Any]] = [
        (ValueError, r"x \(2, 5\) and packed weights \(4, 3\)", np.ones((2, 5), np.float32), None),
        (ValueError, r"x \(\) and packed", np.float32(1), None),
        (TypeError, "x has dtype float64.*take float32", np.ones((2, 4)), None),
        (TypeError, "x has dtype int64", [[1, 2, 3, 4]], None),
        (ValueError, r"out \(2, 3\), read-only", x, read_only),
        (ValueError, r"out \(3, 2\): expected a writeable array of shape \(2, 3\)", x, out.T),
        (TypeError, "out: expected an array of float32, got float64", x, np.ones((2, 3))),
        (TypeError, "out: expected an array of float32, got list", x, [1]),
    ]
    for error, match, left, target in cases:
        with pytest.raises(error, match=match):
            nj.matmul(left, w, target)
        with pytest.raises(error, match=match):
            nj.matmul.bind(left, w, out if target is None else target)
    with pytest.raises(TypeError, match="out: expected an array, got None"):
        nj.matmul.bind(x, w, None)
    with pytest.raises(TypeError, match="keyword dtype: packed weights take out alone"):
        nj.matmul(x, w, dtype="f4")
    with pytest.raises(TypeError, match="packed weights are the right operand"):
        nj.matmul(w, x)
    with pytest.raises(ValueError, match=r"linear: x \(2, 5\) and w \(4, 3\)"):
        nj.linear(np.ones((2, 5), np.float32), w)
    with pytest.raises(TypeError, match="linear: dtypes float64, float32"):
        nj.linear(np.ones((2, 4)), w)
    with pytest.raises(TypeError):
        np.matmul(x, w)
    assert (out == 7).all()
    assert (read_only == 7).all()


def test_an_object_that_does_not_change() -> None:
    weights = plain(1, (5, 6))
    w = nj.pack(weights, "int8")
    before = w.unpack()
    weights[...] = 0
    assert (w.unpack() == before).all()
    assert w.scales is not None
    with pytest.raises(ValueError, match="read-only"):
        w.scales[0] = 1
    with pytest.raises(AttributeError):
        w.shape = (1, 1)  # type: ignore[misc]
    with pytest.raises(TypeError, match="immutable"):
        w.__init__(w.panels, (5, 1), np.zeros(64, np.uint8), None, w.dtype, None, nj.matmul)  # type: ignore[misc]
    with pytest.raises(ValueError, match="cannot hold these panels"):
        nj.PackedWeights(w.panels, (5, 500), np.zeros(64, np.uint8), None, w.dtype, None, nj.matmul)
    assert copy.copy(w) is w
    assert copy.deepcopy([w])[0] is w
    assert w.ndim == 2
    assert w.nbytes % 64 == 0
    assert repr(w).startswith("<neurojit.PackedWeights 5x6 float32, storage=int8, ")


@pytest.mark.parametrize("storage", STORAGES)
def test_pickles_hold_weights_and_no_code(storage: str | None) -> None:
    w = pack(special(1, (9, 70)) if storage in (None, "bf16") else plain(1, (9, 70)), storage)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(w, protocol))
        assert_same_bits(again.unpack(), w.unpack())
        assert (again.storage, again.activations) == (w.storage, w.activations)
        x = plain(2, (4, 9))
        assert_same_bits(nj.matmul(x, again), nj.matmul(x, w))
    assert len(pickle.dumps(w)) < w.nbytes + 9 * 70 * 4 + 1000


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("fp8", np.zeros((2, 2)), None), "storage 'fp8'"),
        (("f32", [[1.0]], None), "with list"),
        (("f32", np.zeros(2, np.float32), None), "not from nj.pack"),
        (("f32", np.zeros((2, 2)), None), "float64 values for storage f32"),
        (("int8", np.zeros((2, 2), np.int8), None), "storage int8 without scales"),
        (("f32", np.zeros((2, 2), np.float32), np.ones(2, np.float32)), "storage f32 with scales"),
        (("int8", np.zeros((2, 2), np.int8), np.ones(3, np.float32)), "expected one a column"),
        (("int8", np.full((2, 2), -128, np.int8), np.ones(2, np.float32)), "below -127"),
        (("f32", np.zeros((2, 2), np.float32), None, "int8"), "activations 'int8' for storage f32"),
        (("f32", np.zeros((2, 2), np.float32), None, "f32"), "activations 'f32' for storage f32"),
        (("bf16", np.zeros((2, 2), np.uint16), None, "int8"), "activations 'int8' for storage bf16"),
        (("bf16", np.zeros((4194305, 1), np.uint16), None, "bf16"), "activations 'bf16' for storage bf16"),
        (("int8 bytes", np.zeros((2, 2), np.int8), np.ones(2, np.float32)), "storage 'int8 bytes'"),
    ],
)
def test_row_8_planted_pickles(arguments: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        _unpickled(*arguments)


@pytest.mark.parametrize(
    ("storage", "activations"), [(None, "int8"), (None, "bf16"), ("int8", "bf16"), ("bf16", "int8")]
)
def test_activations_that_pack_refuses(storage: Any, activations: str) -> None:
    with pytest.raises(ValueError, match=f"activations '{activations}' with storage"):
        nj.pack(np.ones((2, 2), np.float32), storage, activations)
    with pytest.raises(ValueError, match=r"131073 rows.*up to 131072"):
        nj.pack(np.ones((131073, 1), np.float32), "int8", "int8")
    with pytest.raises(ValueError, match=r"4194305 rows.*up to 4194304"):
        nj.pack(np.ones((4194305, 1), np.float32), "bf16", "bf16")


def test_the_stated_error_of_rounded_activations() -> None:
    for m, k, n in ((1, 64, 10), (5, 300, 40), (30, 1000, 33)):
        x, weights = plain(1, (m, k)), plain(2, (k, n))
        w = nj.pack(weights, "int8", "int8")
        assert w.scales is not None
        rows = np.abs(x.astype(np.float64)).max(axis=1, keepdims=True) / 127
        columns = w.scales.astype(np.float64)
        by_rounding = (
            np.abs(x.astype(np.float64)).sum(axis=1, keepdims=True) * columns / 2
            + 0.501 * rows * np.abs(weights.astype(np.float64)).sum(axis=0)
            + 0.251 * k * rows * columns
        )
        size = np.abs(x.astype(np.float64)) @ np.abs(weights.astype(np.float64)) + by_rounding
        error = np.abs(nj.matmul(x, w) - x.astype(np.float64) @ weights.astype(np.float64))
        assert (error <= by_rounding + 4 * 2.0**-24 * size).all()
        assert (error > 0).any()


@pytest.mark.parametrize("numbers", ["plain", "wide", "cancelling", "denormal", "special"])
def test_the_stated_error_of_activations_in_bf16(numbers: str) -> None:
    """Beside the float64 sum of the rounded numbers, written out anew from the docstring of nj.pack."""
    for m, k, n in ((1, 64, 10), (5, 301, 40), (30, 1000, 33), (1, 1, 1)):
        x, weights = NUMBERS[numbers](1, (m, k)), NUMBERS[numbers](2, (k, n))
        got = nj.matmul(x, nj.pack(weights, "bf16", "bf16"))
        rows, w = (from_bf16(to_bf16(v)).astype(np.float64) for v in (x, weights))
        with np.errstate(all="ignore"):
            exact, size = rows @ w, np.abs(rows) @ np.abs(w)
            tiny = [np.where(np.abs(v) < 2.0**-126, np.abs(v), 0) for v in (rows, w)]
            flushed = tiny[0] @ np.abs(w) + np.abs(rows) @ tiny[1]
            unit = (k + 1) * 2.0**-23
            bound = unit / (1 - unit) * size + flushed + 3 * k * 2.0**-126
            near = np.abs(got - exact) <= bound
        fits = size + bound < np.finfo(np.float32).max
        assert near[fits].all()
        assert np.isnan(got[np.isnan(exact)]).all()
        assert not np.isfinite(got[np.isinf(exact)]).any()
        if numbers in ("plain", "wide") and k > 1:
            assert fits.all()
            assert (got != exact)[fits].any()
            moved = np.abs(x.astype(np.float64)) @ np.abs(w) / 256
            assert (np.abs(got - x.astype(np.float64) @ w) <= moved + bound).all()


def test_rows_that_are_not_finite_in_bf16() -> None:
    x, weights = plain(1, (5, 40)), plain(2, (40, 30))
    weights[7, 3], x[1, 3], x[2, 0] = np.inf, np.nan, -np.inf
    x[4] = np.finfo(np.float32).max  # beyond the largest of bf16
    w = nj.pack(weights, "bf16", "bf16")
    y = nj.matmul(x, w)
    others = np.arange(30) != 3
    assert np.isnan(y[1]).all()
    assert (y[2][others] == np.where(weights[0] > 0, -np.inf, np.inf)[others]).all()
    assert np.isfinite(y[0][others]).all()
    assert (y[[0, 3], 3] == np.where(x[[0, 3], 7] > 0, np.inf, -np.inf)).all()
    assert not np.isfinite(y[4]).any()
    product = products_of_bf16(round_rows(x, "bf16"), w.stored())
    assert product.agree(y).all()
    weights[...] = np.finfo(np.float32).max / 2
    large = nj.pack(weights, "bf16", "bf16")
    assert (large.numpy_product(weights.T) == np.inf).all()  # of finite numbers, and without a warning
    assert (nj.matmul(weights.T, large) == np.inf).all()


def test_rows_that_are_not_finite() -> None:
    x, w = plain(1, (5, 40)), nj.pack(plain(2, (40, 30)), "int8", "int8")
    x[1, 3], x[2, 0], x[3] = np.nan, np.inf, np.float32(1e-40)
    y = nj.matmul(x, w)
    assert np.isnan(y[1:3]).all()
    assert (y[3] == 0).all()
    assert np.isfinite(y[[0, 4]]).all()


@emitted
@pytest.mark.parametrize("storage", ["int8", "bf16"])
def test_row_16_no_scratch_for_rounded_rows(storage: str) -> None:
    from neurojit.runtime._blocked import inject_scratch_failure

    x, w = plain(1, (3000, 900)), nj.pack(plain(2, (900, 40)), storage, storage)
    out, done = np.full((3000, 40), 7, np.float32), []
    nj.matmul(x[:1], w)

    def call() -> None:
        inject_scratch_failure(1)
        try:
            nj.matmul(x, w, out)
            nj.matmul(x, w, out)
        except MemoryError as error:
            done.append(str(error))
        inject_scratch_failure(0)

    nj.matmul(x, w)
    thread = threading.Thread(target=call)  # one that has no scratch yet
    thread.start()
    thread.join()
    assert done
    assert "out is unchanged" in done[0]
    assert (out == 7).all()
    assert_same_bits(nj.matmul(x, w, out), expected(x, w))


@emitted
def test_what_is_bound_lives_on() -> None:
    x, out = plain(1, (2, 40)), np.empty((2, 50), np.float32)
    w = nj.pack(plain(2, (40, 50)))
    y = expected(x, w)
    bound = nj.matmul.bind(x, w, out)
    del w
    gc.collect()
    rubbish = [np.full(40 * 64, np.nan, np.float32) for _ in range(100)]
    bound()
    assert_same_bits(out, y)
    SLOTS.evict_bytes(1 << 62)
    out[...] = 0
    bound()  # compiled again
    assert_same_bits(out, y)
    assert len(rubbish) == 100


@emitted
def test_strides_that_stand_for_packed_weights_are_no_array_s() -> None:
    """An array with the column stride that marks packed weights in a key gets NumPy's answer."""
    from neurojit import _matmul
    from neurojit.plan.panels import PACKED

    b = np.lib.stride_tricks.as_strided(np.ones(1, np.float32), (1, 2), (64, PACKED * 4))
    a, c = np.ones((1, 1), np.float32), np.empty((1, 2), np.float32)
    assert _matmul.describe(a, b, c) is None


def test_what_the_kernels_refuse() -> None:
    from neurojit import _matmul

    c = np.empty((2, 2), np.float32)
    with pytest.raises(TypeError, match="expected an array or packed weights, got list"):
        _matmul.describe(c, [1], c)  # type: ignore[arg-type]


@emitted
def test_layers_with_every_term() -> None:
    """alpha, beta, residual, both biases, leading axes: as with the weights unpacked."""
    weights = plain(1, (24, 70))
    for storage in (None, "bf16"):
        w = nj.pack(weights, storage)
        rounded = w.unpack()
        x, residual = plain(2, (2, 5, 24)), plain(3, (2, 5, 70))
        for bias in (plain(4, (70,)), plain(4, (5, 1))):
            outs = [np.ones((2, 5, 70), np.float32) for _ in range(3)]
            terms = {"alpha": 0.3, "beta": 1.7, "residual": residual}
            nj.linear(x, rounded, bias, "gelu", outs[0], **terms)
            nj.linear(x, w, bias, "gelu", outs[1], **terms)
            assert_same_bits(outs[1], outs[0])
            nj.linear.bind(x[0], w, bias, "gelu", outs[2][0], alpha=0.3, beta=1.7, residual=residual[0])()
            assert_same_bits(outs[2][0], outs[0][0])


def test_without_an_isa_numpy_answers(child: Callable[..., Any]) -> None:
    script = """
import numpy as np, neurojit as nj
rng = np.random.default_rng(0)
x, weights = rng.standard_normal((3, 40)).astype("f4"), rng.standard_normal((40, 50)).astype("f4")
kinds = ((None, None), ("bf16", None), ("int8", None), ("int8", "int8"), ("bf16", "bf16"))
for storage, activations in kinds:
    w = nj.pack(weights, storage, activations)
    y = w.numpy_product(x)
    out = np.empty((3, 50), "f4")
    bias = np.ones(50, "f4")
    assert np.allclose(nj.matmul(x, w), y, atol=1e-5) and np.allclose(x @ w, y, atol=1e-5)
    assert nj.matmul(x, w, out) is out and np.allclose(out, y, atol=1e-5)
    assert np.allclose(nj.linear(x, w, bias, activation="relu"), np.maximum(y + 1, 0), atol=1e-5)
    out[...] = 0
    nj.matmul.bind(x, w, out)()
    assert np.allclose(out, y, atol=1e-5)
assert nj.info().fallbacks["no ISA: NEUROJIT_ISA=none"] > 8, nj.info()
"""
    done = child(script, NEUROJIT_ISA="none")
    assert done.returncode == 0, done.stderr
