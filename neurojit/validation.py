"""The gate before publication: an emitted kernel must agree with the reference, bit for bit.

Every element of C is defined as one chain of fused multiply-adds in the order of k (see `gemm`), and
the reference computes that very chain, so there is no tolerance to choose: results are equal or the
kernel is wrong. Only the payload of a NaN may differ. Two sets of inputs run: ordinary numbers over a
wide range of exponents; and numbers so small that their products are denormal, with NaN, infinities, signed
zeros and extremes sown among them. C lies in a frame of sentinels that must survive, and holds NaN
before a kernel that must not read it. A and B must be as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from neurojit.errors import ValidationError
from neurojit.plan.gemm import Gemm
from neurojit.runtime import reference_matmul

Array = np.ndarray[Any, Any]
Run = Callable[[Array, Array, Array], int]
"""Calls the kernel on A, B and C as strided views and returns its result code."""

DTYPES: dict[str, np.dtype[Any]] = {"f32": np.dtype(np.float32), "f64": np.dtype(np.float64)}
FRAME = 16  # elements before and behind C, and between its rows where the stride leaves room


def validate_gemm(g: Gemm, k: int, c_row_stride: int, run: Run, what: str) -> None:
    """Run the kernel on both sets of inputs; ValidationError names the first element that differs."""
    dtype = DTYPES[g.dtype]
    for seed, special in ((1, False), (2, True)):
        every = max(11, 3 * k + 1) if special else 0  # so sparse that most chains meet few or none
        a = _strided(_numbers(seed, g.m * k, dtype, every), g.m, k, g.a.row_stride, g.a.column_stride)
        b = _strided(_numbers(seed + 2, k * g.n, dtype, every), k, g.n, g.b.row_stride, g.b.column_stride)
        inputs = a.tobytes(), b.tobytes()
        before = _frame(g, c_row_stride, dtype)
        expected, got = before.copy(), before.copy()
        with np.errstate(all="ignore"):
            reference_matmul(a, b, _inside(expected, g, c_row_stride), accumulate=g.accumulate)
        code = run(a, b, _inside(got, g, c_row_stride))
        if code != 0:
            raise ValidationError(f"{what}: returned {code}, expected 0; it was not published")
        for name, operand, kept in (("A", a, inputs[0]), ("B", b, inputs[1])):
            if operand.tobytes() != kept:
                raise ValidationError(f"{what}: wrote to {name}; it was not published, please report this")
        _compare(expected, got, c_row_stride, what)


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


def _numbers(seed: int, count: int, dtype: np.dtype[Any], special_every: int) -> Array:
    """`count` numbers of both signs, the same on every call: no generator, whose import costs 10 ms.

    special_every: one in so many is special, and the others are tiny; 0 for ordinary numbers.
    """
    index = np.arange(count, dtype=np.uint64)
    bits = (index * np.uint64(2) + np.uint64(seed)) * np.uint64(0x9E3779B97F4A7C15)
    bits ^= bits >> np.uint64(29)
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    bits ^= bits >> np.uint64(32)
    fraction = (bits >> np.uint64(40)).astype(dtype) / dtype.type(1 << 23) - dtype.type(1)
    info = np.finfo(dtype)
    least = info.minexp // 2 - 13 if special_every else -8
    numbers: Array = np.ldexp(fraction, (bits & np.uint64(15)).astype(np.int32) + least)
    if special_every:
        values = [np.nan, np.inf, -0.0, info.smallest_subnormal, -np.inf, 0.0, -info.tiny, info.max]
        at = np.arange(seed % count, count, special_every)
        numbers[at] = np.array(values, dtype)[(at // special_every + seed // 2 - 1) % len(values)]
    return numbers.astype(dtype)


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
    _inside(frame, g, c_row_stride)[...] = 0.75 if g.accumulate else np.nan
    return frame


def _inside(frame: Array, g: Gemm, c_row_stride: int) -> Array:
    item = frame.itemsize
    inside: Array = np.lib.stride_tricks.as_strided(frame[FRAME:], (g.m, g.n), (c_row_stride * item, item))
    return inside
