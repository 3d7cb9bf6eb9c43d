"""Loads of small storage types as float32: bf16 in pairs of k, and int8. See neurojit.plan.panels.

bf16 is the upper half of a float32, so a pair is widened by a shift (the first of it, in the low half) or a
mask (the second), which a register holds. int8 is extended to 32 bits in two steps, then converted, exactly.
Products of integers take four bytes a lane (sdot), or the even and the odd ones as words, whose products are
added pair by pair; those of bf16 a pair (bfdot). Both instructions take a lane of a register for a scalar.
"""

from __future__ import annotations

from neurojit.asm_templates.aarch64.casts import NeonCasts
from neurojit.asm_templates.machine import Lane, Pointer, Scalar, Vector
from neurojit.encoder import aarch64_forms as forms

UPPER_HALF = b"\0\0\xff\xff"

DOTS = {"int8 signed": ("sdot", "16b", "4b"), "bf16 pairs": ("bfdot", "8h", "2h")}
"""Storage -> an instruction, its whole operands and the lane that one of them may be."""


class NeonWidening(NeonCasts):
    """See the module's head."""

    _upper: Vector | None = None
    """UPPER_HALF in every lane."""

    def whole_lanes(self, lanes: int) -> int:
        return self.widest_lanes

    def expect_storage(self, storage: str) -> None:
        if storage in ("bf16", "bf16 wide"):
            self._upper = self.spread_bits(self.widest_lanes, UPPER_HALF)

    def forget(self) -> None:
        if self._upper is not None:
            self.drop(self._upper)
            self._upper = None

    def load_as(self, storage: str, part: int, lanes: int, pointer: Pointer, offset: int) -> Vector:
        if storage == "int8":
            return self._load_int8(lanes, pointer, offset)
        if storage == "int8 words":
            return self._load_words(part, lanes, pointer, offset)
        target = self.load(lanes, pointer, offset)
        if part == 0:
            self.buffer.emit(self.o.left, target.register, target.register, 16)
        else:
            assert self._upper is not None
            self.buffer.emit(self.o.bits["and"], target.register, target.register, self._upper.register)
        return target

    def dot(self, storage: str, accumulator: Vector, scalar: Scalar, vector: Vector) -> None:
        if storage == "int8 words":
            self._dot_of_words(accumulator, scalar, vector)
            return
        name, whole, lane = DOTS[storage]
        sums, factors = accumulator.register, vector.register
        if type(scalar) is Lane:
            form = forms[f"{name} v.4s, v.{whole}, v.{lane}[i]"]
            self.buffer.emit(form, sums, factors, scalar.register, scalar.lane)
        else:
            assert type(scalar) is Vector
            form = forms[f"{name} v.4s, v.{whole}, v.{whole}"]
            self.buffer.emit(form, sums, factors, scalar.register)

    def _dot_of_words(self, accumulator: Vector, scalar: Scalar, vector: Vector) -> None:
        """All products, then the sums of neighbours: the scalar's two words stand in every lane for that."""
        assert isinstance(scalar, (Lane, Vector))
        low, high = self.vectors.take(), self.vectors.take()
        factor, emit = scalar.register, self.buffer.emit
        if type(scalar) is Lane:
            emit(forms["dup v.4s, v.s[i]"], high, scalar.register, scalar.lane)
            factor = high
        emit(forms["smull v.4s, v.4h, v.4h"], low, vector.register, factor)
        emit(forms["smull2 v.4s, v.8h, v.8h"], high, vector.register, factor)
        emit(forms["addp v.4s, v.4s, v.4s"], low, low, high)
        emit(forms["add v.4s, v.4s, v.4s"], accumulator.register, accumulator.register, low)
        self.vectors.give(high)
        self.vectors.give(low)

    def _load_words(self, part: int, lanes: int, pointer: Pointer, offset: int) -> Vector:
        """Of 16-bit lanes the low bytes, or the high ones, with their signs."""
        target = self.load(lanes, pointer, offset)
        for shift in ("shl", "sshr")[part:]:
            self.buffer.emit(forms[f"{shift} v.8h, v.8h, #i"], target.register, target.register, 8)
        return target

    def _load_int8(self, lanes: int, pointer: Pointer, offset: int) -> Vector:
        target = self.fresh(lanes)
        register = target.register
        self.access(*self.f.load[lanes], lanes, register, pointer, offset)
        self.buffer.emit(forms["sshll v.8h, v.8b, #i"], register, register, 0)
        self.buffer.emit(forms["sshll v.4s, v.4h, #i"], register, register, 0)
        self.buffer.emit(self.o.two["scvtf"], register, register)
        return target
