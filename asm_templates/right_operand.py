"""B as a tile of gemm reads it: rows of a matrix in place, or packed panels (neurojit.plan.panels).

Distances are in bytes. `group` steps of k lie side by side, 1 but for bf16; pointers move by whole groups.
"""

from __future__ import annotations

from neurojit.asm_templates.machine import Machine, Operand, Pointer, Tile
from neurojit.plan.gemm import Matrix
from neurojit.plan.panels import Panels

RightOperand = Matrix | Panels


def group(b: RightOperand) -> int:
    return b.group if isinstance(b, Panels) else 1


def expect(m: Machine, b: RightOperand) -> None:
    """Prepare the loads. Called before loops."""
    if isinstance(b, Panels) and b.is_widened:
        m.expect_storage(b.storage)


def steps(m: Machine, b: RightOperand, count: int) -> int:
    """From one step of k to the `count`-th after it."""
    return b.steps_bytes(count) if isinstance(b, Panels) else count * b.row_stride * m.element.size


def next_tile(m: Machine, b: RightOperand, width: int) -> int:
    """From a tile of `width` columns to the one on its right; behind the last panel, from a partial one."""
    return b.column_bytes(b.panels(width) * b.width) if isinstance(b, Panels) else width * m.element.size


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
    return m.vector(lanes, pointer, offset, uses)


def apply_scales(
    m: Machine, b: RightOperand, tile: Tile, columns: tuple[int, ...], pointer: Pointer, moved: int
) -> None:
    """Multiply complete sums by the scales of their columns; the pointer has moved on by `moved` steps."""
    if not isinstance(b, Panels) or not b.is_scaled:
        return
    scales, column = [], 0
    for lanes in columns:
        at = b.scale_bytes(column) - b.steps_bytes(moved)
        scales.append(m.vector(m.whole_lanes(lanes), pointer, at, uses=len(tile)))
        column += lanes
    for _, row in m.rows(tile, {}):
        for sums, scale in zip(row, scales, strict=True):
            m.mul(sums, scale, into=sums)
    m.drop(*scales)
