"""Tiles whose rows are alike, for machines whose code buffer repeats what was emitted.

A template emits the first row; the buffer makes the others from it, each register having become the one below
it in the tile (`following`). So a tile costs the emission of a row, whichever registers it was given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neurojit.asm_templates.arithmetic import Lane, Scalar, Vector

Tile = Sequence[list[Vector]]
"""Accumulators, row by row."""


def next_rows(registers: list[int], across: int) -> bytes:
    """What each register becomes in the next row, as bytes.maketrans; `across` of them stand in a row."""
    return bytes.maketrans(bytes(registers[: len(registers) - across]), bytes(registers[across:]))


class EvenTile(Sequence[list[Vector]]):
    """Rows of vectors with the same lanes. following: which register stands below one, see `next_rows`."""

    __slots__ = ("columns", "first", "following", "height", "registers")

    def __init__(
        self, height: int, columns: list[tuple[int, int]], registers: list[int], following: bytes = b""
    ) -> None:
        """columns: (lanes, width of the register in bits). registers: row by row."""
        self.height = height
        self.registers = registers
        self.columns = columns
        self.first = [Vector(register, *of) for register, of in zip(registers, columns, strict=False)]
        self.following = following or next_rows(registers, len(columns))

    def __len__(self) -> int:
        return self.height

    def __getitem__(self, row: Any) -> Any:
        across = len(self.columns)
        if type(row) is slice:
            start, stop, _ = row.indices(self.height)
            registers = self.registers[start * across : stop * across]
            return EvenTile(stop - start, self.columns, registers, self.following)
        if row == -1:
            row = self.height - 1
        if not 0 <= row < self.height:
            raise IndexError(row)
        registers = self.registers[row * across :]
        return [Vector(register, *of) for register, of in zip(registers, self.columns, strict=False)]

    def column(self, across: int) -> list[Vector]:
        """The vectors that stand `across` from their row's first."""
        if self.height == 1:
            return [self.first[across]]
        of = self.columns[across]
        return [Vector(register, *of) for register in self.registers[across :: len(self.columns)]]


class LaneColumn(Sequence[Scalar]):
    """A scalar of each row: the same lane of all rows' registers."""

    __slots__ = ("following", "lane", "registers")

    def __init__(self, registers: list[int], lane: int, following: bytes) -> None:
        self.registers, self.lane, self.following = registers, lane, following

    def __len__(self) -> int:
        return len(self.registers)

    def __getitem__(self, row: Any) -> Any:
        return Lane(self.registers[row], self.lane)


class LaneTile:
    """Scalars that lie side by side in the rows of a matrix: a register of them for each row."""

    __slots__ = ("following", "registers")

    def __init__(self, registers: list[int]) -> None:
        self.registers, self.following = registers, next_rows(registers, 1)

    def column(self, lane: int) -> LaneColumn:
        return LaneColumn(self.registers, lane, self.following)
