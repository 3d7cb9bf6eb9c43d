"""gemv: y[m] = A[m,k] @ x[k], A read along its rows.

    height x p accumulators + p vectors of x, p = 64 bytes / vector; A comes from memory in the multiply-add
    bound: loads of A, one a multiply-add; the height hides the FMA's latency

Each row's partial sums fill 64 bytes whatever the vectors' width; the last, incomplete group of k is
loaded with zeros beyond its end, which add nothing. See neurojit.plan.gemv for the order of additions.
An epilogue is applied to each vector of sums.
"""

from __future__ import annotations

from neurojit.asm_templates.epilogue import EpilogueOperands, store_row
from neurojit.asm_templates.machine import Machine, Pointer, Vector
from neurojit.plan.gemm import ELEMENT_SIZE
from neurojit.plan.gemv import Gemv, GemvSchedule


def emit(m: Machine, g: Gemv, schedule: GemvSchedule) -> None:
    """Emit the whole kernel, from its arguments to its return."""
    body(m, g, schedule, m.operands(3 + g.epilogue.buffers))
    m.leave()


def body(m: Machine, g: Gemv, schedule: GemvSchedule, operands: tuple[Pointer, ...]) -> None:
    """Emit the product of operands whose addresses are in registers: the kernel's first two, y, and those of
    its epilogue.

    The addresses are moved on, to anywhere; the registers stay the caller's. All others are given back.
    """
    size = ELEMENT_SIZE[g.dtype]
    full = min(m.widest_lanes, g.lanes)
    tail = _pieces(g.k % g.lanes, full)
    first, second, y, *others = operands
    beside = EpilogueOperands.of(m, g.epilogue, tuple(others))
    a, x = (second, first) if g.swapped else (first, second)
    m.expect(frozenset((*tail, *(height for height, _ in schedule.rows.groups))))
    for height, tiles in schedule.rows.groups:
        with m.loop(tiles):
            moved = _block(m, g, schedule.unroll, height, (a, x, y), beside, full, tail)
            m.advance(a, (height * g.a_row_stride - moved) * size)
            m.advance(x, -moved * size)
            m.advance(y, height * size)
            beside.next_columns(height)
    m.forget()


def _pieces(lanes: int, full: int) -> tuple[int, ...]:
    """So many lanes as whole vectors and a partial one."""
    whole, rest = divmod(lanes, full)
    return (full,) * whole + ((rest,) if rest else ())


def _block(
    m: Machine,
    g: Gemv,
    unroll: int,
    height: int,
    at: tuple[Pointer, Pointer, Pointer],
    beside: EpilogueOperands,
    full: int,
    tail: tuple[int, ...],
) -> int:
    """The sums of `height` rows. Returns by how many elements a and x have moved on."""
    a, x, y = at
    size = m.element.size
    pieces = (full,) * (g.lanes // full)
    group = g.lanes * size
    accumulators = [[m.zero(lanes) for lanes in pieces] for _ in range(height)]
    trips, rest = divmod(g.k // g.lanes, unroll) if unroll else (0, 0)
    moved = 0
    if trips > 1:
        moved = trips * unroll * g.lanes
        with m.loop(trips):
            with m.repeat(unroll, {a: group, x: group}):
                _step(m, g, accumulators, pieces, a, x, 0)
            m.advance(a, unroll * group)
            m.advance(x, unroll * group)
    else:
        rest += trips * unroll
    if rest:
        with m.repeat(rest, {a: group, x: group}):
            _step(m, g, accumulators, pieces, a, x, 0)
    if tail:
        _step(m, g, accumulators, tail, a, x, rest * group)

    rows = []
    for partial in accumulators:
        vectors = partial
        while len(vectors) > 1:
            half = len(vectors) // 2
            for low, high in zip(vectors[:half], vectors[half:], strict=True):
                m.add(low, high, into=low)
                m.drop(high)
            vectors = vectors[:half]
        rows.append(vectors[0])
    store_row(m, m.row_sums(rows), y, beside)
    return moved


def _step(
    m: Machine,
    g: Gemv,
    accumulators: list[list[Vector]],
    pieces: tuple[int, ...],
    a: Pointer,
    x: Pointer,
    offset: int,
) -> None:
    """One group of k: up to 64 bytes of every row."""
    size = m.element.size
    for piece, lanes in enumerate(pieces):
        of_x = m.load(lanes, x, offset)
        for row, partial in enumerate(accumulators):
            at = offset + row * g.a_row_stride * size
            # a shorter vector must be loaded: the multiply-add would read as much as it adds
            of_a = m.vector(lanes, a, at, uses=1) if lanes == partial[piece].lanes else m.load(lanes, a, at)
            m.fma(partial[piece], of_x, of_a)
            m.drop(of_a)
        m.drop(of_x)
        offset += lanes * size
