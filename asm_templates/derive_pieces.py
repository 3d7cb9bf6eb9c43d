"""Derives the functions that are eight polynomials (pieces.py); derive_coefficients writes them to its table.

In each piece the relative or absolute error of the polynomial is made least, as there. Then the polynomial is
moved to the point, near the middle, where its first two coefficients are all but exact in f32.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath as mp  # type: ignore[import-untyped]

from neurojit.asm_templates.pieces import PIECES, Pieces

Real = Any  # mpmath.mpf, which is made at run time
Fit = Callable[[list[Real], list[Real], list[Real], int], list[Real]]
"""(grid, target, weights, degree) -> minimax coefficients."""
CANDIDATES = 4000
BLURRED = 2.0**-20  # of a piece's length: which piece a number at its end belongs to is a matter of rounding


@dataclass(frozen=True)
class Piecewise:
    """target(a) on [0, last] to `degree`, its error counted relative to it, or to 1/2 where `absolute`.

    start, shift: as in Pieces; the scale follows from `end`, where the last of `used` pieces ends; those
    behind are 0. slope: the polynomial of the first piece has no constant term, and this one of order 1."""

    name: str
    target: Callable[[Real], Real]
    degree: int
    start: float
    shift: int
    end: float
    last: float
    used: int = PIECES
    absolute: bool = False
    slope: float | None = None

    def weight(self, a: Real) -> Real:
        return mp.mpf(2) if self.absolute else 1 / self.target(a)

    @property
    def first(self) -> int:
        """The number of the piece that begins at 0."""
        return _bits(self.start) >> self.shift

    @property
    def scale(self) -> float:
        return _f32((self._begin(self.used) - self.start) / self.end)

    def _begin(self, piece: int) -> float:
        """b where a piece begins."""
        return self.start if piece == 0 else _number((self.first + piece) << self.shift)

    def bounds(self, piece: int) -> tuple[float, float]:
        low, high = ((self._begin(p) - self.start) / self.scale for p in (piece, piece + 1))
        blur = BLURRED * (high - low)
        return (max(0.0, low - blur), min(high + blur, self.last))


def derive_pieces(p: Piecewise, fit: Fit) -> tuple[Pieces, float]:
    """The table, and the greatest error that it leaves."""
    points, rows, worst = [0.0] * PIECES, [[0.0] * PIECES for _ in range(p.degree + 1)], 0.0
    for piece in range(p.used):
        at, coefficients = _piece(p, piece, fit)
        worst = max(worst, error_of_piece(p, piece, at, coefficients))
        place = (p.first + piece) % PIECES
        points[place] = at
        for row, c in zip(rows, coefficients, strict=True):
            row[place] = c
    return Pieces(p.start, p.scale, p.shift, p.last, tuple(points), tuple(map(tuple, rows))), worst


def error_of_piece(p: Piecewise, piece: int, at: float, coefficients: list[float], count: int = 201) -> float:
    grid = [a for a in _grid(*p.bounds(piece), count) if a > 0]
    return float(max(abs(_value(coefficients, a - at) - p.target(a)) * p.weight(a) for a in grid))


def _piece(p: Piecewise, piece: int, fit: Fit) -> tuple[float, list[float]]:
    """The point, and the coefficients there."""
    low, high = p.bounds(piece)
    grid = _grid(low, high, 30 * (p.degree + 2))
    if piece == 0 and p.slope is not None:
        rest = [(p.target(a) - p.slope * a) / a**2 for a in grid]
        fitted = fit(grid, rest, [p.weight(a) * a**2 for a in grid], p.degree - 2)
        return 0.0, [0.0, p.slope, *map(_f32, fitted)]
    middle = (low + high) / 2
    offsets = [a - middle for a in grid]
    fitted = fit(offsets, [p.target(a) for a in grid], [p.weight(a) for a in grid], p.degree)
    size, reach = min(abs(p.target(a)) for a in (low, high)), (high - low) / 2
    if p.absolute:
        size = mp.mpf(1) / 2

    def lost(at: float) -> float:
        """To the rounding of the first two coefficients at this point."""
        c, slope = _value(fitted, at - mp.mpf(middle)), _slope(fitted, at - mp.mpf(middle))
        return float((abs(c - _f32(c)) + abs(slope - _f32(slope)) * reach) / size)

    step = max((high - low) / 8 / CANDIDATES, 2.0**-24 * middle)
    at = min((_f32(middle + (i - CANDIDATES // 2) * step) for i in range(CANDIDATES)), key=lost)
    return at, [_f32(c) for c in _moved(fitted, at - mp.mpf(middle))]


def _moved(coefficients: list[Real], by: Real) -> list[Real]:
    """Of p(t + by)."""
    moved = list(coefficients)
    for start in range(len(moved) - 1):
        for i in range(len(moved) - 2, start - 1, -1):
            moved[i] += by * moved[i + 1]
    return moved


def _value(coefficients: list[Real] | list[float], t: Real) -> Real:
    value = mp.mpf(0)
    for c in reversed(coefficients):
        value = value * t + c
    return value


def _slope(coefficients: list[Real], t: Real) -> Real:
    return _value([i * c for i, c in enumerate(coefficients)][1:], t)


def _grid(low: float, high: float, count: int) -> list[Real]:
    middle, half = (mp.mpf(low) + high) / 2, (mp.mpf(high) - low) / 2
    return [middle - half * mp.cos(mp.pi * (i + mp.mpf(1) / 2) / count) for i in range(count)]


def _f32(value: Real) -> float:
    return float(struct.unpack("<f", struct.pack("<f", float(value)))[0])


def _bits(value: float) -> int:
    return int(struct.unpack("<I", struct.pack("<f", value))[0])


def _number(bits: int) -> float:
    return float(struct.unpack("<f", struct.pack("<I", bits))[0])


def _gelu_tail(a: Real) -> Real:
    """1 - the normal distribution's function of a."""
    return mp.erfc(a / mp.sqrt(2)) / 2


def _gelu_tanh_tail(a: Real) -> Real:
    return 1 / (1 + mp.exp(2 * mp.sqrt(2 / mp.pi) * (a + mp.mpf("0.044715") * a**3)))


PIECEWISE = (
    Piecewise("TANH", mp.tanh, 7, 1.5, 22, 9.2, 9.15, slope=1.0),
    Piecewise("GELU", _gelu_tail, 6, 1.25, 20, 5.7, 5.9, used=PIECES - 1, absolute=True),
    Piecewise("GELU_TANH", _gelu_tanh_tail, 6, 1.375, 20, 5.4, 5.6, used=PIECES - 1, absolute=True),
)


def pieces_text(p: Piecewise, fit: Fit) -> str:
    """The entry of the table."""
    pieces, error = derive_pieces(p, fit)
    print(f"{p.name} f32, eight pieces of degree {p.degree}: 2^{math.log2(error):.2f}", flush=True)
    text = f"\n# {p.name.lower()} on [0, {p.last}], eight pieces: error 2^{math.log2(error):.2f}\n"
    text += (
        f"{p.name}_F32 = Pieces(\n    {pieces.start!r}, {pieces.scale!r}, {pieces.shift}, {pieces.last!r},\n"
    )
    text += f"    {_row(pieces.points)},\n    (\n"
    return text + "".join(f"        {_row(row)},\n" for row in pieces.coefficients) + "    ),\n)\n"


def _row(numbers: tuple[float, ...] | Any) -> str:
    return "(" + ", ".join(map(repr, numbers)) + ")"
