"""Steps across lanes and integer lanes on RISC-V V: slides, conversions, transposition through the stack."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from neurojit.asm_templates.lanes import Order, Stored
from neurojit.asm_templates.machine import Mask, Pointer, Vector
from neurojit.asm_templates.riscv64.core import ADDRESS, CONSTANTS, SP, STRIDE, X0, Config
from neurojit.asm_templates.riscv64.rvv_arithmetic import RvvArithmetic

HALF, QUARTER = -2, -4
"""Groups of less than a register."""
UPPER_HALF = 16
BEYOND_INTEGERS, LEAST_INTEGER = 2.0**31, -(1 << 31)


class RvvLanes(RvvArithmetic):
    """See the module's head."""

    def upper(self, a: Vector) -> Vector:
        lanes, group = a.lanes // 2, self.group_of(a.lanes)
        whole = self.fresh(a.lanes)
        self.on(a.lanes)
        self.slide_down(whole, a, lanes)
        kept = self.group_of(lanes)
        if kept < group:
            self.vectors.give(whole.register + kept, group - kept)
        return Vector(whole.register, lanes, kept * self.vector_bits)

    def spread_first(self, a: Vector, lanes: int) -> Vector:
        first, spread = self.floats.take(), self.fresh(lanes)
        self.on(a.lanes)
        self.op("vfmv.f.s f, v", first, a.register)
        self.on(lanes)
        self.op("vfmv.v.f v, f", spread.register, first)
        self.floats.give(first)
        return spread

    def lane_numbers(self, lanes: int) -> Vector:
        numbers = self.fresh(lanes)
        self.on(lanes)
        self.op("vid.v v", numbers.register)
        self.op("vfcvt.f.x.v v, v", numbers.register, numbers.register)
        return numbers

    def transposed(self, rows: list[Vector]) -> list[Vector]:
        """Rows are stored on the stack and columns loaded from there: no instruction of V 1.0
        interleaves two registers."""
        lanes, row_bytes = len(rows), len(rows) * self.element.size
        frame = -(-lanes * row_bytes // 16) * 16
        self.settle_all()
        self.add_to(SP, SP, -frame)
        self.on(lanes)
        self.op("addi x, x, i", ADDRESS, SP, 0)
        for row in rows:
            self.op(self._store, row.register, ADDRESS)
            self.op("addi x, x, i", ADDRESS, ADDRESS, row_bytes)
        self.put(STRIDE, row_bytes)
        self.op("addi x, x, i", ADDRESS, SP, 0)
        for row in rows:
            self.op(f"vlse{self.bits_of_element}.v v, (x), x", row.register, ADDRESS, STRIDE)
            self.op("addi x, x, i", ADDRESS, ADDRESS, self.element.size)
        self.add_to(SP, SP, frame)
        self._at = self._stride = None
        return rows

    # Integers -----------------------------------------------------------------------------------------

    def to_integer(self, a: Vector, into: Vector | None = None) -> Vector:
        """V's conversion stops at the greatest integer, and makes that of NaN; the least is asked for.

        The comparison stands right before the conversion: qemu 7.2 fails an assertion (decode_save_opc)
        where one with a rounding of its own is the first instruction on floats it translates of a page."""
        self._only_f32("to_integer")
        least, converted = self.spread_integer(a.lanes, LEAST_INTEGER), self.fresh(a.lanes)
        within = self.compare(a, "<", BEYOND_INTEGERS)
        self.op("vfcvt.rtz.x.f.v v, v", converted.register, a.register)
        target = self.select(within, converted, least, into)
        self.drop_mask(within)
        self.drop(converted, least)
        return target

    def from_integer(self, a: Vector, into: Vector | None = None) -> Vector:
        self._only_f32("from_integer")
        target = self.like(a, into)
        self.on(a.lanes)
        self.op("vfcvt.f.x.v v, v", target.register, a.register)
        return target

    def _only_f32(self, step: str) -> None:
        if self.element.size != 4:
            self._lacks(f"{step} of f64")

    def spread_integer(self, lanes: int, value: int) -> Vector:
        spread = self.fresh(lanes)
        self.on(lanes)
        self.op("vmv.v.x v, x", spread.register, self.integer_of(value))
        return spread

    def _pairs(self, form: str, a: Vector, b: Vector, into: Vector | None) -> Vector:
        target = self.like(a, into)
        self.on(a.lanes)
        self.op(form, target.register, a.register, b.register)
        return target

    def add_integers(self, a: Vector, b: Vector, into: Vector | None = None) -> Vector:
        return self._pairs("vadd.vv v, v, v", a, b, into)

    def sub_integers(self, a: Vector, b: Vector, into: Vector | None = None) -> Vector:
        return self._pairs("vsub.vv v, v, v", a, b, into)

    def mul_integers(self, a: Vector, b: Vector, into: Vector | None = None) -> Vector:
        return self._pairs("vmul.vv v, v, v", a, b, into)

    def max_integers(self, a: Vector, b: Vector, into: Vector | None = None) -> Vector:
        return self._pairs("vmax.vv v, v, v", a, b, into)

    def min_integers(self, a: Vector, b: Vector, into: Vector | None = None) -> Vector:
        return self._pairs("vmin.vv v, v, v", a, b, into)

    def compare_integers(self, a: Vector, order: Order, b: Vector) -> Mask:
        first, second = (b, a) if order == ">" else (a, b)
        mask = Mask(self.vectors.take())
        self.on(a.lanes)
        form = "vmseq.vv v, v, v" if order == "==" else "vmslt.vv v, v, v"
        self.op(form, mask.register, first.register, second.register)
        return mask

    def xor(self, a: Vector, b: Vector, into: Vector | None = None) -> Vector:
        return self._pairs("vxor.vv v, v, v", a, b, into)

    def _shifted(self, form: str, a: Vector, bits: int, into: Vector | None) -> Vector:
        target = self.like(a, into)
        self.on(a.lanes)
        self.op(form, target.register, a.register, bits)
        return target

    def shift_right(self, a: Vector, bits: int, into: Vector | None = None) -> Vector:
        return self._shifted("vsrl.vi v, v, i", a, bits, into)

    def shift_left(self, a: Vector, bits: int, into: Vector | None = None) -> Vector:
        return self._shifted("vsll.vi v, v, i", a, bits, into)

    def shift_right_signed(self, a: Vector, bits: int, into: Vector | None = None) -> Vector:
        return self._shifted("vsra.vi v, v, i", a, bits, into)

    def rotate_left(self, a: Vector, bits: int, into: Vector | None = None) -> Vector:
        low = self._shifted("vsrl.vi v, v, i", a, 32 - bits, None)
        target = self._shifted("vsll.vi v, v, i", a, bits, into)
        self.op("vor.vv v, v, v", target.register, target.register, low.register)
        self.drop(low)
        return target

    # Numbers that lie in memory as another type -----------------------------------------------------------
    # Of twice the width, widening and narrowing instructions count in halves of a register.

    def load_cast(self, stored: Stored, lanes: int, pointer: Pointer, offset: int) -> Vector:
        target, narrow = self.fresh(lanes), self.vectors.take()
        address = self.exact_address(pointer, offset)
        if stored in ("f32", "i32"):
            self.configure(Config(32, HALF, lanes, undisturbed=False))
            self.op("vle32.v v, (x)", narrow, address)
            widen = "vfwcvt.f.f.v v, v" if stored == "f32" else "vfwcvt.f.x.v v, v"
            self.op(widen, target.register, narrow)
        else:
            self.on(lanes)
            self.op("vle8.v v, (x)" if stored == "i8" else "vle16.v v, (x)", narrow, address)
            self.op("vsext.vf4 v, v" if stored == "i8" else "vsext.vf2 v, v", target.register, narrow)
            if stored == "bf16":
                self.shift_left(target, UPPER_HALF, into=target)
        self.vectors.give(narrow)
        return target

    def store_cast(self, stored: Stored, vector: Vector, pointer: Pointer, offset: int) -> None:
        narrow, lanes = self.vectors.take(), vector.lanes
        bits = 32 if stored in ("f32", "i32") else 16
        self.configure(Config(bits, HALF, lanes, undisturbed=False))
        if bits == 32:
            self.op("vfncvt.f.f.w v, v" if stored == "f32" else "vfncvt.x.f.w v, v", narrow, vector.register)
        else:
            self.op("vnsrl.wi v, v, i", narrow, vector.register, UPPER_HALF if stored == "bf16" else 0)
        if stored == "i8":
            bits = 8
            self.configure(Config(bits, QUARTER, lanes, undisturbed=False))
            self.op("vnsrl.wi v, v, i", vector.register, narrow, 0)
        kept = vector.register if stored == "i8" else narrow
        self.op(f"vse{bits}.v v, (x)", kept, self.exact_address(pointer, offset))
        self.vectors.give(narrow)

    # Eight numbers to choose from -----------------------------------------------------------------------

    def choice(self, a: Vector, shift: int) -> Vector:
        """Offsets in bytes, for an indexed load."""
        self._only_f32("choice")
        self.shift_right(a, shift - 2, into=a)
        self._integers("vand", a, 7 << 2)
        return a

    def look_up(self, choice: Vector, values: Sequence[float]) -> Vector:
        self._only_f32("look_up")
        found = self.fresh(choice.lanes)
        self.on(choice.lanes)
        self._at = None
        self.add_to(ADDRESS, CONSTANTS, self.constant_offset(struct.pack("<8f", *values)))
        self.op("vluxei32.v v, (x), v", found.register, ADDRESS, choice.register)
        return found

    # Addresses from data ------------------------------------------------------------------------------

    def load_index(self, pointer: Pointer, offset: int) -> Pointer:
        index = self.pointers.take()
        base, displacement = self.near_address(pointer, offset)
        self.op("lw x, i(x)", index, displacement, base)
        return index

    def clamp_index(self, index: Pointer, count: int) -> None:
        self.settle(index)
        self._at = self._stride = None
        self.op("srai x, x, i", ADDRESS, index, 63)
        self.op("xori x, x, i", ADDRESS, ADDRESS, -1)
        self.op("and x, x, x", index, index, ADDRESS)
        self.put(ADDRESS, count - 1)
        self.op("sltu x, x, x", STRIDE, ADDRESS, index)
        self.op("sub x, x, x", STRIDE, X0, STRIDE)
        self.op("xor x, x, x", ADDRESS, ADDRESS, index)
        self.op("and x, x, x", ADDRESS, ADDRESS, STRIDE)
        self.op("xor x, x, x", index, index, ADDRESS)
