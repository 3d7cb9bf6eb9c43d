"""gemm: C[m,n] = A[m,k] @ B[k,n], or C += A @ B. Row-major C, row-major or packed B, any strides of A.

    mr x nv accumulators + the shorter of nv vectors of B and mr scalars of A + 1 of the other
    mr * nv multiply-adds a step of k; bound: the FMA ports once mr * nv >= FMA latency x pipes
    where multiply-adds take lanes, one load of A serves as many rows or steps as lie side by side: 8x12
    floats of packed panels are 24 + 2 of A + 1 of B, 7x12 of rows in place 21 + 7 + 1
    columns that fill no register may be folded, several rows into one accumulator: `segment_tile`

The m x n plane of C is cut into column blocks, each into row blocks; one tile of accumulators runs
over all of k before it is stored. So every element of C is one chain of fused multiply-adds in the
order of k, starting from zero (or from C): the same bits whatever the tile, the ISA or the level.
Nothing outside the operands is read or written; when not accumulating, C is never read. An epilogue
(`epilogue`) may follow on the tile, in the last pass over k, with operands of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from neurojit.asm_templates import right_operand
from neurojit.asm_templates.epilogue import EpilogueOperands, activate_tile, store_tile
from neurojit.asm_templates.machine import Machine, Pointer, Scalar, Tile, Vector
from neurojit.asm_templates.segment_tile import SegmentTile, vectors_of_a_row
from neurojit.plan.cut import ceil_div
from neurojit.plan.epilogue import NO_EPILOGUE
from neurojit.plan.gemm import ColumnBlock, Gemm, GemmSchedule

CACHE_LINE = 64
SPARE = 2
"""Registers beside accumulators and A: a vector of B, and what a partial one is put together from."""


def emit(m: Machine, g: Gemm, schedule: GemmSchedule) -> None:
    """Emit the whole kernel, from its arguments to its return."""
    depth = m.extent() if g.k is None else None
    row_stride = m.row_stride() if g.c.row_stride is None else None
    if g.has_epilogue:
        m.save_pointers(max(0, pointers_needed(g, schedule) - m.pointers.budget))
    body(m, g, schedule, m.operands(g.buffers), depth, row_stride)
    m.leave()


def body(
    m: Machine,
    g: Gemm,
    schedule: GemmSchedule,
    operands: tuple[Pointer, ...],
    depth: Pointer | None = None,
    row_stride: Pointer | None = None,
) -> None:
    """Emit the product of operands whose addresses are in registers: the kernel's first two, C, and those of
    its epilogue.

    The addresses are moved on, to anywhere; the registers stay the caller's. All others are given back.
    """
    if g.accumulate and g.epilogue.beta and g.partial is None:
        raise ValueError(
            "gemm: C cannot hold both the sums so far and what beta multiplies: expected `partial`"
        )
    if g.partial is not None and not g.is_micro_kernel:
        raise ValueError("gemm: only a micro-kernel, which is one tile, takes partial sums beside C")
    first, second, c, *others = operands
    beside = EpilogueOperands.of(m, g.epilogue, tuple(others)) if others or g.has_epilogue else None
    a, b = (second, first) if g.swapped else (first, second)
    m.expect(frozenset(lanes for block in schedule.columns for lanes in vectors_of_a_row(m, block)))
    right_operand.expect(m, g.b)
    at_once = [block.rows.size if block.folded else 1 for block in schedule.columns if block.in_segments]
    if at_once:
        m.expect_segments(max(at_once))
    if not _in_passes(g, schedule):
        _pass(m, g, schedule, (a, b, c), depth, row_stride, beside, returns=False)
    else:
        assert g.k is not None
        size = m.element.size
        passes = (g.k - 1) // schedule.k_block  # before the last one
        block = replace(g, k=schedule.k_block, epilogue=NO_EPILOGUE)
        more = replace(block, accumulate=True)
        last = replace(g, k=g.k - passes * schedule.k_block, accumulate=True)
        for part, count in ((block, 1), (more, passes - 1), (last, 1)):
            if count:
                with m.loop(count):
                    at_end = beside if part is last else None
                    _pass(m, part, schedule, (a, b, c), depth, row_stride, at_end, returns=True)
                    m.advance(a, schedule.k_block * g.a.column_stride * size)
                    whole = right_operand.next_tile(m, g.b, g.n)
                    m.advance(b, right_operand.steps(m, g.b, schedule.k_block) - whole)
                    m.advance(c, -g.n * size)
    m.forget()


def _in_passes(g: Gemm, schedule: GemmSchedule) -> bool:
    """Whether k is cut. Not where the epilogue needs C as it was: passes after the first read sums there."""
    return g.k is not None and 0 < schedule.k_block < g.k and not g.epilogue.beta


def _pass(
    m: Machine,
    g: Gemm,
    schedule: GemmSchedule,
    at: tuple[Pointer, Pointer, Pointer],
    depth: Pointer | None,
    row_stride: Pointer | None,
    beside: EpilogueOperands | None,
    returns: bool,
) -> None:
    """All of C, over g.k steps. If it `returns`, a stays where it was, and b and c end g.n columns on."""
    a, b, c = at
    size = m.element.size
    for block in schedule.columns:
        with m.loop(block.tiles):
            last = block is schedule.columns[-1] and block.tiles == 1 and not returns
            a_rows, c_rows = (a, c) if last else (m.copy(a), m.copy(c))
            beside_rows = beside if last or beside is None else beside.copy()
            for height, tiles in block.rows.groups:
                with m.loop(tiles):
                    at = (a_rows, b, c_rows)
                    steps = _tile(m, g, schedule, height, block, at, depth, row_stride, beside_rows)
                    if g.c.row_stride is not None:
                        m.advance(a_rows, (height * g.a.row_stride - steps * g.a.column_stride) * size)
                        m.advance(b, -right_operand.steps(m, g.b, steps))
                        m.advance(c_rows, height * g.c.row_stride * size)
                        if beside_rows is not None:
                            beside_rows.next_rows(height)
            if not last:
                m.release(a_rows)
                m.release(c_rows)
                m.advance(b, right_operand.next_tile(m, g.b, block.width))
                m.advance(c, block.width * size)
                if beside is not None and beside_rows is not None:
                    beside_rows.release_copy()
                    beside.next_columns(block.width)


def pointers_needed(g: Gemm, schedule: GemmSchedule) -> int:
    """How many general registers a kernel with an epilogue needs at most; without, all fit anyway."""
    if g.is_micro_kernel:
        return g.buffers + 3  # depth, row stride, and one pointer or counter at a time
    counters = 3  # columns, rows, k or the rows of a tile; the last pass is in no loop
    one_column = len(schedule.columns) == 1 and schedule.columns[0].tiles == 1
    one_column = one_column and not _in_passes(g, schedule)
    copies = 1 if one_column else 2
    return counters + 1 + copies * (2 + g.epilogue.buffers) + 1


def _tile(
    m: Machine,
    g: Gemm,
    schedule: GemmSchedule,
    height: int,
    block: ColumnBlock,
    at: tuple[Pointer, Pointer, Pointer],
    depth: Pointer | None,
    row_stride: Pointer | None,
    beside: EpilogueOperands | None,
) -> int:
    """One micro-tile: `height` rows by the columns of the block, all of k, then its stores.

    Returns by how many steps of k the pointers a and b have moved on: the caller takes them back in the
    same addition that goes to the next tile, which saves two registers and the moves.
    """
    if block.in_segments:
        return _tile_in_segments(m, g, schedule, height, block, at, beside)
    a, b, c = at
    columns = block.lanes
    size = m.element.size
    if g.accumulate and beside is not None and beside.partial is not None:
        assert g.partial is not None
        accumulators = _load_tile(m, height, columns, beside.partial, g.partial * size, None)
    elif g.accumulate:
        down = g.c.row_stride * size if g.c.row_stride is not None else 0
        accumulators = _load_tile(m, height, columns, c, down, row_stride)
    else:
        accumulators = m.zero_tile(height, columns)

    if g.k is None:
        assert depth is not None
        assert row_stride is not None
        _prefetch_tile_below(m, height, columns, c, row_stride)
        moved = 0  # a micro-kernel is one tile: nobody needs the pointers again
        _dynamic_depth(m, g, schedule.unroll, accumulators, block, a, b, depth)
    else:
        run = partial(_steps, m, g, accumulators, block)
        moved = _depth(m, g, schedule, schedule.unroll, height, block, (a, b), run)
        right_operand.finish(m, g, accumulators, columns, a, b, moved)

    if beside is not None:
        store_tile(m, g, partial(_rows, m, accumulators), columns, c, row_stride, beside)
        m.drop_tile(accumulators)
        activate_tile(m, g, height, columns, c, row_stride)
        return moved
    if row_stride is not None:
        c = m.copy(c)
    down = 0 if g.c.row_stride is None else g.c.row_stride * size
    for i, row in m.rows(accumulators, {c: down}):
        offset = i * down
        for vector in row:
            m.store(vector, c, offset)
            offset += vector.lanes * size
        if row_stride is not None:
            m.advance_by(c, row_stride)
    m.drop_tile(accumulators)
    if row_stride is not None:
        m.release(c)
    return moved


def _tile_in_segments(
    m: Machine,
    g: Gemm,
    schedule: GemmSchedule,
    height: int,
    block: ColumnBlock,
    at: tuple[Pointer, Pointer, Pointer],
    beside: EpilogueOperands | None,
) -> int:
    """The same of a block that reads A in segments."""
    a, b, c = at
    tile = SegmentTile(m, g, block, height)
    if g.accumulate:
        tile.load(c)
    unroll = ceil_div(schedule.unroll, tile.steps_at_once) * tile.steps_at_once
    moved = _depth(m, g, schedule, unroll, height, block, (a, b), tile.steps)
    if beside is None:
        tile.store(c)
        tile.release()
    else:
        tile.forget_a()
        store_tile(m, g, tile.rows, tile.columns, c, None, beside)
        tile.release()
        activate_tile(m, g, height, tile.columns, c, None)
    return moved


def _rows(m: Machine, tile: Tile, steps: dict[Pointer, int]) -> Iterator[tuple[int, int, list[Vector]]]:
    for i, row in m.rows(tile, steps):
        yield i, 0, row


def _depth(
    m: Machine,
    g: Gemm,
    schedule: GemmSchedule,
    unroll: int,
    height: int,
    block: ColumnBlock,
    at: tuple[Pointer, Pointer],
    run: Callable[[Pointer, Pointer, int], None],
) -> int:
    """All steps of k, in a loop of `unroll` and the rest; by how many the pointers have moved on."""
    assert g.k is not None
    a, b = at
    trips, rest = divmod(g.k, unroll)
    moved = g.k - rest if trips > 1 else 0
    if moved:
        with m.loop(trips):
            _prefetch_ahead(m, g, schedule, height, block.width, a, b)
            run(a, b, unroll)
            m.advance(a, unroll * g.a.column_stride * m.element.size)
            m.advance(b, right_operand.steps(m, g.b, unroll))
    if g.k > moved:
        run(a, b, g.k - moved)
    return moved


def _steps(
    m: Machine,
    g: Gemm,
    accumulators: Tile,
    block: ColumnBlock,
    a: Pointer,
    b: Pointer,
    count: int,
) -> None:
    """`count` steps of k from the pointers on: the outer product of a column of A and a row of B."""
    a_step = g.a.column_stride * m.element.size
    by_lanes = _takes_lanes(m, g, len(accumulators))
    trip, run = (m.scalars_at_once, _steps_by_lanes) if by_lanes else (right_operand.group(g.b), _group)
    trips, rest = divmod(count, trip)
    if trips:
        with m.repeat(trips, {a: trip * a_step, b: right_operand.steps(m, g.b, trip)}):
            run(m, g, accumulators, block, (a, 0), (b, 0), trip)
    if rest:
        at_a = (a, (count - rest) * a_step)
        at_b = (b, right_operand.steps(m, g.b, count - rest))
        run(m, g, accumulators, block, at_a, at_b, rest)


Place = tuple[Pointer, int]
"""An address: a register and an offset."""


def _takes_lanes(m: Machine, g: Gemm, height: int) -> bool:
    """Whether the elements of A that several steps need lie side by side, and a load of each row fits."""
    at_once = m.scalars_at_once
    side_by_side = at_once > 1 and g.a.column_stride == 1 and at_once % right_operand.group(g.b) == 0
    return side_by_side and m.vectors.free >= height + SPARE + right_operand.temporaries(g.b)


def _group(
    m: Machine, g: Gemm, accumulators: Tile, block: ColumnBlock, at_a: Place, at_b: Place, count: int
) -> None:
    """The steps of a group, or those that are left: their elements of B lie side by side."""
    height, at_once = len(accumulators), m.scalars_at_once
    wide = height < len(block.lanes) or m.vectors.free <= len(block.lanes) > SPARE
    step = _step_by_columns if wide else _step_by_rows
    if at_once > 1 and g.a.row_stride == 1 and m.vectors.free >= ceil_div(height, at_once) + SPARE:
        step = _step_by_lanes
    a, offset = at_a
    for part in range(count):
        at = a, offset + part * g.a.column_stride * m.element.size
        step(m, g, accumulators, block, at, at_b, part)


def _steps_by_lanes(
    m: Machine, g: Gemm, accumulators: Tile, block: ColumnBlock, at_a: Place, at_b: Place, count: int
) -> None:
    """Some steps whose elements of A lie side by side in its rows: one load a row for all of them."""
    (b, b_offset), group = at_b, right_operand.group(g.b)
    of_a = m.lane_tile(len(accumulators), count, *at_a, g.a.row_stride * m.element.size)
    groups, rest = divmod(count, group)
    down = right_operand.steps(m, g.b, group)
    for n in m.lanes_of(of_a, groups, group, {b: down}):
        for part in range(group):
            scalars, at = of_a.column(n * group + part), (b, b_offset + n * down)
            _multiply_columns(m, g, accumulators, block, scalars, at, part)
    for part in range(rest):
        scalars, at = of_a.column(groups * group + part), (b, b_offset + groups * down)
        _multiply_columns(m, g, accumulators, block, scalars, at, part)
    m.drop_lanes(of_a)


def _step_by_rows(
    m: Machine, g: Gemm, accumulators: Tile, block: ColumnBlock, at_a: Place, at_b: Place, part: int
) -> None:
    """A row of B, part `part` of its group, in registers; the elements of A pass through one."""
    columns, uses = block.lanes, len(accumulators)
    vectors, column = [], 0
    for lanes in columns:
        vectors.append(right_operand.load(m, g.b, at_b, column, lanes, part, uses))
        column += lanes
    (a, offset), a_row = at_a, g.a.row_stride * m.element.size
    for i, row in m.rows(accumulators, {a: a_row}):
        scalar = right_operand.scalar(m, g.b, block, a, offset + i * a_row)
        for accumulator, vector in zip(row, vectors, strict=True):
            right_operand.multiply(m, g.b, accumulator, scalar, vector)
        m.drop(scalar)
    m.drop(*vectors)


def _step_by_columns(
    m: Machine, g: Gemm, accumulators: Tile, block: ColumnBlock, at_a: Place, at_b: Place, part: int
) -> None:
    """A column of A in registers; the vectors of B pass through one."""
    height = len(accumulators)
    (a, offset), a_row = at_a, g.a.row_stride * m.element.size
    scalars = [right_operand.scalar(m, g.b, block, a, offset + i * a_row, 1) for i in range(height)]
    _multiply_columns(m, g, accumulators, block, scalars, at_b, part)
    m.drop(*scalars)


def _step_by_lanes(
    m: Machine, g: Gemm, accumulators: Tile, block: ColumnBlock, at_a: Place, at_b: Place, part: int
) -> None:
    """A column of A whose elements lie side by side: one load for several rows."""
    scalars = m.scalars(len(accumulators), *at_a)
    _multiply_columns(m, g, accumulators, block, scalars, at_b, part)
    m.drop(*scalars)


def _multiply_columns(
    m: Machine,
    g: Gemm,
    accumulators: Tile,
    block: ColumnBlock,
    scalars: Sequence[Scalar],
    at_b: Place,
    part: int,
) -> None:
    column, height = 0, len(accumulators)
    for across, lanes in enumerate(block.lanes):
        vector = right_operand.load(m, g.b, at_b, column, lanes, part, uses=height)
        for accumulator, scalar in m.products(accumulators, across, scalars):
            right_operand.multiply(m, g.b, accumulator, scalar, vector)
        m.drop(vector)
        column += lanes


def _dynamic_depth(
    m: Machine,
    g: Gemm,
    unroll: int,
    accumulators: Tile,
    block: ColumnBlock,
    a: Pointer,
    b: Pointer,
    depth: Pointer,
) -> None:
    """All of a k known only at the call: unrolled groups, then single steps."""
    size = m.element.size
    with m.skip_unless_at_least(depth, unroll):
        m.advance(depth, 1 - unroll)  # now depth > 0 exactly while a whole group remains
        with m.while_positive(depth, unroll):
            _steps(m, g, accumulators, block, a, b, unroll)
            m.advance(a, unroll * g.a.column_stride * size)
            m.advance(b, right_operand.steps(m, g.b, unroll))
        m.advance(depth, unroll - 1)
    with m.skip_unless_at_least(depth, 1), m.while_positive(depth, 1):
        _steps(m, g, accumulators, block, a, b, 1)
        m.advance(a, g.a.column_stride * size)
        m.advance(b, right_operand.steps(m, g.b, 1))


def _prefetch_ahead(
    m: Machine, g: Gemm, schedule: GemmSchedule, height: int, width: int, a: Pointer, b: Pointer
) -> None:
    """Ask for what a later trip of the loop over k reads, each line once, as far as lines can be told
    apart."""
    size, (of_a, of_b) = m.element.size, (trips * schedule.unroll for trips in schedule.prefetch)
    if of_a:
        row, step = g.a.row_stride * size, g.a.column_stride * size
        places = [i * row + (of_a + k) * step for i in range(height) for k in range(schedule.unroll)]
        for offset in sorted({place // CACHE_LINE * CACHE_LINE for place in places}):
            m.prefetch_to_read(a, offset)
    if of_b:
        places = [
            right_operand.steps(m, g.b, of_b + k) + right_operand.column(m, g.b, column)
            for k in range(schedule.unroll)
            for column in range(0, width, CACHE_LINE // size)
        ]
        for offset in sorted({place // CACHE_LINE * CACHE_LINE for place in places}):
            m.prefetch_to_read(b, offset)


def _prefetch_tile_below(
    m: Machine, height: int, columns: tuple[int, ...], c: Pointer, row_stride: Pointer
) -> None:
    """Have the next tile's lines of C on their way while this one multiplies.

    The blocked driver goes down the rows, so that tile is most often the one below. Of a large C every row
    lies in another page and comes from L3 or beyond: without this each tile begins and ends with a wait.
    """
    size = sum(columns) * m.element.size
    below = m.copy(c)
    for _ in range(height):
        m.advance_by(below, row_stride)
    for i in range(height):
        for offset in (*range(0, size, CACHE_LINE), size - 1):  # the last where C is not aligned
            m.prefetch_to_write(below, offset)
        if i + 1 < height:
            m.advance_by(below, row_stride)
    m.release(below)


def _load_tile(
    m: Machine, height: int, columns: tuple[int, ...], c: Pointer, down: int, row_stride: Pointer | None
) -> Tile:
    """Sums so far, as the start of the tile's chains. Rows are `down` or `row_stride` bytes apart."""
    size = m.element.size
    tile: list[list[Vector]] = []
    if row_stride is not None:
        c = m.copy(c)
    for i in range(height):
        offset = i * down
        row = []
        for lanes in columns:
            row.append(m.load(lanes, c, offset))
            offset += lanes * size
        tile.append(row)
        if row_stride is not None and i + 1 < height:
            m.advance_by(c, row_stride)
    if row_stride is not None:
        m.release(c)
    return tile
