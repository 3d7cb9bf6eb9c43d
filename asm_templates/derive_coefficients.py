"""Derives the polynomials of `math` and writes them to coefficients.py: run as a module.

A polynomial here is sum of c[i] * t**i, chosen so that the greatest weighted error over an interval is
least (minimax). The weights say what the error of the polynomial does to the function it serves, so each
error below is the function's own, in relative terms. Method: the exchange algorithm of E. Remez (1934) on
a fixed Chebyshev grid, in mpmath; coefficients are rounded to the element type one after another, from
the lowest order on, and those that are left are fitted again, so that they make up for the rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mpmath as mp  # type: ignore[import-untyped]
import numpy as np

from neurojit.asm_templates.derive_pieces import PIECEWISE, pieces_text

Real = Any  # mpmath.mpf, which is made at run time
TABLE = Path(__file__).with_name("coefficients.py")
DIGITS = 50
NEAR_0 = 0.15
REFITTED = 4  # leading coefficients after whose rounding the rest is fitted again


@dataclass(frozen=True)
class Polynomial:
    """target(t) on [low, high] to `degree`; error(t) is what weight(t) * (polynomial - target) counts."""

    name: str
    dtype: str
    degree: int
    low: float
    high: float
    target: Callable[[Real], Real]
    weight: Callable[[Real], Real]


def exp_rest(r: Real) -> Real:
    """(exp(r) - 1 - r) / r^2."""
    if abs(r) < mp.mpf(10) ** -8:
        return mp.mpf(1) / 2 + r / 6 + r * r / 24 + r**3 / 120
    return (mp.expm1(r) - r) / (r * r)


def exp_weight(r: Real) -> Real:
    """An error in exp_rest, relative to expm1, the stricter of its two users."""
    return abs(r * r / mp.expm1(r)) if r else mp.mpf(0)


def log_rest(f: Real) -> Real:
    """(log(1 + f) - f + f^2 / 2) / f^3."""
    if abs(f) < mp.mpf(10) ** -8:
        return mp.mpf(1) / 3 - f / 4 + f * f / 5 - f**3 / 6
    return (mp.log1p(f) - f + f * f / 2) / f**3


def log_weight(f: Real) -> Real:
    return abs(f**3 / mp.log1p(f)) if f else mp.mpf(0)


def erf_rest(z: Real) -> Real:
    """erf(a) / a - 1, where z = a^2."""
    if z < mp.mpf(10) ** -20:
        return 2 / mp.sqrt(mp.pi) * (1 - z / 3) - 1
    a = mp.sqrt(z)
    return mp.erf(a) / a - 1


def erf_weight(z: Real) -> Real:
    return 1 / (1 + erf_rest(z))


def erfc_exponent(t: Real) -> Real:
    """-log(erfc(1 + t))."""
    return -mp.log(mp.erfc(1 + t))


def erfc_weight(t: Real) -> Real:
    """The error of 1 - exp(-p) relative to erf, to first order in the error of p."""
    return mp.erfc(1 + t) / mp.erf(1 + t)


TURN_F32 = 6.2831854820251465  # 2 pi, rounded to f32


def sin_turns_rest(z: Real) -> Real:
    """sin(2 pi s) / s - TURN_F32, where z = s^2."""
    if z < mp.mpf(10) ** -20:
        return 2 * mp.pi - (2 * mp.pi) ** 3 * z / 6 - TURN_F32
    s = mp.sqrt(z)
    return mp.sin(2 * mp.pi * s) / s - TURN_F32


def sin_turns_weight(z: Real) -> Real:
    return 1 / (sin_turns_rest(z) + TURN_F32)


HALF_LOG_2 = 0.34658  # a little more than ln(2) / 2: the reduction rounds

POLYNOMIALS = (
    Polynomial("EXP", "f32", 5, -HALF_LOG_2, HALF_LOG_2, exp_rest, exp_weight),
    Polynomial("EXP", "f64", 9, -HALF_LOG_2, HALF_LOG_2, exp_rest, exp_weight),
    Polynomial("LOG", "f32", 7, -0.25, 0.5, log_rest, log_weight),
    Polynomial("LOG", "f64", 18, -0.25, 0.5, log_rest, log_weight),
    Polynomial("ERF", "f32", 6, 0.0, 1.0, erf_rest, erf_weight),
    Polynomial("ERF", "f64", 12, 0.0, 1.0, erf_rest, erf_weight),
    Polynomial("ERFC", "f32", 7, 0.0, 2.95, erfc_exponent, erfc_weight),
    Polynomial("ERFC", "f64", 18, 0.0, 4.95, erfc_exponent, erfc_weight),
    Polynomial("SIN_TURNS", "f32", 5, 0.0, 0.0625, sin_turns_rest, sin_turns_weight),
)


def derive(p: Polynomial) -> tuple[tuple[float, ...], float]:
    """The coefficients, exact in p's element type, and the greatest weighted error they leave.

    Of fitting again after 0, 1, 2 ... roundings the best result is kept."""
    with mp.workdps(DIGITS):
        grid = _chebyshev_grid(p, 40 * (p.degree + 2))
        weights = [p.weight(t) for t in grid]
        rest = [p.target(t) for t in grid]
        rounded: list[float] = []
        candidates: list[tuple[float, tuple[float, ...]]] = []
        for order in range(REFITTED):
            # near 0 the rounding of what is fixed already cannot be made up for, nor does it matter
            kept = [i for i, t in enumerate(grid) if order == 0 or abs(t) > NEAR_0 * p.high]
            scaled = [weights[i] * abs(grid[i]) ** order for i in kept]
            fitted = _remez([grid[i] for i in kept], [rest[i] for i in kept], scaled, p.degree - order)
            coefficients = (*rounded, *(_round(c, p.dtype) for c in fitted))
            candidates.append((error_of(p, coefficients, grid), coefficients))
            rounded.append(_round(fitted[0], p.dtype))
            rest = [(r - rounded[-1]) / t for r, t in zip(rest, grid, strict=True)]
        error, best = min(candidates)
        return best, error


def error_of(p: Polynomial, coefficients: tuple[float, ...], grid: list[Real] | None = None) -> float:
    """The greatest weighted error of these coefficients, on the grid of the derivation or another."""
    with mp.workdps(DIGITS):
        points = grid or _chebyshev_grid(p, 101)
        return float(max(abs(_value(coefficients, t) - p.target(t)) * p.weight(t) for t in points))


def _value(coefficients: Sequence[Real | float], t: Real) -> Real:
    value = mp.mpf(0)
    for c in reversed(coefficients):
        value = value * t + c
    return value


def _chebyshev_grid(p: Polynomial, count: int) -> list[Real]:
    middle, half = (mp.mpf(p.low) + p.high) / 2, (mp.mpf(p.high) - p.low) / 2
    return [middle - half * mp.cos(mp.pi * (i + mp.mpf(1) / 2) / count) for i in range(count)]


def _round(c: Real, dtype: str) -> float:
    return float(np.float32(float(c))) if dtype == "f32" else float(c)


def _remez(grid: list[Real], target: list[Real], weights: list[Real], degree: int) -> list[Real]:
    """Minimax coefficients on the grid: the error is levelled on degree + 2 points, which are exchanged for
    its extrema until they stay."""
    unknowns = degree + 2
    chosen = [round((i + 0.5) * len(grid) / unknowns) for i in range(unknowns)]
    for _ in range(40):
        system, values = mp.matrix(unknowns, unknowns), mp.matrix(unknowns, 1)
        for row, at in enumerate(chosen):
            power = mp.mpf(1)
            for column in range(degree + 1):
                system[row, column] = power
                power *= grid[at]
            # the levelled error, in units of a weight that may vanish, hence multiplied through
            system[row, degree + 1] = (-1) ** row / weights[at]
            values[row] = target[at]
        solution = mp.lu_solve(system, values)
        coefficients = [solution[i] for i in range(degree + 1)]
        errors = [w * (_value(coefficients, t) - f) for t, f, w in zip(grid, target, weights, strict=True)]
        extrema = _alternating_extrema(errors, unknowns)
        if extrema == chosen or len(extrema) < unknowns:
            break
        chosen = extrema
    return coefficients


def _alternating_extrema(errors: list[Real], count: int) -> list[int]:
    """The largest error in each run of one sign; of more than `count` the small ends are left out."""
    extrema: list[int] = []
    for i, error in enumerate(errors):
        if extrema and (error > 0) == (errors[extrema[-1]] > 0):
            if abs(error) > abs(errors[extrema[-1]]):
                extrema[-1] = i
        else:
            extrema.append(i)
    while len(extrema) > count:
        extrema.pop(0 if abs(errors[extrema[0]]) < abs(errors[extrema[-1]]) else -1)
    return extrema


HEAD = '''\
"""Minimax polynomials of the vector functions, lowest order first. Written by derive_coefficients.py."""

# fmt: off
# ruff: noqa: E501
from neurojit.asm_templates.pieces import Pieces
'''


def table() -> str:
    """The text of coefficients.py."""
    text = HEAD
    for p in POLYNOMIALS:
        coefficients, error = derive(p)
        text += f"\n# {p.target.__name__} on [{p.low}, {p.high}]: error 2^{float(mp.log(error, 2)):.2f}\n"
        text += f"{p.name}_{p.dtype.upper()} = (\n" + "".join(f"    {c!r},\n" for c in coefficients) + ")\n"
        print(f"{p.name} {p.dtype} degree {p.degree}: 2^{float(mp.log(error, 2)):.2f}", flush=True)
    with mp.workdps(DIGITS):
        return text + "".join(pieces_text(p, _remez) for p in PIECEWISE)


if __name__ == "__main__":
    TABLE.write_text(table())
