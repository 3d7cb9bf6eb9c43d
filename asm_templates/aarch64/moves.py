"""Moving vectors with NEON: whole registers and pieces of them, masks by lanes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from neurojit.asm_templates.aarch64.core import ADDRESS, AArch64Machine
from neurojit.asm_templates.even_tiles import EvenTiles
from neurojit.asm_templates.machine import Element, Mask, Pointer, Vector
from neurojit.asm_templates.tiles import EvenTile, Tile
from neurojit.encoder import aarch64_forms as forms

WIDTH = 128
ALL_ONES, NOTHING = b"\xff" * 16, bytes(16)


class MoveForms:
    """Form ids of moves for one element type; of loads and stores by bytes: (scaled, unscaled offset)."""

    def __init__(self, element: Element) -> None:
        kind, arrangement = ("s", "4s") if element.size == 4 else ("d", "2d")
        names = {4: "s", 8: "d", 16: "q"}
        self.load = {
            size: (forms[f"ldr {k}, [xsp, #i]"], forms[f"ldur {k}, [xsp, #i]"]) for size, k in names.items()
        }
        self.store = {
            size: (forms[f"str {k}, [xsp, #i]"], forms[f"stur {k}, [xsp, #i]"]) for size, k in names.items()
        }
        self.load_literal = forms["ldr q, label"]
        self.zero = forms["movi v.2d, #0"]
        self.join = forms["ins v.d[i], v.d[k]"]
        self.load_lane = forms[f"ld1 {{v.{kind}}}[i], [xsp]"]
        self.store_lane = forms[f"st1 {{v.{kind}}}[i], [xsp]"]
        self.spread = forms[f"ld1r {{v.{arrangement}}}, [xsp]"]
        self.fma = forms[f"fmla v.{arrangement}, v.{arrangement}, v.{arrangement}"]
        self.fma_lane = forms[f"fmla v.{arrangement}, v.{arrangement}, v.{kind}[i]"]


move_forms = lru_cache(maxsize=2)(MoveForms)


class FirstLanes(Mask):
    """The first lanes, as many as a general register says: memory is masked by that, not by the vector."""

    __slots__ = ("count",)

    def __init__(self, register: int, count: Pointer) -> None:
        super().__init__(register)
        self.count = count


class NeonMoves(AArch64Machine, EvenTiles):
    """See the module's head."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.f = move_forms(self.element)

    def expect(self, lanes: frozenset[int]) -> None:
        """The element may have changed from one body of a program to the next; pieces need no masks."""
        self.f = move_forms(self.element)

    @property
    def widest_lanes(self) -> int:
        return WIDTH // 8 // self.element.size

    def fresh(self, lanes: int) -> Vector:
        return Vector(self.vectors.take(), lanes, WIDTH)

    def width_of(self, lanes: int) -> int:
        return WIDTH

    def clear(self, register: int) -> None:
        self.buffer.emit(self.f.zero, register)

    def rows(self, tile: Tile, steps: dict[Pointer, int]) -> Iterator[tuple[int, list[Vector]]]:
        """Emits the first row; the buffer repeats it for the others if it can."""
        if type(tile) is not EvenTile:
            yield from enumerate(tile)
            return
        for row in self.turns(tile.height, steps, tile.following, {}):
            yield row, tile[row] if row else tile.first

    def load(self, lanes: int, pointer: Pointer, offset: int) -> Vector:
        vector = self.fresh(lanes)
        self._load(vector.register, lanes, pointer, offset)
        return vector

    def _load(self, register: int, lanes: int, pointer: Pointer, offset: int) -> None:
        size = lanes * self.element.size
        if size == 12:
            self.access(*self.f.load[8], 8, register, pointer, offset)
            third = self.vectors.take()
            self.access(*self.f.load[4], 4, third, pointer, offset + 8)
            self.buffer.emit(self.f.join, register, 1, third, 0)
            self.vectors.give(third)
        else:
            self.access(*self.f.load[size], size, register, pointer, offset)

    def broadcast(self, lanes: int, pointer: Pointer, offset: int) -> Vector:
        vector = self.fresh(lanes)
        self.buffer.emit(self.f.spread, vector.register, self.at(pointer, offset))
        return vector

    def store(self, vector: Vector, pointer: Pointer, offset: int) -> None:
        size = vector.lanes * self.element.size
        if size == 12:
            self.access(*self.f.store[8], 8, vector.register, pointer, offset)
            self.buffer.emit(self.f.store_lane, vector.register, 2, self.at(pointer, offset + 8))
        else:
            self.access(*self.f.store[size], size, vector.register, pointer, offset)

    # Lanes known only at the call ---------------------------------------------------------------------

    def first(self, lanes: int, count: Pointer) -> Mask:
        """From a row of ones before a row of zeros, read `count` elements before the border."""
        mask = FirstLanes(self.vectors.take(), self.copy(count))
        self._reached = None
        shift = self.element.size.bit_length() - 1
        self.buffer.emit(self.i.adr, ADDRESS, self.data_label(ALL_ONES + NOTHING))
        self.buffer.emit(self.i.sub_shifted, ADDRESS, ADDRESS, mask.count, shift)
        self.buffer.emit(self.f.load[16][0], mask.register, ADDRESS, 16)
        return mask

    def drop_mask(self, mask: Mask) -> None:
        self.vectors.give(mask.register)
        if type(mask) is FirstLanes:
            self.release(mask.count)

    def load_where(self, mask: Mask, lanes: int, pointer: Pointer, offset: int) -> Vector:
        vector = self.zero(lanes)
        self._pieces(mask, vector, pointer, offset, self.f.load, self.f.load_lane)
        return vector

    def store_where(self, mask: Mask, vector: Vector, pointer: Pointer, offset: int) -> None:
        self._pieces(mask, vector, pointer, offset, self.f.store, self.f.store_lane)

    def _pieces(
        self,
        mask: Mask,
        vector: Vector,
        pointer: Pointer,
        offset: int,
        whole: dict[int, tuple[int, int]],
        lane: int,
    ) -> None:
        """Two lanes if that bit of the count is set, then one: behind those two, or in the first place."""
        assert type(mask) is FirstLanes, "memory is masked by a count of lanes alone"
        buffer, size, register, i = self.buffer, self.element.size, vector.register, self.i
        end = buffer.new_label()
        base = self.at(pointer, offset)
        if size == 4:
            below_two = buffer.new_label()
            buffer.emit(i.bit_clear, mask.count, 1, below_two)
            self.access(*whole[8], 8, register, base, 0)
            buffer.emit(i.bit_clear, mask.count, 0, end)
            buffer.emit(i.add_imm, ADDRESS, base, 8)
            buffer.emit(lane, register, 2, ADDRESS)
            buffer.emit(i.branch, end)
            self.bind(below_two)
        buffer.emit(i.bit_clear, mask.count, 0, end)
        self.access(*whole[size], size, register, base, 0)
        self.bind(end)
