"""What NumPy's ufuncs become on traced arrays: one row each.

A row takes the trace, the ufunc and its operands. Operands are converted to the dtype that NumPy promotes
them to, which the ufunc itself is asked for. On booleans, NumPy's sums, products and extremes are logical.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from neurojit.frontends.trace import Table, Trace, Tracer, located, shaped

Build = Callable[..., Tracer]

MOST_POWER = 8
"""Integer exponents that become multiplications."""


def _elementwise(op: str, of_booleans: str = "") -> Build:
    def build(trace: Trace, ufunc: np.ufunc, *operands: Any) -> Tracer:
        dtype = trace.promoted(ufunc, *operands)
        name = of_booleans if dtype.kind == "b" and of_booleans else op
        return trace.op(name, *(trace.value(operand, dtype) for operand in operands))

    return build


def _comparison(predicate: str) -> Build:
    def build(trace: Trace, ufunc: np.ufunc, x: Any, y: Any) -> Tracer:
        dtype = trace.promoted(np.maximum, x, y)
        return trace.op("compare", trace.value(x, dtype), trace.value(y, dtype), predicate=predicate)

    return build


def _logical(op: str) -> Build:
    def build(trace: Trace, ufunc: np.ufunc, *operands: Any) -> Tracer:
        trace.promoted(ufunc, *operands)
        return trace.op(op, *(trace.value(operand, bool) for operand in operands))

    return build


def _bitwise(op: str) -> Build:
    def build(trace: Trace, ufunc: np.ufunc, *operands: Any) -> Tracer:
        dtype = trace.promoted(ufunc, *operands)
        if dtype.kind != "b":
            raise located(f"{ufunc.__name__}: {dtype}: expected bool; TensorLang has no operations on bits")
        return trace.op(op, *(trace.value(operand, bool) for operand in operands))

    return build


def _same(trace: Trace, ufunc: np.ufunc, x: Any) -> Tracer:
    trace.promoted(ufunc, x)
    return trace.tracer(x)


def _absolute(trace: Trace, ufunc: np.ufunc, x: Tracer) -> Tracer:
    return x if x.dtype.kind == "b" else trace.op("abs", trace.value(x, trace.promoted(ufunc, x)))


def _square(trace: Trace, ufunc: np.ufunc, x: Any) -> Tracer:
    return _elementwise("mul", "and")(trace, np.multiply, x, x)


def _reciprocal(trace: Trace, ufunc: np.ufunc, x: Tracer) -> Tracer:
    dtype = trace.promoted(ufunc, x)
    return trace.op("div", trace.value(1, dtype), trace.value(x, dtype))


def _isnan(trace: Trace, ufunc: np.ufunc, x: Tracer) -> Tracer:
    return trace.op("compare", x._value, x._value, predicate="ne")


def _power(trace: Trace, ufunc: np.ufunc, x: Any, exponent: Any) -> Tracer:
    """Small integer exponents as multiplications, 0.5 as a square root, -1 as a division."""
    if isinstance(exponent, Tracer) or np.ndim(exponent):
        raise located(f"numpy.power: exponent {exponent!r}: expected a number; write exp(y * log(x))")
    dtype = trace.promoted(ufunc, x, exponent)
    value = trace.value(x, dtype)
    if exponent == 0.5 and dtype.kind == "f":
        return trace.op("sqrt", value)
    if exponent == -1 and dtype.kind == "f":
        return trace.op("div", trace.value(1, dtype), value)
    if exponent not in range(1, MOST_POWER + 1):
        raise located(
            f"numpy.power: exponent {exponent!r}: expected 1 to {MOST_POWER}, 0.5 or -1; "
            "write exp(exponent * log(x))"
        )
    power = value
    for digit in format(int(exponent), "b")[1:]:
        power = trace.builder.mul(power, power)
        power = trace.builder.mul(power, value) if digit == "1" else power
    return Tracer(trace, power)


def matmul(trace: Trace, ufunc: Any, a: Any, b: Any) -> Tracer:
    """NumPy's rules for vectors: a row in front, a column behind, gone from the result."""
    dtype = trace.promoted(np.multiply, a, b)
    if dtype.kind == "b" or dtype == np.int8:
        raise located(f"numpy.matmul of {dtype}: expected float32, float64 or int32; convert with astype")
    x, y = (Tracer(trace, trace.value(each, dtype)) for each in (a, b))
    if not x.ndim or not y.ndim:
        raise ValueError("numpy.matmul: an operand has no axes; multiply with *")
    left = shaped(x, (1, *x.shape)) if x.ndim == 1 else x
    right = shaped(y, (*y.shape, 1)) if y.ndim == 1 else y
    product = trace.op("matmul", left._value, right._value)
    *batch, m, n = product.shape
    return shaped(product, (*batch, *([m] if x.ndim > 1 else []), *([n] if y.ndim > 1 else [])))


UFUNCS: Table = {
    np.matmul: matmul,
    np.add: _elementwise("add", "or"),
    np.subtract: _elementwise("sub"),
    np.multiply: _elementwise("mul", "and"),
    np.true_divide: _elementwise("div"),
    np.maximum: _elementwise("maximum", "or"),
    np.minimum: _elementwise("minimum", "and"),
    np.negative: _elementwise("neg"),
    np.absolute: _absolute,
    np.fabs: _elementwise("abs"),
    np.positive: _same,
    np.square: _square,
    np.reciprocal: _reciprocal,
    np.power: _power,
    np.exp: _elementwise("exp"),
    np.log: _elementwise("log"),
    np.sqrt: _elementwise("sqrt"),
    np.tanh: _elementwise("tanh"),
    np.isnan: _isnan,
    np.equal: _comparison("eq"),
    np.not_equal: _comparison("ne"),
    np.less: _comparison("lt"),
    np.less_equal: _comparison("le"),
    np.greater: _comparison("gt"),
    np.greater_equal: _comparison("ge"),
    np.logical_and: _logical("and"),
    np.logical_or: _logical("or"),
    np.logical_not: _logical("not"),
    np.bitwise_and: _bitwise("and"),
    np.bitwise_or: _bitwise("or"),
    np.invert: _bitwise("not"),
}
