"""transpose: copies whose source is adjacent along one dimension and whose target is along another.

    a square of lanes + 2; bound: shuffles, log2(lanes) a vector; from large arrays, lines and their sets

Squares go through registers: as many loads along the source's direction as lanes, transposed, as many stores
along the target's. At the edges loads and stores are partial, and rows that are missing are zeros.
"""

from __future__ import annotations

from neurojit.asm_templates.machine import Machine, Pointer
from neurojit.asm_templates.streams import Streams, over_rows
from neurojit.plan.transpose import Transpose, TransposeSchedule


def emit(m: Machine, g: Transpose, schedule: TransposeSchedule) -> None:
    """Emit the whole kernel, from its arguments to its return."""
    m.save_pointers(max(0, pointers_needed(g) - m.pointers.budget))
    rows = m.extent() if g.shape[0] is None else None
    body(m, g, schedule, m.operands(g.buffers), rows)
    m.leave()


def pointers_needed(g: Transpose) -> int:
    """How many general registers a kernel needs at most: addresses, counters, and those of its arguments."""
    return max(g.buffers, 2) + len(g.shape) + 2


def body(
    m: Machine,
    g: Transpose,
    schedule: TransposeSchedule,
    operands: tuple[Pointer, ...],
    rows: Pointer | None = None,
) -> None:
    """Emit the copy of operands whose addresses are in registers, and the dynamic extent where the shape has
    one. All are moved on, to anywhere; the registers stay the caller's. All others are given back.
    """
    if rows is not None and g.unit != 1:
        m.multiply(rows, g.unit)
    side = schedule.side
    down, across = g.shape[-2:]
    assert down is not None
    assert across is not None
    streams = Streams(m, (g.source, g.target), operands)
    m.expect(frozenset({down % side, across % side}) - {0})

    def plane(_: Pointer | None) -> int:
        """Bands of `side` elements along j, each in squares along i; the streams are where they were."""
        bands, narrow = divmod(across, side)
        if bands:
            with m.loop(bands):
                band(side)
                streams.move(-1, side)
        if narrow:
            band(narrow)
        streams.move(-1, -bands * side)
        return 0

    def band(width: int) -> None:
        squares, low = divmod(down, side)
        if squares:
            with m.loop(squares):
                if schedule.prefetch:
                    _prefetch_next(m, streams, g, side)
                _square(m, streams, g, side, side, width)
                streams.move(-2, side)
        if low:
            _square(m, streams, g, side, low, width)
        streams.move(-2, -squares * side)

    over_rows(m, streams, (*g.shape[:-2], 1), rows, plane)
    streams.release()
    m.forget()


def _prefetch_next(m: Machine, streams: Streams, g: Transpose, side: int) -> None:
    """The target's lines of the square after this one; any address will do."""
    target, offset = streams.at(1, 0)
    for i in range(side, 2 * side):
        m.prefetch_to_write(target, offset + i * g.target.strides[-2] * m.element.size)


def _square(m: Machine, streams: Streams, g: Transpose, side: int, height: int, width: int) -> None:
    """Elements i < height, j < width from where the streams are."""
    source, target = streams.at(0, 0), streams.at(1, 0)
    size = m.element.size
    rows = [m.load(height, source[0], source[1] + j * g.source.strides[-1] * size) for j in range(width)]
    rows = [m.view(row, side) for row in rows] + [m.zero(side) for _ in range(side - width)]
    columns = m.transposed(rows)
    for i, column in enumerate(columns[:height]):
        m.store(m.view(column, width), target[0], target[1] + i * g.target.strides[-2] * size)
    m.drop(*columns)
