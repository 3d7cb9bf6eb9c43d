"""The steps of a vector machine that functions are written in: arithmetic, bits, comparisons.

Operands are vectors, elements left in memory, or Python floats: a float stands for a constant in every
lane, rounded to the element type; the machine decides whether it comes from a register or from memory.
`into` names the vector that takes the result, which may be an operand; without it a fresh one is taken.
Every step works on any count of lanes. Lanes beyond a vector's count hold anything and matter to nobody.
Arithmetic is IEEE 754, rounded to nearest, denormals included; the control bits of the CPU stay untouched.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, final


@final
class Vector:
    """A vector register, seen at `width` bits, holding `lanes` elements."""

    __slots__ = ("lanes", "register", "width")

    def __init__(self, register: int, lanes: int, width: int) -> None:
        self.register = register
        self.lanes = lanes
        self.width = width


@final
class InMemory:
    """An element or a vector left in memory, to be read by the instruction that uses it."""

    __slots__ = ("offset", "pointer")

    def __init__(self, pointer: int, offset: int) -> None:
        self.pointer = pointer
        self.offset = offset


@final
class Lane:
    """One lane of a vector register, as the scalar of multiply-adds."""

    __slots__ = ("lane", "register")

    def __init__(self, register: int, lane: int) -> None:
        self.register = register
        self.lane = lane


@final
class ScalarRegister:
    """One element in a scalar register, where the ISA's multiply-add takes it from there."""

    __slots__ = ("register",)

    def __init__(self, register: int) -> None:
        self.register = register


class Mask:
    """A truth value for each lane, in a register of whichever kind the ISA compares into."""

    __slots__ = ("register",)

    def __init__(self, register: int) -> None:
        self.register = register


Operand = Vector | InMemory
Scalar = Vector | InMemory | Lane | ScalarRegister
Source = Vector | InMemory | float
Pointer = int
"""A general register that holds an address (or a count)."""

Relation = Literal["<", "<=", "==", ">=", ">"]
"""Each is false where an operand is NaN."""


class Arithmetic(ABC):
    """The abstract steps; see the module's head."""

    loads_constants = False
    """Whether an instruction with a constant loads it, each time; else it comes from elsewhere."""

    @abstractmethod
    def spread(self, lanes: int, value: float) -> Vector:
        """A fresh vector with `value` in every lane."""

    @abstractmethod
    def duplicate(self, a: Vector, into: Vector | None = None) -> Vector:
        """The same value in another register."""

    # Rounded once --------------------------------------------------------------------------------

    @abstractmethod
    def add(self, a: Source, b: Source, into: Vector | None = None) -> Vector:
        """a + b. Of two operands, here and below, one at least is a vector."""

    @abstractmethod
    def sub(self, a: Source, b: Source, into: Vector | None = None) -> Vector:
        """a - b."""

    @abstractmethod
    def mul(self, a: Source, b: Source, into: Vector | None = None) -> Vector:
        """a * b."""

    @abstractmethod
    def div(self, a: Source, b: Source, into: Vector | None = None) -> Vector:
        """a / b."""

    @abstractmethod
    def sqrt(self, a: Vector, into: Vector | None = None) -> Vector:
        """The square root of a."""

    @abstractmethod
    def add_product(self, a: Vector, b: Vector, c: Source) -> None:
        """a += b * c."""

    @abstractmethod
    def sub_product(self, a: Vector, b: Vector, c: Source) -> None:
        """a -= b * c."""

    @abstractmethod
    def mul_add(self, a: Vector, b: Vector, c: Source) -> None:
        """a = a * b + c."""

    @abstractmethod
    def negated_mul_add(self, a: Vector, b: Vector, c: Source) -> None:
        """a = c - a * b."""

    # Exact ---------------------------------------------------------------------------------------

    @abstractmethod
    def max(self, a: Source, b: Vector, into: Vector | None = None) -> Vector:
        """a where a > b, else b: b where either is NaN, b of zeros of both signs."""

    @abstractmethod
    def min(self, a: Source, b: Vector, into: Vector | None = None) -> Vector:
        """a where a < b, else b: b where either is NaN, b of zeros of both signs."""

    @abstractmethod
    def negate(self, a: Vector, into: Vector | None = None) -> Vector:
        """-a, of zeros and NaN too."""

    @abstractmethod
    def abs(self, a: Vector, into: Vector | None = None) -> Vector:
        """a without its sign bit."""

    @abstractmethod
    def negated_abs(self, a: Vector, into: Vector | None = None) -> Vector:
        """a with its sign bit set."""

    @abstractmethod
    def copysign(self, magnitude: Vector, sign: Vector) -> None:
        """magnitude takes the sign bit of `sign`, which is left with anything."""

    @abstractmethod
    def round(self, a: Vector, into: Vector | None = None) -> Vector:
        """The nearest integer, of two the even one."""

    @abstractmethod
    def pow2(self, n: Vector, into: Vector | None = None) -> Vector:
        """2^n, for integers n whose power is a normal number; else anything."""

    @abstractmethod
    def power_of(self, t: Vector, into: Vector | None = None) -> Vector:
        """2^n, for t an integer n to which the bias of exponents and 1.5 times 2^(bits of a fraction) were
        added, so that its lowest bits are the exponent field of a normal number; else anything."""

    @abstractmethod
    def split(self, x: Vector) -> Vector:
        """x becomes its mantissa m in [0.75, 1.5); the result is k, an integer, with x = m * 2^k.

        For finite x > 0, denormal ones included; else anything."""

    # Rounded where the result is denormal --------------------------------------------------------

    @abstractmethod
    def scale(self, a: Vector, n: Vector) -> None:
        """a *= 2^n for a normal a of about 1 and integers |n| < 2 * the greatest exponent. Consumes n.

        Rounded once; infinite beyond the range, denormal or zero below it."""

    # Lanes that differ ---------------------------------------------------------------------------

    @abstractmethod
    def compare(self, a: Vector, relation: Relation, b: Source) -> Mask:
        """Where a stands in `relation` to b. The mask is the caller's to drop."""

    @abstractmethod
    def select(self, mask: Mask, a: Vector, b: Vector, into: Vector | None = None) -> Vector:
        """a where the mask is set, else b."""

    @abstractmethod
    def first(self, lanes: int, count: Pointer) -> Mask:
        """The first `count` of `lanes` lanes, 0 <= count < lanes, known only at the call."""

    @abstractmethod
    def load_where(self, mask: Mask, lanes: int, pointer: Pointer, offset: int) -> Vector:
        """A fresh vector: the masked lanes from memory, 0 in the others, whose memory is not touched."""

    @abstractmethod
    def store_where(self, mask: Mask, vector: Vector, pointer: Pointer, offset: int) -> None:
        """Write the masked lanes; the memory of the others is not touched."""

    @abstractmethod
    def drop_mask(self, mask: Mask) -> None:
        """Give back the mask's register."""
