"""Loads of small storage types as float32: bf16 in pairs of k, and int8. See neurojit.plan.panels.

bf16 is the upper half of a float32, so a pair is widened by a shift (the first of it, in the low half) or a
mask (the second), which a register holds. int8 is extended to 32 bits in two steps, then converted, exactly.
"""

from __future__ import annotations

from neurojit.asm_templates.aarch64.casts import NeonCasts
from neurojit.asm_templates.machine import Pointer, Vector
from neurojit.encoder import aarch64_forms as forms

UPPER_HALF = b"\0\0\xff\xff"


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
        target = self.load(lanes, pointer, offset)
        if part == 0:
            self.buffer.emit(self.o.left, target.register, target.register, 16)
        else:
            assert self._upper is not None
            self.buffer.emit(self.o.bits["and"], target.register, target.register, self._upper.register)
        return target

    def _load_int8(self, lanes: int, pointer: Pointer, offset: int) -> Vector:
        target = self.fresh(lanes)
        register = target.register
        self.access(*self.f.load[lanes], lanes, register, pointer, offset)
        self.buffer.emit(forms["sshll v.8h, v.8b, #i"], register, register, 0)
        self.buffer.emit(forms["sshll v.4s, v.4h, #i"], register, register, 0)
        self.buffer.emit(self.o.two["scvtf"], register, register)
        return target
