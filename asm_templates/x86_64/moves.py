"""Moving vectors on x86-64, as far as AVX2 and AVX-512 share it: the forms differ, the steps do not.

A vector lives in the narrowest register that holds it. One or two elements of 4 or 8 bytes go through
the scalar moves, whole registers through the plain ones, and every other count under a mask that
`expect` has prepared. A load clears what lies beyond its lanes, up to the full register.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Protocol

from neurojit.asm_templates.machine import InMemory, Operand, Pointer, Scalar, Tile, Vector
from neurojit.asm_templates.x86_64.core import X86Machine


class EvenTile(Sequence[list[Vector]]):
    """Rows of accumulators with the same lanes, one row's registers behind the other's."""

    __slots__ = ("columns", "first", "height", "in_one_run", "registers")

    def __init__(self, height: int, columns: list[tuple[int, int]], registers: list[int]) -> None:
        """columns: (lanes, width of the register in bits)."""
        self.height = height
        self.registers = registers
        self.columns = columns
        self.first = [Vector(register, *of) for register, of in zip(registers, columns, strict=False)]
        # whether no register between them is in other use
        self.in_one_run = len(registers) > 0 and registers[-1] - registers[0] == len(registers) - 1

    def __len__(self) -> int:
        return self.height

    def __getitem__(self, row: Any) -> Any:
        if type(row) is slice:
            start, stop, _ = row.indices(self.height)
            registers = self.registers[start * len(self.columns) : stop * len(self.columns)]
            return EvenTile(stop - start, self.columns, registers)
        if row == -1:
            row = self.height - 1
        if not 0 <= row < self.height:
            raise IndexError(row)
        registers = self.registers[row * len(self.columns) :]
        return [Vector(register, *of) for register, of in zip(registers, self.columns, strict=False)]


class MoveForms(Protocol):
    """Form ids for one element type; by width in bits, or by size in bytes for the scalar moves."""

    load: dict[int, int]
    load_masked: dict[int, int]
    load_scalar: dict[int, int]
    broadcast: dict[int, int]
    zero: int


class X86Moves(X86Machine):
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

    def zero(self, lanes: int) -> Vector:
        register = self.vectors.take()
        self.buffer.regs(self.moves.zero, register, register, register)
        return Vector(register, lanes, self.width_of(lanes))

    def zero_tile(self, height: int, columns: tuple[int, ...], beside: int = 0) -> Tile:
        zeros = len(columns)
        columns += (self.widest_lanes,) * beside
        tile = EvenTile(
            height,
            [(lanes, self.width_of(lanes)) for lanes in columns],
            self.vectors.take_in_order(height * len(columns)),
        )
        for _, row in self.rows(tile, {}):
            for vector in row[:zeros]:
                register = vector.register
                self.buffer.regs(self.moves.zero, register, register, register)
        return tile

    def rows(self, tile: Tile, steps: dict[Pointer, int]) -> Iterator[tuple[int, list[Vector]]]:
        """Emits the first row; the buffer repeats it for the others, with the accumulators moved on."""
        if type(tile) is not EvenTile or not tile.in_one_run:
            yield from enumerate(tile)
            return
        first = self.buffer.mark
        yield 0, tile.first
        if tile.height > 1:
            self.buffer.repeat(first, tile.height - 1, steps, tile.registers[0], len(tile.columns))

    def drop(self, *operands: Scalar) -> None:
        for operand in operands:  # there are no lanes here
            if type(operand) is Vector:
                self.vectors.give(operand.register)

    def drop_tile(self, tile: Tile) -> None:
        if type(tile) is EvenTile:
            self.vectors.give_back(tile.registers)
        else:
            super().drop_tile(tile)

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
