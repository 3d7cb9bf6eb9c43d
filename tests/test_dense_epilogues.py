"""`nj.linear` with all its terms, by every kind of kernel: the bits of NumPy's steps on the product."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from fence import SIDES, Fence
from machine_code import RETURN
from operands import (
    Array,
    c_order,
    every_third_column,
    odd_strides,
    off_by_one_byte,
    plain,
    rows_apart,
    runnable_isas,
    special,
)
from oracle import same_bits

import neurojit as nj
from neurojit import _matmul, compiler, functions
from neurojit.dense import activation_of
from neurojit.plan.blocking import cut_strips
from neurojit.plan.gemm import Gemm
from neurojit.plan.product import Product, plan_product
from neurojit.runtime import SLOTS
from neurojit.target import host_target

pytestmark = pytest.mark.usefixtures("cold")
needs_kernels = pytest.mark.skipif(not runnable_isas(), reason="no emitted code runs here")

ACTIVATIONS = (
    None, "exp", "log", "tanh", "sigmoid", "erf", "relu", "leaky_relu", "elu", "silu", "gelu", "gelu_tanh",
    ("leaky_relu", 0.2), ("elu", 0.5), ("clamp", -0.5, 0.25),
)  # fmt: skip
BIASES = ("none", "row", "column")
FACTORS = ((1.0, 0.0), (-0.5, 0.0), (1.0, 1.0), (0.3, -1.7))
RESIDUALS = ("none", "whole", "one row", "one column", "rows apart", "reversed")


class Kind(NamedTuple):
    """A shape and layout, and the plan it is to have; `apart`: leading axes that are no one axis."""

    plan: str
    x: tuple[int, ...]
    n: int
    x_order: str = "C"
    w_order: str = "C"
    apart: bool = False


KINDS = {
    "in place": Kind("Gemm", (17, 33), 41),
    "few": Kind("Gemm", (3, 5), 7),
    "one row": Kind("Gemm", (1, 40), 70),
    "one row, in passes over k": Kind("Gemm", (1, 300), 900),
    "swapped": Kind("Gemm swapped", (37, 40), 1, x_order="F"),
    "a column of sums": Kind("Gemv", (37, 40), 1),
    "a row of sums": Kind("Gemv", (1, 40), 37, w_order="F"),
    "strips of rows": Kind("strips", (200, 64), 96),
    "strips of columns": Kind("strips", (30, 120), 400),
    "blocked": Kind("Blocking", (40, 70), 90, w_order="F"),
    "blocked, several blocks of k": Kind("Blocking", (20, 2100), 90, w_order="F"),
    "batch": Kind("Gemm", (3, 2, 9, 20), 33, apart=True),
    "batch of rows": Kind("Gemv", (5, 1, 20), 33, w_order="F", apart=True),
    "batch, blocked": Kind("Blocking", (3, 40, 50), 60, w_order="F", apart=True),
    "leading axes": Kind("Gemm", (2, 3, 4, 20), 33),
    "leading axes, single rows": Kind("Blocking", (5, 2, 1, 20), 33, w_order="F"),
    "vector": Kind("Gemm", (33,), 20),
}


def plan_of(x: Array, w: Array) -> str:
    y = np.empty((*x.shape[:-1], w.shape[1]), x.dtype)
    described = _matmul.describe(np.atleast_2d(x), w, np.atleast_2d(y))
    assert described is not None
    p = Product(*described[1])
    plan = plan_product(p, host_target())
    if isinstance(plan, Gemm) and p.m > 1 and cut_strips(p.dtype, p.m, p.n, p.work):
        return "strips"
    return type(plan).__name__ + (" swapped" if isinstance(plan, Gemm) and plan.swapped else "")


class Case(NamedTuple):
    kind: str
    activation: Any
    bias: str
    factors: tuple[float, float]
    residual: str
    dtype: str


def every_pair(*factors: Any) -> Iterator[Any]:
    """Rows of a table in which every pair of values of any two factors occurs: the greedy way."""
    missing = {
        (i, a, j, b)
        for (i, first), (j, second) in itertools.combinations(enumerate(factors), 2)
        for a in range(len(first))
        for b in range(len(second))
    }
    while missing:
        row: dict[int, int] = {}
        i, a, j, b = min(missing)
        row[i], row[j] = a, b
        for at in set(range(len(factors))) - {i, j}:
            new = [
                sum(_pair(at, value, other, chosen) in missing for other, chosen in row.items())
                for value in range(len(factors[at]))
            ]
            row[at] = new.index(max(new))
        for (i, a), (j, b) in itertools.combinations(sorted(row.items()), 2):
            missing.discard((i, a, j, b))
        yield tuple(values[row[at]] for at, values in enumerate(factors))


def _pair(i: int, a: int, j: int, b: int) -> tuple[int, int, int, int]:
    return (i, a, j, b) if i < j else (j, b, i, a)


CASES = [
    Case(*row) for row in every_pair(tuple(KINDS), ACTIVATIONS, BIASES, FACTORS, RESIDUALS, ("f4", "f8"))
]


def operands(case: Case, numbers: Any = plain) -> dict[str, Any]:
    """Arguments of a call, all but out."""
    kind = KINDS[case.kind]
    *leading, k = kind.x
    scale = np.sqrt(k)
    x = numbers(1, kind.x, case.dtype)
    if kind.x_order == "F":
        x = np.asfortranarray(x)
    if kind.apart:  # each row has one more in memory behind it
        m = kind.x[-2]
        x = np.concatenate([x, x], axis=-2)[..., :m, :]
    w = np.array(numbers(2, (k, kind.n), case.dtype) / scale, case.dtype, order=kind.w_order)
    rows = leading[-1] if leading else None
    b = {"none": None, "row": numbers(3, (kind.n,), case.dtype)}.get(case.bias)
    if case.bias == "column" and rows is not None:
        b = numbers(3, (rows, 1), case.dtype)
    alpha, beta = case.factors
    return {
        "x": x, "w": w, "b": b, "activation": case.activation, "alpha": alpha, "beta": beta,
        "residual": residual_of(case, (*leading, kind.n), numbers),
    }  # fmt: skip


def residual_of(case: Case, shape: tuple[int, ...], numbers: Any) -> Array | None:
    whole = numbers(4, shape, case.dtype)
    if case.residual == "none":
        return None
    if case.residual == "one row":
        return whole[(0,) * (whole.ndim - 1)].copy()
    if case.residual == "one column":
        return whole[..., :1]
    if case.residual == "rows apart":
        return np.concatenate([whole, whole], axis=-1)[..., : shape[-1]]
    return whole[..., ::-1, :] if case.residual == "reversed" and whole.ndim > 1 else whole


def meaning(
    x: Array, w: Array, b: Any, alpha: float, beta: float, residual: Any, out: Any, batch: bool
) -> Array:
    """All but the activation, step by step in NumPy."""
    scalar = x.dtype.type
    if batch:  # each product by itself, as one call of many
        w = np.broadcast_to(w, (*x.shape[:-2], *w.shape))
    t: Array = nj.matmul(x, w)
    with np.errstate(all="ignore"):
        if alpha != 1:
            t = scalar(alpha) * t
        if beta != 0:
            t = t + (out if beta == 1 else scalar(beta) * out)
        if b is not None:
            t = t + b
        if residual is not None:
            t = t + residual
    return t


def assert_means(got: Array, t: Array, activation: Any, what: object) -> None:
    function = activation_of(activation)
    if function.name in functions.EXACT:
        exact = functions.apply_exactly(function, t)
        near = same_bits(got, exact).reshape(got.shape)
    else:
        exact, near = functions.agrees(function, t, got)
        near = near | same_bits(got, exact).reshape(got.shape)
    assert near.all(), (what, np.argwhere(~near)[:3].tolist(), exact[~near][:3], got[~near][:3])


@needs_kernels
@pytest.mark.parametrize("name", KINDS)
def test_each_kind_has_the_plan_it_is_here_for(name: str) -> None:
    kind = KINDS[name]
    given = operands(Case(name, None, "none", FACTORS[0], "none", "f4"))
    x = given["x"][(0,) * (len(kind.x) - 2)] if kind.apart else given["x"]
    if name.startswith("leading axes"):
        x = x.reshape(-1, x.shape[-1])
    assert plan_of(x, given["w"]) == kind.plan
    if name == "one row, in passes over k":
        from neurojit.plan.tiling import schedule_gemm

        plan = plan_product(Product(1, 900, 300, 300, 1, 900, 1, 900, 4), host_target())
        assert isinstance(plan, Gemm)
        assert schedule_gemm(plan, host_target()).k_block > 0


@pytest.mark.parametrize("numbers", [plain, special])
@pytest.mark.parametrize("name", KINDS)
def test_every_pair_of_kind_activation_terms_and_dtype(name: str, numbers: Any) -> None:
    for case in (case for case in CASES if case.kind == name):
        given = operands(case, numbers)
        shape = (*given["x"].shape[:-1], given["w"].shape[1])
        before = numbers(5, shape, case.dtype)
        terms = {key: value for key, value in given.items() if key != "activation"}
        t = meaning(**terms, out=before, batch=KINDS[name].apart)
        bits = set()
        for threads in (1, 2):
            with nj.num_threads(threads):
                for _ in range(2):  # the first call compiles
                    out = before.copy()
                    assert nj.linear(**given, out=out) is out
                    bits.add(np.where(np.isnan(out), 0, out).tobytes())
                    assert_means(out, t, case.activation, case)
                if not given["beta"]:
                    got = nj.linear(**given)
                    assert got.shape == shape
                    bits.add(np.where(np.isnan(got), 0, got).tobytes())
        assert len(bits) == 1, case
    if runnable_isas():
        assert not nj.info().fallbacks, "one kernel, not several passes"


def test_the_table_has_every_pair() -> None:
    rows = [tuple(map(repr, case)) for case in CASES]
    values = [sorted({row[at] for row in rows}) for at in range(len(Case._fields))]
    for i, j in itertools.combinations(range(len(values)), 2):
        assert {(row[i], row[j]) for row in rows} == set(itertools.product(values[i], values[j]))


# Memory ------------------------------------------------------------------------------------------------


FENCES = [Fence(1 << 20) for _ in range(5)]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("bias", ["row", "column"])
def test_row_27_nothing_is_touched_outside_the_operands(bias: str, dtype: str, side: str) -> None:
    """Every tail of m and n, in place, as sums of a row or a column, and blocked."""
    activations = itertools.cycle(ACTIVATIONS)
    for n in range(1, 40):
        for m, k, order in ((1, 9, "C"), (1, 9, "F"), (n % 7 + 1, 3, "C"), (n % 7 + 1, 17, "F"), (n, 8, "C")):
            values = [plain(1, (m, k), dtype), plain(2, (k, n), dtype), plain(3, (m, n), dtype)]
            x, w, out = (fence.hold(value, side) for fence, value in zip(FENCES, values, strict=False))
            if order == "F":
                w = FENCES[1].hold(values[1], side, np.asfortranarray(values[1]).strides)
            b = FENCES[3].hold(plain(4, (n,) if bias == "row" else (m, 1), dtype), side)
            residual = FENCES[4].hold(plain(5, (m, n), dtype), side)
            activation = next(activations)
            t = meaning(x, w, b, 0.5, 1.0, residual, out.copy(), False)
            nj.linear(x, w, b, activation, out, alpha=0.5, beta=1.0, residual=residual)
            assert_means(out, t, activation, (m, n, k, order))


def test_row_24_what_out_holds_is_not_read_without_a_beta() -> None:
    x, w = plain(1, (5, 2100)), np.asfortranarray(plain(2, (2100, 70)))
    for weights in (w, w[:9], np.ascontiguousarray(w)):
        out = np.full((5, 70), np.nan, "f4")
        nj.linear(x[:, : len(weights)], weights, activation="relu", out=out, residual=np.ones(70, "f4"))
        assert not np.isnan(out).any()


@pytest.mark.parametrize(
    "kind", ["in place", "blocked", "blocked, several blocks of k", "batch", "strips of rows"]
)
@pytest.mark.parametrize("place", ["x", "w", "b", "residual"])
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_row_28_out_may_overlap_any_operand(kind: str, place: str, beta: float) -> None:
    given = operands(Case(kind, "relu", "row", (0.5, beta), "whole", "f4"))
    shape = (*given["x"].shape[:-1], given["w"].shape[1])
    before = plain(7, shape)
    expected = nj.linear(**given, out=before.copy())
    room = np.zeros(before.size + given[place].size, "f4")
    start = max(0, before.size // 2 - 3)
    operand = room[start : start + given[place].size].reshape(given[place].shape)
    out = room[: before.size].reshape(shape)
    out[...] = before
    operand[...] = given[place]
    if beta:  # what beta multiplies is what out holds, the overlap included
        expected = nj.linear(**given, out=out.copy())
    assert nj.linear(**{**given, place: operand}, out=out) is out
    np.testing.assert_array_equal(out, expected)


def test_row_28_out_as_its_own_residual() -> None:
    x, w = plain(1, (6, 8)), plain(2, (8, 10))
    out = plain(3, (6, 10))
    expected = nj.linear(x, w, activation="tanh", residual=out.copy())
    assert nj.linear(x, w, activation="tanh", residual=out, out=out).tobytes() == expected.tobytes()


def test_row_26_residuals_in_any_layout() -> None:
    x, w = plain(1, (6, 8)), plain(2, (8, 10))
    residual = plain(3, (6, 10))
    expected = nj.linear(x, w, residual=residual)
    for layout in (c_order, np.asfortranarray, rows_apart, every_third_column, off_by_one_byte, odd_strides):
        assert nj.linear(x, w, residual=layout(residual)).tobytes() == expected.tobytes(), layout
    for n in (1, 10):
        far = np.lib.stride_tricks.as_strided(np.zeros(1, "f4"), (6, n), (0, 0))
        assert nj.linear(x, w[:, :n], residual=far).tobytes() == nj.linear(x, w[:, :n]).tobytes()


def test_row_25_a_residual_whose_rows_are_far_apart_is_copied() -> None:
    store = np.zeros((3, (1 << 24) + 5), "f4")  # its pages are never touched
    residual = store[:, :10]
    residual[...] = plain(3, (3, 10))
    x, w = plain(1, (3, 8)), plain(2, (8, 10))
    assert nj.linear(x, w, residual=residual).tobytes() == nj.linear(x, w, residual=residual.copy()).tobytes()


def test_out_in_any_layout_with_every_term() -> None:
    x, w, b = plain(1, (6, 8)), plain(2, (8, 10)), plain(3, (10,))
    before = plain(4, (6, 10))
    expected = nj.linear(x, w, b, "relu", before.copy(), alpha=2, beta=-1.0)
    for layout in (c_order, np.asfortranarray, rows_apart, every_third_column, off_by_one_byte, odd_strides):
        for left in (x, np.asfortranarray(x)):
            out = layout(before.copy())
            assert nj.linear(left, w, b, "relu", out, alpha=2, beta=-1.0) is out
            assert np.array(out).tobytes() == expected.tobytes(), layout


# Errors ------------------------------------------------------------------------------------------------

X, W, OUT = np.ones((2, 3), "f4"), np.ones((3, 5), "f4"), np.zeros((2, 5), "f4")


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"b": np.ones((3, 1), "f4")}, ValueError, r"b \(3, 1\): expected \(5,\) or \(2, 1\)"),
        ({"b": np.ones((1, 5), "f4")}, ValueError, r"b \(1, 5\): expected .* give others as residual"),
        ({"x": X[0], "b": np.ones((1, 1), "f4")}, ValueError, r"b \(1, 1\): expected \(5,\),"),
        ({"residual": np.ones((3, 5), "f4")}, ValueError, r"residual \(3, 5\): .* broadcasts to \(2, 5\)"),
        ({"residual": np.ones((4, 2, 5), "f4")}, ValueError, r"residual \(4, 2, 5\)"),
        ({"residual": np.ones((2, 5), "f8")}, TypeError, "dtypes float32, float32, float64"),
        ({"beta": 1.0, "out": None}, ValueError, "beta 1.0: expected an out that it multiplies, got None"),
        ({"alpha": "2"}, ValueError, "alpha: expected a number, got '2'"),
        ({"x": X[None], "alpha": np.ones(2), "out": None}, ValueError, "alpha: expected a number, got array"),
        ({"alpha": None}, ValueError, "alpha: expected a number, got None"),
        ({"alpha": 10**400}, ValueError, "alpha: expected a number, got 1000"),
        ({"beta": float("nan")}, ValueError, "beta: expected a number, got nan"),
        ({"alpha": float("inf")}, ValueError, "alpha: expected a number that is finite in float32, got inf"),
        ({"beta": 1e300}, ValueError, r"beta: expected a number that is finite in float32, got 1e\+300"),
        ({"activation": ("leaky_relu", "a")}, ValueError, "leaky_relu: expected a number, got 'a'"),
        ({"activation": ("clamp", 0, float("nan"))}, ValueError, "clamp: expected a number, got nan"),
        ({"gamma": 1}, TypeError, "linear.* 'gamma'"),
    ],
)  # fmt: skip
def test_row_29_refused_and_out_untouched(arguments: Any, error: type[Exception], says: str) -> None:
    OUT[...] = 0
    with pytest.raises(error, match=says):
        nj.linear(**{"x": X, "w": W, "out": OUT, **arguments})
    assert not OUT.any()


def test_parameters_are_rounded_to_the_dtype() -> None:
    x = np.array([[-3.0, 2.0]], "f4")
    w = np.eye(2, dtype="f4")
    assert nj.linear(x, w, activation=("clamp", -1e300, 1e300)).tolist() == [[-3.0, 2.0]]
    assert nj.linear(x, w, activation=("clamp", -1, float("inf"))).tolist() == [[-1.0, 2.0]]
    assert nj.linear(x, w, alpha=1 / 3).tobytes() == (np.float32(1 / 3) * x).tobytes()
    for zero in (0.0, -0.0, 0, False, np.float32(-0.0)):
        assert np.signbit(nj.linear(x, w, activation=("leaky_relu", zero))).tolist() == [[True, False]]


# Why several passes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [case for case in CASES if case.dtype == "f4"][::7], ids=str)
def test_several_passes_have_the_same_bits_and_say_why(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    if not runnable_isas():
        pytest.skip("no emitted code runs here")
    given = operands(case)
    before = plain(5, (*given["x"].shape[:-1], given["w"].shape[1]), case.dtype)
    fused = nj.linear(**given, out=before.copy())
    SLOTS.evict_bytes(1 << 62)
    publish = compiler.publish_product
    monkeypatch.setattr(
        compiler,
        "publish_product",
        lambda key, product, *e, **at: "not now" if e else publish(key, product, **at),
    )
    assert nj.linear(**given, out=before.copy()).tobytes() == fused.tobytes()
    assert nj.info().fallbacks == {"linear in several passes: not now": 1}


@needs_kernels
def test_each_cause_of_several_passes_is_told_from_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = nj.linear(X, W, activation="relu")
    SLOTS.evict_bytes(1 << 62)
    with monkeypatch.context() as patch:
        patch.setattr(compiler, "keep_within_cache", lambda: SLOTS.evict_bytes(1 << 62))
        nj.linear(X, W, activation="relu")
    with monkeypatch.context() as patch:
        patch.setattr(compiler, "emit_gemm", lambda *_: RETURN)
        nj.linear(X, W, activation="relu")
        nj.linear(X, W, activation="relu")
    compiler.forget_refusals()
    far = np.lib.stride_tricks.as_strided(np.zeros(1, "f4"), (1 << 31, 1), (0, 4))
    assert nj.linear(far[:1], W[:1], activation="relu").shape == (1, 5)
    reasons = [reason for reason in nj.info().fallbacks if reason.startswith("linear in several passes: ")]
    assert len(reasons) == 2, reasons
    assert reasons[0].endswith("kernel evicted at once")
    assert "ValidationError: gemm f32 2x5x3" in reasons[1]
    assert nj.linear(X, W, activation="relu").tobytes() == expected.tobytes()


@pytest.mark.parametrize("isa", runnable_isas()[1:])
def test_the_whole_of_linear_on_the_other_isas_of_this_machine(isa: str) -> None:
    """These very tests again, with the ISA capped."""
    if "NEUROJIT_ISA" in os.environ:
        pytest.skip("already capped")
    here = Path(__file__).parent
    names = ("test_dense", "test_dense_bind", "test_dense_epilogues", "test_dense_numbers")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider", *(f"{here}/{n}.py" for n in names)],
        env={**os.environ, "NEUROJIT_ISA": isa}, capture_output=True, text=True, timeout=300, cwd=here.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
