"""What each op does to the errors of its operands, and what its own roundings cost: a rule for each.

The rules are those of running error analysis (Higham, Accuracy and Stability of Numerical Algorithms, 2nd
ed., chapter 3): u is the distance from 1 to the next number of the element type, k roundings in any order
cost k u / (1 - k u) of the sum of magnitudes. So a bound holds for every order of additions, fused or not; it
depends on op, extents and element type, and on the numbers at hand (see `bounds`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from neurojit.functions import BOUND, RELATIVE_TO_ARGUMENT
from neurojit.ir.numbers import to_element
from neurojit.ir.product import product
from neurojit.ir.structure import Op
from neurojit.ir.table import OPS
from neurojit.ir.types import ELEMENTS

Array = np.ndarray[Any, Any]


class Bounded(NamedTuple):
    """The exact value in a wide precision, and how far a result may be from it."""

    value: Array
    error: Array


def exact(array: Array) -> Bounded:
    wide = array.astype(wide_dtype(array.dtype)) if array.dtype.kind == "f" else array
    return Bounded(wide, zeros(array.shape))


_ZERO = bytes(8)


def zeros(shape: tuple[int, ...]) -> Array:
    """The errors of exact values: one number, seen as often as there are elements."""
    zeros: Array = np.ndarray(shape, np.float64, _ZERO, 0, (0,) * len(shape))
    return zeros


def is_zero(error: Array) -> bool:
    """Whether errors are those of exact values, as far as that can be seen at once."""
    return not any(error.strides) and error.size > 0 and not error.item(0)


def wide_dtype(dtype: np.dtype[Any]) -> Any:
    return np.longdouble if dtype.itemsize == 8 else np.float64


UNIT = {"f32": 2.0**-23, "f64": 2.0**-52, "bf16": 2.0**-7}
LEAST = {2.0**-23: 2.0**-149, 2.0**-52: 2.0**-1074, 2.0**-7: 2.0**-133}
"""By unit: the least denormal number, which a rounding may cost too."""
GREATEST = {2.0**-23: 2.0**127, 2.0**-52: 2.0**1023, 2.0**-7: 2.0**127}
"""By unit: half the range."""


class Call(NamedTuple):
    """One op at hand. u: the unit of its element type."""

    op: Op
    operands: list[Bounded]
    attributes: dict[str, Any]
    u: float
    sizes: dict[int, Array | None]

    def size(self, number: int) -> Array:
        """The magnitudes of an operand, which for weights are found once."""
        value = self.operands[number].value
        if id(value) not in self.sizes:
            return np.abs(value)
        known = self.sizes[id(value)]
        if known is None:
            known = self.sizes[id(value)] = np.abs(value)
        return known

    @property
    def value(self) -> Array:
        """What the op's row in the table says, in the wide precision."""
        meaning = OPS[self.op.name].meaning
        assert meaning is not None
        value = np.asarray(meaning(*(operand.value for operand in self.operands), **self.attributes))
        element = self.op.result.type.element
        return to_element(value, element) if ELEMENTS[element].kind == "int" else value

    def rounded(self, magnitude: Array, roundings: float = 1.0) -> Array:
        """What so many roundings of numbers of this magnitude cost at most. Where that reaches beyond the
        greatest number, an intermediate result may be infinite, which it then stays."""
        cost: Array = magnitude * (roundings * self.u / (1 - min(0.5, roundings * self.u)))
        cost += roundings * LEAST.get(self.u, 0.0)
        greatest = GREATEST.get(self.u, np.inf)
        if np.maximum.reduce(magnitude, axis=None, initial=0.0) < greatest:  # not if there is a NaN
            return cost
        return np.where(magnitude < greatest, cost, np.inf)


Rule = Callable[[Call], Bounded]


WIDE = 1 + 2.0**-20
"""For what the sums of errors are rounded themselves."""


def _matmul(c: Call) -> Bounded:
    (a, ea), (b, eb) = c.operands
    of_a, of_b = c.size(0), c.size(1)
    if c.attributes["transpose_a"]:
        a, ea, of_a = (np.swapaxes(x, -1, -2) for x in (a, ea, of_a))
    if c.attributes["transpose_b"]:
        b, eb, of_b = (np.swapaxes(x, -1, -2) for x in (b, eb, of_b))
    if a.dtype.kind == "i":
        unsure = product(1.0 * (ea > 0), np.ones_like(eb)) + product(np.ones_like(ea), 1.0 * (eb > 0))
        return Bounded(c.value, np.where(unsure > 0, np.inf, 0.0))
    value = product(a, b)
    greatest_b = of_b if is_zero(eb) else of_b + eb
    size = product(of_a if is_zero(ea) else of_a + ea, greatest_b)
    error = c.rounded(size, a.shape[-1] + 1)
    if not is_zero(ea):
        error = error + product(ea, greatest_b) * WIDE
    if not is_zero(eb):
        error = error + product(of_a, eb) * WIDE
    if np.isfinite(value).all() or (is_zero(ea) and is_zero(eb)):
        return Bounded(value, error)
    unknown = product(1.0 * np.isinf(a), 1.0 * _may_vanish(b, eb)) + product(
        1.0 * _may_vanish(a, ea), 1.0 * np.isinf(b)
    )
    return unless(unknown > 0, value, error)


def _may_vanish(x: Array, error: Array) -> Array:
    """Where an infinity times this may be NaN, though the exact one is not; or the sum of both."""
    vanishes: Array = (error > 0) & (np.abs(x) <= error)
    return vanishes


def _add(c: Call) -> Bounded:
    (x, ex), (y, ey) = c.operands
    # twice, since additions that follow each other may be made in another order
    error = ex + ey + 2 * c.rounded(np.abs(x) + ex + np.abs(y) + ey)
    unknown = (np.isinf(x) & np.isinf(ey)) | (np.isinf(y) & np.isinf(ex))  # then it may be NaN
    return unless(unknown, c.value, error)


def _mul(c: Call) -> Bounded:
    (x, ex), (y, ey) = c.operands
    value = c.value
    if c.op.name == "outer":
        x, ex = x[..., :, np.newaxis], ex[..., :, np.newaxis]
        y, ey = y[..., np.newaxis, :], ey[..., np.newaxis, :]
    error = np.abs(x) * ey + np.abs(y) * ex + ex * ey + c.rounded(np.abs(value))
    unknown = (np.isinf(x) & _may_vanish(y, ey)) | (np.isinf(y) & _may_vanish(x, ex))
    return unless(unknown, value, error)


def unless(unknown: Array, value: Array, error: Array) -> Bounded:
    """Where nothing is known, any number with an infinite error."""
    if not unknown.any():
        return Bounded(value, error)
    return Bounded(np.where(unknown, 0, value), np.where(unknown, np.inf, error))


def _div(c: Call) -> Bounded:
    (_, ex), (y, ey) = c.operands
    value = c.value
    least = np.abs(y) - ey
    spread = np.where(least > 0, (ex + np.abs(value) * ey) / least, np.where(ey > 0, np.inf, 0.0))
    return Bounded(value, spread + c.rounded(np.abs(value), 2))


def _same(c: Call) -> Bounded:
    """Exact, and errors stay as they are."""
    return Bounded(c.value, c.operands[0].error)


def _extreme(c: Call) -> Bounded:
    (_, ex), (_, ey) = c.operands
    return Bounded(c.value, np.maximum(ex, ey))


def _function(c: Call) -> Bounded:
    """A function of one element: over the interval its argument lies in, and its own bound."""
    ((x, ex),) = c.operands
    meaning = OPS[c.op.name].meaning
    assert meaning is not None
    if c.op.name in LIPSCHITZ or is_zero(ex):
        value = c.value
        magnitude = np.abs(value)
        spread = LIPSCHITZ.get(c.op.name, 1.0) * ex
    else:  # monotone
        value, above, below = meaning(np.array((x, x + ex, x - ex)), **c.attributes)
        spread = np.maximum(np.abs(above - value), np.abs(below - value))
        spread = np.where(np.isinf(ex), np.inf, spread)  # which may be NaN, wherever the function is flat
        magnitude = np.maximum(np.abs(above), np.abs(below))
    if c.op.name in RELATIVE_TO_ARGUMENT:
        magnitude = np.maximum(magnitude, np.abs(x) / 2)
    own = c.rounded(magnitude, BOUND.get(c.op.name, 1.0) + 3)
    if c.op.name == "silu":
        own = own + c.rounded(0 * magnitude, 1 << 10)
    if c.op.name in FROM_ZERO_UP and not is_zero(ex):
        return unless((ex > 0) & (np.abs(x) <= ex), value, spread + own)  # a number, infinite or NaN
    return Bounded(value, spread + own)


FROM_ZERO_UP = ("sqrt", "rsqrt", "log")
"""Functions that are NaN below 0."""


LIPSCHITZ = {"silu": 1.1, "gelu": 1.13, "gelu_tanh": 1.13}
"""Of functions that are not monotone, the greatest slope."""


def _compare(c: Call) -> Bounded:
    (x, ex), (y, ey) = c.operands
    unsure = (_distance(x, y) <= ex + ey) & (ex + ey > 0)
    return Bounded(c.value, np.where(unsure, np.inf, 0.0))


def _distance(x: Array, y: Array) -> Array:
    """Between numbers, or truth."""
    far: Array = x != y if x.dtype.kind == "b" else np.abs(x - y)
    return far


def _logic(c: Call) -> Bounded:
    value = c.value
    return Bounded(value, np.broadcast_to(sum(operand.error for operand in c.operands), value.shape))


def _select(c: Call) -> Bounded:
    (_, unsure), (x, ex), (y, ey) = c.operands
    value = c.value
    chosen = np.where(c.operands[0].value, ex, ey)
    either = _distance(x, y) + np.maximum(ex, ey)
    return Bounded(value, np.where(unsure > 0, either, chosen))


def _sum(c: Call) -> Bounded:
    ((x, ex),) = c.operands
    axes, keep = c.attributes["axes"], c.attributes["keepdims"]
    size = np.sum(np.abs(x) + ex, axis=axes, keepdims=keep)
    count = math.prod(x.shape[axis] for axis in axes)
    error = np.sum(ex, axis=axes, keepdims=keep) + c.rounded(size, count + 1)
    return Bounded(c.value, error / count if c.op.name == "mean" and count else error)


def _greatest(c: Call) -> Bounded:
    ((_, ex),) = c.operands
    value = c.value
    error = np.max(ex, axis=c.attributes["axes"], keepdims=c.attributes["keepdims"], initial=0.0)
    return Bounded(value, error)


def _argmax(c: Call) -> Bounded:
    ((x, ex),) = c.operands
    axis = c.attributes["axis"]
    value = c.value
    if not x.size:
        return Bounded(value, zeros(value.shape))
    at = value if c.attributes["keepdims"] else np.expand_dims(value, axis)
    best, best_error = np.take_along_axis(x, at, axis), np.take_along_axis(ex, at, axis)
    near = np.sum(x + ex >= best - best_error, axis=axis, keepdims=True) > 1
    unsure = (near & (ex > 0).any(axis, keepdims=True)) | np.isinf(ex).any(axis, keepdims=True)
    return Bounded(value, np.where(unsure, np.inf, 0.0).reshape(value.shape))


def _softmax(c: Call) -> Bounded:
    """Each exponential lies in an interval, and each quotient between the least and the most it can then be.

    Exponents are differences from the greatest number, each rounded; an error of that number itself divides
    out. Where a mask has put -1e30 in the place of a number, all of its interval is 0."""
    ((x, ex),) = c.operands
    axis = c.attributes["axis"]
    value = c.value
    if not x.size:
        return Bounded(value, zeros(value.shape))
    exponent = x - np.max(x, axis=axis, keepdims=True)
    size = np.where(np.isfinite(exponent), np.abs(exponent), 0)
    beside = ex + 2 * c.u * (size + ex + np.max(np.where(value > 0, ex, 0), axis=axis, keepdims=True))
    low, high = np.exp(exponent - beside), np.exp(exponent + beside)
    lows, highs = (np.sum(ends, axis=axis, keepdims=True) for ends in (low, high))
    least, most = low / (low + (highs - high)), high / (high + (lows - low))
    error = np.maximum(most - value, value - least) * WIDE
    error = np.where(np.isinf(ex).any(axis=axis, keepdims=True), np.inf, error)
    return Bounded(value, error + c.rounded(most, x.shape[axis] + 8))


def _logsumexp(c: Call) -> Bounded:
    ((x, ex),) = c.operands
    axis, keep = c.attributes["axis"], c.attributes["keepdims"]
    value = c.value
    error = np.max(ex, axis=axis, keepdims=keep, initial=0.0)
    top = np.max(np.where(np.isfinite(x), np.abs(x), 0), axis=axis, keepdims=keep, initial=0.0)
    return Bounded(value, error + c.rounded(1 + top + np.abs(value), x.shape[axis] + 8))


def _norm(c: Call) -> Bounded:
    """layer_norm and rms_norm: the centred numbers, then their root mean square, then the quotient."""
    (x, ex), (w, ew), *rest = c.operands
    n = x.shape[-1]
    centred, error = x, ex
    if c.op.name == "layer_norm":
        centred = x - np.mean(x, axis=-1, keepdims=True)
        mean_error = np.mean(ex, axis=-1, keepdims=True) + c.rounded(
            np.mean(np.abs(x), axis=-1, keepdims=True), n + 2
        )
        error = ex + mean_error + c.rounded(np.abs(x) + np.abs(centred))
    square = np.mean(centred * centred, axis=-1, keepdims=True) + c.attributes["epsilon"]
    square_error = np.mean((2 * np.abs(centred) + error) * error, axis=-1, keepdims=True) + c.rounded(
        square, n + 4
    )
    relative = square_error / np.maximum(square - square_error, LEAST.get(c.u, 0.0))
    root = np.sqrt(square)
    quotient = np.abs(centred) / root
    quotient_error = error / root * (1 + relative) + quotient * relative + c.rounded(quotient, 4)
    value = c.value
    scaled = quotient_error * (np.abs(w) + ew) + quotient * ew + c.rounded(quotient * np.abs(w), 2)
    for bias, eb in rest:
        scaled = scaled + eb + 2 * c.rounded(np.abs(value) + np.abs(bias))
    return Bounded(value, scaled)


def _cumsum(c: Call) -> Bounded:
    ((x, ex),) = c.operands
    axis = c.attributes["axis"]
    size = np.cumsum(np.abs(x) + ex, axis=axis)
    return Bounded(c.value, np.cumsum(ex, axis=axis) + c.rounded(size, x.shape[axis] + 1))


def _move(c: Call) -> Bounded:
    """Values go elsewhere, and their errors with them."""
    meaning = OPS[c.op.name].meaning
    assert meaning is not None
    attributes = dict(c.attributes)
    if c.op.name == "pad":
        attributes["value"] = 0.0
    data = 1 if c.op.name == "gather" else len(c.operands)
    errors = [operand.error for operand in c.operands[:data]]
    indices = [operand.value for operand in c.operands[data:]]
    if any(operand.error.any() for operand in c.operands[data:]):  # then any row may be meant
        return Bounded(c.value, np.full(c.value.shape, np.inf))
    return Bounded(c.value, np.asarray(meaning(*errors, *indices, **attributes)))


def _convert(c: Call) -> Bounded:
    ((x, ex),) = c.operands
    target = c.op.result.type.element
    if target in UNIT:
        wide = x.astype(np.longdouble if target == "f64" else np.float64)
        return Bounded(wide, ex + np.abs(wide) * UNIT[target] + LEAST[UNIT[target]])
    value = to_element(x, target)
    nearest = np.abs(x - np.rint(x)) if x.dtype.kind == "f" else 0.0
    return Bounded(value, np.where((ex > 0) & (nearest <= ex), np.inf, 0.0))


def _random(c: Call) -> Bounded:
    """Uniform numbers are exact."""
    value = np.asarray(c.value, wide_dtype(np.dtype(ELEMENTS[c.op.result.type.element].dtype)))
    if any(operand.error.any() for operand in c.operands):
        return Bounded(value, np.full(value.shape, np.inf))
    if c.op.name == "random_uniform":
        return Bounded(value, zeros(value.shape))
    unit = UNIT[c.op.result.type.element]
    return Bounded(value, NORMAL_ROUNDINGS * unit * np.maximum(np.abs(value), LEAST_NORMAL))


NORMAL_ROUNDINGS, LEAST_NORMAL = 6.0, 2.0**-60
"""A normal number: logarithm, root, cosine and products; and where the cosine is nearly 0."""


RULES: dict[str, Rule] = {
    "matmul": _matmul, "outer": _mul, "add": _add, "sub": _add, "mul": _mul, "div": _div,
    "maximum": _extreme, "minimum": _extreme, "neg": _same, "abs": _same, "compare": _compare,
    "and": _logic, "or": _logic, "not": _logic, "select": _select, "convert": _convert,
    **dict.fromkeys(
        ("sqrt", "rsqrt", "exp", "log", "tanh", "sigmoid", "erf", "silu", "gelu", "gelu_tanh", "elu", "relu",
         "leaky_relu", "clamp"),
        _function,
    ),
    "sum": _sum, "mean": _sum, "max": _greatest, "min": _greatest, "argmax": _argmax, "softmax": _softmax,
    "logsumexp": _logsumexp, "layer_norm": _norm, "rms_norm": _norm, "cumsum": _cumsum,
    **dict.fromkeys(("reshape", "transpose", "broadcast", "slice", "concat", "pad", "gather"), _move),
    "random_uniform": _random, "random_normal": _random,
}  # fmt: skip
"""Op -> its rule."""
