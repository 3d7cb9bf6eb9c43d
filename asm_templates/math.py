"""math: exp, log, tanh, sigmoid, erf and the activations of neural networks, on one vector in place.

Every function leaves its value in `x`, whose register may have become another. Polynomials are minimax
fits of our own (derive_coefficients.py), evaluated by Horner's rule with fused multiply-adds, some of them
looked up lane by lane (pieces.py); there are no branches and no calls. Constants are operands from memory, so
what a function needs is `x` and a few temporaries, stated in each head ("3 temps": the most over AVX2 and
AVX-512; where f64 has a method of its own, its number too). Errors are the largest that tests measured, in
units in the last place (ULP), for f32 over all 2^32 inputs, for f64 over samples of every exponent. All ISAs
give the same bits.

For all: NaN gives NaN; denormal inputs and results are exact to the stated error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from neurojit.asm_templates import coefficients as table
from neurojit.asm_templates.machine import Machine, Vector
from neurojit.asm_templates.pieces import Pieces


@dataclass(frozen=True)
class Constants:
    """What depends on the element type. Logarithm of 2: high + low, the high part with so few bits that its
    product with an exponent is exact."""

    log2_high: float
    log2_low: float
    exp_low: float  # exp rounds to 0 at this and below
    exp_high: float  # exp overflows at this and above
    expm1_low: float  # expm1 and tanh of a half round to -1 at this and below
    erf_high: float  # erf rounds to 1 at this and above
    exp: Sequence[float]
    log: Sequence[float]
    erf: Sequence[float]
    erfc: Sequence[float]
    sigmoid_high: float  # sigmoid rounds to 1 at this and above
    sigmoid_unit: int  # 2 to this times e^-x is a normal number wherever sigmoid is neither 0 nor 1
    to_power: float  # added to an integer n, it leaves the exponent field of 2^n in the lowest bits


# 0x1.62ep-1 and 0x1.62e42fefap-1: ln 2 cut to 12 and 33 bits; then what is left of it
F32 = Constants(
    float.fromhex("0x1.62ep-1"),
    float.fromhex("0x1.0bfbe8p-15"),
    -104.0, 89.0, -20.0, 3.95,
    table.EXP_F32, table.LOG_F32, table.ERF_F32, table.ERFC_F32,
    20.0, -32, 1.5 * 2.0**23 + 127,
)  # fmt: skip
F64 = Constants(
    float.fromhex("0x1.62e42fefap-1"),
    float.fromhex("0x1.cf79abc9e3b39p-40"),
    -746.0, 710.0, -40.0, 5.95,
    table.EXP_F64, table.LOG_F64, table.ERF_F64, table.ERFC_F64,
    40.0, -64, 1.5 * 2.0**52 + 1023,
)  # fmt: skip
LOG2_E = 1 / math.log(2)


def constants(m: Machine) -> Constants:
    return F32 if m.element.size == 4 else F64


def exp(m: Machine, x: Vector) -> None:
    """e^x. 3 temps. 0.87 ULP, f64 0.93. inf beyond 88.73 (f64: 709.79), 0 below -103.98 (-745.14).

    n = rint(x / ln 2), r = x - n ln 2 in two steps, |r| <= 0.3466; 1 + r + r^2 p(r) of degree 7 (f64: 11)
    times 2^n."""
    c = constants(m)
    m.max(c.exp_low, x, into=x)
    m.min(c.exp_high, x, into=x)
    n = _reduce(m, c, x)
    p = _exp_reduced(m, c, x)
    _become(m, x, p)
    m.scale(x, n)


def _become(m: Machine, x: Vector, y: Vector) -> None:
    """x takes y's value, and its register with it: no instruction. y is gone."""
    x.register, y.register = y.register, x.register
    m.drop(y)


def _reduce(m: Machine, c: Constants, x: Vector) -> Vector:
    """x becomes r = x - n ln 2; the result is n, an integer. (Cody and Waite, 1980.)"""
    n = m.mul(x, LOG2_E)
    m.round(n, into=n)
    m.sub_product(x, n, c.log2_high)
    m.sub_product(x, n, c.log2_low)
    return n


def _exp_reduced(m: Machine, c: Constants, r: Vector) -> Vector:
    """e^r for |r| <= 0.3466, fresh."""
    p = _polynomial(m, r, c.exp)
    m.mul_add(p, r, 1.0)
    m.mul_add(p, r, 1.0)
    return p


def _polynomial(m: Machine, t: Vector, coefficients: Sequence[float]) -> Vector:
    """sum of coefficients[i] t^i, fresh."""
    p = m.spread(t.lanes, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        m.mul_add(p, t, coefficient)
    return p


def _exp_negative(m: Machine, c: Constants, x: Vector) -> None:
    """e^x for x <= 0."""
    m.max(c.exp_low, x, into=x)
    n = _reduce(m, c, x)
    p = _exp_reduced(m, c, x)
    _become(m, x, p)
    m.scale(x, n)


def _expm1_terms(m: Machine, c: Constants, x: Vector) -> tuple[Vector, Vector]:
    """For x <= 0: x becomes r, and with the result (w, power) e^x = power (1 + r + w r), n and r as in exp.

    So e^x - 1 = power (r + w r) + (power - 1), whose last term is exact while it matters."""
    m.max(c.expm1_low, x, into=x)
    n = _reduce(m, c, x)
    w = _polynomial(m, x, c.exp)
    m.mul(w, x, into=w)
    m.pow2(n, into=n)
    return w, n


def log(m: Machine, x: Vector) -> None:
    """The natural logarithm. 5 temps. 0.96 ULP, f64 0.95.

    log(0) = -inf, of negative numbers NaN, log(inf) = inf.

    x = m 2^k with m in [0.75, 1.5), so k = 0 around 1; f = m - 1 is exact;
    k ln 2 + f - f^2 / 2 + f^3 p(f), of degree 10 (f64: 21)."""
    c = constants(m)
    argument = m.duplicate(x)
    k = m.split(x)
    f = m.sub(x, 1.0, into=x)
    p = _polynomial(m, f, c.log)
    m.mul_add(p, f, -0.5)
    square = m.mul(f, f)
    m.mul(p, square, into=p)
    m.drop(square)
    m.add_product(p, k, c.log2_low)
    m.add(f, p, into=f)
    m.add_product(f, k, c.log2_high)
    m.drop(p, k)

    infinite = m.compare(argument, "==", math.inf)
    m.select(infinite, argument, x, into=x)
    m.drop_mask(infinite)
    positive = m.compare(argument, ">", 0.0)
    zero = m.compare(argument, "==", 0.0)
    invalid = m.spread(x.lanes, math.nan)
    minus_infinity = m.spread(x.lanes, -math.inf)
    m.select(zero, minus_infinity, invalid, into=argument)
    m.drop_mask(zero)
    m.drop(minus_infinity, invalid)
    m.select(positive, x, argument, into=x)
    m.drop_mask(positive)
    m.drop(argument)


def _by_pieces(m: Machine, pieces: Pieces, a: Vector) -> Vector:
    """The function of 0 <= a <= pieces.last, fresh. a is gone. 3 temps."""
    choice = m.spread(a.lanes, pieces.start)
    m.add_product(choice, a, pieces.scale)
    choice = m.choice(choice, pieces.shift)
    point = m.look_up(choice, pieces.points)
    t = m.sub(a, point, into=a)
    m.drop(point)
    p = m.look_up(choice, pieces.coefficients[-1])
    for row in pieces.coefficients[-2::-1]:
        c = m.look_up(choice, row)
        m.mul_add(p, t, c)
        m.drop(c)
    m.drop(choice, t)
    return p


def tanh(m: Machine, x: Vector) -> None:
    """The hyperbolic tangent. 4 temps, f64 6. 1.00 ULP, f64 1.1. Odd; tanh(-0) = -0.

    1 from 9.02 (f64: 19.07) on. f32: eight polynomials of degree 7."""
    if m.element.size == 8:
        _tanh_by_exp(m, x)
        return
    a = m.abs(x)
    m.min(table.TANH_F32.last, a, into=a)
    y = _by_pieces(m, table.TANH_F32, a)
    m.copysign(y, x)
    _become(m, x, y)


def _tanh_by_exp(m: Machine, x: Vector) -> None:
    """e = expm1(-2 |x|), tanh |x| = -e / (2 + e). The quotient q is corrected once by its remainder, which
    fused multiply-adds give exactly, and by what e and 2 + e have lost to rounding; there
    1 / (2 + e) = (1 - q) / 2 needs no second division."""
    c = constants(m)
    r = m.negated_abs(x)
    m.add(r, r, into=r)
    w, power = _expm1_terms(m, c, r)
    scaled = m.mul(r, power, into=r)
    minus_1 = m.sub(power, 1.0)
    e = m.duplicate(w)
    m.mul_add(e, scaled, scaled)
    m.add(minus_1, e, into=e)
    low = m.sub(minus_1, e)  # of e, what rounding has cost: its terms, from the largest on, less e
    m.add(low, scaled, into=low)
    m.add_product(low, w, scaled)
    m.drop(scaled)
    m.add(minus_1, 1.0, into=minus_1)
    m.sub(power, minus_1, into=minus_1)  # a tiny power vanishes before the 1
    m.add(low, minus_1, into=low)
    m.drop(minus_1)
    d = m.add(e, 2.0, into=w)
    sum_low = m.sub(d, 2.0, into=power)
    m.sub(e, sum_low, into=sum_low)
    m.add(sum_low, low, into=sum_low)
    q = m.div(e, d)
    m.sub_product(e, q, d)
    m.add(e, low, into=e)
    m.sub_product(e, q, sum_low)
    m.drop(low, sum_low)
    m.sub(1.0, q, into=d)
    m.mul(d, 0.5, into=d)
    m.add_product(q, e, d)
    m.drop(e, d)
    m.copysign(q, x)
    _become(m, x, q)


def sigmoid(m: Machine, x: Vector) -> None:
    """1 / (1 + e^-x). 2 temps. 2.00 ULP, f64 2.0.

    Accurate relative to the result for all x: e^x below about -17. With -x = n ln 2 + r as in exp, the sum is
    (u + u 2^n (e^r - 1)) + u 2^n, rounded twice; the unit u, a power of two, lets e^-x be as large as one
    over a denormal number. In place of r there is -r, so the polynomial's odd coefficients change sign."""
    c = constants(m)
    m.max(c.exp_low, x, into=x)
    m.min(c.sigmoid_high, x, into=x)
    to_power = c.to_power + c.sigmoid_unit
    n = m.spread(x.lanes, to_power)
    m.sub_product(n, x, LOG2_E)
    power = m.power_of(n)
    m.sub(n, to_power, into=n)
    m.add_product(x, n, c.log2_high)
    m.add_product(x, n, c.log2_low)
    m.drop(n)
    w = _polynomial(m, x, [(-1) ** order * value for order, value in enumerate(c.exp)])
    m.mul(w, x, into=w)
    m.negated_mul_add(w, x, x)  # -(e^r - 1)
    unit = 2.0**c.sigmoid_unit
    m.negated_mul_add(w, power, unit)
    m.add(w, power, into=w)
    m.drop(power)
    m.div(unit, w, into=x)
    m.drop(w)


def erf(m: Machine, x: Vector) -> None:
    """The error function. 5 temps. 1.00 ULP, f64 1.0. Odd; erf(-0) = -0; 1 from 3.92 (f64: 5.92) on.

    Below 1: a + a p(a^2), a = |x|, of degree 13 (f64: 25). Above: 1 - exp(-g(a - 1)) with a polynomial
    g = -log(erfc), of degree 7 (f64: 18). Both are computed, and one selected."""
    c = constants(m)
    a = m.abs(x)
    m.min(c.erf_high, a, into=a)
    y = _erfc_large(m, c, a)
    m.sub(1.0, y, into=y)
    small = _erf_small(m, c, a)
    below_1 = m.compare(a, "<", 1.0)
    m.select(below_1, small, y, into=y)
    m.drop_mask(below_1)
    m.drop(small)
    m.copysign(y, x)
    _become(m, x, y)
    m.drop(a)


def _erf_small(m: Machine, c: Constants, a: Vector) -> Vector:
    """erf(a) for 0 <= a < 1, fresh."""
    square = m.mul(a, a)
    p = _polynomial(m, square, c.erf)
    m.drop(square)
    m.mul_add(p, a, a)
    return p


def _erfc_large(m: Machine, c: Constants, a: Vector) -> Vector:
    """1 - erf(a) for a >= 1, fresh; below, anything. Errors count relative to erf."""
    t = m.sub(a, 1.0)
    g = _polynomial(m, t, c.erfc)
    m.negate(g, into=g)
    m.drop(t)
    n = _reduce(m, c, g)
    p = _exp_reduced(m, c, g)
    m.pow2(n, into=n)
    m.mul(p, n, into=p)
    m.drop(g, n)
    return p


def cos_turns(m: Machine, x: Vector) -> None:
    """cos(2 pi x) for |x| < 2^22 turns; f32 only. 2 temps. 2.01 ULP, also where it is near 0.

    t = x less the nearest integer, and s = 1/4 - |t| are exact; sin(2 pi s) = 2 pi s + s p(s^2), of degree
    11, where p makes up for the rounding of 2 pi."""
    whole = m.round(x)
    m.sub(x, whole, into=x)
    m.drop(whole)
    m.abs(x, into=x)
    m.sub(0.25, x, into=x)
    square = m.mul(x, x)
    p = _polynomial(m, square, table.SIN_TURNS_F32)
    m.drop(square)
    m.mul(p, x, into=p)
    turn = m.spread(x.lanes, 2 * math.pi)
    m.mul_add(x, turn, p)
    m.drop(turn, p)


# Activations --------------------------------------------------------------------------------------


def identity(m: Machine, x: Vector) -> None:
    """x."""


def relu(m: Machine, x: Vector) -> None:
    """0 where x < 0, else x; so -0 and NaN stay. 1 temp. Exact."""
    zero = m.zero(x.lanes)
    m.max(zero, x, into=x)
    m.drop(zero)


def leaky_relu(m: Machine, x: Vector, alpha: float) -> None:
    """alpha x where x < 0, else x. alpha is not 0. 1 temp. Rounded once."""
    scaled = m.mul(x, alpha)
    choose = m.max if alpha <= 1 else m.min
    choose(scaled, x, into=x)
    m.drop(scaled)


def clamp(m: Machine, x: Vector, low: float, high: float) -> None:
    """low where x < low, high where x > high, else x. 1 temp. Exact."""
    m.max(low, x, into=x)
    m.min(high, x, into=x)


def elu(m: Machine, x: Vector, alpha: float) -> None:
    """x where x >= 0, else alpha (e^x - 1). 4 temps. 1.46 ULP for alpha = 0.75, f64 1.8."""
    y = m.spread(x.lanes, 0.0)
    m.min(y, x, into=y)
    w, power = _expm1_terms(m, constants(m), y)
    m.mul_add(w, y, y)
    m.sub(power, 1.0, into=y)
    m.add_product(y, w, power)
    m.drop(w, power)
    m.mul(y, alpha, into=y)
    unchanged = m.compare(x, ">=", 0.0)
    m.select(unchanged, x, y, into=x)
    m.drop_mask(unchanged)
    m.drop(y)


def silu(m: Machine, x: Vector) -> None:
    """x sigmoid(x). 3 temps. 2.43 ULP, f64 2.4, down to where its sigmoid is denormal. silu(-inf) = -0."""
    m.max(constants(m).exp_low, x, into=x)  # where sigmoid is 0 anyway: else -inf * 0
    s = m.duplicate(x)
    sigmoid(m, s)
    m.mul(x, s, into=x)
    m.drop(s)


def gelu(m: Machine, x: Vector) -> None:
    """x (1 + erf(x / sqrt 2)) / 2. 5 temps, f64 6. 1.55 ULP, f64 1.6, for x > 0; below 0 so many units in the
    last place of x / 2. gelu(-inf) = -0.

    f32: eight polynomials of degree 6 for what is missing, h = erfc(|x| / sqrt 2) / 2: max(0, x) - |x| h, so
    that nothing cancels for x < 0."""
    if m.element.size == 8:
        _gelu_by_erfc(m, x)
    else:
        _rectified(m, table.GELU_F32, x)


def _rectified(m: Machine, tail: Pieces, x: Vector) -> None:
    """max(0, x) - |x| tail(|x|), where the last of the pieces is 0. -0 for -inf and -0."""
    w = m.abs(x)
    m.min(tail.last, w, into=w)
    h = _by_pieces(m, tail, m.duplicate(w))
    m.max(-0.0, x, into=x)
    m.sub_product(x, w, h)
    m.drop(w, h)


def _gelu_by_erfc(m: Machine, x: Vector) -> None:
    """With a = |x| / sqrt 2 and h = erfc(a) / 2, as in gelu. Where erf rounds to 1 h is 0."""
    c = constants(m)
    w = m.abs(x)
    m.min(2 * c.erf_high, w, into=w)
    a = m.mul(w, math.sqrt(0.5))
    m.min(c.erf_high, a, into=a)
    h = _erfc_large(m, c, a)
    small = _erf_small(m, c, a)
    m.sub(1.0, small, into=small)
    below_1 = m.compare(a, "<", 1.0)
    m.select(below_1, small, h, into=h)
    m.drop_mask(below_1)
    m.drop(small)
    tail = m.zero(x.lanes)
    inside = m.compare(a, "<", c.erf_high)
    m.select(inside, h, tail, into=h)
    m.drop_mask(inside)
    m.drop(a)
    m.mul(h, 0.5, into=h)
    m.max(tail, x, into=x)
    m.drop(tail)
    m.sub_product(x, w, h)
    m.drop(w, h)


def gelu_tanh(m: Machine, x: Vector) -> None:
    """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 = x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)).

    5 temps, f64 3. 1.40 ULP, f64 2.3, for x > 0; below 0 so many units in the last place of x / 2.
    gelu_tanh(-inf) = -0. f32: as gelu."""
    if m.element.size == 8:
        _gelu_tanh_by_sigmoid(m, x)
    else:
        _rectified(m, table.GELU_TANH_F32, x)


def _gelu_tanh_by_sigmoid(m: Machine, x: Vector) -> None:
    m.max(-64.0, x, into=x)  # where sigmoid is 0 anyway: else -inf * 0
    scale = 2 * math.sqrt(2 / math.pi)
    s = m.mul(x, x)
    m.mul(s, 0.044715 * scale, into=s)
    m.add(s, scale, into=s)
    m.mul(s, x, into=s)
    sigmoid(m, s)
    m.mul(x, s, into=x)
    m.drop(s)


FUNCTIONS: dict[str, Callable[..., None]] = {
    function.__name__: function
    for function in (
        exp, log, tanh, sigmoid, erf,
        identity, relu, leaky_relu, clamp, elu, silu, gelu, gelu_tanh,
    )
}  # fmt: skip
"""name -> f(machine, x, *parameters)."""
