"""cumsum: running sums of many rows at once, or down columns.

    along rows: a square of lanes + 3; down columns: 1 vector of sums a vector of columns, and 1 loaded
    bound: one addition's latency an element of a row, shared by the rows that run side by side; shuffles

A square of rows and columns is loaded, transposed, added up column after column, transposed back and stored.
Sums start from -0, which leaves every first element as it is.
"""

from __future__ import annotations

from neurojit.asm_templates.machine import Machine, Pointer, Vector
from neurojit.asm_templates.streams import Streams, over_rows
from neurojit.plan.cumsum import Cumsum, CumsumSchedule


def emit(m: Machine, g: Cumsum, schedule: CumsumSchedule) -> None:
    """Emit the whole kernel, from its arguments to its return."""
    m.save_pointers(max(0, pointers_needed(g) - m.pointers.budget))
    rows = m.extent() if g.shape[0] is None else None
    body(m, g, schedule, m.operands(g.buffers), rows)
    m.leave()


def pointers_needed(g: Cumsum) -> int:
    """How many general registers a kernel needs at most: addresses, counters, and those of its arguments."""
    return max(g.buffers, 2) + len(g.shape) + 2


def body(
    m: Machine,
    g: Cumsum,
    schedule: CumsumSchedule,
    operands: tuple[Pointer, ...],
    rows: Pointer | None = None,
) -> None:
    """Emit the sums of operands whose addresses are in registers, and the dynamic extent where the shape has
    one. All are moved on, to anywhere; the registers stay the caller's. All others are given back.
    """
    streams = Streams(m, (g.source, g.target), operands)
    height, width = g.shape[-2:]
    assert height is not None
    assert width is not None
    lanes = m.widest_lanes if g.down else schedule.side
    m.expect(frozenset({width % lanes}) - {0})

    def plane(_: Pointer | None) -> int:
        if g.down and not schedule.side:
            _row_after_row(m, streams, g, height, width)
        else:
            (_down if g.down else _along)(m, streams, g, schedule.side, height, width)
        return 0

    over_rows(m, streams, (*g.shape[:-2], 1), rows, plane)
    streams.release()
    m.forget()


# Along rows -------------------------------------------------------------------------------------------------


def _along(m: Machine, streams: Streams, g: Cumsum, side: int, height: int, width: int) -> None:
    """Bands of `side` rows; the streams are where they were."""
    bands, low = divmod(height, side)
    if bands:
        with m.loop(bands):
            _band(m, streams, g, side, side, width)
            streams.move(-2, side)
    if low:
        _band(m, streams, g, side, low, width)
    streams.move(-2, -bands * side)


def _band(m: Machine, streams: Streams, g: Cumsum, side: int, height: int, width: int) -> None:
    sums = m.spread(side, -0.0)
    squares, narrow = divmod(width, side)
    if squares:
        with m.loop(squares):
            _square(m, streams, g, sums, height, side)
            streams.move(-1, side)
    if narrow:
        _square(m, streams, g, sums, height, narrow)
    streams.move(-1, -squares * side)
    m.drop(sums)


def _square(m: Machine, streams: Streams, g: Cumsum, sums: Vector, height: int, width: int) -> None:
    size, side = m.element.size, sums.lanes
    (source, first), (target, to) = streams.at(0, 0), streams.at(1, 0)
    rows = [m.load(width, source, first + i * g.source.strides[-2] * size) for i in range(height)]
    rows = [m.view(row, side) for row in rows] + [m.zero(side) for _ in range(side - height)]
    columns = m.transposed(rows)
    before = sums
    for column in columns[:width]:
        before = m.add(before, column, into=column)
    m.duplicate(before, into=sums)
    for i, row in enumerate(rows := m.transposed(columns)):
        if i < height:
            m.store(m.view(row, width), target, to + i * g.target.strides[-2] * size)
    m.drop(*rows)


# Down columns -----------------------------------------------------------------------------------------------


def _down(m: Machine, streams: Streams, g: Cumsum, at_once: int, height: int, width: int) -> None:
    """Blocks of vectors of columns, each down all rows; the streams are where they were."""
    lanes = m.widest_lanes
    whole, tail = divmod(width, lanes)
    blocks, rest = divmod(whole, at_once)
    if blocks:
        with m.loop(blocks):
            _block(m, streams, [(n * lanes, lanes) for n in range(at_once)], height)
            streams.move(-1, at_once * lanes)
    last = [(n * lanes, lanes) for n in range(rest)] + ([(rest * lanes, tail)] if tail else [])
    if last:
        _block(m, streams, last, height)
    streams.move(-1, -blocks * at_once * lanes)


def _block(m: Machine, streams: Streams, vectors: list[tuple[int, int]], height: int) -> None:
    """vectors: (column, lanes) of each."""
    sums = [m.spread(lanes, -0.0) for _, lanes in vectors]
    with m.loop(height):
        for total, (column, lanes) in zip(sums, vectors, strict=True):
            element = m.vector(lanes, *streams.at(0, column), uses=1)
            m.add(total, element, into=total)
            m.drop(element)
            m.store(total, *streams.at(1, column))
        streams.move(-2, 1)
    streams.move(-2, -height)
    m.drop(*sums)


def _row_after_row(m: Machine, streams: Streams, g: Cumsum, height: int, width: int) -> None:
    """The first row as it is, every other plus the sums above it; the streams are where they were."""
    above = -g.target.strides[-2] * m.element.size
    _row(m, streams, width, None)
    streams.move(-2, 1)
    if height > 1:
        with m.loop(height - 1):
            _row(m, streams, width, above)
            streams.move(-2, 1)
    streams.move(-2, -height)


def _row(m: Machine, streams: Streams, width: int, above: int | None) -> None:
    """One row; `above`: bytes to the sums to add. The streams are where they were."""
    lanes = m.widest_lanes
    whole, tail = divmod(width, lanes)
    trips = whole // ROW_UNROLL
    if trips:
        with m.loop(trips):
            for number in range(ROW_UNROLL):
                _one(m, streams, number * lanes, lanes, above)
            streams.move(-1, ROW_UNROLL * lanes)
    for number in range(whole - trips * ROW_UNROLL):
        _one(m, streams, number * lanes, lanes, above)
    if tail:
        _one(m, streams, (whole - trips * ROW_UNROLL) * lanes, tail, above)
    streams.move(-1, -trips * ROW_UNROLL * lanes)


ROW_UNROLL = 4


def _one(m: Machine, streams: Streams, column: int, lanes: int, above: int | None) -> None:
    total = m.load(lanes, *streams.at(0, column))
    target, offset = streams.at(1, column)
    if above is not None:
        before = m.vector(lanes, target, offset + above, uses=1)
        m.add(total, before, into=total)
        m.drop(before)
    m.store(total, target, offset)
    m.drop(total)
