"""cumsum: NumPy's own order, so NumPy's bits, along rows and down columns, at every edge of a square."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from fence import SIDES, Fence
from operands import DTYPES, NUMBERS, TARGETS, plain, runnable_isas
from oracle import assert_same_bits
from test_map_expressions import reach, view

from neurojit.codegen import emit_cumsum
from neurojit.plan.cumsum import Cumsum, CumsumSchedule, schedule_cumsum
from neurojit.plan.map import Access
from neurojit.runtime import Code

ISAS = runnable_isas()


def run(
    isa: str, g: Cumsum, rows: int = 0, numbers: str = "cancelling", schedule: CumsumSchedule | None = None
) -> None:
    dtype = DTYPES[g.dtype]
    shape = tuple(rows if extent is None else extent for extent in g.shape)
    stores = [
        NUMBERS[numbers](number, (reach(access, shape),), dtype)
        for number, access in enumerate((g.source, g.target))
    ]
    expected = stores[g.target.buffer].copy()
    x = view(stores[g.source.buffer], g.source, shape).copy()
    with np.errstate(all="ignore"):
        view(expected, g.target, shape)[...] = np.cumsum(x, -2 if g.down else -1, dtype)
    code = Code.map(emit_cumsum(g, TARGETS[isa].isa, schedule=schedule))
    addresses = stores[g.source.buffer].ctypes.data, stores[g.target.buffer].ctypes.data
    assert code.call(addresses[: g.buffers], rows) == 0
    assert_same_bits(stores[g.target.buffer], expected, f"{isa} {g}")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("down", [False, True])
def test_every_edge(isa: str, dtype: str, down: bool) -> None:
    for rows in (1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 33):
        for n in (1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 40, 100):
            run(isa, Cumsum.contiguous(dtype, rows, n, down))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("numbers", ["special", "denormal", "negative_zero"])
def test_row_31_special_numbers(isa: str, down: bool, numbers: str) -> None:
    run(isa, Cumsum.contiguous("f32", 7, 37, down), numbers=numbers)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_batches_rows_apart_and_in_place(isa: str, rows: int) -> None:
    for down in (False, True):
        source, target = Access(0, (400, 40, 1), 3), Access(1, (300, 30, 1), 1)
        run(isa, Cumsum("f32", (None, 6, 25), source, target, down), rows)
        run(isa, Cumsum("f32", (2, 6, 25), source, target, down))
        run(isa, Cumsum("f32", (6, 25), Access(0, (25, 1)), Access(0, (25, 1)), down))


@pytest.mark.parametrize("isa", ISAS)
def test_every_schedule_gives_the_same(isa: str) -> None:
    lanes = TARGETS[isa].isa.widest // 32
    for side in (4, 8, 16):
        if side <= lanes:
            run(isa, Cumsum.contiguous("f32", 21, 37), schedule=CumsumSchedule(side))
        run(isa, Cumsum.contiguous("f32", 5, 300, down=True), schedule=CumsumSchedule(side // 4))
    for rows, n in [(1, 7), (2, 64), (5, 300)]:
        source, target = Access(0, (n + 3, 1)), Access(1, (n + 1, 1))
        for g in (
            Cumsum("f32", (rows, n), source, target, True),
            Cumsum("f32", (rows, n), source, source, True),
        ):
            run(isa, g, schedule=CumsumSchedule(0))
    assert schedule_cumsum(Cumsum.contiguous("f32", 1024, 1024, down=True), TARGETS[isa].isa).side == 0
    narrowest = max(128, TARGETS[isa].isa.vector_bits[0]) // 32
    assert schedule_cumsum(Cumsum.contiguous("f32", 3, 100), TARGETS[isa].isa).side == narrowest
    assert schedule_cumsum(Cumsum.contiguous("f32", 100, 100), TARGETS[isa].isa).side == lanes


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("side", SIDES)
def test_row_27_between_guard_pages(isa: str, side: str) -> None:
    fences = [Fence(1 << 14) for _ in range(2)]
    for down in (False, True):
        for n in range(1, 40):
            x, y = (fence.hold(plain(n, (5, n)), side) for fence in fences)
            code = Code.map(emit_cumsum(Cumsum.contiguous("f32", 5, n, down), TARGETS[isa].isa))
            assert code.call((x.ctypes.data, y.ctypes.data)) == 0
            assert_same_bits(y, np.cumsum(x, -2 if down else -1, np.float32), n)


@pytest.mark.parametrize("isa", ISAS)
def test_row_33_abi(isa: str) -> None:
    for down in (False, True):
        x, y = plain(1, (9, 41)), plain(2, (9, 41))
        code = Code.map(emit_cumsum(Cumsum.contiguous("f32", 9, 41, down), TARGETS[isa].isa))
        for stack_offset in (0, 16, 32, 48):
            report = code.call_checked((x.ctypes.data, y.ctypes.data), stack_offset=stack_offset)
            assert report is not None
            assert report["violations"] == ()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda a: Cumsum("f32", (4,), Access(0, (1,)), Access(1, (1,))), "expected two known extents"),
        (lambda a: Cumsum("f32", (4, 4), Access(0, (4, 0)), a), r"strides \(0, 1\) along the last .*copy it"),
        (lambda a: Cumsum("f32", (4, 4), Access(0, (4,)), a), r"strides \(4,\) for shape"),
    ],
)
def test_what_is_no_running_sum_is_refused(make: Callable[[Access], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(Access(1, (4, 1)))
