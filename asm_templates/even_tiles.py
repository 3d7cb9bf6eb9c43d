"""Tiles of zeros whose rows are alike, for machines whose code buffer repeats what was emitted."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

from neurojit.asm_templates.machine import Machine, Scalar, Tile, Vector
from neurojit.asm_templates.tiles import EvenTile


class EvenTiles(Machine):
    """See the module's head."""

    @abstractmethod
    def width_of(self, lanes: int) -> int:
        """Of the register of a vector, in bits."""

    @abstractmethod
    def clear(self, register: int) -> None:
        """Emit: no bit of the whole register is set."""

    def zero(self, lanes: int) -> Vector:
        register = self.vectors.take()
        self.clear(register)
        return Vector(register, lanes, self.width_of(lanes))

    def zero_tile(self, height: int, columns: tuple[int, ...], beside: int = 0) -> Tile:
        zeros = len(columns)
        columns += (self.widest_lanes,) * beside
        widths = [(lanes, self.width_of(lanes)) for lanes in columns]
        tile = EvenTile(height, widths, self.vectors.take_in_order(height * len(columns)))
        for _, row in self.rows(tile, {}):
            for vector in row[:zeros]:
                self.clear(vector.register)
        return tile

    def products(self, tile: Tile, across: int, scalars: Sequence[Scalar]) -> Iterator[tuple[Vector, Scalar]]:
        if type(tile) is EvenTile:
            return zip(tile.column(across), scalars, strict=True)
        return super().products(tile, across, scalars)

    def drop_tile(self, tile: Tile) -> None:
        if type(tile) is EvenTile:
            self.vectors.give_back(tile.registers)
        else:
            super().drop_tile(tile)
