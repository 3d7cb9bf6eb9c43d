"""Numbers that lie in memory as another type: i8 and bf16 for lanes of 32 bits, f32 and i32 for lanes of f64.

Whole registers, or one number: that is spread over a register by the load, or picked from one by the store,
since no load or store of a vector touches so few bytes. Single bytes and words are stored by instructions of
AVX, which reach the lower 16 registers; some of those are free, for nothing else is in registers where
numbers are cast.
"""

from __future__ import annotations

from neurojit.asm_templates.arithmetic import Pointer, Vector
from neurojit.asm_templates.lanes import Stored
from neurojit.asm_templates.x86_64.lanes import X86Lanes
from neurojit.encoder import forms

SIGNED_BYTE, UPPER_HALF = 24, 16
"""Bits by which the lowest byte, or half, of 32 bits is shifted to be the uppermost."""
REACHED = 16
"""Registers that instructions of AVX reach."""
UPPER = 1
"""Of two halves, of 16 bits or of a register."""


class X86Casts(X86Lanes):
    """See the module's head."""

    def load_cast(self, stored: Stored, lanes: int, pointer: Pointer, offset: int) -> Vector:
        register = self.vectors.take_in_order(1)[0] if lanes == 1 else self.vectors.take()
        target = Vector(register, lanes, self.width_of(lanes))
        if stored in ("i8", "bf16"):
            self._load_narrow(stored, target, pointer, offset)
            return target
        half = self._half()
        if lanes == 1:
            self.buffer.mem(self._marked("vmovss xmm, m32"), pointer, offset, register)
        else:
            self.buffer.mem(self._marked(f"vmovups {half}, m{self._half_bits}"), pointer, offset, register)
        convert = "vcvtps2pd" if stored == "f32" else "vcvtdq2pd"
        self.buffer.regs(forms[f"{convert} {self._whole()}, {half}"], register, register)
        return target

    def store_cast(self, stored: Stored, vector: Vector, pointer: Pointer, offset: int) -> None:
        if stored in ("i8", "bf16"):
            self._store_narrow(stored, vector, pointer, offset)
            return
        register, half = vector.register, self._half()
        convert = "vcvtpd2ps" if stored == "f32" else "vcvttpd2dq"
        self.buffer.regs(forms[f"{convert} {half}, {self._whole()}"], register, register)
        if vector.lanes == 1:
            self.buffer.mem(self._marked("vmovss m32, xmm"), pointer, offset, register)
        else:
            self.buffer.mem(self._marked(f"vmovups m{self._half_bits}, {half}"), pointer, offset, register)

    def _load_narrow(self, stored: Stored, target: Vector, pointer: Pointer, offset: int) -> None:
        """A single one is repeated all over its lane, of which the uppermost copy is kept."""
        register, whole, bits = target.register, self._whole(), self.widths[-1]
        if target.lanes == 1:
            repeat = "vpbroadcastb xmm, m8" if stored == "i8" else "vpbroadcastw xmm, m16"
            self.buffer.mem(forms[repeat], pointer, offset, register)
        elif stored == "i8":
            extend = f"vpmovsxbd {whole}, m{bits // 4}"
            self.buffer.mem(forms[extend], pointer, offset, register)
        else:
            self.buffer.mem(forms[f"vpmovzxwd {whole}, m{bits // 2}"], pointer, offset, register)
        if stored == "bf16":
            self.shift_left(target, UPPER_HALF, into=target)
        elif target.lanes == 1:
            self.shift_right_signed(target, SIGNED_BYTE, into=target)

    def _store_narrow(self, stored: Stored, vector: Vector, pointer: Pointer, offset: int) -> None:
        register, bits = vector.register, self.widths[-1]
        if vector.lanes == 1:
            pick = "vpextrb m8, xmm, imm8" if stored == "i8" else "vpextrw m16, xmm, imm8"
            part = 0 if stored == "i8" else UPPER
            low = self._low(register)
            self.buffer.mem_imm(forms[pick], pointer, offset, part, low)
            if low != register:
                self.vectors.give(low)
            return
        if stored == "bf16":
            self.shift_right(vector, UPPER_HALF, into=vector)
        if bits == 512:
            narrow = "vpmovdb m128, zmm" if stored == "i8" else "vpmovdw m256, zmm"
            self.buffer.mem(forms[narrow], pointer, offset, register)
            return
        upper = self.upper(vector)
        pack = "vpackssdw" if stored == "i8" else "vpackusdw"
        self.buffer.regs(forms[f"{pack} xmm, xmm, xmm"], register, register, upper.register)
        if stored == "i8":
            self.buffer.regs(forms["vpacksswb xmm, xmm, xmm"], register, register, register)
            self.buffer.mem(forms["vmovq m64, xmm"], pointer, offset, register)
        else:
            self.buffer.mem(forms["vmovups m128, xmm"], pointer, offset, register)
        self.drop(upper)

    def _low(self, register: int) -> int:
        """What is in a register, in one that every instruction reaches; a fresh one if it must be."""
        if register < REACHED:
            return register
        low = self.vectors.take_in_order(1)[0]
        self.buffer.regs(forms["vmovups xmm, xmm {evex}"], low, register)
        return low

    def _marked(self, name: str) -> int:
        return forms[name + self.mark]

    @property
    def _half_bits(self) -> int:
        return self.widths[-1] // 2

    def _half(self) -> str:
        return self.registers[self._half_bits]

    def _whole(self) -> str:
        return self.registers[self.widths[-1]]
