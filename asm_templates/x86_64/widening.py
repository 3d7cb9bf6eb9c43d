"""Loads of small storage types as float32: bf16 in pairs of k, and int8. See neurojit.plan.panels.

bf16 is the upper half of a float32, so a pair is widened by a shift (the first of it, in the low half) or a
mask (the second), which a register holds. int8 is extended to 32 bits, then converted, exactly. Products of
integers take four bytes a lane (vpdpbusd), or the even and the odd ones as words (vpmaddwd); those of bf16 a
pair (vdpbf16ps).
"""

from __future__ import annotations

from neurojit.asm_templates.arithmetic import InMemory, Scalar
from neurojit.asm_templates.machine import Pointer, Vector
from neurojit.asm_templates.x86_64.arithmetic import X86Arithmetic
from neurojit.encoder import forms

UPPER_HALF = b"\0\0\xff\xff"


class X86Widening(X86Arithmetic):
    """See the module's head."""

    _upper: Vector | None = None
    """UPPER_HALF in every lane of the widest register."""

    def expect_storage(self, storage: str) -> None:
        if storage in ("bf16", "bf16 wide"):
            self._upper = self.spread_bits(self.widest_lanes, UPPER_HALF)

    def forget_storage(self) -> None:
        if self._upper is not None:
            self.drop(self._upper)
            self._upper = None

    def load_as(self, storage: str, part: int, lanes: int, pointer: Pointer, offset: int) -> Vector:
        if storage == "int8":
            return self._load_int8(lanes, pointer, offset)
        if storage == "int8 words":
            return self._load_words(part, lanes, pointer, offset)
        return self._load_bf16(part, lanes, pointer, offset)

    def dot(self, storage: str, accumulator: Vector, scalar: Scalar, vector: Vector) -> None:
        assert type(scalar) is Vector
        shape, width = "V, V, V", accumulator.width
        if storage == "bf16 pairs":  # EVEX alone has this one
            form = forms["vdpbf16ps " + shape.replace("V", self.registers[width])]
            self.buffer.regs(form, accumulator.register, scalar.register, vector.register)
            return
        if storage == "int8 bytes":
            form = self._form_of("vpdpbusd", width, shape)
            self.buffer.regs(form, accumulator.register, scalar.register, vector.register)
            return
        product = self.vectors.take()
        multiply = self._form_of("vpmaddwd", width, shape)
        self.buffer.regs(multiply, product, scalar.register, vector.register)
        add = self._form_of("vpaddd", width, shape)
        self.buffer.regs(add, accumulator.register, accumulator.register, product)
        self.vectors.give(product)

    def _form_of(self, mnemonic: str, width: int, shape: str) -> int:
        """The form of an instruction whose name tells the width of its lanes."""
        operands = shape.replace("V", self.registers[width])
        return forms[f"{mnemonic} {operands}{self.mark if width != 512 else ''}"]

    def _load_words(self, part: int, lanes: int, pointer: Pointer, offset: int) -> Vector:
        """Of 16-bit lanes the low bytes, or the high ones, with their signs."""
        target = self.load(lanes, pointer, offset)
        for shift in ("vpsllw", "vpsraw")[part:]:
            form = self._form_of(shift, target.width, "V, V, imm8")
            self.buffer.imm(form, 8, target.register, target.register)
        return target

    def _load_int8(self, lanes: int, pointer: Pointer, offset: int) -> Vector:
        target = Vector(self.vectors.take(), lanes, self.width_of(lanes))
        extend = f"vpmovsxbd {self.registers[target.width]}, m{target.width // 4}"
        mark = self.mark if target.width != 512 else ""
        self.buffer.mem(forms[extend + mark], pointer, offset, target.register)
        convert = self.form("vcvtdq2", target.width, "V, V")
        self.buffer.regs(convert, target.register, target.register)
        return target

    def _load_bf16(self, part: int, lanes: int, pointer: Pointer, offset: int) -> Vector:
        assert self._upper is not None
        width = self.width_of(lanes)
        if part == 1:
            target = Vector(self.vectors.take(), lanes, width)
            mask = Vector(self._upper.register, lanes, width)
            self.operate("vand", target, mask, InMemory(pointer, offset))
        elif self.mark:  # EVEX shifts what is in memory
            target = Vector(self.vectors.take(), lanes, width)
            shift = self.integer_form("vpsll", width, "V, M, imm8")
            self.buffer.mem_imm(shift, pointer, offset, 16, target.register)
        else:
            target = self.load(lanes, pointer, offset)
            shift = self.integer_form("vpsll", width, "V, V, imm8")
            self.buffer.imm(shift, 16, target.register, target.register)
        return target
