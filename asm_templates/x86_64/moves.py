"""Moving vectors on x86-64, as far as AVX2 and AVX-512 share it: the forms differ, the steps do not.

A vector lives in the narrowest register that holds it. One or two elements of 4 or 8 bytes go through
the scalar moves, whole registers through the plain ones, and every other count under a mask that
`expect` has prepared. A load clears what lies beyond its lanes, up to the full register.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Protocol

from neurojit.asm_templates.even_tiles import EvenTiles
from neurojit.asm_templates.machine import InMemory, Operand, Pointer, Scalar, Tile, Vector
from neurojit.asm_templates.tiles import EvenTile
from neurojit.asm_templates.x86_64.core import X86Machine


class MoveForms(Protocol):
    """Form ids for one element type; by width in bits, or by size in bytes for the scalar moves."""

    load: dict[int, int]
    load_masked: dict[int, int]
    load_scalar: dict[int, int]
    broadcast: dict[int, int]
    zero: int


class X86Moves(X86Machine, EvenTiles):
    """See the module's head."""

    widths: ClassVar[tuple[int, ...]]
    """Of the registers, in bits, narrowest first."""
    moves: MoveForms
    _masks: dict[int, int]
    """Lanes -> the register that holds their mask."""

    @property
    def widest_lanes(self) -> int:
        return self.widths[-1] // 8 // self.element.size

    def width_of(self, lanes: int) -> int:
        bits = lanes * self.element.size * 8
        return 128 if bits <= 128 else 256 if bits <= 256 else 512

    def whole_lanes(self, lanes: int) -> int:
        return self.width_of(lanes) // 8 // self.element.size

    def is_partial(self, lanes: int) -> bool:
        """Whether so many lanes need a mask."""
        size = lanes * self.element.size
        return size not in (4, 8) and size * 8 not in self.widths

    def clear(self, register: int) -> None:
        self.buffer.regs(self.moves.zero, register, register, register)

    def rows(self, tile: Tile, steps: dict[Pointer, int]) -> Iterator[tuple[int, list[Vector]]]:
        """Emits the first row; the buffer repeats it for the others."""
        if type(tile) is not EvenTile:
            yield from enumerate(tile)
            return
        first = self.buffer.mark
        yield 0, tile.first
        if tile.height > 1:
            self.buffer.repeat(first, tile.height - 1, steps, tile.following)

    def drop(self, *operands: Scalar) -> None:
        for operand in operands:  # there are no lanes here
            if type(operand) is Vector:
                self.vectors.give(operand.register)

    def load(self, lanes: int, pointer: Pointer, offset: int) -> Vector:
        register, width = self.vectors.take(), self.width_of(lanes)
        size = lanes * self.element.size
        if size in (4, 8):
            self.buffer.mem(self.moves.load_scalar[size], pointer, offset, register)
        elif lanes in self._masks:
            self.buffer.mem(self.moves.load_masked[width], pointer, offset, register, self._masks[lanes])
        else:
            self.buffer.mem(self.moves.load[width], pointer, offset, register)
        return Vector(register, lanes, width)

    def view(self, vector: Vector, lanes: int) -> Vector:
        return Vector(vector.register, lanes, self.width_of(lanes))

    def vector(self, lanes: int, pointer: Pointer, offset: int, uses: int) -> Operand:
        whole = lanes * self.element.size * 8 in self.widths
        return InMemory(pointer, offset) if uses == 1 and whole else self.load(lanes, pointer, offset)

    def broadcast(self, lanes: int, pointer: Pointer, offset: int) -> Vector:
        register, width = self.vectors.take(), self.width_of(lanes)
        self.buffer.mem(self.moves.broadcast[width], pointer, offset, register)
        return Vector(register, lanes, width)
