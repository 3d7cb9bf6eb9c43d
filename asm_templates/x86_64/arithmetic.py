"""Arithmetic of the vector machines, as far as AVX2 and AVX-512 share it: forms differ, steps do not.

Three-operand instructions take memory only as their last operand; a constant or an element in memory
that stands first is loaded. Constants lie behind the code, each once, and are addressed relative to rip.
"""

from __future__ import annotations

import struct
from abc import abstractmethod
from typing import ClassVar

from neurojit.asm_templates.arithmetic import InMemory, Mask, Source, Vector
from neurojit.asm_templates.x86_64.moves import X86Moves
from neurojit.encoder import forms

NEAREST_EVEN_QUIETLY = 8  # of vroundps and vrndscaleps: no inexact flag
FRACTION_BITS = {4: 23, 8: 52}
RELATIONS = {"==": 0x00, "<": 0x11, "<=": 0x12, ">=": 0x1D, ">": 0x1E}  # vcmpps, quiet, false on NaN


class X86Arithmetic(X86Moves):
    """See the module's head."""

    loads_constants = True
    registers: ClassVar[dict[int, str]]
    """Width in bits -> register class."""
    mark: str
    """` {evex}` where xmm and ymm forms must be told from VEX."""

    mask_operand: str
    """What a comparison of integers writes: V or k."""

    @abstractmethod
    def fresh_mask(self) -> Mask:
        """A register that a comparison may write."""

    # Forms and constants ------------------------------------------------------------------------

    def form(self, stem: str, width: int, shape: str) -> int:
        """The form of `stem` + ps or pd; in the shape V, M and B are as in x86_64/forms.py."""
        key = (stem, width, shape, self.element.size, self.mark)
        known = _known.get(key)
        if known is None:
            bits = 8 * self.element.size
            operands = shape.replace("V", self.registers[width]).replace("M", f"m{width}")
            operands = operands.replace("B", f"m{bits}{{1to{width // bits}}}")
            name = f"{stem}{'ps' if bits == 32 else 'pd'} {operands}"
            known = _known[key] = self._lookup(name, width)
        return known

    def integer_form(self, stem: str, width: int, shape: str) -> int:
        """The form of an integer instruction, `stem` + d or q."""
        key = (stem, width, shape, self.element.size, self.mark)
        known = _known.get(key)
        if known is None:
            operands = shape.replace("V", self.registers[width]).replace("M", f"m{width}")
            name = f"{stem}{'d' if self.element.size == 4 else 'q'} {operands}"
            known = _known[key] = self._lookup(name, width)
        return known

    def _lookup(self, name: str, width: int) -> int:
        marked = width != 512 and not any(sign in name for sign in ("{", " k,"))
        return forms[name + self.mark if marked else name]

    def bits(self, value: float) -> bytes:
        """One element, rounded from the float."""
        return struct.pack("<f" if self.element.size == 4 else "<d", value)

    def integer(self, value: int) -> bytes:
        """One element's bit pattern."""
        return value.to_bytes(self.element.size, "little")

    @abstractmethod
    def constant_form(self, stem: str, width: int) -> int:
        """The form that takes a constant of the pool as its last operand."""

    @abstractmethod
    def constant_label(self, element: bytes) -> int:
        """Where the pool holds this element, in as many copies as the form reads."""

    @abstractmethod
    def spread_bits(self, lanes: int, element: bytes) -> Vector:
        """A fresh vector with this element in every lane."""

    # Three-operand instructions ------------------------------------------------------------------

    def operate(self, stem: str, target: Vector, a: Vector, b: Source | bytes) -> None:
        """target = stem(a, b), or stem(target, a, b) for the fused ones. Bytes are an element's bits."""
        if type(b) is Vector:
            self.buffer.regs(self.form(stem, a.width, "V, V, V"), target.register, a.register, b.register)
        elif type(b) is InMemory:
            form = self.form(stem, a.width, "V, V, M")
            self.buffer.mem(form, b.pointer, b.offset, target.register, a.register)
        else:
            element = b if isinstance(b, bytes) else self.bits(b)
            label = self.constant_label(element)
            self.buffer.rip(self.constant_form(stem, a.width), label, target.register, a.register)

    def like(self, a: Vector, into: Vector | None) -> Vector:
        """Where a result goes: `into`, or a fresh vector of a's shape."""
        return Vector(self.vectors.take(), a.lanes, a.width) if into is None else into

    def _binary(self, stem: str, a: Source, b: Source, into: Vector | None) -> Vector:
        if isinstance(a, Vector):
            target = self.like(a, into)
            self.operate(stem, target, a, b)
            return target
        assert isinstance(b, Vector)
        first = self.in_register(b.lanes, a)
        target = first if into is None else into
        self.operate(stem, target, first, b)
        if into is not None:
            self.drop(first)
        return target

    def in_register(self, lanes: int, a: float | InMemory) -> Vector:
        return self.load(lanes, a.pointer, a.offset) if isinstance(a, InMemory) else self.spread(lanes, a)

    def spread(self, lanes: int, value: float) -> Vector:
        if value == 0.0 and self.bits(value) == bytes(self.element.size):
            return self.zero(lanes)
        return self.spread_bits(lanes, self.bits(value))

    def duplicate(self, a: Vector, into: Vector | None = None) -> Vector:
        target = self.like(a, into)
        self.buffer.regs(self.form("vmovu", a.width, "V, V"), target.register, a.register)
        return target

    def add(self, a: Source, b: Source, into: Vector | None = None) -> Vector:
        return self._binary("vadd", a, b, into) if isinstance(a, Vector) else self._binary("vadd", b, a, into)

    def sub(self, a: Source, b: Source, into: Vector | None = None) -> Vector:
        return self._binary("vsub", a, b, into)

    def mul(self, a: Source, b: Source, into: Vector | None = None) -> Vector:
        return self._binary("vmul", a, b, into) if isinstance(a, Vector) else self._binary("vmul", b, a, into)

    def div(self, a: Source, b: Source, into: Vector | None = None) -> Vector:
        return self._binary("vdiv", a, b, into)

    def sqrt(self, a: Vector, into: Vector | None = None) -> Vector:
        target = self.like(a, into)
        self.buffer.regs(self.form("vsqrt", a.width, "V, V"), target.register, a.register)
        return target

    def add_product(self, a: Vector, b: Vector, c: Source) -> None:
        self.operate("vfmadd231", a, b, c)

    def sub_product(self, a: Vector, b: Vector, c: Source) -> None:
        self.operate("vfnmadd231", a, b, c)

    def mul_add(self, a: Vector, b: Vector, c: Source) -> None:
        self.operate("vfmadd213", a, b, c)

    def negated_mul_add(self, a: Vector, b: Vector, c: Source) -> None:
        self.operate("vfnmadd213", a, b, c)

    # vmaxps and vminps are defined as just this comparison, SDM vol. 2: the second operand unless it holds.
    def max(self, a: Source, b: Vector, into: Vector | None = None) -> Vector:
        return self._binary("vmax", a, b, into)

    def min(self, a: Source, b: Vector, into: Vector | None = None) -> Vector:
        return self._binary("vmin", a, b, into)

    # Exponents ------------------------------------------------------------------------------------

    def power_of(self, t: Vector, into: Vector | None = None) -> Vector:
        target = self.like(t, into)
        form = self.integer_form("vpsll", t.width, "V, V, imm8")
        self.buffer.imm(form, FRACTION_BITS[self.element.size], target.register, t.register)
        return target

    # Bits ----------------------------------------------------------------------------------------

    def sign_bit(self) -> bytes:
        return self.integer(1 << (8 * self.element.size - 1))

    def all_but_sign(self) -> bytes:
        return self.integer((1 << (8 * self.element.size - 1)) - 1)

    def _bitwise(self, stem: str, a: Vector, element: bytes, into: Vector | None) -> Vector:
        target = self.like(a, into)
        self.operate(stem, target, a, element)
        return target

    def negate(self, a: Vector, into: Vector | None = None) -> Vector:
        return self._bitwise("vxor", a, self.sign_bit(), into)

    def abs(self, a: Vector, into: Vector | None = None) -> Vector:
        return self._bitwise("vand", a, self.all_but_sign(), into)

    def negated_abs(self, a: Vector, into: Vector | None = None) -> Vector:
        return self._bitwise("vor", a, self.sign_bit(), into)

    def copysign(self, magnitude: Vector, sign: Vector) -> None:
        self._bitwise("vand", sign, self.sign_bit(), sign)
        self._bitwise("vand", magnitude, self.all_but_sign(), magnitude)
        self.operate("vor", magnitude, magnitude, sign)


_known: dict[tuple[str, int, str, int, str], int] = {}
