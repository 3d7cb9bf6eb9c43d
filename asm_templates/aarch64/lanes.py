"""Steps across lanes and integer lanes with NEON."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from neurojit.asm_templates.aarch64.neon_arithmetic import NeonArithmetic
from neurojit.asm_templates.arithmetic import Mask, Pointer, Vector
from neurojit.asm_templates.lanes import Order
from neurojit.encoder import aarch64_forms as forms


class NeonLanes(NeonArithmetic):
    """See the module's head."""

    def upper(self, a: Vector) -> Vector:
        half = self.fresh(a.lanes // 2)
        offset = half.lanes * self.element.size
        self.buffer.emit(forms["ext v.16b, v.16b, v.16b, #i"], half.register, a.register, a.register, offset)
        return half

    def spread_first(self, a: Vector, lanes: int) -> Vector:
        spread = self.fresh(lanes)
        name = "dup v.4s, v.s[i]" if self.element.size == 4 else "dup v.2d, v.d[i]"
        self.buffer.emit(forms[name], spread.register, a.register, 0)
        return spread

    def lane_numbers(self, lanes: int) -> Vector:
        numbers, count = self.fresh(lanes), self.widest_lanes
        data = struct.pack(f"<{count}{'f' if self.element.size == 4 else 'd'}", *range(count))
        self.buffer.emit(self.f.load_literal, numbers.register, self.data_label(data))
        return numbers

    def transposed(self, rows: list[Vector]) -> list[Vector]:
        """Pairs of rows are interleaved lane by lane, of four then pairs of lanes; two leave at once."""
        kinds = {1: [], 2: [self.element.size], 4: [4, 8]}[len(rows)]
        for number, size in enumerate(kinds):
            arrangement = "4s" if size == 4 else "2d"
            first, second = (
                forms[f"{name} {', '.join([f'v.{arrangement}'] * 3)}"] for name in ("trn1", "trn2")
            )
            apart = 1 << number
            for low in (n for n in range(len(rows)) if not n & apart):
                a, b = rows[low], rows[low + apart]
                other = self.vectors.take()
                self.buffer.emit(second, other, a.register, b.register)
                self.buffer.emit(first, a.register, a.register, b.register)
                self.vectors.give(b.register)
                b.register = other
        return rows

    # Integers -----------------------------------------------------------------------------------------

    def _integers(self, step: str, name: str, a: Vector, into: Vector | None, *more: int) -> Vector:
        if self.element.size != 4:
            self._lacks(f"{step} of f64")
        target = self.like(a, into)
        self.buffer.emit(forms[name], target.register, a.register, *more)
        return target

    def to_integer(self, a: Vector, into: Vector | None = None) -> Vector:
        """fcvtzs saturates at both ends and makes 0 of NaN; here all beyond the range is the least."""
        within = self.compare(a, "<", 2.0**31)
        least = self.spread_bits(a.lanes, self.integer(1 << 31))
        target = self._integers("to_integer", "fcvtzs v.4s, v.4s", a, into)
        self.select(within, target, least, into=target)
        self.drop_mask(within)
        self.drop(least)
        return target

    def from_integer(self, a: Vector, into: Vector | None = None) -> Vector:
        return self._integers("from_integer", "scvtf v.4s, v.4s", a, into)

    def spread_integer(self, lanes: int, value: int) -> Vector:
        return self.spread_bits(lanes, self.integer(value))

    def _combine(self, name: str, a: Vector, b: Vector, into: Vector | None) -> Vector:
        return self._integers(name, f"{name} v.4s, v.4s, v.4s", a, into, b.register)

    def add_integers(self, a: Vector, b: Vector, into: Vector | None = None) -> Vector:
        return self._combine("add", a, b, into)

    def sub_integers(self, a: Vector, b: Vector, into: Vector | None = None) -> Vector:
        return self._combine("sub", a, b, into)

    def mul_integers(self, a: Vector, b: Vector, into: Vector | None = None) -> Vector:
        return self._combine("mul", a, b, into)

    def max_integers(self, a: Vector, b: Vector, into: Vector | None = None) -> Vector:
        return self._combine("smax", a, b, into)

    def min_integers(self, a: Vector, b: Vector, into: Vector | None = None) -> Vector:
        return self._combine("smin", a, b, into)

    def compare_integers(self, a: Vector, order: Order, b: Vector) -> Mask:
        first, second = (b, a) if order == "<" else (a, b)
        return Mask(self._combine("cmeq" if order == "==" else "cmgt", first, second, None).register)

    def xor(self, a: Vector, b: Vector, into: Vector | None = None) -> Vector:
        target = self.like(a, into)
        self.buffer.emit(forms["eor v.16b, v.16b, v.16b"], target.register, a.register, b.register)
        return target

    def shift_right(self, a: Vector, bits: int, into: Vector | None = None) -> Vector:
        return self._integers("shift_right", "ushr v.4s, v.4s, #i", a, into, bits)

    def shift_left(self, a: Vector, bits: int, into: Vector | None = None) -> Vector:
        return self._integers("shift_left", "shl v.4s, v.4s, #i", a, into, bits)

    def shift_right_signed(self, a: Vector, bits: int, into: Vector | None = None) -> Vector:
        return self._integers("shift_right_signed", "sshr v.4s, v.4s, #i", a, into, bits)

    def rotate_left(self, a: Vector, bits: int, into: Vector | None = None) -> Vector:
        """`sli` inserts what is shifted left above what stands there."""
        turned = self._integers("rotate_left", "ushr v.4s, v.4s, #i", a, None, 32 - bits)
        self._integers("rotate_left", "sli v.4s, v.4s, #i", a, turned, bits)
        if into is None:
            return turned
        self._become(into, turned)
        return into

    # Eight numbers to choose from -----------------------------------------------------------------------

    def choice(self, a: Vector, shift: int) -> Vector:
        """tbl takes bytes: those of the number 4 i, 4 i + 1, 4 i + 2, 4 i + 3 in the lane that chooses i."""
        if self.element.size != 4:
            self._lacks("choice of f64")
        self.buffer.emit(self.o.left, a.register, a.register, 29 - shift)
        self.buffer.emit(self.o.right, a.register, a.register, 29)
        fours = self.spread_bits(a.lanes, self.integer(0x04040404))
        self.buffer.emit(forms["mul v.4s, v.4s, v.4s"], a.register, a.register, fours.register)
        self.drop(fours)
        self._add_integer(a, 0x03020100)
        return a

    def look_up(self, choice: Vector, values: Sequence[float]) -> Vector:
        if self.element.size != 4:
            self._lacks("look_up of f64")
        data = struct.pack("<8f", *values)
        low, high = self.vectors.take_neighbours()
        for register, half in ((low, data[:16]), (high, data[16:])):
            self.buffer.emit(self.f.load_literal, register, self.data_label(half))
        found = Vector(low, choice.lanes, choice.width)
        self.buffer.emit(forms["tbl v.16b, {pair}, v.16b"], low, low, choice.register)
        self.vectors.give(high)
        return found

    # Addresses from data ------------------------------------------------------------------------------

    def load_index(self, pointer: Pointer, offset: int) -> Pointer:
        index = self.pointers.take()
        self.access(forms["ldrsw x, [xsp, #i]"], forms["ldursw x, [xsp, #i]"], 4, index, pointer, offset)
        return index

    def clamp_index(self, index: Pointer, count: int) -> None:
        limit = self.constant(count - 1)
        select, zero, less, greater = forms["csel x, x, x, cond"], 31, 11, 12
        self.buffer.emit(self.i.cmp_imm, index, 0)
        self.buffer.emit(select, index, zero, index, less)
        self.buffer.emit(self.i.cmp, index, limit)
        self.buffer.emit(select, index, limit, index, greater)
        self.release(limit)
