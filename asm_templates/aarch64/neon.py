"""The vector machine of NEON: 32 registers of 128 bits, multiplied by a lane of another if asked.

A vector lives in a whole register, whatever its lanes: instructions of half the width are no quicker. What
is neither 4, 8 nor 16 bytes is read and written in two pieces; a load clears what lies beyond its lanes.

A scalar of multiply-adds is a lane of a register (`Lane`): `fmla` takes any of them, so a scalar is loaded
alone without being spread, and up to 16 bytes of scalars, side by side in memory, in one load.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from neurojit.asm_templates.aarch64.row_sums import row_sums
from neurojit.asm_templates.aarch64.widening import NeonWidening
from neurojit.asm_templates.machine import Lane, Operand, Pointer, Scalar, Vector
from neurojit.asm_templates.tiles import EvenTile, LaneColumn, LaneTile, Tile
from neurojit.encoder import SAME_REGISTERS


class NeonMachine(NeonWidening):
    """See the module's head."""

    # Scalars and multiply-adds ----------------------------------------------------------------------

    @property
    def scalars_at_once(self) -> int:
        return self.widest_lanes

    def scalars(self, count: int, pointer: Pointer, offset: int) -> list[Scalar]:
        lanes, size = self.widest_lanes, self.element.size
        operands: list[Scalar] = []
        for first in range(0, count, lanes):
            here = min(lanes, count - first)
            register = self.load(here, pointer, offset + first * size).register
            operands += [Lane(register, lane) for lane in range(here)]
        return operands

    def lane_tile(self, height: int, count: int, pointer: Pointer, offset: int, down: int) -> LaneTile:
        tile = LaneTile(self.vectors.take_in_order(height))
        for row in self.turns(height, {pointer: down}, tile.following, {}):
            self._load(tile.registers[row], count, pointer, offset + row * down)
        return tile

    def lanes_of(self, tile: LaneTile, times: int, lanes: int, steps: dict[Pointer, int]) -> Iterator[int]:
        return self.turns(times, steps, SAME_REGISTERS, dict.fromkeys(tile.registers, lanes))

    def products(self, tile: Tile, across: int, scalars: Sequence[Scalar]) -> Iterator[tuple[Vector, Scalar]]:
        if type(tile) is not EvenTile or type(scalars) is not LaneColumn:
            yield from super().products(tile, across, scalars)
            return
        following = tile.following.translate(scalars.following)  # no register is in both
        for row in self.turns(tile.height, {}, following, {}):
            yield tile[row][across] if row else tile.first[across], scalars[row]

    def scalar(self, lanes: int, pointer: Pointer, offset: int, uses: int) -> Scalar:
        return Lane(self.load(1, pointer, offset).register, 0)

    def fma(self, accumulator: Vector, scalar: Scalar, vector: Operand) -> None:
        assert type(vector) is Vector
        if type(scalar) is Lane:
            self.buffer.emit(
                self.f.fma_lane, accumulator.register, vector.register, scalar.register, scalar.lane
            )
        else:
            assert type(scalar) is Vector
            self.buffer.emit(self.f.fma, accumulator.register, scalar.register, vector.register)

    def vector(self, lanes: int, pointer: Pointer, offset: int, uses: int) -> Operand:
        return self.load(lanes, pointer, offset)

    def row_sums(self, rows: list[Vector]) -> Vector:
        return row_sums(self, rows)
