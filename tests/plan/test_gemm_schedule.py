"""The planner: exact covers within the registers, for every shape, dtype and ISA; no CPU is needed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from operands import TARGETS

from neurojit.asm_templates.segments import SEGMENT
from neurojit.plan.blocking import block_gemm, micro_tile, one_tile
from neurojit.plan.cut import Cut, ceil_div
from neurojit.plan.few_rows import BODY, LEAST_VECTORS
from neurojit.plan.gemm import ELEMENT_SIZE, Gemm, GemmSchedule, Matrix, register_bits
from neurojit.plan.tiling import FULL_UNROLL, MOST_GROUPED, edges, max_height, schedule_gemm
from neurojit.target import Target, target_for
from neurojit.target.pipes import pipes_of

# The generic CPU of each ISA beside this machine's own.
PLANNED_FOR = {**TARGETS, "generic avx512": target_for("avx512"), "generic avx2": target_for("avx2")}

PLANNED_FOR["Zen 5"] = replace(PLANNED_FOR["generic avx512"], pipes=pipes_of("Zen 5", "x86_64"))
PLANNED_FOR["Zen 5 avx2"] = replace(PLANNED_FOR["generic avx2"], pipes=pipes_of("Zen 5", "x86_64"))

pytestmark = pytest.mark.parametrize("target", PLANNED_FOR.values(), ids=PLANNED_FOR)
dtypes = pytest.mark.parametrize("dtype", sorted(ELEMENT_SIZE))


def assert_covers(schedule: GemmSchedule, g: Gemm, target: Target) -> None:
    what = f"{g}: {schedule}"
    assert sum(block.width * block.tiles for block in schedule.columns) == g.n, what
    size = ELEMENT_SIZE[g.dtype]
    segment = SEGMENT // size
    full = target.isa.widest // 8 // size
    widths = {n for block in schedule.columns for n in (*block.lanes, block.folded % segment or segment)}
    partial = {n for n in widths if n * size not in (4, 8, 16, 32, 64)}
    masks = 0 if target.isa.mask_registers else len(partial)
    for block in schedule.columns:
        assert block.tiles >= 1, what
        most = MOST_GROUPED * full if target.isa.scalable else full
        assert all(1 <= lanes <= most for lanes in block.lanes), what
        assert sum(height * tiles for height, tiles in block.rows.groups) == g.m, what
        vectors = sum(ceil_div(lanes, full) for lanes in block.lanes)
        folds, rows_a_fold = ceil_div(block.folded, segment), max(1, target.isa.widest // 128)
        if block.in_segments:
            assert target.isa.has_segments, what
            assert g.a.column_stride == 1, what
            assert g.k is not None, what
            assert g.k >= segment, what
        scalars = 0 if target.isa.scalars_apart else 1
        for height, tiles in block.rows.groups:
            assert min(height, tiles) >= 1, what
            if block.in_segments:
                of_a = min(block.by_lanes, height) if vectors else 0
                groups = ceil_div(height, rows_a_fold) if folds else 0
                held = height * vectors + groups * (folds + 1) + of_a + max(vectors, folds) + 1
                assert held + masks <= target.isa.vector_registers, what
                continue
            held = min(vectors, height) if height > 1 else 0  # one row reads B in its multiply-adds
            if block.shared and height > 1:
                held, scalars = 1, 0  # what no register is left for is broadcast from memory
            assert height * vectors + held + scalars + masks <= target.isa.vector_registers, what
    assert 1 <= schedule.unroll <= max(FULL_UNROLL, BODY // LEAST_VECTORS), what
    assert g.is_micro_kernel or schedule.cycles > 0, what


@pytest.mark.not_emulated("plans are the same from any host, and many of them take minutes")
@dtypes
def test_every_plane_to_130_by_130_is_covered_within_the_registers(target: Target, dtype: str) -> None:
    for m in range(1, 131):
        for n in range(1 + m % 3, 131, 3):  # a third of the widths for each height, all of them in turn
            g = Gemm.contiguous(dtype, m, n, 1 + (m * n) % 40)
            assert_covers(schedule_gemm(g, target), g, target)


@dtypes
@pytest.mark.parametrize("k", [1, 2, FULL_UNROLL - 1, FULL_UNROLL, FULL_UNROLL + 1, 100, 10**6])
def test_short_depths_are_unrolled_entirely(target: Target, dtype: str, k: int) -> None:
    schedule = schedule_gemm(Gemm.contiguous(dtype, 5, 6, k), target)
    assert (schedule.unroll == k) == (k <= FULL_UNROLL)


@dtypes
def test_every_micro_kernel_is_one_tile(target: Target, dtype: str) -> None:
    """It is called for one tile, and has no strides to go to a next one."""
    mr, nr = micro_tile(dtype, target)
    for height in range(1, mr + 1):
        for width in range(1, nr + 1):
            g = Gemm.micro_kernel(dtype, height, width, (mr, nr), accumulate=False)
            schedule = one_tile(g, target)
            assert_covers(schedule, g, target)
            assert [(block.tiles, block.rows) for block in schedule.columns] == [(1, Cut(height, 1))], g


@dtypes
def test_planning_is_a_pure_function(target: Target, dtype: str) -> None:
    for m, n, k in ((1, 1, 1), (20, 24, 9), (77, 130, 500)):
        g = Gemm.contiguous(dtype, m, n, k)
        twin = Target(*(getattr(target, field) for field in target.__dataclass_fields__))
        assert schedule_gemm(g, target) == schedule_gemm(g, target) == schedule_gemm(g, twin)


def test_more_arithmetic_is_never_planned_as_less_time(target: Target) -> None:
    for n in (1, 8, 24, 64):
        cycles = [schedule_gemm(Gemm.contiguous("f32", 8, n, k), target).cycles for k in (1, 10, 100, 1000)]
        assert cycles == sorted(cycles)


@pytest.mark.parametrize("masks", [0, 1])
def test_the_tallest_tile_leaves_room_for_b_a_and_masks(target: Target, masks: int) -> None:
    taken = 0 if target.isa.mask_registers else masks
    for vectors in range(1, 7):
        height = max_height(target.isa, vectors, masks)
        assert height >= 1
        registers = [rows * vectors + min(rows, vectors) + 1 + taken for rows in (height, height + 1)]
        assert registers[0] <= target.isa.vector_registers < registers[1]


@dtypes
def test_edges_cover_what_is_left(target: Target, dtype: str) -> None:
    size = ELEMENT_SIZE[dtype]
    full = target.isa.widest // 8 // size
    assert edges(0, full, size) == [()]
    for rest in range(1, full):
        assert [sum(edge) for edge in edges(rest, full, size)] == [rest] * len(edges(rest, full, size))


def test_columns_are_folded_where_that_saves_slots(target: Target) -> None:
    """4 columns beyond whole vectors take a part of a slot a row, where registers are shuffled in segments;
    and not where A's rows have no adjacent elements, or too few."""
    full = target.isa.widest // 32
    g = Gemm.contiguous("f32", 4 * full, 3 * full + 4, 40)
    folded = sum(block.folded for block in schedule_gemm(g, target).columns)
    assert folded == (4 if target.isa.has_segments else 0)
    for other in (replace(g, a=Matrix(1, g.m)), replace(g, k=3), replace(g, m=1)):
        assert not any(block.in_segments for block in schedule_gemm(other, target).columns)


def test_vectors_share_scalars_where_their_loads_would_hold_up_the_multiply_adds(target: Target) -> None:
    """A 512-bit multiply-add takes as long as the load of its scalar on Zen 5, and twice as long on Zen 4,
    where reading it in the multiply-add saves an instruction. One vector alone gets scalars by lanes instead,
    where shuffles are free."""
    full, pipes = target.isa.widest // 32, target.pipes
    wide = [
        block
        for block in schedule_gemm(Gemm.contiguous("f32", 48, 3 * full, 48), target).columns
        if 1 < len(block.lanes) < 4
    ]
    at_ports = target.isa.mask_registers and pipes.fma_slots[target.isa.widest] < 2
    assert all(block.shared == bool(at_ports and not target.isa.scalable) for block in wide)
    narrow = schedule_gemm(Gemm.contiguous("f32", full, full, 16), target).columns
    free = target.isa.has_segments and pipes.free_shuffles[target.isa.widest] >= pipes.fma_pipes
    assert any(block.by_lanes for block in narrow) == free


def test_blocks_of_columns_cut_the_rows_each_in_its_own_way(target: Target) -> None:
    """A narrow tile needs more rows than a wide one to hide the latency of its chains.

    What a tile costs is the CPU's affair, and on some no shape gains: so the generic CPU is asked.
    """
    generic = target_for(target.isa.name)
    cuts = [
        {block.rows for block in schedule_gemm(Gemm.contiguous("f32", 40, n, 64), generic).columns}
        for n in range(1, 70)
    ]
    # one pipe as modest as that assumed of RISC-V is busy with few chains
    assert any(len(of_one) > 1 for of_one in cuts) or target.pipes.fma_pipes == 1


@pytest.mark.parametrize(("size", "bits"), [(4, 128), (16, 128), (20, 256), (32, 256), (36, 512), (64, 512)])
def test_the_narrowest_register_is_used(target: Target, size: int, bits: int) -> None:
    assert register_bits(size) == bits


# Blocking --------------------------------------------------------------------------------------------


@dtypes
def test_blocks_cover_the_product_in_whole_tiles(target: Target, dtype: str) -> None:
    mr, nr = micro_tile(dtype, target)
    for m in (1, 5, 12, 97, 480, 2016, 10**6):
        for n in (1, 15, 32, 1000, 10**5):
            for k in (1, 3, 511, 512, 513, 4096, 10**5):
                blocks = block_gemm(dtype, m, n, k, target)
                for cut, extent, most in ((blocks.rows, m, mr), (blocks.columns, n, nr)):
                    assert cut.size * cut.of_size + cut.rest * cut.of_rest == extent
                    assert max(cut.sizes) <= most
                    assert cut.rest < cut.size
                assert 1 <= blocks.kc < k + 4
                assert 1 <= blocks.unit_rows <= blocks.block_rows <= blocks.rows.tiles
                assert 1 <= blocks.unit_columns <= blocks.block_columns <= blocks.columns.tiles


@dtypes
def test_the_micro_tile_fits_the_registers(target: Target, dtype: str) -> None:
    mr, nr = micro_tile(dtype, target)
    vectors = nr * ELEMENT_SIZE[dtype] * 8 // target.isa.widest
    assert mr <= max_height(target.isa, vectors, masks=1)
