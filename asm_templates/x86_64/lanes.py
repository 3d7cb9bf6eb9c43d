"""Steps across lanes and integer lanes on x86-64: halves and quarters of registers, 32-bit integers."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from neurojit.asm_templates.arithmetic import Mask, Pointer, Vector
from neurojit.asm_templates.lanes import Order
from neurojit.asm_templates.x86_64.arithmetic import X86Arithmetic
from neurojit.asm_templates.x86_64.transpose import Transposition
from neurojit.encoder import forms

SECOND, FIRST = 1, 0  # of two pieces; vpermilps and vpermilpd: that piece comes first, or everywhere


class X86Lanes(X86Arithmetic):
    """See the module's head."""

    def upper(self, a: Vector) -> Vector:
        lanes = a.lanes // 2
        half = Vector(self.vectors.take(), lanes, self.width_of(lanes))
        bits = a.lanes * self.element.size * 8
        if bits == 512:
            form = forms["vextractf64x4 ymm, zmm, imm8"]
        elif bits == 256:
            form = forms[f"vextractf{'32x4' if self.mark else '128'} xmm, ymm, imm8"]
        else:
            kind = "d" if bits == 128 else "s"
            form = forms[f"vpermilp{kind} xmm, xmm, imm8{self.mark}"]
        self.buffer.imm(form, SECOND, half.register, a.register)
        return half

    def spread_first(self, a: Vector, lanes: int) -> Vector:
        spread = Vector(self.vectors.take(), lanes, self.width_of(lanes))
        if spread.width == 128 and self.element.size == 8:
            self.buffer.imm(forms[f"vpermilpd xmm, xmm, imm8{self.mark}"], FIRST, spread.register, a.register)
        else:
            kind = "s" if self.element.size == 4 else "d"
            name = f"vbroadcasts{kind} {self.registers[spread.width]}, xmm"
            self.buffer.regs(self._lookup(name, spread.width), spread.register, a.register)
        return spread

    def lane_numbers(self, lanes: int) -> Vector:
        numbers = Vector(self.vectors.take(), lanes, self.width_of(lanes))
        count = numbers.width // 8 // self.element.size
        data = struct.pack(f"<{count}{'f' if self.element.size == 4 else 'd'}", *range(count))
        self.buffer.rip(self.form("vmovu", numbers.width, "V, M"), self.data_label(data), numbers.register)
        return numbers

    def transposed(self, rows: list[Vector]) -> list[Vector]:
        return Transposition(self, self.buffer, self.registers[rows[0].width], self.mark)(rows)

    # Integers -----------------------------------------------------------------------------------------

    def _integers(self, step: str, form: int, a: Vector, into: Vector | None) -> Vector:
        if self.element.size != 4:
            self._lacks(f"{step} of f64")
        target = self.like(a, into)
        self.buffer.regs(form, target.register, a.register)
        return target

    def to_integer(self, a: Vector, into: Vector | None = None) -> Vector:
        form = self._lookup("vcvttps2dq {0}, {0}".format(self.registers[a.width]), a.width)
        return self._integers("to_integer", form, a, into)

    def from_integer(self, a: Vector, into: Vector | None = None) -> Vector:
        form = self._lookup("vcvtdq2ps {0}, {0}".format(self.registers[a.width]), a.width)
        return self._integers("from_integer", form, a, into)

    def spread_integer(self, lanes: int, value: int) -> Vector:
        return self.spread_bits(lanes, self.integer(value))

    def _combine(self, stem: str, a: Vector, b: Vector, into: Vector | None) -> Vector:
        target = self.like(a, into)
        form = self.integer_form(stem, a.width, "V, V, V")
        self.buffer.regs(form, target.register, a.register, b.register)
        return target

    def add_integers(self, a: Vector, b: Vector, into: Vector | None = None) -> Vector:
        return self._combine("vpadd", a, b, into)

    def sub_integers(self, a: Vector, b: Vector, into: Vector | None = None) -> Vector:
        return self._combine("vpsub", a, b, into)

    def mul_integers(self, a: Vector, b: Vector, into: Vector | None = None) -> Vector:
        return self._combine("vpmull", a, b, into)

    def max_integers(self, a: Vector, b: Vector, into: Vector | None = None) -> Vector:
        return self._combine("vpmaxs", a, b, into)

    def min_integers(self, a: Vector, b: Vector, into: Vector | None = None) -> Vector:
        return self._combine("vpmins", a, b, into)

    def compare_integers(self, a: Vector, order: Order, b: Vector) -> Mask:
        first, second = (b, a) if order == "<" else (a, b)
        mask = self.fresh_mask()
        stem = "vpcmpeq" if order == "==" else "vpcmpgt"
        form = self.integer_form(stem, a.width, f"{self.mask_operand}, V, V")
        self.buffer.regs(form, mask.register, first.register, second.register)
        return mask

    def xor(self, a: Vector, b: Vector, into: Vector | None = None) -> Vector:
        target = self.like(a, into)
        self.operate("vxor", target, a, b)
        return target

    def _shift_integers(self, stem: str, a: Vector, bits: int, into: Vector | None) -> Vector:
        target = self.like(a, into)
        form = self.integer_form(stem, a.width, "V, V, imm8")
        self.buffer.imm(form, bits, target.register, a.register)
        return target

    def shift_right(self, a: Vector, bits: int, into: Vector | None = None) -> Vector:
        return self._shift_integers("vpsrl", a, bits, into)

    def shift_left(self, a: Vector, bits: int, into: Vector | None = None) -> Vector:
        return self._shift_integers("vpsll", a, bits, into)

    def shift_right_signed(self, a: Vector, bits: int, into: Vector | None = None) -> Vector:
        return self._shift_integers("vpsra", a, bits, into)

    def rotate_left(self, a: Vector, bits: int, into: Vector | None = None) -> Vector:
        if self.mark:
            return self._shift_integers("vprol", a, bits, into)
        low = self._shift_integers("vpsrl", a, 32 - bits, None)
        high = self._shift_integers("vpsll", a, bits, into)
        self.operate("vor", high, high, low)
        self.drop(low)
        return high

    # Eight numbers to choose from -----------------------------------------------------------------------

    def choice(self, a: Vector, shift: int) -> Vector:
        return self.shift_right(a, shift, into=a)  # vpermps looks at the lowest three or four bits alone

    def look_up(self, choice: Vector, values: Sequence[float]) -> Vector:
        """There is no vpermps of xmm: a narrow vector takes a ymm, whose upper half matters to nobody."""
        if self.element.size != 4:
            self._lacks("look_up of f64")
        found = self.like(choice, None)
        data = struct.pack("<8f", *values)
        if choice.width == 512:
            form, label = forms["vpermps zmm, zmm, m512"], self.data_label(data + data)
        else:
            form, label = forms[f"vpermps ymm, ymm, m256{self.mark}"], self.data_label(data)
        self.buffer.rip(form, label, found.register, choice.register)
        return found

    # Addresses from data ------------------------------------------------------------------------------

    def load_index(self, pointer: Pointer, offset: int) -> Pointer:
        index = self.pointers.take()
        self.buffer.mem(forms["movsxd r64, m32"], pointer, offset, index)
        return index

    def clamp_index(self, index: Pointer, count: int) -> None:
        limit = self.constant(0)
        compare = forms["cmp r64, r64"]
        self.buffer.regs(compare, index, limit)
        self.buffer.regs(forms["cmovl r64, r64"], index, limit)
        self.advance(limit, count - 1)
        self.buffer.regs(compare, index, limit)
        self.buffer.regs(forms["cmovg r64, r64"], index, limit)
        self.release(limit)
