"""AVX-512's own arithmetic: constants broadcast by the instruction, masks, scalef, getexp and getmant."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from neurojit.asm_templates.arithmetic import Relation
from neurojit.asm_templates.machine import Mask, Pointer, RegisterPool, Source, Vector
from neurojit.asm_templates.x86_64.arithmetic import NEAREST_EVEN_QUIETLY, RELATIONS
from neurojit.asm_templates.x86_64.casts import X86Casts
from neurojit.asm_templates.x86_64.segments import X86Segments
from neurojit.asm_templates.x86_64.widening import X86Widening
from neurojit.encoder import forms

THIRD_CHOOSES_SECOND = 0xD8  # vpternlogd: bits of the second operand where the third has ones, else the first
MANTISSA_FROM_3_4 = 3  # vgetmant: mantissas in [3/4, 3/2), with the operand's sign


class Avx512Arithmetic(X86Casts, X86Segments, X86Widening):
    """See the module's head."""

    registers: ClassVar[dict[int, str]] = {128: "xmm", 256: "ymm", 512: "zmm"}
    mark = " {evex}"
    mask_operand = "k"

    def fresh_mask(self) -> Mask:
        return Mask(self.masks.take())

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.masks = RegisterPool("mask", tuple(range(1, 8)), self.template)  # k0 means "no mask"

    @abstractmethod
    def broadcast_form(self, width: int) -> int:
        """The form that spreads an element in memory over a register."""

    def constant_form(self, stem: str, width: int) -> int:
        return self.form(stem, width, "V, V, B")

    def constant_label(self, element: bytes) -> int:
        return self.data_label(element)

    def spread_bits(self, lanes: int, element: bytes) -> Vector:
        spread = Vector(self.vectors.take(), lanes, self.width_of(lanes))
        self.buffer.rip(self.broadcast_form(spread.width), self.data_label(element), spread.register)
        return spread

    def round(self, a: Vector, into: Vector | None = None) -> Vector:
        target = self.like(a, into)
        form = self.form("vrndscale", a.width, "V, V, imm8")
        self.buffer.imm(form, NEAREST_EVEN_QUIETLY, target.register, a.register)
        return target

    def copysign(self, magnitude: Vector, sign: Vector) -> None:
        bit = self.spread_bits(sign.lanes, self.sign_bit())
        form = forms["vpternlogd {0}, {0}, {0}, imm8".format(self.registers[sign.width])]
        self.buffer.imm(form, THIRD_CHOOSES_SECOND, magnitude.register, sign.register, bit.register)
        self.drop(bit)

    def scale(self, a: Vector, n: Vector) -> None:
        self.operate("vscalef", a, a, n)
        self.drop(n)

    def pow2(self, n: Vector, into: Vector | None = None) -> Vector:
        one = self.spread(n.lanes, 1.0)
        target = one if into is None else into
        self.operate("vscalef", target, one, n)
        if into is not None:
            self.drop(one)
        return target

    def split(self, x: Vector) -> Vector:
        exponent, carried = self.like(x, None), self.like(x, None)
        get_exponent = self.form("vgetexp", x.width, "V, V")
        self.buffer.regs(get_exponent, exponent.register, x.register)
        get_mantissa = self.form("vgetmant", x.width, "V, V, imm8")
        self.buffer.imm(get_mantissa, MANTISSA_FROM_3_4, x.register, x.register)
        self.buffer.regs(get_exponent, carried.register, x.register)  # -1 below 1, else 0
        self.sub(exponent, carried, into=exponent)
        self.drop(carried)
        return exponent

    def compare(self, a: Vector, relation: Relation, b: Source) -> Mask:
        other = b if isinstance(b, Vector) else self.in_register(a.lanes, b)
        mask = Mask(self.masks.take())
        form = self.form("vcmp", a.width, "k, V, V, imm8")
        self.buffer.imm(form, RELATIONS[relation], mask.register, a.register, other.register)
        if other is not b:
            self.drop(other)
        return mask

    def select(self, mask: Mask, a: Vector, b: Vector, into: Vector | None = None) -> Vector:
        target = self.like(a, into)
        form = self.form("vblendm", a.width, "V{k}, V, V")
        self.buffer.regs(form, target.register, mask.register, b.register, a.register)
        return target

    def drop_mask(self, mask: Mask) -> None:
        self.masks.give(mask.register)

    def first(self, lanes: int, count: Pointer) -> Mask:
        table = b"".join(((1 << n) - 1).to_bytes(4, "little") for n in range(lanes))
        mask, bits = Mask(self.masks.take()), self.pointers.take()
        self.buffer.rip(self.i.lea, self.data_label(table), bits)
        self.buffer.mem_indexed(forms["mov r32, m32"], bits, count, 4, 0, bits)
        self.buffer.regs(forms["kmovw k, r32"], mask.register, bits)
        self.release(bits)
        return mask

    def load_where(self, mask: Mask, lanes: int, pointer: Pointer, offset: int) -> Vector:
        target = Vector(self.vectors.take(), lanes, self.width_of(lanes))
        form = self.form("vmovu", target.width, "V{k}{z}, M")
        self.buffer.mem(form, pointer, offset, target.register, mask.register)
        return target

    def store_where(self, mask: Mask, vector: Vector, pointer: Pointer, offset: int) -> None:
        form = self.form("vmovu", vector.width, "M{k}, V")
        self.buffer.mem(form, pointer, offset, mask.register, vector.register)
