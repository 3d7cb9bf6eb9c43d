"""Arithmetic of NEON: three operands in registers, constants from behind the code, masks in vectors.

Multiply-adds add to the register they write, so a Horner step (a = a b + c) adds to a fresh copy of c, and
`a` takes over its register. Comparisons fill lanes with ones; `bit` and `bif` take lanes by such a mask.
fmax and fmin answer NaN where either operand is one and tell zeros apart, so they serve where a constant
other than 0 stands first; elsewhere a comparison and a selection say what `arithmetic` asks for.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

from neurojit.asm_templates.aarch64.moves import NeonMoves
from neurojit.asm_templates.arithmetic import Relation
from neurojit.asm_templates.machine import Element, InMemory, Mask, Source, Vector
from neurojit.encoder import aarch64_forms as forms

FRACTION_BITS = {4: 23, 8: 52}
BIAS = {4: 127, 8: 1023}
SWAPPED: dict[Relation, Relation] = {"<": ">", "<=": ">=", "==": "==", ">=": "<=", ">": "<"}
COMPARISONS = {"==": "fcmeq", ">": "fcmgt", ">=": "fcmge"}
WITH_ZERO = {"==": "fcmeq", ">": "fcmgt", ">=": "fcmge", "<": "fcmlt", "<=": "fcmle"}


class ArithmeticForms:
    """Form ids for one element type."""

    def __init__(self, element: Element) -> None:
        t = "4s" if element.size == 4 else "2d"
        three, two = f"v.{t}, v.{t}, v.{t}", f"v.{t}, v.{t}"
        self.three = {
            name: forms[f"{name} {three}"]
            for name in (
                *("fadd", "fsub", "fmul", "fdiv", "fmax", "fmin", "fmla", "fmls"),
                *("fcmeq", "fcmgt", "fcmge", "add", "sub"),
            )
        }
        self.two = {
            name: forms[f"{name} {two}"] for name in ("fsqrt", "fabs", "fneg", "frintn", "fcvtns", "scvtf")
        }
        self.bits = {name: forms[f"{name} v.16b, v.16b, v.16b"] for name in ("and", "orr", "bit", "bif")}
        self.zero = {relation: forms[f"{name} {two}, #0.0"] for relation, name in WITH_ZERO.items()}
        self.left, self.right = forms[f"shl {two}, #i"], forms[f"ushr {two}, #i"]
        self.right_signed = forms[f"sshr {two}, #i"]
        self.move, self.constant = forms["mov v.16b, v.16b"], forms[f"fmov v.{t}, #fimm"]


arithmetic_forms = lru_cache(maxsize=2)(ArithmeticForms)


@lru_cache(maxsize=1)
def immediates() -> dict[float, int]:
    """The 256 numbers that `fmov` has as immediates."""
    forms.names()
    return {float(name): number for number, name in enumerate(forms.kinds["fimm"])}


class NeonArithmetic(NeonMoves):
    """See the module's head."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.o = arithmetic_forms(self.element)

    def expect(self, lanes: frozenset[int]) -> None:
        super().expect(lanes)
        self.o = arithmetic_forms(self.element)

    # Constants --------------------------------------------------------------------------------------

    def bits(self, value: float) -> bytes:
        """One element, rounded from the float."""
        return struct.pack("<f" if self.element.size == 4 else "<d", value)

    def integer(self, value: int) -> bytes:
        """One element's bit pattern."""
        return value.to_bytes(self.element.size, "little")

    def spread_bits(self, lanes: int, element: bytes) -> Vector:
        """A fresh vector with this element in every lane."""
        vector = self.fresh(lanes)
        label = self.data_label(element * self.widest_lanes)
        self.buffer.emit(self.f.load_literal, vector.register, label)
        return vector

    def spread(self, lanes: int, value: float) -> Vector:
        if self.bits(value) == bytes(self.element.size):
            return self.zero(lanes)
        if value in immediates():
            vector = self.fresh(lanes)
            self.buffer.emit(self.o.constant, vector.register, immediates()[value])
            return vector
        return self.spread_bits(lanes, self.bits(value))

    def in_register(self, lanes: int, a: Source) -> Vector:
        """The operand itself if it is a vector, else a fresh one."""
        if isinstance(a, Vector):
            return a
        return self.load(lanes, a.pointer, a.offset) if isinstance(a, InMemory) else self.spread(lanes, a)

    def like(self, a: Vector, into: Vector | None) -> Vector:
        """Where a result goes: `into`, or a fresh vector of a's shape."""
        return self.fresh(a.lanes) if into is None else into

    # Two and three operands -------------------------------------------------------------------------

    def _three(self, form: int, target: Vector, a: Vector, b: Vector) -> None:
        self.buffer.emit(form, target.register, a.register, b.register)

    def _unary(self, name: str, a: Vector, into: Vector | None) -> Vector:
        target = self.like(a, into)
        self.buffer.emit(self.o.two[name], target.register, a.register)
        return target

    def _binary(self, name: str, a: Source, b: Source, into: Vector | None) -> Vector:
        lanes = a.lanes if isinstance(a, Vector) else b.lanes if isinstance(b, Vector) else 0
        first, second = self.in_register(lanes, a), self.in_register(lanes, b)
        made = first if first is not a else second if second is not b else None
        target = into or made or self.fresh(lanes)
        self._three(self.o.three[name], target, first, second)
        if made is not None and target is not made:
            self.drop(made)
        return target

    def duplicate(self, a: Vector, into: Vector | None = None) -> Vector:
        target = self.like(a, into)
        self.buffer.emit(self.o.move, target.register, a.register)
        return target

    def add(self, a: Source, b: Source, into: Vector | None = None) -> Vector:
        return self._binary("fadd", a, b, into)

    def sub(self, a: Source, b: Source, into: Vector | None = None) -> Vector:
        return self._binary("fsub", a, b, into)

    def mul(self, a: Source, b: Source, into: Vector | None = None) -> Vector:
        return self._binary("fmul", a, b, into)

    def div(self, a: Source, b: Source, into: Vector | None = None) -> Vector:
        return self._binary("fdiv", a, b, into)

    def sqrt(self, a: Vector, into: Vector | None = None) -> Vector:
        return self._unary("fsqrt", a, into)

    def add_product(self, a: Vector, b: Vector, c: Source) -> None:
        self._accumulate("fmla", a, b, c)

    def sub_product(self, a: Vector, b: Vector, c: Source) -> None:
        self._accumulate("fmls", a, b, c)

    def mul_add(self, a: Vector, b: Vector, c: Source) -> None:
        self._onto_copy("fmla", a, b, c)

    def negated_mul_add(self, a: Vector, b: Vector, c: Source) -> None:
        self._onto_copy("fmls", a, b, c)

    def _accumulate(self, name: str, a: Vector, b: Vector, c: Source) -> None:
        factor = self.in_register(a.lanes, c)
        self._three(self.o.three[name], a, b, factor)
        if factor is not c:
            self.drop(factor)

    def _onto_copy(self, name: str, a: Vector, b: Vector, c: Source) -> None:
        """a = c +- a b."""
        result = self.duplicate(c) if isinstance(c, Vector) else self.in_register(a.lanes, c)
        self._three(self.o.three[name], result, a, b)
        self._become(a, result)

    def _become(self, a: Vector, result: Vector) -> None:
        """a takes the result's register: no instruction."""
        a.register, result.register = result.register, a.register
        self.drop(result)

    # Exact ------------------------------------------------------------------------------------------

    def max(self, a: Source, b: Vector, into: Vector | None = None) -> Vector:
        return self._extreme("fmax", ">", a, b, into)

    def min(self, a: Source, b: Vector, into: Vector | None = None) -> Vector:
        return self._extreme("fmin", "<", a, b, into)

    def _extreme(self, name: str, relation: Relation, a: Source, b: Vector, into: Vector | None) -> Vector:
        if isinstance(a, float | int) and a != 0 and a == a:
            return self._binary(name, float(a), b, into)
        first = self.in_register(b.lanes, a)
        mask = self.compare(first, relation, b)
        result = self.select(mask, first, b, into)
        self.drop_mask(mask)
        if first is not a:
            self.drop(first)
        return result

    def negate(self, a: Vector, into: Vector | None = None) -> Vector:
        return self._unary("fneg", a, into)

    def abs(self, a: Vector, into: Vector | None = None) -> Vector:
        return self._unary("fabs", a, into)

    def negated_abs(self, a: Vector, into: Vector | None = None) -> Vector:
        return self.negate(target := self.abs(a, into), into=target)

    def copysign(self, magnitude: Vector, sign: Vector) -> None:
        bit = self.spread_bits(sign.lanes, self.integer(1 << (8 * self.element.size - 1)))
        self._three(self.o.bits["and"], sign, sign, bit)
        self._three(self.o.bits["bit"], magnitude, sign, bit)
        self.drop(bit)

    def round(self, a: Vector, into: Vector | None = None) -> Vector:
        return self._unary("frintn", a, into)

    # Exponents --------------------------------------------------------------------------------------

    @property
    def _fraction_bits(self) -> int:
        return FRACTION_BITS[self.element.size]

    def _add_integer(self, a: Vector, value: int) -> None:
        constant = self.spread_bits(a.lanes, self.integer(value))
        self._three(self.o.three["add"], a, a, constant)
        self.drop(constant)

    def _to_exponent(self, n: Vector, target: Vector) -> None:
        """2^n from an integer in its lanes: n + bias where the exponent stands."""
        self.buffer.emit(self.o.left, target.register, n.register, self._fraction_bits)
        self._add_integer(target, BIAS[self.element.size] << self._fraction_bits)

    def pow2(self, n: Vector, into: Vector | None = None) -> Vector:
        power = self._unary("fcvtns", n, into)
        self._to_exponent(power, power)
        return power

    def power_of(self, t: Vector, into: Vector | None = None) -> Vector:
        target = self.like(t, into)
        self.buffer.emit(self.o.left, target.register, t.register, self._fraction_bits)
        return target

    def scale(self, a: Vector, n: Vector) -> None:
        """By the powers of two halves of n, since 2^n itself may be no normal number; the first product
        is exact."""
        self._unary("fcvtns", n, into=n)
        half = self.fresh(n.lanes)
        self.buffer.emit(self.o.right_signed, half.register, n.register, 1)
        self._three(self.o.three["sub"], n, n, half)
        for power in (half, n):
            self._to_exponent(power, power)
            self.mul(a, power, into=a)
        self.drop(half, n)

    def split(self, x: Vector) -> Vector:
        """The boundaries of [0.75, 1.5) move to those of exponents when the bits of 1 - those of 0.75 are
        added; denormal numbers are scaled up first."""
        bits, bias = self._fraction_bits, BIAS[self.element.size]
        one, three_quarters = bias << bits, (2 * bias - 1) << (bits - 1)
        small = self.compare(x, "<", 2.0 ** (1 - bias))
        enlarged = self.mul(x, 2.0 ** (bits + 1))
        self.select(small, enlarged, x, into=x)
        self.drop(enlarged)
        adjust = self.spread_bits(x.lanes, self.integer(bits + 1))
        self.buffer.emit(self.o.bits["and"], adjust.register, adjust.register, small.register)
        self.drop_mask(small)

        self._add_integer(x, one - three_quarters)
        exponent = self.fresh(x.lanes)
        self.buffer.emit(self.o.right, exponent.register, x.register, bits)
        self._three(self.o.three["sub"], exponent, exponent, adjust)
        self.drop(adjust)
        self._add_integer(exponent, (1 << 8 * self.element.size) - bias)
        self._unary("scvtf", exponent, into=exponent)
        fraction = self.spread_bits(x.lanes, self.integer((1 << bits) - 1))
        self._three(self.o.bits["and"], x, x, fraction)
        self.drop(fraction)
        self._add_integer(x, three_quarters)
        return exponent

    # Masks ------------------------------------------------------------------------------------------

    def compare(self, a: Vector, relation: Relation, b: Source) -> Mask:
        if not isinstance(b, Vector | InMemory) and b == 0:
            mask = Mask(self.vectors.take())
            self.buffer.emit(self.o.zero[relation], mask.register, a.register)
            return mask
        other = self.in_register(a.lanes, b)
        mask = Mask(self.vectors.take() if other is b else other.register)
        first, second = a, other
        if relation not in COMPARISONS:
            first, second, relation = other, a, SWAPPED[relation]
        form = self.o.three[COMPARISONS[relation]]
        self.buffer.emit(form, mask.register, first.register, second.register)
        return mask

    def select(self, mask: Mask, a: Vector, b: Vector, into: Vector | None = None) -> Vector:
        if into is not None and into.register == a.register:
            self.buffer.emit(self.o.bits["bif"], into.register, b.register, mask.register)
            return into
        target = self.like(a, into)
        if target.register != b.register:
            self.buffer.emit(self.o.move, target.register, b.register)
        self.buffer.emit(self.o.bits["bit"], target.register, a.register, mask.register)
        return target
