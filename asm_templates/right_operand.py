"""B as a tile of gemm reads it: rows of a matrix in place, or packed panels (neurojit.plan.panels).

Distances are in bytes. `group` steps of k lie side by side, 1 but for bf16; pointers move by whole groups.
"""

from __future__ import annotations

from collections.abc import Callable

from neurojit.asm_templates.arithmetic import Scalar
from neurojit.asm_templates.machine import Machine, Operand, Pointer, Tile, Vector
from neurojit.plan.gemm import ColumnBlock, Gemm, Matrix
from neurojit.plan.panels import Panels

RightOperand = Matrix | Panels


def group(b: RightOperand) -> int:
    return b.group if isinstance(b, Panels) else 1


def temporaries(b: RightOperand) -> int:
    """Registers that a product of B takes at most besides its operands: sums of words are put together."""
    return 2 if isinstance(b, Panels) and b.storage == "int8 words" else 0


def expect(m: Machine, b: RightOperand) -> None:
    """Prepare the loads. Called before loops."""
    if isinstance(b, Panels) and (b.is_widened or b.is_dot):
        m.expect_storage(b.storage)


def steps(m: Machine, b: RightOperand, count: int) -> int:
    """From one step of k to the `count`-th after it."""
    return b.steps_bytes(count) if isinstance(b, Panels) else count * b.row_stride * m.element.size


def next_tile(m: Machine, b: RightOperand, width: int) -> int:
    """From a tile of `width` columns to the one on its right; behind the last panel, from a partial one."""
    return b.column_bytes(b.panels(width) * b.width) if isinstance(b, Panels) else width * m.element.size


def column(m: Machine, b: RightOperand, number: int) -> int:
    """From a tile's first column to another one of it."""
    return b.column_bytes(number) if isinstance(b, Panels) else number * m.element.size


def load(
    m: Machine, b: RightOperand, at: tuple[Pointer, int], column: int, lanes: int, part: int, uses: int
) -> Operand:
    """`lanes` elements of one step of k, `part` of the group at (pointer, offset): from a tile's column on.

    What the last panel is filled up with is read too: no load of a panel needs a mask."""
    pointer, offset = at
    if not isinstance(b, Panels):
        return m.vector(lanes, pointer, offset + column * m.element.size, uses)
    offset += b.column_bytes(column)
    lanes = m.whole_lanes(lanes)
    if b.is_widened:
        return m.load_as(b.storage, part, lanes, pointer, offset)
    return m.load(lanes, pointer, offset) if b.is_dot else m.vector(lanes, pointer, offset, uses)


def scalar(
    m: Machine, b: RightOperand, block: ColumnBlock, pointer: Pointer, offset: int, later: int = 0
) -> Scalar:
    """An element of A as `multiply` takes it, for the vectors of one row. later: registers that what it
    multiplies will take, and that it must leave."""
    lanes = max(block.lanes)
    shared = block.shared and m.vectors.free > later
    if shared or (isinstance(b, Panels) and b.is_dot):
        return m.broadcast(lanes, pointer, offset)
    return m.scalar(lanes, pointer, offset, len(block.lanes))


def multiply(m: Machine, b: RightOperand, accumulator: Vector, of_a: Scalar, of_b: Operand) -> None:
    """accumulator += A's element times B's."""
    if isinstance(b, Panels) and b.is_dot:
        assert isinstance(of_b, Vector)
        m.dot(b.storage, accumulator, of_a, of_b)
    else:
        m.fma(accumulator, of_a, of_b)


def finish(
    m: Machine, g: Gemm, tile: Tile, columns: tuple[int, ...], a: Pointer, b: Pointer, moved: int
) -> None:
    """What complete sums of packed weights need: those of integers become float32 and take their row's scale,
    those of all int8 their column's. The pointers have moved on by `moved` steps."""
    panels = g.b
    if not isinstance(panels, Panels) or not panels.is_scaled:
        return
    assert g.k is not None
    size, back = m.element.size, -panels.steps_bytes(moved)
    if panels.storage == "int8 bytes":
        _by_column(m, panels, tile, columns, b, back + panels.scales_bytes, m.add_integers)
    if panels.is_dot:
        a_row = g.a.row_stride * size
        for i, row in m.rows(tile, {a: a_row}):
            scale = m.broadcast(max(columns), a, i * a_row + (g.k - moved) * size)
            for sums in row:
                m.from_integer(sums, into=sums)
                m.mul(sums, m.view(scale, sums.lanes), into=sums)
            m.drop(scale)
    _by_column(m, panels, tile, columns, b, back, m.mul)


def _by_column(
    m: Machine,
    panels: Panels,
    tile: Tile,
    columns: tuple[int, ...],
    b: Pointer,
    offset: int,
    step: Callable[[Vector, Vector, Vector], Vector],
) -> None:
    """step(sums, number, into sums), with a number for each column, `offset` behind the column's scale."""
    column = 0
    for across, lanes in enumerate(columns):
        numbers = m.load(m.whole_lanes(lanes), b, panels.scale_bytes(column) + offset)
        for _, row in m.rows(tile, {}):
            step(row[across], numbers, row[across])
        m.drop(numbers)
        column += lanes
