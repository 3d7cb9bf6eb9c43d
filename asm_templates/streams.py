"""Where the elements of inputs and outputs are while a kernel goes through a tensor: `Streams`, and loops.

Dimensions before the row are loops, one inside the other, with one counter each; the row is the template's.
Addresses move on with the loops: by one row, less what the row has moved them. Within a row displacements
reach every element.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import NamedTuple

from neurojit.asm_templates.machine import ONCE, Machine, Mask, Pointer, Vector
from neurojit.plan.map import Access


class Place(NamedTuple):
    """A vector of elements of the row: `lanes` of them from number `column` on, counted from where the
    pointers are; of these only the masked ones, where there is a mask. row: of rows that are gone through
    side by side, along the last dimension but one, which."""

    lanes: int
    column: int = 0
    mask: Mask | None = None
    row: int = 0


class Streams:
    """The addresses of inputs and outputs, moved along together. Accesses of one buffer in the same strides
    share a register. `operands` are the buffers' addresses, in registers that stay the caller's."""

    def __init__(self, m: Machine, accesses: Sequence[Access], operands: Sequence[Pointer]) -> None:
        self.m, self.accesses = m, accesses
        self._moving: dict[tuple[int, tuple[int, ...]], Pointer] = {}
        self._own: list[Pointer] = []
        for access in accesses:
            group = (access.buffer, access.strides)
            if group not in self._moving:
                first = all(buffer != access.buffer for buffer, _ in self._moving)
                pointer = operands[access.buffer] if first else m.copy(operands[access.buffer])
                self._moving[group] = pointer
                if not first:
                    self._own.append(pointer)

    @staticmethod
    def count(accesses: Sequence[Access]) -> int:
        """How many registers they take."""
        return len({(access.buffer, access.strides) for access in accesses})

    def at(self, access: int, column: int, row: int = 0) -> tuple[Pointer, int]:
        """Register and displacement of the access's element in this column, and row of those side by side."""
        of = self.accesses[access]
        pointer = self._moving[of.buffer, of.strides]
        down = row * of.strides[-2] if row else 0
        return pointer, (of.offset + column * of.strides[-1] + down) * self.m.element.size

    def move(self, dimension: int, count: int, back: tuple[int, int] = (0, 0)) -> None:
        """All `count` further along a dimension, and back by (dimension, count)."""
        for (_, strides), pointer in self._moving.items():
            distance = count * strides[dimension] - back[1] * strides[back[0]]
            self.m.advance(pointer, distance * self.m.element.size)

    def release(self) -> None:
        for pointer in self._own:
            self.m.release(pointer)


def storing(m: Machine, streams: Streams, access: int, place: Place) -> Callable[[Vector], None]:
    """What stores a vector at the access's place."""
    pointer, offset = streams.at(access, place.column, place.row)

    def store(vector: Vector) -> None:
        if place.mask is None:
            m.store(m.view(vector, place.lanes), pointer, offset)
        else:
            m.store_where(place.mask, vector, pointer, offset)

    return store


def over_rows(
    m: Machine,
    streams: Streams,
    shape: tuple[int | None, ...],
    rows: Pointer | None,
    row: Callable[[Pointer | None], int],
    around: Callable[[int], AbstractContextManager[object]] = lambda d: ONCE,
    d: int = 0,
) -> tuple[int, int]:
    """Emit loops over the dimensions of `shape` from d on, and `row` in the innermost; the last dimension is
    the row. `row` gets the dynamic extent if the row is all there is, and returns by how many columns it has
    moved the streams. `around(d)` is entered before the loop over dimension d.

    Returns d, and by how much the streams have moved along it; nobody may count on that where the extent is
    dynamic."""
    with around(d):
        if d == len(shape) - 1:
            return d, row(rows)
        count = shape[d]
        with ExitStack() as loop:
            if count is not None:
                loop.enter_context(m.loop(count))
            else:
                assert rows is not None
                loop.enter_context(m.skip_unless_at_least(rows, 1))
                loop.enter_context(m.while_positive(rows, 1))
            moved = over_rows(m, streams, shape, None, row, around, d + 1)
            streams.move(d, 1, back=moved)
    return d, count or 0
