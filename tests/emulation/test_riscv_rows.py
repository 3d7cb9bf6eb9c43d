"""RISC-V V under emulation: expressions and row programs, with the bits that this machine's kernels have."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from emulator import Emulator
from operands import DTYPES, Array, plain, runnable_isas, special
from oracle import assert_same_bits
from test_map_expressions import emitted_functions, reach, view
from test_riscv_kernels import VECTOR_BITS, target

from neurojit.asm_templates.lanes import Lanes
from neurojit.codegen import emit_map, emit_reduce, machine_class
from neurojit.expressions import evaluate, evaluate_rows
from neurojit.plan import reduce as plan
from neurojit.plan.expression import ON_32_BITS, REDUCTIONS, Builder
from neurojit.plan.map import Access, Map
from neurojit.plan.reduce import Reduce

pytestmark = [
    pytest.mark.parametrize("bits", VECTOR_BITS),
    pytest.mark.parametrize("dtype", sorted(DTYPES)),
]
LENGTHS = (1, 2, 3, 5, 8, 13, 17, 40, 100, 257)


@pytest.fixture(autouse=True)
def _needs_kernels_of_this_machine():
    if not runnable_isas():
        pytest.skip("functions are compared with this machine's kernels, which has none")


def check(
    emulator: Emulator,
    code: bytes,
    g: Map | Reduce,
    rows: int,
    evaluated: Callable[[list[Array]], Sequence[Array]],
    numbers: Callable[..., Array] = plain,
) -> None:
    """The kernel on buffers of numbers: outputs as expected, and nothing else of any buffer changed."""
    shape = tuple(rows if extent is None else extent for extent in g.shape)
    accesses = (*g.inputs, *g.outputs)
    sizes = [max(reach(a, shape) for a in accesses if a.buffer == b) for b in range(g.buffers)]
    stores = [numbers(b, (size,), DTYPES[g.dtype]) for b, size in enumerate(sizes)]
    expected = [store.copy() for store in stores]
    results = evaluated([view(stores[access.buffer], access, shape).copy() for access in g.inputs])
    for access, result in zip(g.outputs, results, strict=True):
        view(expected[access.buffer], access, shape)[...] = result
    assert emulator.run(code, stores, rows) == 0
    for store, wanted in zip(stores, expected, strict=True):
        assert_same_bits(store, wanted, str(g))


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_lstm_gates(riscv64, bits, dtype, rows):
    for n in LENGTHS[:8]:
        build = Builder()
        i, f, g, o, c = (build.input(number) for number in range(5))
        kept = build.apply("mul", build.apply("sigmoid", f), c)
        cell = build.apply("add", kept, build.apply("mul", build.apply("sigmoid", i), build.apply("tanh", g)))
        hidden = build.apply("mul", build.apply("sigmoid", o), build.apply("tanh", cell))
        gates = [Access(0, (4 * n, 1), gate * n) for gate in range(4)]
        outputs = (Access(1, (n, 1)), Access(2, (n, 1)))
        m = Map(dtype, (None, n), (*gates, Access(1, (n, 1))), outputs, build.done(cell, hidden))
        functions = emitted_functions(runnable_isas()[0], dtype)
        check(
            riscv64(bits), emit_map(m, target(bits).isa), m, rows,
            lambda x, m=m, functions=functions: evaluate(m.expression, x, functions),
        )  # fmt: skip


ROW_PROGRAMS = {
    "softmax": lambda b, x: plan.softmax(b, x),
    "logsumexp": lambda b, x: plan.logsumexp(b, x),
    **{op: lambda b, x, op=op: b.apply(op, x) for op in sorted({*REDUCTIONS} - ON_32_BITS)},
}


@pytest.mark.parametrize("numbers", [plain, special])
@pytest.mark.parametrize("program", sorted(ROW_PROGRAMS))
def test_row_programs(riscv64, bits, dtype, program, numbers):
    for n in LENGTHS:
        build = Builder()
        e = build.done(ROW_PROGRAMS[program](build, build.input(0)))
        single = not e.along_row(set())[e.outputs[0]]
        out = Access(1, (1, 0)) if single else Access(1, (n + 1, 1))
        g = Reduce(dtype, (3, n), (Access(0, (n + 2, 1)),), (out,), e)
        functions = emitted_functions(runnable_isas()[0], dtype)
        check(
            riscv64(bits), emit_reduce(g, target(bits).isa), g, 0,
            lambda x, g=g, functions=functions: evaluate_rows(g, x, functions), numbers,
        )  # fmt: skip


def test_every_step_is_there(bits, dtype):
    machine = machine_class(target(bits).isa)
    assert [
        name
        for name in vars(Lanes)
        if not name.startswith("_") and getattr(machine, name) is getattr(Lanes, name)
    ] == []
