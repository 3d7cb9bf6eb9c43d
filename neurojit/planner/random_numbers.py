"""Random numbers of f64 as expressions of two words each, which come as signed integers of 32 bits, held as
f64.

    uniform   (w0 2^21 + (w1 >> 11)) 2^-53, exact
    normal    sqrt(-2 log u) cos(2 pi v), u = (w0 + 1) 2^-32, v = w1 2^-32

The cosine of v turns is the sine of a quarter less |v - round(v)|, which is exact and at most a quarter:
Taylor's series about 0, whose 13 terms leave less than 2^-75 there.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import factorial

from neurojit.plan.expression import Builder

PI = Fraction(31415926535897932384626433832795028841971693993751, 10**49)
TERMS = 13
SINE = tuple(float((-1) ** k * (2 * PI) ** (2 * k + 1) / factorial(2 * k + 1)) for k in range(TERMS))
"""sin(2 pi s) = s (SINE[0] + SINE[1] s^2 + ...)."""


def _unsigned(b: Builder, word: int) -> int:
    negative = b.apply("<", word, b.constant(0.0))
    return b.apply("select", negative, b.apply("add", word, b.constant(2.0**32)), word)


def _uniform(b: Builder, w0: int, w1: int) -> int:
    upper = b.apply("mul", _unsigned(b, w0), b.constant(2.0**-32))
    kept = b.apply("floor", b.apply("mul", _unsigned(b, w1), b.constant(2.0**-11)))
    return b.apply("add", upper, b.apply("mul", kept, b.constant(2.0**-53)))


def _normal(b: Builder, w0: int, w1: int) -> int:
    unit = b.constant(2.0**-32)
    u = b.apply("mul", b.apply("add", _unsigned(b, w0), b.constant(1.0)), unit)
    v = b.apply("mul", _unsigned(b, w1), unit)
    turn = b.apply("abs", b.apply("sub", v, b.apply("round", v)))
    s = b.apply("sub", b.constant(0.25), turn)
    square = b.apply("mul", s, s)
    series = b.constant(SINE[-1])
    for coefficient in SINE[-2::-1]:
        series = b.apply("add", b.apply("mul", series, square), b.constant(coefficient))
    radius = b.apply("sqrt", b.apply("mul", b.apply("log", u), b.constant(-2.0)))
    return b.apply("mul", radius, b.apply("mul", series, s))


WIDE_NUMBERS: dict[str, Callable[[Builder, int, int], int]] = {"uniform": _uniform, "normal": _normal}
