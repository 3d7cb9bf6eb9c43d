"""The gate before publication: an emitted kernel must agree with the reference, bit for bit.

Every element of C is defined as one chain of fused multiply-adds in the order of k (see `gemm`), and
the reference computes that very chain, so there is no tolerance to choose: results are equal or the
kernel is wrong. Only the payload of a NaN may differ. Two sets of inputs run: ordinary numbers over a
wide range of exponents, and numbers with NaN, infinities, signed zeros and denormals sown among them.
C lies in a frame of sentinels that must survive, and holds NaN before a kernel that must not read it.

An epilogue's sums are rounded one by one, so NumPy at the element type gives their bits. Only a function
that is not exact has a bound of its own, in units in the last place (see `functions`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from neurojit import functions
from neurojit.errors import ValidationError
from neurojit.plan.gemm import Gemm
from neurojit.runtime import reference_matmul

Array = np.ndarray[Any, Any]
Run = Callable[..., int]
"""Calls the kernel on A, B, C and the epilogue's operands as strided views; returns its result code."""

DTYPES: dict[str, np.dtype[Any]] = {"f32": np.dtype(np.float32), "f64": np.dtype(np.float64)}
FRAME = 16  # elements before and behind C, and between its rows where the stride leaves room


def validate_gemm(g: Gemm, k: int, c_row_stride: int, run: Run, what: str) -> None:
    """Run the kernel on both sets of inputs; ValidationError names the first element that differs."""
    dtype = DTYPES[g.dtype]
    for seed, special in ((1, False), (2, True)):
        a = _strided(_numbers(seed, g.m * k, dtype, special), g.m, k, g.a.row_stride, g.a.column_stride)
        b = _strided(_numbers(seed + 2, k * g.n, dtype, special), k, g.n, g.b.row_stride, g.b.column_stride)
        before = _frame(g, c_row_stride, dtype)
        expected, got = before.copy(), before.copy()
        others = _epilogue_operands(g, seed, dtype, special)
        code = run(a, b, _inside(got, g, c_row_stride), *others)
        if code != 0:
            raise ValidationError(f"{what}: returned {code}, expected 0; it was not published")
        with np.errstate(all="ignore"):
            reference_matmul(a, b, _inside(expected, g, c_row_stride), accumulate=g.accumulate)
            _apply_epilogue(g, expected, before, got, others, c_row_stride)
        _compare(expected, got, c_row_stride, what)


def _apply_epilogue(
    g: Gemm, expected: Array, before: Array, got: Array, others: list[Array], c_row_stride: int
) -> None:
    """What `expected`, so far the product, becomes; where a bound decides, what was got if it is within."""
    e = g.epilogue
    acc = _inside(expected, g, c_row_stride)
    t = acc.copy()
    scalar = t.dtype.type
    if e.alpha != 1:
        t = scalar(e.alpha) * t
    if e.beta != 0:
        c = _inside(before, g, c_row_stride)
        t = t + (c if e.beta == 1 else scalar(e.beta) * c)
    rest = list(others)
    if e.bias != "none":
        bias = rest.pop(0)
        t = t + (bias if e.bias == "row" else bias[:, np.newaxis])
    if e.residual is not None:
        t = t + rest.pop(0)
    if e.activation.name in functions.EXACT:
        acc[...] = functions.apply_exactly(e.activation, t)
    else:
        result = _inside(got, g, c_row_stride)
        value, near = functions.agrees(e.activation, t, result)
        acc[...] = np.where(near, result, value)


def _epilogue_operands(g: Gemm, seed: int, dtype: np.dtype[Any], special: bool) -> list[Array]:
    """Numbers for the bias and the residual, as far as there are any."""
    e, operands = g.epilogue, []
    if e.bias != "none":
        operands.append(_numbers(seed + 4, g.n if e.bias == "row" else g.m, dtype, special))
    if e.residual is not None:
        numbers = _numbers(seed + 6, g.m * g.n, dtype, special)
        operands.append(_strided(numbers, g.m, g.n, e.residual, 1))
    return operands


def _compare(expected: Array, got: Array, c_row_stride: int, what: str) -> None:
    integers = np.dtype(f"u{expected.itemsize}")
    same = (expected.view(integers) == got.view(integers)) | (np.isnan(expected) & np.isnan(got))
    if same.all():
        return
    at = int(np.flatnonzero(~same)[0])
    row, column = divmod(at - FRAME, c_row_stride)
    raise ValidationError(
        f"{what}: C[{row}, {column}] is {got[at]!r}, the reference gives {expected[at]!r} "
        f"({int((~same).sum())} elements differ); it was not published, please report this"
    )


def _numbers(seed: int, count: int, dtype: np.dtype[Any], special: bool) -> Array:
    """`count` numbers of both signs, the same on every call: no generator, whose import costs 10 ms."""
    index = np.arange(count, dtype=np.uint64)
    bits = (index * np.uint64(2) + np.uint64(seed)) * np.uint64(0x9E3779B97F4A7C15)
    bits ^= bits >> np.uint64(29)
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    bits ^= bits >> np.uint64(32)
    fraction = (bits >> np.uint64(40)).astype(dtype) / dtype.type(1 << 23) - dtype.type(1)
    numbers = np.ldexp(fraction, (bits & np.uint64(15)).astype(np.int32) - 8)
    if special:
        info = np.finfo(dtype)
        values = np.array(
            [np.nan, np.inf, -np.inf, -0.0, 0.0, info.smallest_subnormal, -info.tiny, info.max], dtype
        )
        sown = (bits >> np.uint64(16)) % np.uint64(11) == 0
        numbers[sown] = values[((bits >> np.uint64(24)) % np.uint64(len(values)))[sown]]
    result: Array = numbers.astype(dtype)
    return result


def _strided(numbers: Array, rows: int, columns: int, row_stride: int, column_stride: int) -> Array:
    """The numbers as a rows x columns view with these strides (in elements, of any sign)."""
    down, across = (rows - 1) * row_stride, (columns - 1) * column_stride
    first = -min(down, 0) - min(across, 0)
    store = np.zeros(first + max(down, 0) + max(across, 0) + 1, numbers.dtype)
    item = numbers.itemsize
    view = np.lib.stride_tricks.as_strided(
        store[first:], (rows, columns), (row_stride * item, column_stride * item)
    )
    view[...] = numbers.reshape(rows, columns)
    return view


def _frame(g: Gemm, c_row_stride: int, dtype: np.dtype[Any]) -> Array:
    """C and what surrounds it. NaN where the kernel must write without reading, else a number."""
    frame = np.full(2 * FRAME + (g.m - 1) * c_row_stride + g.n, -12345.0, dtype)
    _inside(frame, g, c_row_stride)[...] = 0.75 if g.accumulate or g.epilogue.beta else np.nan
    return frame


def _inside(frame: Array, g: Gemm, c_row_stride: int) -> Array:
    item = frame.itemsize
    return np.lib.stride_tricks.as_strided(frame[FRAME:], (g.m, g.n), (c_row_stride * item, item))
