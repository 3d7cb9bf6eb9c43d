"""Copies: squares of every size, edges of every size, permutations, slices, concatenations, spreading."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from fence import SIDES, Fence
from operands import DTYPES, TARGETS, Array, plain, runnable_isas
from oracle import assert_same_bits
from test_map_expressions import reach, view

from neurojit.asm_templates.machine import ELEMENTS
from neurojit.codegen import emit_map, emit_transpose, machine_class, machine_for
from neurojit.plan.map import Access, Map
from neurojit.plan.transpose import Transpose, TransposeSchedule, plan_copy, schedule_transpose
from neurojit.runtime import Code

ISAS = runnable_isas()


def run(isa: str, g: Map | Transpose, shape: tuple[int, ...], source: Access, target: Access) -> None:
    """Every element of the target has the source's, and nothing else changed."""
    dtype = DTYPES[g.dtype]
    stores = [plain(number, (reach(access, shape),), dtype) for number, access in enumerate((source, target))]
    expected = stores[1].copy()
    view(expected, target, shape)[...] = view(stores[0], source, shape)
    emitted = emit_map(g, TARGETS[isa].isa) if isinstance(g, Map) else emit_transpose(g, TARGETS[isa].isa)
    rows = shape[0] if None in g.shape else 0
    kept = stores[0].copy()
    assert Code.map(emitted).call((stores[0].ctypes.data, stores[1].ctypes.data), rows) == 0
    assert_same_bits(stores[1], expected, f"{isa} {g}")
    assert_same_bits(stores[0], kept, f"{isa} {g}: the source")


def copy(
    isa: str, dtype: str, shape: tuple[int, ...], source: Access, target: Access, dynamic: bool = False
) -> Map | Transpose:
    g = plan_copy(dtype, (None, *shape[1:]) if dynamic else shape, source, target)
    run(isa, g, shape, source, target)
    return g


def strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(stride // 8 for stride in np.empty(shape, np.float64).strides)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_squares_in_registers(isa: str, dtype: str) -> None:
    item = DTYPES[dtype].itemsize
    for side in [bits // 8 // item for bits in TARGETS[isa].isa.vector_bits]:
        buffer = machine_class(TARGETS[isa].isa).new_buffer("table")
        m = machine_for(TARGETS[isa].isa, buffer, ELEMENTS[dtype], "test")
        x, y = m.operands(2)
        m.expect(frozenset())
        for row, vector in enumerate(m.transposed([m.load(side, x, i * side * item) for i in range(side)])):
            m.store(vector, y, row * side * item)
        m.leave()
        a = plain(side, (side, side), DTYPES[dtype])
        b = np.empty_like(a)
        assert Code.map(buffer.finish()).call((a.ctypes.data, b.ctypes.data)) == 0
        assert_same_bits(b, a.T, side)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_every_edge(isa: str, dtype: str) -> None:
    for m, n in itertools.product([*range(1, 19), 31, 32, 33, 50], [1, 2, 3, 5, 8, 15, 16, 17, 40]):
        g = copy(isa, dtype, (m, n), Access(0, (1, m + 1)), Access(1, (n + 2, 1)))
        assert isinstance(g, Transpose) == (m > 1 and n > 1)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("side", [4, 8, 16])
def test_every_side_gives_the_same(isa: str, side: int) -> None:
    if side > TARGETS[isa].isa.widest // 32:
        pytest.skip("wider than a register")
    for m, n in [(3, 5), (20, 20), (33, 47)]:
        g = Transpose("f32", (m, n), Access(0, (1, m)), Access(1, (n, 1)))
        x, y = plain(1, (n, m)), np.empty((m, n), np.float32)
        for prefetch in (False, True):
            y[...] = 0
            code = Code.map(emit_transpose(g, TARGETS[isa].isa, schedule=TransposeSchedule(side, prefetch)))
            assert code.call((x.ctypes.data, y.ctypes.data)) == 0
            assert_same_bits(y, x.T, g)


@pytest.mark.parametrize("isa", ISAS)
def test_every_permutation_of_four_dimensions(isa: str) -> None:
    shape = (2, 3, 5, 9)
    for permutation in itertools.permutations(range(4)):
        permuted = tuple(shape[d] for d in permutation)
        source = Access(0, tuple(strides(shape)[d] for d in permutation))
        copy(isa, "f32", permuted, source, Access(1, strides(permuted)))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("rows", [0, 1, 5])
def test_dynamic_batches(isa: str, rows: int) -> None:
    copy(isa, "f32", (rows, 7, 9), Access(0, (63, 1, 7)), Access(1, (70, 10, 1)), dynamic=True)
    copy(
        isa,
        "f32",
        (rows, 4, 9),
        Access(0, (36, 9, 1)),
        Access(1, (9, 45, 1)) if rows < 2 else Access(1, (90, 9, 1)),
        dynamic=True,
    )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_slices_concatenations_and_spreading(isa: str, dtype: str) -> None:
    copy(isa, dtype, (4, 9), Access(0, (20, 1), 33), Access(1, (9, 1)))  # a window
    copy(isa, dtype, (4, 9), Access(0, (9, 1)), Access(1, (24, 1), 7))  # into a part of wider rows
    copy(isa, dtype, (4, 9), Access(0, (18, 2), 1), Access(1, (9, 1)))  # every second column: one by one
    copy(isa, dtype, (4, 9), Access(0, (0, 1)), Access(1, (9, 1)))  # a row for all
    copy(isa, dtype, (4, 9), Access(0, (1, 0)), Access(1, (9, 1)))  # a column for all
    copy(isa, dtype, (4, 9), Access(0, (0, 0)), Access(1, (9, 1)))
    copy(isa, dtype, (4, 9), Access(0, (9, -1), 8), Access(1, (9, 1)))  # reversed columns
    copy(isa, dtype, (1, 1), Access(0, (5, 7)), Access(1, (3, 2)))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("side", SIDES)
def test_row_27_between_guard_pages(isa: str, side: str) -> None:
    fences = [Fence(1 << 14) for _ in range(2)]
    for m, n in itertools.product([1, 3, 4, 7, 8, 9, 16, 17, 33], repeat=2):
        x = fences[0].hold(plain(m, (n, m)), side)
        y = fences[1].hold(np.zeros((m, n), np.float32), side)
        g = Transpose("f32", (m, n), Access(0, (1, m)), Access(1, (n, 1)))
        assert Code.map(emit_transpose(g, TARGETS[isa].isa)).call((x.ctypes.data, y.ctypes.data)) == 0
        assert_same_bits(y, x.T, g)


@pytest.mark.parametrize("isa", ISAS)
def test_row_33_abi(isa: str) -> None:
    g = Transpose("f32", (3, 20, 21), Access(0, (500, 1, 21)), Access(1, (500, 22, 1)))
    x, y = plain(1, (1500,)), plain(2, (1500,))
    code = Code.map(emit_transpose(g, TARGETS[isa].isa))
    for stack_offset in (0, 16, 32, 48):
        report = code.call_checked((x.ctypes.data, y.ctypes.data), stack_offset=stack_offset)
        assert report is not None
        assert report["violations"] == ()


def test_schedules_fill_squares() -> None:
    isa = TARGETS["avx512"].isa
    for shape, side in [((2, 100), 4), ((5, 100), 8), ((100, 9), 16), ((64, 64), 16)]:
        g = Transpose("f32", shape, Access(0, (1, shape[0])), Access(1, (shape[1], 1)))
        assert schedule_transpose(g, isa).side == side


@pytest.mark.parametrize(
    ("shape", "strides", "message"),
    [
        ((3,), ((1,), (1,)), "expected two known extents"),
        ((3, 4), ((4, 1), (4, 1)), r"\(4, 1\) and \(4, 1\), expected 1"),
        ((3, 0), ((1, 4), (4, 1)), "expected extents from 1 up"),
    ],
)
def test_what_is_no_transposition_is_refused(
    shape: tuple[int, ...], strides: tuple[tuple[int, ...], tuple[int, ...]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Transpose("f32", shape, Access(0, strides[0]), Access(1, strides[1]))


@pytest.mark.parametrize("isa", ["avx2", "avx512"])  # NEON's machine does not look
def test_a_square_that_is_none_is_refused(isa: str) -> None:
    m = machine_for(
        TARGETS[isa].isa, machine_class(TARGETS[isa].isa).new_buffer("table"), ELEMENTS["f32"], "test"
    )
    m.expect(frozenset())
    rows: list[Array] = [m.zero(4), m.zero(4)]
    with pytest.raises(ValueError, match="2 rows of 4 lanes, expected a square"):
        m.transposed(rows)
