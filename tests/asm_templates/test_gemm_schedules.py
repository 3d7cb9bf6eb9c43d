"""A schedule says how, never what: every legal one gives the same bits, every illegal one an error."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from disassembly import disassemble
from fence import SIDES, Fence
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import Kernel, byte_strides, partial, registers_needed, tiles
from operands import DTYPES, TARGETS, cancelling, planned, runnable_isas, transposed_gemm
from oracle import assert_same_bits

from neurojit.asm_templates.segments import SEGMENT
from neurojit.codegen import emit_gemm, list_gemm
from neurojit.errors import EncodeError, MissingStepError, RegisterPressureError
from neurojit.plan.blocking import micro_tile
from neurojit.plan.cut import Cut, ceil_div, cut_by, cut_equally
from neurojit.plan.gemm import ELEMENT_SIZE, ColumnBlock, Gemm, GemmSchedule, Matrix, Output
from neurojit.runtime import reference_matmul

FENCES = [Fence(1 << 22) for _ in range(3)]
REGISTERS = {"avx2": 16, "avx512": 32, "neon": 32, "rvv": 32}


@st.composite
def legal(draw: st.DrawFn, isa: str, dtype: str) -> tuple[Gemm, Any]:
    """A GEMM and any schedule of it that fits the registers."""
    size = ELEMENT_SIZE[dtype]
    full = TARGETS[isa].isa.widest // 8 // size
    lanes = st.lists(st.integers(1, full), min_size=1, max_size=4).map(tuple)
    blocks = draw(st.lists(st.tuples(lanes, st.integers(1, 3)), min_size=1, max_size=3))
    masks = len({count for block, _ in blocks for count in block if partial(count, size)})
    m = draw(st.integers(1, 60))
    columns = []
    for block, count in blocks:  # each cuts the rows in its own way
        most = 1
        while registers_needed(isa, most + 1, block, masks) < REGISTERS[isa]:
            most += 1
        height = draw(st.integers(1, most))
        cut = draw(st.sampled_from([cut_by(m, height), cut_equally(m, ceil_div(m, height))]))
        columns.append((block, count, cut))
    n = sum(sum(block) * count for block, count in blocks)
    k = draw(st.integers(1, 40))
    make = draw(st.sampled_from([Gemm.contiguous, transposed_gemm]))
    unroll = draw(st.integers(1, 20))
    schedule = tiles(columns, unroll)
    if draw(st.booleans()):
        schedule = replace(schedule, columns=tuple(block._replace(shared=True) for block in schedule.columns))
    return make(dtype, m, n, k), replace(schedule, k_block=draw(st.integers(0, k)))


@st.composite
def legal_in_segments(draw: st.DrawFn, isa: str, dtype: str) -> tuple[Gemm, Any]:
    """The same of tiles that read A in segments: vectors, then folded columns, with rows by lanes."""
    size = ELEMENT_SIZE[dtype]
    full, segment, rows = (
        TARGETS[isa].isa.widest // 8 // size,
        SEGMENT // size,
        TARGETS[isa].isa.widest // 128,
    )
    columns = []
    m = draw(st.integers(1, 30))
    for _ in range(draw(st.integers(1, 3))):
        lanes = draw(st.lists(st.integers(1, full), max_size=3).map(tuple))
        folded = draw(st.integers(0 if lanes else 1, 3 * segment))
        by_lanes = draw(st.integers(0 if folded else 1, 3)) if lanes else 0
        folds = ceil_div(folded, segment)
        beside = by_lanes + max(len(lanes), folds) + 1 + 4  # a scalar or a column of B; masks of AVX2
        most = 1
        while (most + 1) * len(lanes) + ceil_div(most + 1, rows) * (folds + 1) + beside <= REGISTERS[isa]:
            most += 1
        cut = cut_by(m, draw(st.integers(1, most)))
        shared = draw(st.booleans())
        columns.append(ColumnBlock(lanes, draw(st.integers(1, 2)), cut, folded, shared, by_lanes))
    k = draw(st.integers(segment, 40))
    n = sum(block.width * block.tiles for block in columns)
    a_row = draw(st.sampled_from([k, k + 3, -k]))
    g = Gemm(dtype, m, n, k, Matrix(a_row), Matrix(n), Output(n))
    passes = [block for block in range(segment, k) if (k - 1) % block + 1 >= segment]
    k_block = draw(st.sampled_from([0, *passes]))
    return g, GemmSchedule(tuple(columns), draw(st.integers(1, 20)), k_block=k_block)


@pytest.mark.parametrize("isa", runnable_isas())
@pytest.mark.parametrize("dtype", sorted(DTYPES))
@settings(max_examples=120)
@given(data=st.data())
def test_no_legal_schedule_changes_a_bit_or_leaves_the_operands(isa: str, dtype: str, data: Any) -> None:
    schedules = [legal, legal_in_segments] if TARGETS[isa].isa.has_segments else [legal]
    g, schedule = data.draw(st.one_of([schedule(isa, dtype) for schedule in schedules]))
    side = data.draw(st.sampled_from(SIDES))
    shapes = ((g.m, g.k), (g.k, g.n), (g.m, g.n))
    a, b, c = (
        fence.place(shape, DTYPES[dtype], strides, side)
        for fence, shape, strides in zip(FENCES, shapes, byte_strides(g), strict=True)
    )
    a[...], b[...], c[...] = cancelling(1, a.shape), cancelling(2, b.shape), np.nan
    expected = np.empty(c.shape, c.dtype)
    reference_matmul(a, b, expected)
    assert Kernel(isa, g, schedule).load()(a, b, c) == 0
    assert_same_bits(c, expected, schedule)


@pytest.mark.parametrize("isa", runnable_isas())
@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_the_isas_agree(isa: str, dtype: str) -> None:
    a, b = cancelling(1, (13, 40), DTYPES[dtype]), cancelling(2, (40, 27), DTYPES[dtype])
    expected, got = np.empty((13, 27), a.dtype), np.empty((13, 27), a.dtype)
    reference_matmul(a, b, expected)
    Kernel(isa, Gemm.contiguous(dtype, 13, 27, 40)).load()(a, b, got)
    assert_same_bits(got, expected)


# Errors: no CPU of the ISA is needed -----------------------------------------------------------------


@pytest.mark.parametrize("isa", sorted(TARGETS))
@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_too_large_a_tile_names_the_template_and_its_budget(isa: str, dtype: str) -> None:
    full = TARGETS[isa].isa.widest // 8 // ELEMENT_SIZE[dtype]
    height = REGISTERS[isa] + 1
    g = Gemm.contiguous(dtype, height, full, 4)
    with pytest.raises(
        RegisterPressureError, match=f"template gemm.* {REGISTERS[isa]} vector .*smaller tile"
    ):
        emit_gemm(g, tiles([((full,), 1, (height, 1))], 4), TARGETS[isa].isa)


@pytest.mark.parametrize("isa", sorted(name for name in TARGETS if not TARGETS[name].isa.has_segments))
def test_a_machine_without_segments_folds_nothing(isa: str) -> None:
    g = Gemm.contiguous("f32", 8, 4, 8)
    with pytest.raises(MissingStepError, match="has no step 'expect_segments'"):
        emit_gemm(g, GemmSchedule((ColumnBlock((), 1, Cut(8, 1), folded=4),), 4), TARGETS[isa].isa)


@pytest.mark.parametrize("isa", ["avx2", "avx512"])
@pytest.mark.parametrize("g", [Gemm.contiguous("f32", 8, 4, 3), transposed_gemm("f32", 8, 4, 8)], ids=str)
def test_segments_need_adjacent_elements_of_a(isa: str, g: Gemm) -> None:
    with pytest.raises(ValueError, match=r"segments of 4 adjacent steps of k: got k = \d, column stride \d"):
        emit_gemm(g, GemmSchedule((ColumnBlock((), 1, Cut(8, 1), folded=4),), 4), TARGETS[isa].isa)


@pytest.mark.parametrize("isa", sorted(TARGETS))
def test_the_largest_tile_that_fits_is_emitted(isa: str) -> None:
    height = REGISTERS[isa] - 2  # one vector of B, one scalar of A
    full = TARGETS[isa].isa.widest // 8 // 4
    g = Gemm.contiguous("f32", height, full, 4)
    assert emit_gemm(g, tiles([((full,), 1, (height, 1))], 4), TARGETS[isa].isa)


@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_a_micro_kernel_of_several_tiles_has_too_few_registers(isa: str) -> None:
    """It has no strides to go from one tile to the next; the planner must never ask for it."""
    g = Gemm.micro_kernel("f32", 6, 8, (6, 16), accumulate=True)
    schedule = tiles([((4,), 2, (3, 2))], 4)
    with pytest.raises(RegisterPressureError, match=r"template gemm.* general registers"):
        emit_gemm(g, schedule, TARGETS[isa].isa)


@pytest.mark.parametrize("isa", ["avx2", "avx512"])  # NEON's machine adds what no displacement holds
@pytest.mark.parametrize("far", ["a row", "a column", "b row", "c row"])
def test_displacements_beyond_32_bits_are_errors_not_wrapped(isa: str, far: str) -> None:
    apart = 1 << 29  # elements of 4 bytes
    g = Gemm(
        "f32",
        2,
        3,
        3,
        Matrix(apart if far == "a row" else 3, apart if far == "a column" else 1),
        Matrix(apart if far == "b row" else 3),
        Output(apart if far == "c row" else 3),
    )
    with pytest.raises(EncodeError):
        emit_gemm(g, planned(g, TARGETS[isa]), TARGETS[isa].isa)


@pytest.mark.parametrize("isa", sorted(set(TARGETS) - {"rvv"}))  # capstone knows no RISC-V V
@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_code_is_position_independent_and_ends_in_a_return(isa: str, dtype: str) -> None:
    architecture = TARGETS[isa].isa.architecture
    first, *last = {
        "x86_64": ("endbr64", "vzeroupper", "xor", "ret"),
        "aarch64": ("bti", "mov", "ret"),
    }[architecture]
    for m, n, k in ((1, 1, 1), (5, 19, 7), (24, 40, 33)):
        g = Gemm.contiguous(dtype, m, n, k)
        code = Kernel(isa, g).bytes
        assert code == Kernel(isa, g).bytes, "emission is deterministic"
        names = [line.mnemonic for line in disassemble(code, architecture)]
        assert names[0] == first
        assert "ret" in names
        body = [name for name in names[: names.index("ret") + 1] if name != "ldp"]  # registers restored
        assert body[-len(last) :] == last
        assert not {"call", "push", "pop", "syscall", "ldmxcsr", "std", "bl", "blr", "svc", "msr"} & set(body)


@pytest.mark.parametrize("isa", runnable_isas())
@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_accumulating_micro_kernels_add_to_c(isa: str, dtype: str) -> None:
    mr, nr = micro_tile(dtype, TARGETS[isa])
    g = Gemm.micro_kernel(dtype, mr, nr, (mr, nr), accumulate=True)
    a, b = cancelling(1, (9, mr), DTYPES[dtype]).T, cancelling(2, (9, nr), DTYPES[dtype])
    got = cancelling(3, (mr, nr), DTYPES[dtype])
    expected = got.copy()
    reference_matmul(a, b, expected, accumulate=True)
    Kernel(isa, g).load()(a, b, got)
    assert_same_bits(got, expected)


def test_shared_scalars_take_the_last_register() -> None:
    """8 rows of three vectors and of four folded columns leave one register beside B's for A's scalars."""
    g = Gemm.contiguous("f32", 8, 52, 16)
    block = ColumnBlock((16, 16, 16), 1, Cut(8, 1), folded=4, shared=True)
    listing = list_gemm(g, GemmSchedule((block,), 16), TARGETS["avx512"].isa)
    assert "{1to16}" not in listing
    assert listing.count("vbroadcastss") == 8 * 16
