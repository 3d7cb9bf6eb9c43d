"""reduce: softmax, norms, sums, picks and positions, at every row length, against the same order in NumPy.

Additions have the order that plan/reduce.py fixes, functions are the emitted ones (test_map_expressions), so
results are compared bit for bit, and the same on every ISA; that they are right, too, within bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fence import SIDES, Fence
from operands import DTYPES, NUMBERS, TARGETS, Array, plain, runnable_isas
from oracle import assert_same_bits
from test_map_expressions import emitted_functions, reach, view

from neurojit.asm_templates.lanes import Lanes
from neurojit.codegen import emit_reduce
from neurojit.errors import MissingStepError, RegisterPressureError
from neurojit.expressions import evaluate, evaluate_rows
from neurojit.plan import reduce as plan
from neurojit.plan.expression import ON_32_BITS, REDUCTIONS, Builder, Expression
from neurojit.plan.map import Access
from neurojit.plan.reduce import Reduce, ReduceSchedule, row_program, schedule_reduce
from neurojit.runtime import Code

ISAS = runnable_isas()
EACH = [
    pytest.mark.parametrize("isa", ISAS),
    pytest.mark.parametrize("dtype", sorted(DTYPES)),
]
LENGTHS = [*range(1, 36), 47, 64, 65, 100, 127, 128, 129, 200, 256, 257, 300, 512, 520, 1024, 1031]
Make = Callable[[Builder], tuple[int, ...]]


def run(
    isa: str,
    g: Reduce,
    rows: int = 0,
    seed: int = 0,
    numbers: Callable[..., Array] = plain,
    schedule: ReduceSchedule | None = None,
) -> tuple[list[Array], list[Array], list[Array]]:
    """(inputs, outputs, what the outputs must be); nothing else of any buffer has changed."""
    dtype = DTYPES[g.dtype]
    shape = tuple(rows if extent is None else extent for extent in g.shape)
    accesses = (*g.inputs, *g.outputs)
    sizes = [max(reach(a, shape) for a in accesses if a.buffer == b) for b in range(g.buffers)]
    stores = [numbers(seed + b, (size,), dtype) for b, size in enumerate(sizes)]
    inputs = [view(stores[access.buffer], access, shape).copy() for access in g.inputs]
    expected = [store.copy() for store in stores]
    results = evaluate_rows(g, inputs, emitted_functions(isa, g.dtype))
    for access, result in zip(g.outputs, results, strict=True):
        view(expected[access.buffer], access, shape)[...] = result
    code = Code.map(emit_reduce(g, TARGETS[isa].isa, schedule=schedule))
    assert code.call(tuple(store.ctypes.data for store in stores), rows) == 0
    for number, (store, wanted) in enumerate(zip(stores, expected, strict=True)):
        assert_same_bits(store, wanted, f"{isa} {g} rows {rows} {schedule}: buffer {number}")
    return inputs, [view(stores[a.buffer], a, shape) for a in g.outputs], results


def rows_of(
    dtype: str, rows: int | None, n: int, make: Callable[[Builder, int], int], **options: Any
) -> Reduce:
    """One input, one output, rows apart."""
    build = Builder()
    e = build.done(make(build, build.input(0)))
    single = not e.along_row(set())[e.outputs[0]]
    out = Access(1, (1, 0)) if single else Access(1, (n + 1, 1))
    return Reduce(dtype, (rows, n), (Access(0, (n + 2, 1)),), (out,), e, **options)


def reduction(op: str) -> Callable[[Builder, int], int]:
    return lambda build, x: build.apply(op, x)


def layer_norm_of(dtype: str, rows: int | None, n: int) -> Reduce:
    build = Builder()
    e = build.done(plan.layer_norm(build, build.input(0), build.input(1), build.input(2), 1e-5))
    inputs = Access(0, (n, 1)), Access(1, (0, 1)), Access(2, (0, 1))
    return Reduce(dtype, (rows, n), inputs, (Access(3, (n, 1)),), e)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("op", sorted({*REDUCTIONS} - ON_32_BITS))
@pytest.mark.parametrize("numbers", ["plain", "special", "cancelling", "negative_zero"])
def test_row_31_every_reduction_at_every_length(isa: str, dtype: str, op: str, numbers: str) -> None:
    for n in LENGTHS:
        run(isa, rows_of(dtype, 3, n, reduction(op)), seed=n, numbers=NUMBERS[numbers])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("make", [plan.softmax, plan.logsumexp], ids=["softmax", "logsumexp"])
def test_softmax_at_every_length(isa: str, dtype: str, make: Callable[[Builder, int], int]) -> None:
    for n in LENGTHS:
        run(isa, rows_of(dtype, 2, n, make), seed=n)
        run(isa, rows_of(dtype, 2, n, make), seed=n, numbers=NUMBERS["special"])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_norms_at_every_length(isa: str, dtype: str) -> None:
    for n in LENGTHS:
        run(isa, layer_norm_of(dtype, 2, n), seed=n)
        build = Builder()
        e = build.done(plan.rms_norm(build, build.input(0), build.input(1), 1e-6))
        inputs = Access(0, (n, 1)), Access(1, (0, 1))
        run(isa, Reduce(dtype, (2, n), inputs, (Access(0, (n, 1)),), e), seed=n)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_the_meaning_is_the_usual_one(isa: str, dtype: str) -> None:
    """In double precision and in NumPy's own words; NaN and infinities as there."""
    eps = np.finfo(DTYPES[dtype]).eps
    for n in (1, 3, 10, 64, 100, 257, 1024):
        (x,), (got,), _ = run(isa, rows_of(dtype, 4, n, plan.softmax), seed=n)
        wide = x.astype(np.float64)
        powers = np.exp(wide - wide.max(-1, keepdims=True))
        np.testing.assert_allclose(got, powers / powers.sum(-1, keepdims=True), rtol=(n + 8) * eps, atol=0)
        (x,), (got,), _ = run(isa, rows_of(dtype, 4, n, plan.logsumexp), seed=n)
        exact = np.log(np.exp(x.astype(np.float64)).sum(-1, keepdims=True))
        np.testing.assert_allclose(got[:, :1], exact, rtol=8 * eps, atol=(n + 8) * eps)
        (x, w, b), (got,), _ = run(isa, layer_norm_of(dtype, 4, n), seed=n)
        wide = x.astype(np.float64)
        centred = wide - wide.mean(-1, keepdims=True)
        exact = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * w + b
        np.testing.assert_allclose(got, exact, rtol=0, atol=(n + 20) * eps * 10)
        for op, f in (("max", np.max), ("min", np.min), ("argmax", np.argmax), ("argmin", np.argmin)):
            (x,), (got,), _ = run(
                isa, rows_of(dtype, 4, n, reduction(f"reduce_{op}")), seed=n, numbers=NUMBERS["special"]
            )
            np.testing.assert_array_equal(got[:, 0], f(x, -1))
    with np.errstate(all="ignore"):
        for row in ([np.inf, 1, 2], [-np.inf] * 3, [np.nan, 1, 2], [-np.inf, 0, 0]):
            x = np.array([row], DTYPES[dtype])
            y = np.empty_like(x)
            g = Reduce(dtype, (1, 3), (Access(0, (3, 1)),), (Access(1, (3, 1)),), softmax())
            assert Code.map(emit_reduce(g, TARGETS[isa].isa)).call((x.ctypes.data, y.ctypes.data)) == 0
            powers = np.exp(x - x.max())
            np.testing.assert_allclose(y, powers / powers.sum(), rtol=4 * eps)


def softmax() -> Expression:
    build = Builder()
    return build.done(plan.softmax(build, build.input(0)))


@pytest.mark.skipif(len(ISAS) < 2, reason="compares AVX2 with AVX-512")
@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_isas_agree_in_every_bit(dtype: str) -> None:
    """Also that rows in registers and rows read again agree, and that in place is the same."""
    for n in (1, 7, 16, 33, 64, 100, 300, 1100):
        for g in (rows_of(dtype, 3, n, plan.softmax), layer_norm_of(dtype, 3, n)):
            got = [
                run(isa, g, seed=n, schedule=s)[1][0] for isa in ISAS for s in (None, ReduceSchedule(False))
            ]
            for other in got[1:]:
                assert got[0].tobytes() == other.tobytes()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("in_registers", [False, True])
def test_both_schedules(isa: str, in_registers: bool) -> None:
    for n in (1, 5, 16, 31, 48):
        run(isa, rows_of("f32", 3, n, plan.softmax), schedule=ReduceSchedule(in_registers))
        run(isa, rows_of("f64", 3, n // 2 + 1, plan.logsumexp), schedule=ReduceSchedule(in_registers))
        run(isa, layer_norm_of("f32", 3, n), schedule=ReduceSchedule(in_registers))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("rows", [2, 4])
def test_rows_side_by_side(isa: str, dtype: str, rows: int) -> None:
    """Each has the bits that it has alone; so where they are groups of another dimension's."""
    for n in (1, 3, 16, 31, 64, 65):
        makes = (plan.softmax, plan.logsumexp, reduction("reduce_mean"), reduction("reduce_max"))
        for g in (*(rows_of(dtype, 8, n, make) for make in makes), layer_norm_of(dtype, 8, n)):
            run(isa, g, seed=n)
            if rows == 2 or TARGETS[isa].isa.vector_registers > 16:
                run(isa, g, seed=n, schedule=ReduceSchedule(False, rows=rows))
    apart = Access(0, (900, 70, 1)), Access(1, (1000, 80, 1))
    g = Reduce(dtype, (3, 12, 64), apart[:1], apart[1:], softmax())
    run(isa, g, schedule=ReduceSchedule(False, rows=rows))


def test_short_rows_are_gone_through_side_by_side() -> None:
    for target in TARGETS.values():
        lanes = target.isa.widest // 32
        assert schedule_reduce(rows_of("f32", 16, 2 * lanes, plan.softmax), target.isa).rows > 1
        assert schedule_reduce(rows_of("f32", 7, 2 * lanes, plan.softmax), target.isa).rows == 1
        assert schedule_reduce(rows_of("f32", 16, 4096, plan.softmax), target.isa).rows == 1
        assert schedule_reduce(rows_of("f32", None, 2 * lanes, plan.softmax), target.isa).rows == 1


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("rows", [0, 1, 2, 9])
def test_dynamic_rows_and_many_dimensions(isa: str, rows: int) -> None:
    for n in (5, 40, 600):
        run(isa, rows_of("f32", None, n, plan.softmax), rows)
        out = Access(1, (3 * n, n, 1))
        run(isa, Reduce("f32", (None, 3, n), (Access(0, (3 * n, n, 1)),), (out,), softmax()), rows)
        apart = Access(0, (3 * n + 7, n + 1, 1))
        run(isa, Reduce("f32", (None, 3, n), (apart,), (out,), softmax()), rows)
    g = Reduce("f32", (17,), (Access(0, (1,)),), (Access(1, (1,)),), softmax())
    run(isa, g)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("n", [6, 33, 700])
def test_expressions_around_reductions(isa: str, n: int) -> None:
    """Scaled and masked scores before softmax; several outputs; values of a row among the outputs; inputs
    that are one element a row; a sum of what an exponential was computed for."""
    build = Builder()
    x, mask, scale, shift = (build.input(k) for k in range(4))
    scores = build.apply("add", build.apply("mul", x, scale), mask)
    y = plan.softmax(build, scores)
    entropy = build.apply("negate", build.apply("reduce_sum", build.apply("mul", y, scores)))
    moved = build.apply("add", y, build.apply("exp", build.apply("sub", shift, entropy)))
    e = build.done(y, entropy, moved, build.apply("reduce_argmax", scores), entropy, scores)
    inputs = Access(0, (n + 2, 1)), Access(1, (0, 1)), Access(2, (0, 0)), Access(3, (1, 0))
    outputs = (
        Access(4, (n, 1)), Access(5, (1, 0)), Access(6, (n, 1)), Access(7, (2, 0)), Access(8, (n, 1)),
        Access(9, (n, 1)),
    )  # fmt: skip
    for in_registers in (True, False) if n < 10 else (False,):
        run(isa, Reduce("f32", (3, n), inputs, outputs, e), schedule=ReduceSchedule(in_registers), seed=n)


@pytest.mark.parametrize("isa", ISAS)
def test_in_place_and_what_may_not_be_held(isa: str) -> None:
    """log_softmax reads x again after the exponentials: they must not be held where x lies."""
    build = Builder()
    x = build.input(0)
    for make in (plan.softmax, lambda b, v: b.apply("sub", v, plan.logsumexp(b, v))):
        e = build.done(make(build, x))
        for n in (8, 40, 700):
            g = Reduce("f32", (3, n), (Access(0, (n, 1)),), (Access(0, (n, 1)),), e)
            for schedule in (None, ReduceSchedule(False)):
                run(isa, g, schedule=schedule, seed=n)


def test_costly_values_are_held_where_an_output_will_be() -> None:
    g = rows_of("f32", 4, 1000, plan.softmax)
    program = row_program(g, hold=True)
    assert [len(of.stores) for of in program.passes] == [0, 1, 1]
    assert program.expression.inputs == {0, 1}  # the second one is the output
    assert row_program(g, hold=False).expression.inputs == {0}
    normed = layer_norm_of("f32", 4, 1000)
    assert row_program(normed, hold=True).expression.inputs == {0, 1, 2}, "a difference is computed again"


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("op", sorted({*REDUCTIONS} - ON_32_BITS))
def test_down_columns(isa: str, dtype: str, op: str) -> None:
    for k, n in [(1, 1), (1, 20), (5, 3), (7, 16), (4, 33), (9, 70), (3, 130), (40, 257)]:
        build = Builder()
        e = build.done(build.apply(op, build.input(0)))
        g = Reduce(dtype, (2, k, n), (Access(0, (k * n, n, 1)),), (Access(1, (n, 0, 1)),), e, down=True)
        run(isa, g, seed=n, numbers=NUMBERS["special"])


@pytest.mark.parametrize("isa", ISAS)
def test_softmax_down_columns(isa: str) -> None:
    """Also with a row vector and a column, and dynamic batches."""
    build = Builder()
    x, bias, scale = (build.input(k) for k in range(3))
    scores = build.apply("mul", build.apply("add", x, bias), scale)
    e = build.done(plan.softmax(build, scores), plan.logsumexp(build, scores))
    for k, n in [(1, 5), (6, 17), (10, 64), (33, 130)]:
        inputs = Access(0, (k * (n + 1), n + 1, 1)), Access(1, (0, 0, 1)), Access(2, (0, 1, 0))
        outputs = Access(3, (k * n, n, 1)), Access(4, (n, 0, 1))
        g = Reduce("f32", (None, k, n), inputs, outputs, e, down=True)
        for rows in (0, 1, 3):
            run(isa, g, rows, seed=n)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("side", SIDES)
def test_row_27_between_guard_pages(isa: str, side: str) -> None:
    fences = [Fence(1 << 14) for _ in range(2)]
    e, column = softmax(), Builder()
    total = column.done(column.apply("reduce_sum", column.input(0)))
    for n in [*range(1, 36), 129, 500]:
        g = Reduce("f32", (3, n), (Access(0, (n, 1)),), (Access(1, (n, 1)),), e)
        arrays = [fence.hold(plain(k, (3, n)), side) for k, fence in enumerate(fences)]
        assert Code.map(emit_reduce(g, TARGETS[isa].isa)).call(tuple(a.ctypes.data for a in arrays)) == 0
        down = Reduce("f32", (3, n), (Access(0, (n, 1)),), (Access(1, (0, 1)),), total, down=True)
        arrays[1] = fences[1].hold(plain(n, (1, n)), side)
        assert Code.map(emit_reduce(down, TARGETS[isa].isa)).call(tuple(a.ctypes.data for a in arrays)) == 0
        assert_same_bits(arrays[1], (0 + arrays[0][0] + arrays[0][1] + arrays[0][2])[None, :], n)


@pytest.mark.parametrize("isa", ISAS)
def test_row_33_abi(isa: str) -> None:
    for g in (rows_of("f32", 3, 21, plan.softmax), layer_norm_of("f64", 3, 300)):
        arrays = [plain(k, (4, 400), DTYPES[g.dtype]) for k in range(4)]
        code = Code.map(emit_reduce(g, TARGETS[isa].isa))
        for stack_offset in (0, 16, 32, 48):
            report = code.call_checked(tuple(a.ctypes.data for a in arrays), stack_offset=stack_offset)
            assert report is not None
            assert report["violations"] == ()
            assert report["result"] == 0


@pytest.mark.parametrize("isa", ISAS)
def test_schedules_keep_short_rows_in_registers(isa: str) -> None:
    target = TARGETS[isa].isa
    assert schedule_reduce(rows_of("f32", 9, 10, plan.softmax), target).in_registers
    assert not schedule_reduce(rows_of("f32", 9, 4000, plan.softmax), target).in_registers
    with pytest.raises(RegisterPressureError, match="template reduce: needs more than the"):
        emit_reduce(rows_of("f32", 9, 4000, plan.softmax), target, schedule=ReduceSchedule(True))


@pytest.mark.parametrize("isa", ISAS)
def test_every_length_finds_registers(isa: str) -> None:
    """Whatever schedule the plan chooses can be emitted."""
    for dtype in sorted(DTYPES):
        for n in [*range(1, 400, 3), 1000, 5000]:
            for make in (plan.softmax, plan.logsumexp, reduction("reduce_argmax"), reduction("reduce_mean")):
                emit_reduce(rows_of(dtype, 9, n, make), TARGETS[isa].isa)
            emit_reduce(layer_norm_of(dtype, 9, n), TARGETS[isa].isa)


def test_a_machine_without_the_steps_says_so() -> None:
    class Bare(Lanes):
        template = "reduce"

    bare: Any = Bare()
    steps: list[Callable[[], object]] = [
        lambda: bare.upper(None), lambda: bare.spread_first(None, 4), lambda: bare.lane_numbers(4),
        lambda: bare.transposed([]), lambda: bare.to_integer(None), lambda: bare.from_integer(None),
        lambda: bare.spread_integer(4, 1), lambda: bare.add_integers(None, None),
        lambda: bare.xor(None, None), lambda: bare.rotate_left(None, 3), lambda: bare.shift_right(None, 3),
        lambda: bare.load_index(0, 0), lambda: bare.clamp_index(0, 1),
    ]  # fmt: skip
    for step in steps:
        with pytest.raises(
            MissingStepError, match=r"^template reduce: Bare has no step '\w+'; write it there"
        ):
            step()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: replace(GOOD, shape=(3, None)), r"shape \(3, None\), expected extents"),
        (lambda: replace(GOOD, shape=(None, 4), down=True), r"expected a known extent to reduce"),
        (lambda: replace(GOOD, outputs=(Access(1, (4, 0)),)), r"output strides \(4, 0\), expected 1"),
        (
            lambda: rows_of("f32", 1, (1 << 24) + 1, reduction("reduce_argmax")),
            "a position among 16777217, expected 16777216 at most",
        ),
    ],
)
def test_what_is_no_reduction_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


GOOD = Reduce("f32", (3, 4), (Access(0, (4, 1)),), (Access(1, (4, 1)),), softmax())


def test_an_expression_that_reduces_needs_a_meaning_of_reductions() -> None:
    with pytest.raises(ValueError, match="reduce_fmax without a meaning of reductions"):
        evaluate(softmax(), [np.ones(3, np.float32)])
