"""The arithmetic of RISC-V V: constants from scalar registers, comparisons to masks, exponents as integers.

A mask may be in any register, but only v0 serves: it is copied there when it is used. Exponents are integers
of the element's size, shifted into place, as in the machine of AVX2.
"""

from __future__ import annotations

import struct

from neurojit.asm_templates.arithmetic import Relation
from neurojit.asm_templates.machine import InMemory, Mask, ScalarRegister, Source, Vector
from neurojit.asm_templates.riscv64.core import ADDRESS, CONSTANTS
from neurojit.asm_templates.riscv64.rvv import FirstLanes, RvvMoves

FRACTION_BITS = {4: 23, 8: 52}
BIAS = {4: 127, 8: 1023}
V0 = 0

# a RELATION b as an instruction on vectors, with its operands in which order; and on a vector and a scalar
ON_VECTORS = {
    "<": ("vmflt.vv", 1),
    "<=": ("vmfle.vv", 1),
    "==": ("vmfeq.vv", 1),
    ">=": ("vmfle.vv", -1),
    ">": ("vmflt.vv", -1),
}
ON_SCALAR = {"<": "vmflt.vf", "<=": "vmfle.vf", "==": "vmfeq.vf", ">=": "vmfge.vf", ">": "vmfgt.vf"}


class RvvArithmetic(RvvMoves):
    """See the module's head."""

    # Constants ------------------------------------------------------------------------------------

    def bits(self, value: float) -> bytes:
        """One element, rounded from the float."""
        return struct.pack("<f" if self.element.size == 4 else "<d", value)

    def scalar_of(self, value: float) -> ScalarRegister:
        """The constant in a scalar register."""
        register = self.floats.take()
        self.op(self._load_scalar, register, self.constant_offset(self.bits(value)), CONSTANTS)
        return ScalarRegister(register)

    def integer_of(self, value: int) -> int:
        """An element's bit pattern, in ADDRESS."""
        self._at = None
        data = (value & (1 << self.bits_of_element) - 1).to_bytes(self.element.size, "little")
        form = "lw x, i(x)" if self.element.size == 4 else "ld x, i(x)"
        self.op(form, ADDRESS, self.constant_offset(data), CONSTANTS)
        return ADDRESS

    def spread(self, lanes: int, value: float) -> Vector:
        if self.bits(value) == bytes(self.element.size):
            return self.zero(lanes)
        vector, scalar = self.fresh(lanes), self.scalar_of(value)
        self.on(lanes)
        self.op("vfmv.v.f v, f", vector.register, scalar.register)
        self.drop(scalar)
        return vector

    def like(self, a: Vector, into: Vector | None) -> Vector:
        return self.fresh(a.lanes) if into is None else into

    def duplicate(self, a: Vector, into: Vector | None = None) -> Vector:
        target = self.like(a, into)
        self.on(a.lanes)
        self.op("vmv.v.v v, v", target.register, a.register)
        return target

    def fetched(self, lanes: int, a: Source) -> Vector | ScalarRegister:
        """The operand in a register of whichever kind."""
        if isinstance(a, InMemory):
            return self.load(lanes, a.pointer, a.offset)
        return a if isinstance(a, Vector) else self.scalar_of(a)

    def give_back(self, fetched: Vector | ScalarRegister, given: Source) -> None:
        if fetched is not given:
            self.drop(fetched)

    # Rounded once ---------------------------------------------------------------------------------

    def _binary(self, stem: str, reversed_stem: str, a: Source, b: Source, into: Vector | None) -> Vector:
        if not isinstance(a, Vector):
            assert isinstance(b, Vector)
            first = self.fetched(b.lanes, a)
            if isinstance(first, ScalarRegister):
                target = self.like(b, into)
                self.on(b.lanes)
                self.op(f"{reversed_stem}.vf v, v, f", target.register, b.register, first.register)
            else:
                target = self._binary(stem, reversed_stem, first, b, into)
            self.drop(first)
            return target
        target, second = self.like(a, into), self.fetched(a.lanes, b)
        self.on(a.lanes)
        kind = "f" if isinstance(second, ScalarRegister) else "v"
        self.op(f"{stem}.v{kind} v, v, {kind}", target.register, a.register, second.register)
        self.give_back(second, b)
        return target

    def add(self, a: Source, b: Source, into: Vector | None = None) -> Vector:
        return self._binary("vfadd", "vfadd", a, b, into)

    def sub(self, a: Source, b: Source, into: Vector | None = None) -> Vector:
        return self._binary("vfsub", "vfrsub", a, b, into)

    def mul(self, a: Source, b: Source, into: Vector | None = None) -> Vector:
        return self._binary("vfmul", "vfmul", a, b, into)

    def div(self, a: Source, b: Source, into: Vector | None = None) -> Vector:
        return self._binary("vfdiv", "vfrdiv", a, b, into)

    def sqrt(self, a: Vector, into: Vector | None = None) -> Vector:
        target = self.like(a, into)
        self.on(a.lanes)
        self.op("vfsqrt.v v, v", target.register, a.register)
        return target

    def _fused(self, stem: str, a: Vector, b: Vector, c: Source) -> None:
        """stem with vd = a, and b and c in either order: the products commute."""
        other = self.fetched(a.lanes, c)
        self.on(a.lanes)
        if isinstance(other, ScalarRegister):
            self.op(f"{stem}.vf v, f, v", a.register, other.register, b.register)
        else:
            self.op(f"{stem}.vv v, v, v", a.register, other.register, b.register)
        self.give_back(other, c)

    def add_product(self, a: Vector, b: Vector, c: Source) -> None:
        self._fused("vfmacc", a, b, c)

    def sub_product(self, a: Vector, b: Vector, c: Source) -> None:
        self._fused("vfnmsac", a, b, c)

    def _multiplied(self, stem: str, a: Vector, b: Vector, c: Source) -> None:
        """a = +-(a * b) + c, where c is a vector."""
        if isinstance(c, InMemory):
            term = self.load(a.lanes, c.pointer, c.offset)
        else:
            term = c if isinstance(c, Vector) else self.spread(a.lanes, c)
        self.on(a.lanes)
        self.op(f"{stem}.vv v, v, v", a.register, b.register, term.register)
        if term is not c:
            self.drop(term)

    def mul_add(self, a: Vector, b: Vector, c: Source) -> None:
        self._multiplied("vfmadd", a, b, c)

    def negated_mul_add(self, a: Vector, b: Vector, c: Source) -> None:
        self._multiplied("vfnmsub", a, b, c)

    # Exact ----------------------------------------------------------------------------------------

    def _chosen(self, relation: Relation, a: Source, b: Vector, into: Vector | None) -> Vector:
        """a where it stands in `relation` to b, else b. Not vfmax, which prefers numbers to NaN."""
        first = self.fetched(b.lanes, a)
        if isinstance(first, ScalarRegister):
            opposite: Relation = "<" if relation == ">" else ">"
            mask = self._compared(b, opposite, first)
        else:
            mask = self._compared(first, relation, b)
        target = self.like(b, into)
        self._use(mask, b.lanes)
        if isinstance(first, ScalarRegister):
            self.op("vfmerge.vfm v, v, f, v0", target.register, b.register, first.register)
        else:
            self.op("vmerge.vvm v, v, v, v0", target.register, b.register, first.register)
        self._used()
        self.drop_mask(mask)
        self.give_back(first, a)
        return target

    def max(self, a: Source, b: Vector, into: Vector | None = None) -> Vector:
        return self._chosen(">", a, b, into)

    def min(self, a: Source, b: Vector, into: Vector | None = None) -> Vector:
        return self._chosen("<", a, b, into)

    def _signs(self, stem: str, a: Vector, b: Vector, into: Vector | None) -> Vector:
        target = self.like(a, into)
        self.on(a.lanes)
        self.op(f"{stem}.vv v, v, v", target.register, a.register, b.register)
        return target

    def negate(self, a: Vector, into: Vector | None = None) -> Vector:
        return self._signs("vfsgnjn", a, a, into)

    def abs(self, a: Vector, into: Vector | None = None) -> Vector:
        return self._signs("vfsgnjx", a, a, into)

    def negated_abs(self, a: Vector, into: Vector | None = None) -> Vector:
        target = self._signs("vfsgnjx", a, a, into)
        return self._signs("vfsgnjn", target, target, target)

    def copysign(self, magnitude: Vector, sign: Vector) -> None:
        self._signs("vfsgnj", magnitude, sign, magnitude)
        self._integers("vand", sign, 1 << (self.bits_of_element - 1))

    def round(self, a: Vector, into: Vector | None = None) -> Vector:
        """By way of an integer, which loses the sign of zero; beyond the fraction all are whole."""
        whole = self.fresh(a.lanes)
        self.on(a.lanes)
        self.op("vfcvt.x.f.v v, v", whole.register, a.register)
        self.op("vfcvt.f.x.v v, v", whole.register, whole.register)
        self._signs("vfsgnj", whole, a, whole)
        size = self.abs(a)
        mask = self.compare(size, "<", 2.0 ** FRACTION_BITS[self.element.size])
        self.drop(size)
        target = self.select(mask, whole, a, into)
        self.drop_mask(mask)
        self.drop(whole)
        return target

    # Exponents ------------------------------------------------------------------------------------

    @property
    def _fraction_bits(self) -> int:
        return FRACTION_BITS[self.element.size]

    @property
    def _bias(self) -> int:
        return BIAS[self.element.size]

    def _integers(self, stem: str, a: Vector, value: int) -> None:
        """a = stem(a, value), lane by lane as integers."""
        self.on(a.lanes)
        if -16 <= value < 16 and stem in ("vadd", "vand"):
            self.op(f"{stem}.vi v, v, i", a.register, a.register, value)
        else:
            self.op(f"{stem}.vx v, v, x", a.register, a.register, self.integer_of(value))

    def _power(self, n: Vector) -> None:
        """Integers n become 2^n."""
        self._integers("vadd", n, self._bias)
        self._integers("vsll", n, self._fraction_bits)

    def pow2(self, n: Vector, into: Vector | None = None) -> Vector:
        target = self.like(n, into)
        self.on(n.lanes)
        self.op("vfcvt.x.f.v v, v", target.register, n.register)
        self._power(target)
        return target

    def power_of(self, t: Vector, into: Vector | None = None) -> Vector:
        target = self.duplicate(t) if into is None else into
        self._integers("vsll", target, self._fraction_bits)
        return target

    def scale(self, a: Vector, n: Vector) -> None:
        """By the powers of two halves of n, since 2^n itself may be no normal number; the first product
        is exact."""
        self.on(n.lanes)
        self.op("vfcvt.x.f.v v, v", n.register, n.register)
        half = self.duplicate(n)
        self.op("vsra.vi v, v, i", half.register, half.register, 1)
        self.op("vsub.vv v, v, v", n.register, n.register, half.register)
        for power in (half, n):
            self._power(power)
            self.mul(a, power, into=a)
            self.drop(power)

    def split(self, x: Vector) -> Vector:
        """As in the machine of AVX2: see there."""
        fraction, bias = self._fraction_bits, self._bias
        one, three_quarters = bias << fraction, (2 * bias - 1) << (fraction - 1)
        small = self.compare(x, "<", 2.0 ** (1 - bias))
        enlarged = self.mul(x, 2.0 ** (fraction + 1))
        self.select(small, enlarged, x, into=x)
        self.drop(enlarged)
        adjust = self.zero(x.lanes)
        enlarged_by = self.scalar_of(float(fraction + 1))
        self._use(small, x.lanes)
        self.op("vfmerge.vfm v, v, f, v0", adjust.register, adjust.register, enlarged_by.register)
        self._used()
        self.drop(enlarged_by)
        self.drop_mask(small)

        self._integers("vadd", x, one - three_quarters)
        exponent = self.duplicate(x)
        self._integers("vsrl", exponent, fraction)
        self._integers("vadd", exponent, -bias)
        self.op("vfcvt.f.x.v v, v", exponent.register, exponent.register)
        self.sub(exponent, adjust, into=exponent)
        self.drop(adjust)
        self._integers("vand", x, (1 << fraction) - 1)
        self._integers("vadd", x, three_quarters)
        return exponent

    # Masks ----------------------------------------------------------------------------------------

    def _compared(self, a: Vector, relation: Relation, b: Vector | ScalarRegister) -> Mask:
        mask = Mask(self.vectors.take())
        self.on(a.lanes)
        if isinstance(b, ScalarRegister):
            self.op(f"{ON_SCALAR[relation]} v, v, f", mask.register, a.register, b.register)
        else:
            name, order = ON_VECTORS[relation]
            first, second = (a, b)[::order]
            self.op(f"{name} v, v, v", mask.register, first.register, second.register)
        return mask

    def compare(self, a: Vector, relation: Relation, b: Source) -> Mask:
        other = self.fetched(a.lanes, b)
        mask = self._compared(a, relation, other)
        self.give_back(other, b)
        return mask

    def _use(self, mask: Mask, lanes: int) -> None:
        """The mask in v0, for the next instruction on so many lanes."""
        self.vectors.claim(V0)
        self.on(lanes)
        if isinstance(mask, FirstLanes):
            numbers = self.fresh(lanes)
            self.op("vid.v v", numbers.register)
            self.op("vmsltu.vx v, v, x", V0, numbers.register, mask.register)
            self.drop(numbers)
        else:
            self.op("vmv1r.v v, v", V0, mask.register)

    def _used(self) -> None:
        self.vectors.give(V0)

    def select(self, mask: Mask, a: Vector, b: Vector, into: Vector | None = None) -> Vector:
        target = self.like(a, into)
        self._use(mask, a.lanes)
        self.op("vmerge.vvm v, v, v, v0", target.register, b.register, a.register)
        self._used()
        return target

    def drop_mask(self, mask: Mask) -> None:
        if isinstance(mask, FirstLanes):
            self.release(mask.register)
        else:
            self.vectors.give(mask.register)
