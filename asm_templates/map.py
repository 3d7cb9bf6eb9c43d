"""map: y[i] = f(x[i]) over n contiguous elements, n known at the call. Buffers: x, y.

    1 vector + the temporaries of f; bound: the arithmetic of f

Whole vectors, then one under a mask of the n mod lanes that are left: exactly the elements of x are read,
and those of y written. Nothing is unrolled: vectors are independent, so an out-of-order core overlaps
several iterations of f by itself.
"""

from __future__ import annotations

from neurojit.asm_templates.machine import Machine, Pointer, Vector
from neurojit.asm_templates.math import FUNCTIONS
from neurojit.plan.map import Map


def emit(m: Machine, g: Map) -> None:
    """Emit the whole kernel, from its arguments to its return."""
    left = m.extent()
    body(m, g, m.operands(2), left)
    m.leave()


def body(m: Machine, g: Map, operands: tuple[Pointer, ...], left: Pointer) -> None:
    """Emit the function of `left` elements, from the address x to the address y: registers, all of them
    moved on, that stay the caller's. All others are given back."""
    lanes = m.widest_lanes
    x, y = operands
    m.expect(frozenset({lanes}))
    size = lanes * m.element.size
    with m.skip_unless_at_least(left, lanes):
        m.advance(left, 1 - lanes)  # now left > 0 exactly while a whole vector remains
        with m.while_positive(left, lanes):
            vector = m.load(lanes, x, 0)
            _apply(m, g, vector)
            m.store(vector, y, 0)
            m.drop(vector)
            m.advance(x, size)
            m.advance(y, size)
        m.advance(left, lanes - 1)
    with m.skip_unless_at_least(left, 1):
        rest = m.first(lanes, left)
        vector = m.load_where(rest, lanes, x, 0)
        _apply(m, g, vector)
        m.store_where(rest, vector, y, 0)
        m.drop(vector)
        m.drop_mask(rest)
    m.forget()


def _apply(m: Machine, g: Map, vector: Vector) -> None:
    for function in g.functions:
        FUNCTIONS[function.name](m, vector, *function.parameters)
