"""Tiles of gemm that read A in segments of 128 bits along k: folded columns, and scalars by lanes.

Columns that fill no register waste a part of every multiply-add. Folded, an accumulator holds a segment of
each of several rows (4 x 4 floats in 512 bits):

    accumulator   c00 c01 c02 c03 | c10 c11 c12 c13 | c20 ...      one chain in each lane, in the order of k
    B, repeated   b0  b1  b2  b3  | b0  b1  b2  b3  | b0  ...      a load for all rows
    A, spread     a0s a0s a0s a0s | a1s a1s a1s a1s | a2s ...      of segments a00 a01 a02 a03 | a10 ...

so 20 columns take five multiply-adds for four rows where they took eight. In the same way a row may have its
scalars of several steps from one load, where reading each by itself would keep the load ports busy.

    height x vectors + height / segments x folded accumulators, a register of A for each row by lanes and for
    each group of folded rows, + a row of B + 1; bound: the FMA ports; a shuffle a step for each register of A

What is left of k after whole segments is taken from the last one, which begins before it: nothing outside A
is read, and so k must be a segment at least.
"""

from __future__ import annotations

from collections.abc import Iterator

from neurojit.asm_templates import right_operand
from neurojit.asm_templates.machine import Machine, Pointer, Tile, Vector
from neurojit.asm_templates.segments import SEGMENT
from neurojit.plan.cut import ceil_div
from neurojit.plan.gemm import ColumnBlock, Gemm, Matrix

NONE: Iterator[tuple[int, list[Vector]]] = iter(())


def vectors_of_a_row(m: Machine, block: ColumnBlock) -> tuple[int, ...]:
    """Lanes of the vectors that a row of a tile is stored in: those of folded columns are segments."""
    whole, rest = divmod(block.folded, SEGMENT // m.element.size)
    return (*block.lanes, *(SEGMENT // m.element.size,) * whole, *((rest,) if rest else ()))


class SegmentTile:
    """One tile: its accumulators, and the registers that A passes through beside them."""

    def __init__(self, m: Machine, g: Gemm, block: ColumnBlock, height: int) -> None:
        self.m, self.g, self.block, self.height = m, g, block, height
        self.steps_at_once = SEGMENT // m.element.size
        if not isinstance(g.b, Matrix) or g.a.column_stride != 1 or (g.k or 0) < self.steps_at_once:
            raise ValueError(
                f"gemm: A is read in segments of {self.steps_at_once} adjacent steps of k: got k = {g.k}, "
                f"column stride {g.a.column_stride}; plan no folded columns and no rows by lanes"
            )
        assert g.c.row_stride is not None
        self.columns = vectors_of_a_row(m, block)
        self.has_a = True
        self.by_lanes = min(block.by_lanes, height) if block.lanes else 0
        # A register of A stands beside the accumulators of its rows, so that both move on together.
        self.spread = m.zero_tile(self.by_lanes, block.lanes, 1) if self.by_lanes else []
        alone = height - self.by_lanes if block.lanes else 0
        self.alone = m.zero_tile(alone, block.lanes) if alone else []
        self.folds = len(self.columns) - len(block.lanes)
        groups = ceil_div(height, m.segments) if self.folds else 0
        self.folded = m.zero_tile(groups, (m.widest_lanes,) * self.folds, 1) if groups else []
        whole, self.rest = divmod(height, m.segments) if groups else (0, 0)
        self.whole = self.folded[:whole] if self.rest else self.folded
        """The groups of folded rows that are full; of `rest` rows is one more."""

    # k ------------------------------------------------------------------------------------------------

    def steps(self, a: Pointer, b: Pointer, count: int) -> None:
        """`count` steps of k from the pointers on: so many as a segment has at a time."""
        m, at_once, size = self.m, self.steps_at_once, self.m.element.size
        trips, rest = divmod(count, at_once)
        if trips:
            with m.repeat(trips, {a: at_once * size, b: self._b(at_once)}):
                self._group((a, 0), (b, 0), range(at_once))
        if rest:
            self._group(
                (a, (count - at_once) * size), (b, self._b(count - rest)), range(at_once - rest, at_once)
            )

    def _b(self, count: int) -> int:
        return right_operand.steps(self.m, self.g.b, count)

    def _group(self, at_a: tuple[Pointer, int], at_b: tuple[Pointer, int], lanes: range) -> None:
        """The steps of one segment of each row, of which `lanes` are to be taken."""
        (a, offset), size, first = at_a, self.m.element.size, lanes.start
        self._load_segments(a, offset)
        with self.m.steps_of_segments(len(lanes), {a: size, at_b[0]: self._b(1)}):
            if self.block.lanes:
                self._step_of_vectors(a, offset + first * size, at_b, first)
            if self.folds:
                self._step_of_folded(at_b, first)

    def _load_segments(self, a: Pointer, offset: int) -> None:
        m, down = self.m, self.g.a.row_stride * self.m.element.size
        for i, row in self._each(self.spread, {a: down}):
            m.repeat_segment(self.steps_at_once, a, offset + i * down, into=row[-1])
        if self.whole:
            group = m.segments * down
            for i, row in m.rows(self.whole, {a: group}):
                m.load_segments(row[-1], m.segments, a, offset + i * group, down)
        if self.rest:
            last = (self.height - self.rest) * down
            m.load_segments(self.folded[-1][-1], self.rest, a, offset + last, down)

    def _step_of_vectors(self, a: Pointer, offset: int, at_b: tuple[Pointer, int], lane: int) -> None:
        """One step of the columns that are not folded."""
        m, g, down = self.m, self.g, self.g.a.row_stride * self.m.element.size
        vectors, column = [], 0
        for lanes in self.block.lanes:
            vectors.append(right_operand.load(m, g.b, at_b, column, lanes, 0, self.height))
            column += lanes
        for _, row in self._each(self.spread, {}):
            scalar = m.spread_in_segments(row[-1], lane)
            for accumulator, vector in zip(row, vectors, strict=False):
                m.fma(accumulator, scalar, vector)
            m.drop(scalar)
        offset += self.by_lanes * down
        for i, row in self._each(self.alone, {a: down}):
            of_a = right_operand.scalar(m, g.b, self.block, a, offset + i * down)
            for accumulator, vector in zip(row, vectors, strict=True):
                m.fma(accumulator, of_a, vector)
            m.drop(of_a)
        m.drop(*vectors)

    def _step_of_folded(self, at_b: tuple[Pointer, int], lane: int) -> None:
        m, (b, offset) = self.m, at_b
        of_b = []
        offset += sum(self.block.lanes) * m.element.size
        for lanes in self.columns[len(self.block.lanes) :]:
            of_b.append(m.repeat_segment(lanes, b, offset))
            offset += lanes * m.element.size
        for _, row in self._each(self.folded, {}):
            of_a = m.spread_in_segments(row[-1], lane)
            for accumulator, vector in zip(row, of_b, strict=False):
                m.fma(accumulator, of_a, vector)
            m.drop(of_a)
        m.drop(*of_b)

    def _each(self, tile: Tile, steps: dict[Pointer, int]) -> Iterator[tuple[int, list[Vector]]]:
        return self.m.rows(tile, steps) if tile else NONE

    # C ------------------------------------------------------------------------------------------------

    def load(self, c: Pointer) -> None:
        """Sums so far, as the start of the chains."""
        m = self.m
        for i in range(self.height):
            of_row, folded = self._row(i)
            offset = i * self._down
            for into, lanes in zip(of_row, self.block.lanes, strict=False):
                before = m.load(lanes, c, offset)
                m.duplicate(before, into=into)
                m.drop(before)
                offset += lanes * m.element.size
            for into, lanes in zip(folded, self.columns[len(self.block.lanes) :], strict=False):
                before = m.load(lanes, c, offset)
                m.insert_segment(into, i % m.segments, before)
                m.drop(before)
                offset += lanes * m.element.size

    def forget_a(self) -> None:
        """Give back the registers of A, for an epilogue: the sums are complete."""
        self.has_a = False
        for tile in (self.spread, self.folded):
            self.m.drop(*[row[-1] for row in tile])

    def store(self, c: Pointer) -> None:
        m, down = self.m, self._down
        first = 0
        for tile in (self.spread, self.alone):
            for i, row in self._each(tile, {c: down}):
                offset = (first + i) * down
                for vector, lanes in zip(row, self.block.lanes, strict=False):
                    m.store(vector, c, offset)
                    offset += lanes * m.element.size
            first += len(tile)
        for i, row in self._each(self.whole, {c: m.segments * down}):
            self._store_folded(row, m.segments, c, i * m.segments * down)
        if self.rest:
            self._store_folded(self.folded[-1], self.rest, c, (self.height - self.rest) * down)

    def _store_folded(self, row: list[Vector], count: int, c: Pointer, offset: int) -> None:
        """The segments of a group of `count` rows."""
        m = self.m
        offset += sum(self.block.lanes) * m.element.size
        for lanes, vector in zip(self.columns[len(self.block.lanes) :], row, strict=False):
            for index in range(count):
                m.store_segment(vector, index, lanes, c, offset + index * self._down)
            offset += lanes * m.element.size

    def rows(self, steps: dict[Pointer, int]) -> Iterator[tuple[int, int, list[Vector]]]:
        """For the epilogue: sums in vectors of `columns` lanes, of folded columns row by row.

        Registers of A are free by now, and what an epilogue keeps in them must not move on with the
        accumulators beside: those rows are not repeated by the machine.
        """
        for i, row in enumerate(self.spread):
            yield i, 0, row[: len(self.block.lanes)]
        for i, row in self._each(self.alone, steps):
            yield self.by_lanes + i, 0, row
        for i, row in enumerate(self.folded):
            first = i * self.m.segments
            yield from self._unfolded(row, first, min(self.m.segments, self.height - first))

    def _unfolded(
        self, group: list[Vector], first: int, count: int
    ) -> Iterator[tuple[int, int, list[Vector]]]:
        across = sum(self.block.lanes) * self.m.element.size
        for index in range(count):
            segments = [
                self.m.segment(vector, index, lanes)
                for vector, lanes in zip(group, self.columns[len(self.block.lanes) :], strict=False)
            ]
            yield first + index, across, segments
            self.m.drop(*segments)

    def release(self) -> None:
        """Give back all registers, but for those of A that went before."""
        for tile, of_row in ((self.spread, len(self.block.lanes)), (self.folded, self.folds)):
            if tile and self.has_a:
                self.m.drop_tile(tile)
            elif tile:
                self.m.drop(*[vector for row in tile for vector in row[:of_row]])
        if self.alone:
            self.m.drop_tile(self.alone)

    def _row(self, i: int) -> tuple[list[Vector], list[Vector]]:
        """The vectors of row i, and the accumulators that hold its folded columns."""
        count = len(self.block.lanes)
        of_row: list[Vector] = []
        if count:
            tile, at = (self.spread, i) if i < self.by_lanes else (self.alone, i - self.by_lanes)
            of_row = tile[at][:count]
        return of_row, self.folded[i // self.m.segments][:-1] if self.folded else []

    @property
    def _down(self) -> int:
        assert self.g.c.row_stride is not None
        return self.g.c.row_stride * self.m.element.size
