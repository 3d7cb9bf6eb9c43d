"""Schedules and strips of products with packed weights, for every shape, dtype and ISA."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from operands import TARGETS

from neurojit.codegen import emit_gemm
from neurojit.errors import StorageError
from neurojit.plan.blocking import PART_WORK, cut_panels
from neurojit.plan.gemm import Gemm, Matrix, Output
from neurojit.plan.panels import (
    PACKED,
    ROUNDED,
    STORAGES,
    Panels,
    panel_width,
    rounded_storage,
    suits_panels,
)
from neurojit.plan.product import Product, plan_product
from neurojit.plan.tiling import ROW_STEP, panel_of_one_row, schedule_gemm
from neurojit.target import target_for

EXTENTS = st.one_of(st.integers(1, 200), st.integers(200, 5000))


def packed_gemm(storage: str, isa: str, m: int, n: int, k: int) -> Gemm:
    dtype = STORAGES[storage].element
    panels = Panels.of(storage, k, panel_width(dtype, TARGETS[isa].isa))
    return Gemm(dtype, m, n, panels.depth, Matrix(k), panels, Output(n))


products = given(st.sampled_from(list(STORAGES)), st.sampled_from(list(TARGETS)), EXTENTS, EXTENTS, EXTENTS)


@products
def test_tiles_cover_c_and_begin_with_a_panel(storage: str, isa: str, m: int, n: int, k: int) -> None:
    g, target = packed_gemm(storage, isa, m, n, k), TARGETS[isa]
    assert isinstance(g.b, Panels)
    schedule = schedule_gemm(g, target)
    start = 0
    for block in schedule.columns:
        width = block.width
        assert start % g.b.width == 0
        assert block.tiles == 1 or width % g.b.width == 0
        column = 0
        for lanes in block.lanes:
            assert column // g.b.width == (column + lanes - 1) // g.b.width, "a vector in two panels"
            column += lanes
        assert sum(height * tiles for height, tiles in block.rows.groups) == m
        start += width * block.tiles
    assert start == n
    assert schedule.k_block % g.b.group == 0
    assert not (g.b.is_scaled and schedule.k_block)


@products
def test_parts_cover_c_in_whole_panels(storage: str, isa: str, m: int, n: int, k: int) -> None:
    g = packed_gemm(storage, isa, m, n, k)
    assert isinstance(g.b, Panels)
    strips = cut_panels(g)
    if strips is None:
        return
    rows, columns = strips
    assert sum(height * tiles for height, tiles in rows.groups) == m
    assert sum(width * tiles for width, tiles in columns.groups) == n
    assert columns.tiles == 1 or columns.size % g.b.width == 0
    if rows.tiles > 1:
        assert g.k is not None
        assert rows.size * columns.size * g.k <= max(PART_WORK, 48 * g.b.width * g.k)


@pytest.mark.parametrize("storage", STORAGES)
def test_the_layout_in_a_key(storage: str) -> None:
    panels = Panels.of(storage, 7, 16)
    assert Panels.of_strides(*panels.strides, 7) == panels
    assert Panels.of_strides(16, 1, 7) is None
    assert Panels.of_strides(16, PACKED + 99, 7) is None


def test_what_multiplies_small_numbers_where() -> None:
    avx512, avx2 = TARGETS["avx512"].isa, TARGETS["avx2"].isa
    assert rounded_storage("int8", avx512, {"avx512_vnni"}) == "int8 bytes"
    assert rounded_storage("int8", avx512, {"avx_vnni"}) == "int8 words"
    assert rounded_storage("int8", avx2, {"avx512_vnni"}) == "int8 words"
    assert rounded_storage("bf16", avx512, {"avx512_bf16"}) == "bf16 pairs"
    assert rounded_storage("bf16", avx512, {"avx512_vnni"}) == "bf16 wide"
    assert rounded_storage("bf16", avx2, {"avx512_bf16"}) == "bf16 wide"
    neon = TARGETS["neon"].isa
    assert rounded_storage("int8", neon, {"asimddp"}) == "int8 signed"
    assert rounded_storage("bf16", neon, {"bf16"}) == "bf16 pairs"
    assert rounded_storage("int8", neon, {"asimd"}) == "int8 words"
    assert rounded_storage("bf16", neon, {"asimddp"}) == "bf16 wide"


@pytest.mark.parametrize("storage", ROUNDED)
def test_rounded_rows_hold_their_scale_and_keep_apart(storage: str) -> None:
    for k in (*range(1, 20), 1000, 1008, 1020, 1024, 4064, 4092, 4096):
        panels = Panels.of(storage, k, 16)
        assert panels.row_bytes >= panels.depth * 4 + 4 * panels.is_scaled
        assert panels.row_bytes % 64 == 0
        assert panels.row_bytes % 1024


def test_panels_beyond_the_reach_of_displacements() -> None:
    p = Product(1, 64, 1 << 28, 1 << 28, 1, *Panels("f32", 1 << 28, 64).strides, 64, 4)
    with pytest.raises(StorageError, match="too far apart"):
        plan_product(p, TARGETS["avx512"])


def test_panels_suit_what_several_rows_read_from_afar() -> None:
    assert [suits_panels("f32", 256, n, TARGETS["avx512"]) for n in (8, 256)] == [False, True]
    l2 = TARGETS["avx2"].caches.l2.size
    assert [suits_panels("f64", l2 // 4096, n, TARGETS["avx2"]) for n in (100, 512)] == [False, True]


@given(st.sampled_from(list(TARGETS)), st.sampled_from(["f32", "f64"]), EXTENTS, EXTENTS)
def test_panels_for_one_row_are_one_stream(isa: str, dtype: str, n: int, k: int) -> None:
    """Each is as wide as a tile, and a load's next trip is near."""
    target, size = TARGETS[isa], STORAGES[dtype].size
    width = panel_of_one_row(dtype, k, n, target)
    if width == 0:
        return
    straddles = n * size % 64 != 0 and k * n * size >= 1 << 12
    assert k * n * size > target.caches.l1d.size // 2 or straddles
    assert width % (target.isa.widest // 8 // size) == 0
    assert width < n or straddles
    schedule = schedule_gemm(Gemm(dtype, 1, n, k, Matrix(k), Panels.of(dtype, k, width), Output(n)), target)
    assert [block.width for block in schedule.columns][:1] == [min(width, n)]
    assert schedule.unroll == k or schedule.unroll == 1 or schedule.unroll * width * size <= ROW_STEP


def test_which_weights_lie_in_panels_for_one_row() -> None:
    def width(isa: str, k: int, n: int) -> int:
        return panel_of_one_row("f32", k, n, TARGETS[isa])

    assert width("avx512", 64, 256) == 0, "a tile reads whole rows"
    assert width("avx512", 128, 512) == 256
    assert width("avx512", 100, 400) == 208
    assert width("avx2", 64, 256) == 88
    assert width("avx2", 16, 256) == 0, "stays in L1"
    assert (width("avx512", 64, 100), width("avx512", 40, 100)) == (112, 112), "rows that are no whole lines"
    assert width("avx512", 8, 100) == 0, "but few"
    assert width("neon", 128, 512) == 0, "its multiply-adds read no memory"


def test_products_of_words_find_registers_on_neon() -> None:
    """A tile may be as tall as the plan says with what NEON needs to put sums of words together."""
    neon = target_for("neon")
    for m in range(1, 30):
        for n in (5, 7, 8, 16, 17, 37):
            panels = Panels.of("int8 words", 21, panel_width("f32", neon.isa))
            g = Gemm("f32", m, n, panels.depth, Matrix(panels.row_bytes // 4), panels, Output(n))
            assert emit_gemm(g, schedule_gemm(g, neon), neon.isa)
