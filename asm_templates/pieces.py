"""A function as eight polynomials, each for a part of the range: what `look_up` makes of a vector.

Coefficients are looked up lane by lane, one instruction each where the ISA permutes lanes by other lanes.
That costs little more than reading a constant, and polynomials for an eighth of the range are short. The
piece is read off the bit pattern of b = start + scale a: its exponent and the first bits of its fraction,
so that pieces grow with a, from about equal to doubling, as start and shift say. A polynomial's variable is
a - point, exact because the point lies in the piece; the point is a number whose value there nearly is one
of the element type (S. Gal, 1986), so that the constant term costs no accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

PIECES = 8


class Pieces(NamedTuple):
    """last: arguments are clamped to it. points and each row of coefficients, lowest order first: one number
    for each piece, in the place that the three bits of b's pattern above the `shift` lowest say."""

    start: float
    scale: float
    shift: int
    last: float
    points: Sequence[float]
    coefficients: Sequence[Sequence[float]]
