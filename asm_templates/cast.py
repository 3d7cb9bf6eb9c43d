"""cast: numbers from one type in memory to another, contiguous ones.

    2 addresses, a counter; vectors: 1 or 2; bound: loads and stores

Whole registers, then one number after another: few of those, and no mask has bytes for lanes.
"""

from __future__ import annotations

from neurojit.asm_templates.lanes import Stored
from neurojit.asm_templates.machine import Machine, Pointer, Vector
from neurojit.plan.cast import Cast

AT_ONCE = 4
"""Vectors in one trip of the loop."""
NARROW: dict[str, Stored] = {"i8": "i8", "i1": "i8", "bf16": "bf16"}
"""How a type of less than 32 bits lies in memory."""


def emit(m: Machine, g: Cast) -> None:
    """Emit the whole kernel, from its arguments to its return."""
    body(m, g, m.operands(2))
    m.leave()


def pointers_needed() -> int:
    """How many general registers a kernel needs at most."""
    return 2 + 1


def body(m: Machine, g: Cast, operands: tuple[Pointer, ...]) -> None:
    """Emit the cast of operands whose addresses are in registers. Both are moved on, to anywhere; the
    registers stay the caller's. All others are given back."""
    m.expect(frozenset())
    lanes = m.widest_lanes
    whole, tail = divmod(g.count, lanes)
    trips, rest = divmod(whole, AT_ONCE)
    if trips:
        with m.loop(trips):
            _cast(m, g, operands, lanes, AT_ONCE)
    _cast(m, g, operands, lanes, rest)
    if tail:
        with m.loop(tail):
            _cast(m, g, operands, 1, 1)
    m.forget()


def _cast(m: Machine, g: Cast, operands: tuple[Pointer, ...], lanes: int, count: int) -> None:
    """So many vectors, and both addresses moved on."""
    source, target = operands
    for number in range(count):
        vector = _load(m, g, lanes, source, number * lanes * g.size(g.source))
        _store(m, g, vector, target, number * lanes * g.size(g.target))
        m.drop(vector)
    if count:
        m.advance(source, count * lanes * g.size(g.source))
        m.advance(target, count * lanes * g.size(g.target))


def _load(m: Machine, g: Cast, lanes: int, pointer: Pointer, offset: int) -> Vector:
    """The numbers in whole lanes."""
    stored = _stored(g.source, g.dtype)
    if stored is None:
        return m.load(lanes, pointer, offset)
    vector = m.load_cast(stored, lanes, pointer, offset)
    return m.from_integer(vector, into=vector) if g.source == "i1" else vector


def _store(m: Machine, g: Cast, vector: Vector, pointer: Pointer, offset: int) -> None:
    stored = _stored(g.target, g.dtype)
    if stored is None:
        m.store(vector, pointer, offset)
        return
    if g.target == "i1":
        m.to_integer(vector, into=vector)
    m.store_cast(stored, vector, pointer, offset)


def _stored(element: str, lanes: str) -> Stored | None:
    """How a type lies in memory, if not as lanes do."""
    if element in NARROW:
        return NARROW[element]
    if lanes == "f64" and element != "f64":
        return "f32" if element == "f32" else "i32"
    return None
