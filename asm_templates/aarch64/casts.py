"""Numbers that lie in memory as another type: i8 and bf16 for lanes of 32 bits, f32 and i32 for lanes of f64.

Loads and stores of scalars move as many bytes as one number or a register full of them takes; what is
narrower is widened and narrowed by halves.
"""

from __future__ import annotations

from neurojit.asm_templates.aarch64.lanes import NeonLanes
from neurojit.asm_templates.arithmetic import Pointer, Vector
from neurojit.asm_templates.lanes import Stored
from neurojit.encoder import aarch64_forms as forms

SIZE = {"i8": 1, "bf16": 2, "f32": 4, "i32": 4}
SCALAR = {1: "b", 2: "h", 4: "s", 8: "d"}
"""Register, by bytes."""
WIDEN = {
    "i8": ("sshll v.8h, v.8b, #i", "sshll v.4s, v.4h, #i"),
    "bf16": ("ushll v.4s, v.4h, #i", "shl v.4s, v.4s, #i"),
    "f32": ("fcvtl v.2d, v.2s",),
    "i32": ("sshll v.2d, v.2s, #i", "scvtf v.2d, v.2d"),
}
NARROW = {
    "i8": ("xtn v.4h, v.4s", "xtn v.8b, v.8h"),
    "bf16": ("ushr v.4s, v.4s, #i", "xtn v.4h, v.4s"),
    "f32": ("fcvtn v.2s, v.2d",),
    "i32": ("fcvtzs v.2d, v.2d", "xtn v.2s, v.2d"),
}
UPPER_HALF = 16
"""Bits by which the two shifts move."""


class NeonCasts(NeonLanes):
    """See the module's head."""

    def load_cast(self, stored: Stored, lanes: int, pointer: Pointer, offset: int) -> Vector:
        target, size = self.fresh(lanes), lanes * SIZE[stored]
        self._scalar("ld", size, target.register, pointer, offset)
        self._in_steps(WIDEN[stored], target.register)
        return target

    def store_cast(self, stored: Stored, vector: Vector, pointer: Pointer, offset: int) -> None:
        self._in_steps(NARROW[stored], vector.register)
        self._scalar("st", vector.lanes * SIZE[stored], vector.register, pointer, offset)

    def _scalar(self, kind: str, size: int, register: int, pointer: Pointer, offset: int) -> None:
        scaled, unscaled = (forms[f"{kind}{way}r {SCALAR[size]}, [xsp, #i]"] for way in ("", "u"))
        self.access(scaled, unscaled, size, register, pointer, offset)

    def _in_steps(self, names: tuple[str, ...], register: int) -> None:
        for name in names:
            shift = name.startswith(("shl ", "ushr "))
            amounts = [UPPER_HALF if shift else 0] if name.endswith("#i") else []
            self.buffer.emit(forms[name], register, register, *amounts)
