"""map: expressions over several inputs and outputs, spread inputs, strides, tails, against NumPy bit for bit.

Functions are computed by the kernel of that function alone, whose errors `test_math` measures; everything
else is NumPy's own arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce

import numpy as np
import pytest
from fence import SIDES, Fence
from measured_functions import apply, kernel
from operands import DTYPES, NUMBERS, TARGETS, Array, plain, runnable_isas
from oracle import assert_same_bits

from neurojit.codegen import emit_map
from neurojit.errors import RegisterPressureError
from neurojit.expressions import evaluate
from neurojit.plan.epilogue import Activation
from neurojit.plan.expression import (
    EXACT_UNARY,
    OPERATIONS,
    RELATIONS,
    TEMPORARIES,
    Apply,
    Builder,
    Constant,
    Expression,
    Input,
    evaluate_in_order,
)
from neurojit.plan.map import Access, Map, MapSchedule, collapse, schedule_map
from neurojit.runtime import Code

ISAS = runnable_isas()
F32 = np.dtype(np.float32)
LANES = {"avx512": 16, "avx2": 8}


def emitted_functions(isa: str, dtype: str) -> Callable[[Activation, Array], Array]:
    def function(activation: Activation, x: Array) -> Array:
        return apply(kernel(activation.name, dtype, isa, activation.parameters), x)

    return function


def view(store: Array, access: Access, shape: tuple[int, ...]) -> Array:
    """The elements of an access in its buffer."""
    strides = [stride * store.itemsize for stride in access.strides]
    return np.lib.stride_tricks.as_strided(store[access.offset :], shape, strides)


def reach(access: Access, shape: tuple[int, ...]) -> int:
    if 0 in shape:
        return access.offset + 1
    return access.offset + 1 + sum((extent - 1) * s for extent, s in zip(shape, access.strides, strict=True))


def check(
    isa: str,
    g: Map,
    rows: int = 0,
    seed: int = 0,
    numbers: Callable[..., Array] = plain,
    schedule: MapSchedule | None = None,
) -> None:
    """The kernel on buffers of numbers: outputs as expected, and nothing else of any buffer changed."""
    dtype = DTYPES[g.dtype]
    shape = tuple(rows if extent is None else extent for extent in g.shape)
    accesses = (*g.inputs, *g.outputs)
    sizes = [max(reach(a, shape) for a in accesses if a.buffer == b) for b in range(g.buffers)]
    stores = [numbers(seed + b, (size,), dtype) for b, size in enumerate(sizes)]
    inputs = [view(stores[access.buffer], access, shape).copy() for access in g.inputs]
    expected = [store.copy() for store in stores]
    results = evaluate(g.expression, inputs, emitted_functions(isa, g.dtype))
    for access, result in zip(g.outputs, results, strict=True):
        view(expected[access.buffer], access, shape)[...] = result
    code = Code.map(emit_map(g, TARGETS[isa].isa, schedule=schedule))
    assert code.call(tuple(store.ctypes.data for store in stores), rows) == 0
    for number, (store, wanted) in enumerate(zip(stores, expected, strict=True)):
        assert_same_bits(store, wanted, f"{isa} {g} rows {rows}: buffer {number}")


def contiguous(buffer: int, shape: tuple[int, ...]) -> Access:
    strides = [1]
    for extent in shape[:0:-1]:
        strides.insert(0, strides[0] * extent)
    return Access(buffer, tuple(strides))


def one_op(op: str, parameters: tuple[float, ...] = ()) -> Expression:
    build = Builder()
    operands = [build.input(i) for i in range(OPERATIONS[op])]
    return build.done(build.apply(op, *operands, parameters=parameters))


def lstm() -> Expression:
    """c' = sigmoid(f) c + sigmoid(i) tanh(g); h = sigmoid(o) tanh(c')."""
    build = Builder()
    i, f, g, o, c = (build.input(k) for k in range(5))
    kept = build.apply("mul", build.apply("sigmoid", f), c)
    new = build.apply("mul", build.apply("sigmoid", i), build.apply("tanh", g))
    cell = build.apply("add", kept, new)
    return build.done(cell, build.apply("mul", build.apply("sigmoid", o), build.apply("tanh", cell)))


def lstm_map(dtype: str, rows: int | None, n: int) -> Map:
    """The gates are slices of one row of 4 n; c and c' are one buffer, h another."""
    gates = tuple(Access(0, (4 * n, 1), gate * n) for gate in range(4))
    rest = Access(1, (n, 1)), Access(2, (n, 1)), Access(3, (n, 1))
    return Map(dtype, (rows, n), (*gates, rest[0]), rest[1:], lstm())


EXACT = [
    op
    for op in OPERATIONS
    if op in {*EXACT_UNARY, *RELATIONS} or op in ("add", "sub", "mul", "div", "max", "min", "select")
]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("op", EXACT)
@pytest.mark.parametrize("numbers", ["plain", "special", "denormal", "wide"])
def test_row_31_each_operation_has_numpys_bits(isa: str, dtype: str, op: str, numbers: str) -> None:
    e = one_op(op)
    inputs = tuple(contiguous(i, (61,)) for i in range(OPERATIONS[op]))
    g = Map(dtype, (61,), inputs, (contiguous(len(inputs), (61,)),), e)
    check(isa, g, numbers=NUMBERS[numbers])


@pytest.mark.parametrize("isa", ISAS)
def test_logic(isa: str) -> None:
    build = Builder()
    a, b = build.input(0), build.input(1)
    p, q = build.apply("<", a, b), build.apply(">", a, build.constant(0.25))
    nodes = [build.apply("and", p, q), build.apply("or", p, q), build.apply("not", p), p]
    e = build.done(*nodes)
    check(
        isa,
        Map(
            "f32", (45,), (Access(0, (1,)), Access(1, (1,))), tuple(Access(2 + i, (1,)) for i in range(4)), e
        ),
    )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_constants_on_either_side(isa: str, dtype: str) -> None:
    build = Builder()
    x = build.input(0)
    c = build.constant(0.3)
    outputs = []
    for op in ("add", "sub", "mul", "div", "max", "min", "<", "!=", ">="):
        outputs += [build.apply(op, c, x), build.apply(op, x, c)]
    outputs += [c, build.constant(-0.0), build.apply("add", c, c), build.constant(1e300), x]
    outputs.append(build.apply("select", build.apply("<", x, c), c, build.constant(-1.0)))
    outputs.append(build.apply("select", x, x, c))
    outputs.append(build.apply("max", x, build.constant(np.nan)))
    for node in outputs:
        g = Map(dtype, (37,), (Access(0, (1,)),), (Access(1, (1,)),), build.done(node))
        check(isa, g, numbers=NUMBERS["special"])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_every_column_count_of_lstm_gates(isa: str, dtype: str) -> None:
    for n in [*range(1, 36), 64, 100]:
        check(isa, lstm_map(dtype, 3, n), seed=n)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("rows", [0, 1, 2, 7])
def test_dynamic_rows(isa: str, rows: int) -> None:
    check(isa, lstm_map("f32", None, 21), rows)
    e = one_op("add")
    for n in (1, 5, 16, 40):
        flat = Map("f32", (None, n), (Access(0, (n, 1)), Access(1, (n, 1))), (Access(2, (n, 1)),), e)
        check(isa, flat, rows)
        assert flat.collapsed().shape == (None,)
        assert flat.collapsed().unit == n


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("n", [1, 3, 8, 16, 17, 33, 50, 130])
def test_spread_inputs(isa: str, dtype: str, n: int) -> None:
    """x * scale[n] + shift[rows, 1] * s, with rows apart; a function of what is the same along the row."""
    build = Builder()
    x, scale, shift, s = (build.input(k) for k in range(4))
    along = build.apply("mul", build.apply("exp", shift), s)
    e = build.done(build.apply("add", build.apply("mul", x, scale), along), along)
    for rows, count in ((4, 0), (None, 3), (None, 0)):
        inputs = Access(0, (n + 3, 1)), Access(1, (0, 1)), Access(2, (2, 0), 1), Access(3, (0, 0), 2)
        outputs = Access(4, (n + 1, 1)), Access(5, (n, 1))
        check(isa, Map(dtype, (rows, n), inputs, outputs, e), count, seed=n)


@pytest.mark.parametrize("isa", ISAS)
def test_many_dimensions(isa: str) -> None:
    """A mask of (T, T) added to scores of (batch, heads, T, T); a transposed batch."""
    e = one_op("add")
    t = 9
    scores = Access(0, (3 * t * t, t * t, t, 1))
    check(isa, Map("f32", (2, 3, t, t), (scores, Access(1, (0, 0, t, 1))), (Access(2, scores.strides),), e))
    swapped = Access(2, (t * t, 2 * t * t, t, 1))
    check(isa, Map("f32", (2, 3, t, t), (scores, Access(1, (0, t, 0, 1))), (swapped,), e))
    check(
        isa,
        Map(
            "f32",
            (None, 3, t),
            (Access(0, (3 * t, t, 1)), Access(1, (0, 1, 0))),
            (Access(2, (3 * t, t, 1)),),
            e,
        ),
        5,
    )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("unroll", [1, 2, 3, 5, 8])
def test_every_unrolling_gives_the_same(isa: str, unroll: int) -> None:
    for n in (1, 15, 64, 16 * 7 + 5, 333):
        check(isa, lstm_map("f32", 2, n), schedule=MapSchedule(unroll))
        if unroll < 5:
            g = Map("f32", (None,), (Access(0, (1,)), Access(1, (1,))), (Access(2, (1,)),), one_op("mul"))
            check(isa, g, n, schedule=MapSchedule(unroll))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("unroll", "abreast"), [(2, 2), (3, 3), (4, 2), (5, 3), (1, 4)])
def test_vectors_abreast_have_the_bits_that_each_has_alone(isa: str, unroll: int, abreast: int) -> None:
    """Of a group that is not whole, too, and with values that are the same all along a row."""
    if isa == "avx2":
        abreast = min(abreast, 2)
    for n in (1, 15, 64, 16 * 7 + 5, 333):
        check(isa, lstm_map("f32", 2, n), schedule=MapSchedule(unroll, abreast=abreast))
    build = Builder()
    x, column = build.input(0), build.apply("exp", build.input(1))
    chosen = build.apply("select", build.apply("<", x, column), build.apply("max", x, column), column)
    e = build.done(build.apply("log", build.apply("abs", chosen)), build.apply("div", chosen, x))
    inputs = Access(0, (400, 1)), Access(1, (1, 0))
    g = Map("f32", (3, 333), inputs, (Access(2, (333, 1)), Access(3, (333, 1))), e)
    check(isa, g, schedule=MapSchedule(unroll, abreast=1 if isa == "avx2" else min(abreast, 3)))


def test_large_tensors_of_long_functions_are_computed_abreast() -> None:
    for target in TARGETS.values():
        lanes = target.isa.widest // 32
        assert schedule_map(lstm_map("f32", 1, lanes), target.isa).abreast == 1
        of_many = schedule_map(lstm_map("f32", 100, 40 * lanes), target.isa).abreast
        assert of_many > 1 or target.isa.vector_registers == 16
        assert schedule_map(Map.of_functions("f32", (Activation("exp"),)), target.isa).abreast > 1
        assert schedule_map(Map.of_functions("f32", (Activation("relu"),)), target.isa).abreast == 1


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("side", SIDES)
def test_row_27_between_guard_pages(isa: str, dtype: str, side: str) -> None:
    """Every tail, static and dynamic; rows apart, a row vector, a column."""
    fences = [Fence(1 << 14) for _ in range(4)]
    build = Builder()
    x, row, column = (build.input(k) for k in range(3))
    e = build.done(build.apply("add", build.apply("mul", x, row), column))
    kind = DTYPES[dtype]
    for n in range(1, 40):
        inputs = Access(0, (n + 2, 1)), Access(1, (0, 1)), Access(2, (1, 0))
        g = Map(dtype, (3, n), inputs, (Access(3, (n, 1)),), e)
        arrays = [
            fences[0].hold(plain(n, (3, n), kind), side, ((n + 2) * kind.itemsize, kind.itemsize)),
            fences[1].hold(plain(n, (1, n), kind), side),
            fences[2].hold(plain(n, (3, 1), kind), side),
            fences[3].hold(plain(n, (3, n), kind), side),
        ]
        code = Code.map(emit_map(g, TARGETS[isa].isa))
        assert code.call(tuple(a.ctypes.data for a in arrays)) == 0
        assert_same_bits(arrays[3], arrays[0] * arrays[1] + arrays[2], g)
        flat = Map(dtype, (None,), (Access(0, (1,)), Access(1, (1,))), (Access(2, (1,)),), one_op("add"))
        line = [fence.hold(plain(n + k, (n,), kind), side) for k, fence in enumerate(fences[:3])]
        assert Code.map(emit_map(flat, TARGETS[isa].isa)).call(tuple(a.ctypes.data for a in line), n) == 0
        assert_same_bits(line[2], line[0] + line[1], flat)


@pytest.mark.parametrize("isa", ISAS)
def test_outputs_on_inputs(isa: str) -> None:
    """Element on element: in place, exchanged, and two outputs that each need what the other overwrites."""
    build = Builder()
    a, b = build.input(0), build.input(1)
    for e in (
        build.done(b, a),
        build.done(build.apply("add", a, b), build.apply("sub", a, b)),
        build.done(build.apply("exp", a), build.apply("mul", b, a)),
        build.done(build.apply("mul", b, b), build.apply("add", a, build.constant(1.0))),
    ):
        g = Map("f32", (45,), (Access(0, (1,)), Access(1, (1,))), (Access(0, (1,)), Access(1, (1,))), e)
        x, y = plain(1, (45,)), plain(2, (45,))
        expected = evaluate(e, [x.copy(), y.copy()], emitted_functions(isa, "f32"))
        assert Code.map(emit_map(g, TARGETS[isa].isa)).call((x.ctypes.data, y.ctypes.data)) == 0
        assert_same_bits(x, expected[0], e)
        assert_same_bits(y, expected[1], e)


@pytest.mark.parametrize("isa", ISAS)
def test_row_33_abi_with_many_buffers(isa: str) -> None:
    """More addresses than the calling convention gives away."""
    build = Builder()
    total = build.input(0)
    for k in range(1, 9):
        total = build.apply("add", total, build.input(k))
    g = Map(
        "f32", (3, 21), tuple(Access(k, (25, 1)) for k in range(9)), (Access(9, (22, 1)),), build.done(total)
    )
    arrays = [plain(k, (3, 25)) for k in range(10)]
    code = Code.map(emit_map(g, TARGETS[isa].isa))
    for stack_offset in (0, 16, 32, 48):
        report = code.call_checked(tuple(a.ctypes.data for a in arrays), stack_offset=stack_offset)
        assert report is not None
        assert report["violations"] == ()
        assert report["result"] == 0
    check(isa, g)


@pytest.mark.parametrize("isa", ISAS)
def test_too_many_values_alive_is_an_error_with_the_budget(isa: str) -> None:
    """Nothing is spilled: the sum of all inputs comes before what needs it and each of them."""
    build = Builder()
    inputs = [build.input(k) for k in range(40)]
    total = reduce(lambda a, b: build.apply("add", a, b), inputs)
    e = build.done(reduce(lambda a, b: build.apply("mul", a, build.apply("sub", total, b)), inputs, total))
    g = Map("f32", (64,), tuple(Access(0, (1,), 64 * k) for k in range(40)), (Access(1, (1,)),), e)
    budget = TARGETS[isa].isa.vector_registers
    assert evaluate_in_order(e, e.outputs).registers > 40
    with pytest.raises(RegisterPressureError, match=rf"template map: needs more than the {budget} vector"):
        emit_map(g, TARGETS[isa].isa)


@pytest.mark.parametrize("isa", ISAS)
def test_the_planned_count_of_registers_is_enough(isa: str) -> None:
    """Whatever the plan says fits the ISA can be emitted: random graphs, most of them near the budget."""
    budget = TARGETS[isa].isa.vector_registers
    rng = np.random.default_rng(5)
    emitted = refused = 0
    ops = ["add", "mul", "sub", "max", "select", "<", "sigmoid", "tanh", "abs", "floor", "gelu"]
    for _ in range(150):
        build = Builder()
        nodes = [build.input(k) for k in range(4)] + [build.constant(0.5)]
        for _ in range(int(rng.integers(3, 40))):
            op = str(rng.choice(ops))
            operands = rng.choice(nodes[-int(rng.integers(5, 30)) :], OPERATIONS[op])
            nodes.append(build.apply(op, *(int(x) for x in operands)))
        e = build.done(*nodes[-2:])
        inputs = tuple(Access(0, (1,), 21 * k) for k in range(4))
        g = Map("f32", (21,), inputs, (Access(1, (1,)), Access(2, (1,))), e)
        masks = 1 if isa == "avx2" else 0
        try:
            emit_map(g, TARGETS[isa].isa)
            emitted += 1
        except RegisterPressureError:
            refused += 1
            assert evaluate_in_order(e, e.outputs).registers > budget - masks
    assert emitted > 50


@pytest.mark.parametrize("isa", ISAS)
def test_random_expressions(isa: str) -> None:
    rng = np.random.default_rng(11)
    ops = [*EXACT, "and", "or", "not", "exp", "sigmoid", "relu"]
    for seed in range(60):
        build = Builder()
        nodes = [build.input(k) for k in range(3)] + [build.constant(0.75), build.constant(-2.0)]
        for _ in range(int(rng.integers(2, 14))):
            op = str(rng.choice(ops))
            nodes.append(build.apply(op, *(int(x) for x in rng.choice(nodes, OPERATIONS[op]))))
        e = build.done(nodes[-1], nodes[-2])
        inputs = Access(0, (30, 1)), Access(1, (0, 1)), Access(2, (1, 0))
        g = Map("f32", (3, 29), inputs, (Access(3, (29, 1)), Access(4, (31, 1))), e)
        check(isa, g, seed=seed, numbers=NUMBERS["special" if seed % 2 else "plain"])


# Payloads ----------------------------------------------------------------------------------------------


def test_expressions_are_values() -> None:
    assert lstm() == lstm()
    assert hash(lstm()) == hash(lstm())
    assert Constant(0.0) != Constant(-0.0)
    assert Constant(np.nan) == Constant(np.nan)
    assert str(one_op("add")) == "%0 = input 0; %1 = input 1; %2 = add %0, %1 -> %2"


def test_equal_nodes_are_one_and_unused_ones_none() -> None:
    build = Builder()
    x = build.input(0)
    assert build.apply("exp", x) == build.apply("exp", x)
    build.apply("log", x)
    assert len(build.done(build.apply("exp", x)).nodes) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Expression((Input(0), Apply("plus", (0, 0))), (1,)), "operation 'plus', expected one of"),
        (lambda: Expression((Input(0), Apply("add", (0,))), (1,)), "add of 1 operands, expected 2"),
        (lambda: Expression((Input(0), Apply("add", (0, 1))), (1,)), r"operands \(0, 1\), expected earlier"),
        (lambda: Expression((Input(0), Apply("elu", (0,))), (1,)), "elu with 0 parameters, expected 1"),
        (lambda: Expression((Input(-1),), (0,)), "node 0: input -1, expected 0 or more"),
        (lambda: Expression((Input(0),), ()), r"outputs \(\), expected one at least"),
        (lambda: Expression((Input(0),), (1,)), r"outputs \(1,\), expected one at least, each from 0 to 0"),
        (lambda: Expression((Input(0),) * 1001, (0,)), "1001 nodes, expected at most 1000; split it"),
        (lambda: simple(shape=(3, None)), r"shape \(3, None\), expected extents from 1 up"),
        (lambda: simple(shape=(3, 0)), r"shape \(3, 0\), expected extents from 1 up"),
        (lambda: simple(outputs=()), "0 outputs, but the expression has 1"),
        (lambda: simple(inputs=()), "reads input 0, but there are 0"),
        (lambda: simple(inputs=(Access(0, (1,)),)), r"strides \(1,\) for shape \(3, 4\), expected 2"),
        (lambda: simple(inputs=(Access(0, (4, 2)),)), r"\(4, 2\), expected 1 or 0 along the last"),
        (lambda: simple(outputs=(Access(1, (4, 0)),)), r"output strides \(4, 0\), expected 1"),
        (lambda: simple(inputs=(Access(0, (1 << 40, 1)),)), "expected offsets and strides that stay below"),
        (lambda: simple(inputs=(Access(0, (4, 1), -1),)), "expected offsets and strides that stay below"),
        (lambda: simple(expression=one_op("reduce_sum")), "the expression reduces; give it to reduce"),
    ],
)  # fmt: skip
def test_what_is_no_map_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def simple(
    shape: tuple[int | None, ...] = (3, 4),
    inputs: tuple[Access, ...] = (Access(0, (4, 1)),),
    outputs: tuple[Access, ...] = (Access(1, (4, 1)),),
    expression: Expression | None = None,
) -> Map:
    return Map("f32", shape, inputs, outputs, expression or one_op("exp"))


def test_dimensions_become_one_wherever_strides_allow() -> None:
    assert collapse((4, 5, 6), ((30, 6, 1), (30, 6, 1))) == ((120,), ((1,), (1,)), 1)
    assert collapse((4, 5, 6), ((30, 6, 1), (0, 6, 1))) == ((4, 30), ((30, 1), (0, 1)), 1)
    assert collapse((4, 5, 6), ((30, 6, 1), (6, 0, 1))) == ((4, 5, 6), ((30, 6, 1), (6, 0, 1)), 1)
    assert collapse((4, 1, 6), ((6, 99, 1),)) == ((24,), ((1,),), 1)
    assert collapse((5, 1), ((1, 7), (0, 0))) == ((5,), ((1,), (0,)), 1)
    assert collapse((5, 1), ((3, 7),)) == ((5, 1), ((3, 7),), 1)
    assert collapse((None, 5, 6), ((30, 6, 1),)) == ((None,), ((1,),), 30)


def test_schedules_unroll_short_expressions() -> None:
    isa = TARGETS["avx512"].isa
    flat = Map("f32", (None,), (Access(0, (1,)), Access(1, (1,))), (Access(2, (1,)),), one_op("add"))
    assert schedule_map(flat, isa).unroll == 4
    assert schedule_map(lstm_map("f32", 1, 64), isa).unroll == 1
    row = replace(flat, shape=(96,))
    assert schedule_map(row, isa).unroll == 6


def test_every_operation_has_a_count_of_temporaries_that_exists() -> None:
    assert set(TEMPORARIES) <= set(OPERATIONS)
