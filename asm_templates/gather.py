"""gather: rows picked by 32-bit indices, which are clamped to the rows there are.

    4 addresses, an index and a limit, counters; vectors: 1; bound: loads and stores of the rows

Nothing is read outside the source, whatever the indices are: an address is computed only from a clamped one.
"""

from __future__ import annotations

from neurojit.asm_templates.machine import Machine, Pointer
from neurojit.plan.gather import Gather

MOST_STRAIGHT = 8
"""Vectors of a row that is copied without a loop."""
INDEX = 4
"""Bytes of an index."""


def emit(m: Machine, g: Gather) -> None:
    """Emit the whole kernel, from its arguments to its return."""
    m.save_pointers(max(0, pointers_needed() - m.pointers.budget))
    body(m, g, m.operands(3))
    m.leave()


def pointers_needed() -> int:
    """How many general registers a kernel needs at most."""
    return 3 + 3 + 3


def body(m: Machine, g: Gather, operands: tuple[Pointer, ...]) -> None:
    """Emit the copies of operands whose addresses are in registers: source, indices, target. All are moved
    on, to anywhere; the registers stay the caller's. All others are given back.
    """
    source, indices, target = operands
    size = m.element.size
    m.expect(frozenset({g.n % m.widest_lanes}) - {0})
    with m.loop(g.outer):
        with m.loop(g.count):
            row = m.load_index(indices, 0)
            m.clamp_index(row, g.rows)
            m.multiply(row, g.source_row * size)
            m.advance_by(row, source)
            moved = _copy(m, g.n, row, target)
            m.release(row)
            m.advance(target, (g.target_row - moved) * size)
            m.advance(indices, INDEX)
        m.advance(source, g.source_outer * size)
        m.advance(target, (g.target_outer - g.count * g.target_row) * size)
        m.advance(indices, -g.count * INDEX)
    m.forget()


def _copy(m: Machine, n: int, source: Pointer, target: Pointer) -> int:
    """n elements. Returns by how many both addresses have moved on."""
    lanes, size = m.widest_lanes, m.element.size
    whole, tail = divmod(n, lanes)
    trips = whole // MOST_STRAIGHT if whole > MOST_STRAIGHT else 0
    if trips:
        with m.loop(trips):
            for vector in range(MOST_STRAIGHT):
                _move(m, lanes, source, target, vector * lanes * size)
            m.advance(source, MOST_STRAIGHT * lanes * size)
            m.advance(target, MOST_STRAIGHT * lanes * size)
    rest = whole - trips * MOST_STRAIGHT
    for vector in range(rest):
        _move(m, lanes, source, target, vector * lanes * size)
    if tail:
        _move(m, tail, source, target, rest * lanes * size)
    return trips * MOST_STRAIGHT * lanes


def _move(m: Machine, lanes: int, source: Pointer, target: Pointer, offset: int) -> None:
    vector = m.load(lanes, source, offset)
    m.store(vector, target, offset)
    m.drop(vector)
