"""Integers of 32 bits in the lanes of f32, and bf16: what expressions do with them, in a machine's steps.

Truth that comes out of a comparison is a mask, as of numbers. bf16 is the upper half of f32, so a number is
rounded to it by adding just under half of what is cut off, or half where the kept part is odd: a carry may
run into the exponent, which is right, up to infinity.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from neurojit.asm_templates.lanes import Order
from neurojit.asm_templates.machine import Machine, Mask, Vector

GREATEST_INTEGER, BEYOND_INTEGERS = (1 << 31) - 1, 2.0**31
CUT, SIGN = 16, 31
"""Bits that bf16 has not; where the sign bit is."""
UNDER_HALF = (1 << (CUT - 1)) - 1
UPPER_BYTES = 24

BINARY = {
    "iadd": "add_integers", "isub": "sub_integers", "imul": "mul_integers", "imax": "max_integers",
    "imin": "min_integers",
}  # fmt: skip
"""Operation -> the machine's step."""
ORDERS: dict[str, tuple[Order, bool]] = {
    "i<": ("<", False), "i<=": (">", True), "i==": ("==", False), "i!=": ("==", True), "i>=": ("<", True),
    "i>": (">", False),
}  # fmt: skip
"""Relation -> the one that machines have, and whether it is the opposite."""


def compare_integers(m: Machine, relation: str, a: Vector, b: Vector) -> tuple[Mask, bool]:
    """A mask of the lanes where the relation holds; or, the second result being True, of the others."""
    order, inverted = ORDERS[relation]
    return m.compare_integers(a, order, b), inverted


def to_integer(m: Machine, x: Vector, into: Vector | None) -> Vector:
    """The machine's step is right below the range too, where it gives the least integer."""
    whole = m.to_integer(x)
    beyond = m.compare(x, ">=", BEYOND_INTEGERS)
    greatest = m.spread_integer(x.lanes, GREATEST_INTEGER)
    m.select(beyond, greatest, whole, into=whole)
    m.drop_mask(beyond)
    m.drop(greatest)
    number = m.compare(x, "==", x)
    nothing = m.zero(x.lanes)
    m.select(number, whole, nothing, into=whole)
    m.drop_mask(number)
    m.drop(nothing)
    return whole


def round_bf16(m: Machine, x: Vector, into: Vector | None) -> Vector:
    """See the module's head; NaN is one quiet NaN."""
    rounded = m.shift_right(x, CUT)
    m.shift_left(rounded, SIGN, into=rounded)
    m.shift_right(rounded, SIGN, into=rounded)
    under_half = m.spread_integer(x.lanes, UNDER_HALF)
    m.add_integers(rounded, under_half, into=rounded)
    m.drop(under_half)
    m.add_integers(rounded, x, into=rounded)
    m.shift_right(rounded, CUT, into=rounded)
    m.shift_left(rounded, CUT, into=rounded)
    number = m.compare(x, "==", x)
    nan = m.spread(x.lanes, math.nan)
    m.select(number, rounded, nan, into=rounded)
    m.drop_mask(number)
    m.drop(nan)
    return rounded


def _wrap8(m: Machine, x: Vector, into: Vector | None) -> Vector:
    upper = m.shift_left(x, UPPER_BYTES, into=into)
    return m.shift_right_signed(upper, UPPER_BYTES, into=upper)


FROM_NUMBERS: dict[str, Callable[[Machine, Vector, Vector | None], Vector]] = {
    "to_integer": to_integer,
    "round_bf16": round_bf16,
    "to_number": lambda m, x, into: m.from_integer(x, into=into),
    "wrap8": _wrap8,
}
"""Operations of one operand: f(machine, x, where the result may go)."""
