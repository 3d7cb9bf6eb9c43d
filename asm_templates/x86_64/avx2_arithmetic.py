"""AVX2's own arithmetic: constants in full width, masks in vectors, exponents by integer operations.

2^n from an integral n without a conversion: n + 1.5 * 2^p + bias, where p is the bits of the fraction,
has n + bias in its lowest bits; shifted left by p it is the exponent field. AVX2 converts no 64-bit
integers, so this serves f32 and f64 alike.
"""

from __future__ import annotations

from typing import ClassVar

from neurojit.asm_templates.arithmetic import Relation
from neurojit.asm_templates.machine import Mask, Pointer, Source, Vector
from neurojit.asm_templates.x86_64.arithmetic import FRACTION_BITS, NEAREST_EVEN_QUIETLY, RELATIONS
from neurojit.asm_templates.x86_64.casts import X86Casts
from neurojit.asm_templates.x86_64.segments import X86Segments
from neurojit.asm_templates.x86_64.widening import X86Widening

BIAS = {4: 127, 8: 1023}


class Avx2Arithmetic(X86Casts, X86Segments, X86Widening):
    """See the module's head."""

    registers: ClassVar[dict[int, str]] = {128: "xmm", 256: "ymm"}
    mark = ""
    mask_operand = "V"

    def fresh_mask(self) -> Mask:
        return Mask(self.vectors.take())

    def constant_form(self, stem: str, width: int) -> int:
        return self.form(stem, width, "V, V, M")

    def constant_label(self, element: bytes) -> int:
        return self.data_label(element * (32 // len(element)))  # an xmm form reads its first half

    def spread_bits(self, lanes: int, element: bytes) -> Vector:
        spread = Vector(self.vectors.take(), lanes, self.width_of(lanes))
        form = self.form("vmovu", spread.width, "V, M")
        self.buffer.rip(form, self.constant_label(element), spread.register)
        return spread

    def round(self, a: Vector, into: Vector | None = None) -> Vector:
        target = self.like(a, into)
        form = self.form("vround", a.width, "V, V, imm8")
        self.buffer.imm(form, NEAREST_EVEN_QUIETLY, target.register, a.register)
        return target

    # Exponents ------------------------------------------------------------------------------------

    @property
    def _fraction_bits(self) -> int:
        return FRACTION_BITS[self.element.size]

    @property
    def _biased(self) -> float:
        """Added to an integer n, it leaves n + bias in the lowest bits."""
        return 1.5 * 2.0**self._fraction_bits + BIAS[self.element.size]

    def _shift(self, stem: str, a: Vector) -> None:
        form = self.integer_form(stem, a.width, "V, V, imm8")
        self.buffer.imm(form, self._fraction_bits, a.register, a.register)

    def _add_integer(self, a: Vector, value: int) -> None:
        form = self.integer_form("vpadd", a.width, "V, V, M")
        self.buffer.rip(form, self.constant_label(self.integer(value)), a.register, a.register)

    def pow2(self, n: Vector, into: Vector | None = None) -> Vector:
        power = self.add(n, self._biased, into=into)
        return self.power_of(power, into=power)

    def scale(self, a: Vector, n: Vector) -> None:
        """By the powers of two halves of n, since 2^n itself may be no normal number; the first product
        is exact."""
        half = self.spread(n.lanes, self._biased)
        self.add_product(half, n, 0.5)
        rounded = self.sub(half, self._biased)
        self.sub(n, rounded, into=n)
        self.drop(rounded)
        self.power_of(half, into=half)
        self.mul(a, half, into=a)
        self.drop(half)
        self.pow2(n, into=n)
        self.mul(a, n, into=a)
        self.drop(n)

    def split(self, x: Vector) -> Vector:
        """The boundaries of [0.75, 1.5) move to those of exponents when the bits of 1 - those of 0.75 are
        added; denormal numbers are scaled up first."""
        bits, size = self._fraction_bits, self.element.size
        one, three_quarters = BIAS[size] << bits, (2 * BIAS[size] - 1) << (bits - 1)
        small = self.compare(x, "<", 2.0 ** (1 - BIAS[size]))
        enlarged = self.mul(x, 2.0 ** (bits + 1))
        self.select(small, enlarged, x, into=x)
        self.drop(enlarged)
        adjust = Vector(small.register, x.lanes, x.width)
        self.operate("vand", adjust, adjust, float(bits + 1))

        self._add_integer(x, one - three_quarters)
        exponent = self.duplicate(x)
        self._shift("vpsrl", exponent)
        self.operate("vor", exponent, exponent, 2.0**bits)  # its fraction now counts in units of 1
        self.sub(exponent, 2.0**bits + BIAS[size], into=exponent)
        self.sub(exponent, adjust, into=exponent)
        self.drop_mask(small)
        self.operate("vand", x, x, self.integer((1 << bits) - 1))
        self._add_integer(x, three_quarters)
        return exponent

    # Masks ----------------------------------------------------------------------------------------

    def compare(self, a: Vector, relation: Relation, b: Source) -> Mask:
        other = b if isinstance(b, Vector) else self.in_register(a.lanes, b)
        mask = Mask(self.vectors.take() if other is b else other.register)
        form = self.form("vcmp", a.width, "V, V, V, imm8")
        self.buffer.imm(form, RELATIONS[relation], mask.register, a.register, other.register)
        return mask

    def select(self, mask: Mask, a: Vector, b: Vector, into: Vector | None = None) -> Vector:
        target = self.like(a, into)
        form = self.form("vblendv", a.width, "V, V, V, V")
        self.buffer.regs(form, target.register, b.register, a.register, mask.register)
        return target

    def drop_mask(self, mask: Mask) -> None:
        self.vectors.give(mask.register)

    def first(self, lanes: int, count: Pointer) -> Mask:
        """From a row of ones and a row of zeros, read `count` elements before the border."""
        size = lanes * self.element.size
        table = b"\xff" * size + bytes(size)
        mask, base, back = Mask(self.vectors.take()), self.pointers.take(), self.copy(count)
        self.buffer.rip(self.i.lea, self.data_label(table), base)
        self.buffer.regs(self.i.neg, back)
        form = self.form("vmovu", self.width_of(lanes), "V, M")
        self.buffer.mem_indexed(form, base, back, self.element.size, size, mask.register)
        self.release(base)
        self.release(back)
        return mask

    def load_where(self, mask: Mask, lanes: int, pointer: Pointer, offset: int) -> Vector:
        target = Vector(self.vectors.take(), lanes, self.width_of(lanes))
        form = self.form("vmaskmov", target.width, "V, V, M")
        self.buffer.mem(form, pointer, offset, target.register, mask.register)
        return target

    def store_where(self, mask: Mask, vector: Vector, pointer: Pointer, offset: int) -> None:
        form = self.form("vmaskmov", vector.width, "M, V, V")
        self.buffer.mem(form, pointer, offset, mask.register, vector.register)
