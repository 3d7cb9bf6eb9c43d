"""Cuts cover their extent exactly; blocks and units stay within what they promise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurojit.plan.blocking import (
    LEAST_STRIP_ROWS,
    MOST_KC,
    MOST_STRIPS,
    block_gemm,
    cut_strips,
    micro_tile,
)
from neurojit.plan.cut import Cut, cut_by, cut_equally, equal_share
from neurojit.plan.gemm import ELEMENT_SIZE, Matrix
from neurojit.target import target_for

EXTENTS = st.integers(1, 20_000)


def covered(cut: Cut) -> int:
    return cut.size * cut.of_size + cut.rest * cut.of_rest


@given(EXTENTS, st.integers(1, 64))
def test_equal_cut(extent: int, tiles: int) -> None:
    tiles = min(tiles, extent)
    cut = cut_equally(extent, tiles)
    assert covered(cut) == extent
    assert cut.tiles == tiles
    assert cut.of_size > 0
    assert cut.of_rest == 0 or cut.rest == cut.size - 1
    assert sum(size * count for size, count in cut.groups) == extent
    assert all(count for _, count in cut.groups)
    assert str(cut_equally(21, 2)) == "1 x 11 + 1 x 10"


@given(EXTENTS, st.integers(1, 64))
def test_cut_by_size(extent: int, size: int) -> None:
    cut = cut_by(extent, size)
    assert covered(cut) == extent
    assert cut.rest < size
    assert cut.of_rest in (0, 1)


@given(EXTENTS, st.integers(1, 500), st.integers(1, 8))
def test_equal_share(extent: int, most: int, unit: int) -> None:
    share = equal_share(extent, most, unit)
    assert share % unit == 0
    assert share < max(most, unit) + unit


@given(st.sampled_from(["f32", "f64"]), EXTENTS, EXTENTS, EXTENTS)
def test_strips(dtype: str, m: int, n: int, k: int) -> None:
    strips = cut_strips(dtype, m, n, m * n * k)
    if strips is None:
        return
    assert (covered(strips.rows), covered(strips.columns)) == (m, n)
    assert 2 <= strips.rows.tiles * strips.columns.tiles <= 2 * MOST_STRIPS
    assert strips.rows.tiles == 1 or m >= 2 * LEAST_STRIP_ROWS


@given(st.sampled_from(["f32", "f64"]), st.sampled_from(["avx2", "avx512"]), EXTENTS, EXTENTS, EXTENTS)
def test_blocks(dtype: str, isa: str, m: int, n: int, k: int) -> None:
    target = target_for(isa)
    blocks = block_gemm(dtype, m, n, k, target)
    assert not blocks.a_in_place
    mr, nr = micro_tile(dtype, target)
    assert (covered(blocks.rows), covered(blocks.columns)) == (m, n)
    assert blocks.rows.size <= mr
    assert blocks.columns.size <= nr
    assert 1 <= blocks.kc <= MOST_KC
    assert 1 <= blocks.unit_rows <= blocks.block_rows <= max(blocks.rows.tiles, 1)
    assert 1 <= blocks.unit_columns <= blocks.block_columns <= max(blocks.columns.tiles, 1)
    assert blocks.block_rows * mr * blocks.kc * ELEMENT_SIZE[dtype] <= 8 << 20


@pytest.mark.parametrize("isa", ["avx2", "avx512", "neon", "rvv"])
@pytest.mark.parametrize(
    ("row", "column", "in_place"),
    [(300, 1, True), (-300, 1, True), (0, 1, True), (1, 300, False), (300, 2, False), (1 << 40, 1, False)],
)
def test_contiguous_rows_of_a_are_not_packed(isa: str, row: int, column: int, in_place: bool) -> None:
    """Where a load holds any offset; all of them are one block then, for nothing of it is copied."""
    target = target_for(isa)
    blocks = block_gemm("f32", 5000, 5000, 300, target, Matrix(row, column))
    assert blocks.a_in_place == (in_place and target.isa.any_offset)
    assert (blocks.block_rows == blocks.rows.tiles) == blocks.a_in_place
