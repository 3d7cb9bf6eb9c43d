"""The gate before publication: an emitted kernel must agree with the reference, bit for bit.

Every element of C is defined as one chain of fused multiply-adds in the order of k (see `gemm`), and
the reference computes that very chain, so there is no tolerance to choose: results are equal or the
kernel is wrong. Only the payload of a NaN may differ. Two sets of inputs run: ordinary numbers over a
wide range of exponents; and numbers so small that their products are denormal, with NaN, infinities, signed
zeros and extremes sown among them. C lies in a frame of sentinels that must survive, and holds NaN
before a kernel that must not read it. A and B must be as they were.

Products of bf16 by bf16 alone have bits of the CPU's own (see `products_of_bf16`): with integers whose sums
are exact however they are added, bits are compared there too, epilogues included; then, without an epilogue,
ordinary and tiny numbers, within the bound.

An epilogue's sums are rounded one by one, so NumPy at the element type gives their bits. Only a function
that is not exact has a bound of its own, in units in the last place (see `functions`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from neurojit import functions
from neurojit.errors import ValidationError
from neurojit.plan.epilogue import NO_EPILOGUE, Activation, Epilogue
from neurojit.plan.gemm import Gemm, Matrix
from neurojit.plan.gemv import Gemv
from neurojit.plan.panels import Panels
from neurojit.runtime import reference_matmul
from neurojit.storage import (
    Bounded,
    Stored,
    lay_out,
    lay_out_rows,
    product_of_integers,
    products_of_bf16,
    store,
    to_bf16,
    widen,
)

Array = np.ndarray[Any, Any]
Run = Callable[..., int]
"""Calls the kernel on A, B, C and the epilogue's operands as strided views; returns its result code."""

DTYPES: dict[str, np.dtype[Any]] = {"f32": np.dtype(np.float32), "f64": np.dtype(np.float64)}
FRAME = 16  # elements before and behind C, and between its rows where the stride leaves room


def validate_gemm(g: Gemm, k: int, c_row_stride: int, run: Run, what: str) -> None:
    """Run the kernel on both sets of inputs; ValidationError names the first element that differs."""

    def reference(a: Array, b: Array, c: Array) -> None:
        reference_matmul(a, b, c, accumulate=g.accumulate, wide=True)

    shape, strides = (g.m, g.n, k), (g.a, g.b)
    case = _Case(DTYPES[g.dtype], shape, strides, c_row_stride, g.accumulate, g.epilogue, g.partial)
    _validate(case, reference, run, what)


def validate_gemv(g: Gemv, run: Run, what: str) -> None:
    """The same for a matrix-vector product; `run` takes A, x as a column, y as a column, and what follows."""

    def reference(a: Array, x: Array, y: Array) -> None:
        partial = np.zeros((g.m, g.lanes), y.dtype)
        for lane in range(min(g.lanes, g.k)):
            reference_matmul(a[:, lane :: g.lanes], x[lane :: g.lanes], partial[:, lane : lane + 1])
        while partial.shape[1] > 1:
            half = partial.shape[1] // 2
            partial = partial[:, :half] + partial[:, half:]
        y[...] = partial

    strides = Matrix(g.a_row_stride), Matrix(1)
    case = _Case(DTYPES[g.dtype], (g.m, 1, g.k), strides, 1, epilogue=g.epilogue, as_row=True)
    _validate(case, reference, run, what)


MAP_LENGTHS = (1, 7, 77)  # below a vector, and whole ones with a tail, of every ISA


def validate_map(dtype: str, function: Activation, run: Callable[[Array, Array], int], what: str) -> None:
    """The same for one function over contiguous elements; `run` takes x and y, which may be x."""
    for length in MAP_LENGTHS:
        for every in (0, 5):
            x = special_numbers(length, length, DTYPES[dtype], every)
            expected = _frame(1, length, length, DTYPES[dtype], np.nan)
            got = expected.copy()
            inside, out = _inside(expected, 1, length, length), _inside(got, 1, length, length)
            code = run(x, out)
            if code != 0:
                raise ValidationError(f"{what}: returned {code}, expected 0; it is not used")
            inside[0] = x
            _apply_epilogue(Epilogue(activation=function), inside, [], out)
            _compare(expected, got, length, what)


class _Case(NamedTuple):
    """What is validated. shape: m, n, k. strides: of A and B. as_row: the epilogue takes C's one column as a
    row. partial: the row stride of sums that the chains start from, where C does not hold them."""

    dtype: np.dtype[Any]
    shape: tuple[int, int, int]
    strides: tuple[Matrix, Matrix | Panels]
    c_row_stride: int
    accumulate: bool = False
    epilogue: Epilogue = NO_EPILOGUE
    partial: int | None = None
    as_row: bool = False


BEFORE = 0.75
"""What C holds before a kernel that reads it."""


def _validate(case: _Case, reference: Callable[[Array, Array, Array], None], run: Run, what: str) -> None:
    dtype, (m, n, k), c_row_stride, epilogue = case.dtype, case.shape, case.c_row_stride, case.epilogue
    for seed, special in ((1, False), (2, True)):
        every = max(11, 3 * k + 1) if special else 0  # so sparse that most chains meet few or none
        if isinstance(case.strides[1], Panels) and case.strides[1].is_dot:
            _validate_dots(case, case.strides[1], seed, every, run, what)
            continue
        a = _strided(special_numbers(seed, m * k, dtype, every), m, k, *case.strides[0])
        b, in_memory, scales = _right_operand(case.strides[1], seed, k, n, dtype, every)
        inputs = a.tobytes(), in_memory.tobytes()
        others = _epilogue_operands(epilogue, *((n, m) if case.as_row else (m, n)), seed, dtype, every)
        expected = _frame(m, n, c_row_stride, dtype, BEFORE if case.accumulate or epilogue.beta else np.nan)
        got = expected.copy()
        inside, written = _inside(expected, m, n, c_row_stride), _inside(got, m, n, c_row_stride)
        sums = []
        if case.partial is not None:
            sums.append(_strided(special_numbers(seed + 8, m * n, dtype, every), m, n, case.partial, 1))
            inside[...] = sums[0]
        with np.errstate(all="ignore"):
            reference(a, b, inside)
            if scales is not None:
                inside *= scales
        code = run(a, in_memory, written, *others, *sums)
        if code != 0:
            raise ValidationError(f"{what}: returned {code}, expected 0; it was not published")
        for name, operand, kept in (("A", a, inputs[0]), ("B", in_memory, inputs[1])):
            if operand.tobytes() != kept:
                raise ValidationError(f"{what}: wrote to {name}; it was not published, please report this")
        with np.errstate(all="ignore"):
            if case.as_row:
                inside, written = inside.T, written.T
            _apply_epilogue(epilogue, inside, others, written)
        _compare(expected, got, c_row_stride, what)


def _validate_dots(case: _Case, panels: Panels, seed: int, every: int, run: Run, what: str) -> None:
    """The same for products of small numbers: of rounded activations as they lie in scratch."""
    m, n, _ = case.shape
    k = panels.groups * panels.lane_steps
    if panels.storage != "bf16 pairs":
        integers = np.rint(special_numbers(seed, (m + n) * k, case.dtype, 0) % 255 - 127).astype(np.int8)
        scales = special_numbers(seed + 2, m + n, case.dtype, every)
        a = Stored(integers[: m * k].reshape(m, k), scales[:m])
        b = Stored(integers[m * k :].reshape(k, n), scales[m:])
        _validate_dot(case, panels, (a, b), (product_of_integers(a, b), None), seed, every, run, what)
        return
    ordinary = special_numbers(seed, (m + n) * k, case.dtype, every)
    exact = _integers_of_exact_sums(seed, (m + n) * k, k, case.dtype)
    exact = np.where(np.isfinite(ordinary), exact, ordinary)
    for numbers in (exact, ordinary) if case.epilogue is NO_EPILOGUE else (exact,):
        a = Stored(to_bf16(numbers[: m * k].reshape(m, k)), None)
        b = Stored(to_bf16(numbers[m * k :].reshape(k, n)), None)
        product = products_of_bf16(a, b)
        bound = None if numbers is exact else product
        _validate_dot(case, panels, (a, b), (product.sums, bound), seed, every, run, what)


MOST_BF16, MOST_F32 = 1 << 8, 1 << 24
"""Up to which all integers are numbers of the type."""


def _integers_of_exact_sums(seed: int, count: int, k: int, dtype: np.dtype[Any]) -> Array:
    """Integers that are bf16 numbers, and whose sums of k products are float32 numbers."""
    most = max(1, min(MOST_BF16, math.isqrt(MOST_F32 // k)))
    integers: Array = np.rint(special_numbers(seed, count, dtype, 0) * 4096) % (2 * most + 1) - most
    return integers


def _validate_dot(
    case: _Case,
    panels: Panels,
    operands: tuple[Stored, Stored],
    product: tuple[Array, Bounded | None],
    seed: int,
    every: int,
    run: Run,
    what: str,
) -> None:
    """One set of operands; their product, and a bound where bits are the CPU's own."""
    m, n, _ = case.shape
    dtype, epilogue, row = case.dtype, case.epilogue, case.c_row_stride
    (a, b), (expected_product, bound) = operands, product
    rows, memory = lay_out_rows(a, panels), lay_out(b, panels)
    kept = rows.tobytes(), memory.tobytes()
    others = _epilogue_operands(epilogue, m, n, seed, dtype, every)
    expected = _frame(m, n, row, dtype, BEFORE if epilogue.beta else np.nan)
    got = expected.copy()
    inside, written = _inside(expected, m, n, row), _inside(got, m, n, row)
    code = run(rows, memory, written, *others)
    if code != 0 or kept != (rows.tobytes(), memory.tobytes()):
        raise ValidationError(f"{what}: returned {code}, or wrote to A or B; it was not published")
    with np.errstate(all="ignore"):
        inside[...] = expected_product
        if bound is not None:
            inside[...] = np.where(bound.agree(written), written, inside)
        _apply_epilogue(epilogue, inside, others, written)
    _compare(expected, got, row, what)


def _right_operand(
    layout: Matrix | Panels, seed: int, k: int, n: int, dtype: np.dtype[Any], special_every: int
) -> tuple[Array, Array, Array | None]:
    """(B, the same as it lies in memory, its scales): packed weights are widened for the reference."""
    if not isinstance(layout, Panels):
        b = _strided(special_numbers(seed + 2, k * n, dtype, special_every), k, n, *layout)
        return b, b, None
    if layout.storage == "int8":
        integers = np.rint(special_numbers(seed + 2, k * n, dtype, 0) % 255 - 127).astype(np.int8)
        stored = Stored(integers.reshape(k, n), special_numbers(seed + 8, n, dtype, special_every))
    else:
        numbers = special_numbers(seed + 2, k * n, dtype, special_every)
        stored = store(numbers.reshape(k, n), layout.storage.partition(" ")[0])
    return widen(stored, layout.storage.partition(" ")[0]), lay_out(stored, layout), stored.scales


def _apply_epilogue(e: Epilogue, c: Array, others: list[Array], got: Array) -> None:
    """From the product in `c`, what C becomes; where a bound decides, what was got if it is within."""
    if e is NO_EPILOGUE:
        return
    t = c.copy()
    scalar = t.dtype.type
    if e.alpha != 1:
        t = scalar(e.alpha) * t
    if e.beta != 0:
        before = np.full_like(t, BEFORE)
        t = t + (before if e.beta == 1 else scalar(e.beta) * before)
    rest = list(others)
    if e.bias != "none":
        bias = rest.pop(0)
        t = t + (bias if e.bias == "row" else bias[:, np.newaxis])
    if e.residual is not None:
        t = t + rest.pop(0)
    if e.activation.name in functions.EXACT:
        c[...] = functions.apply_exactly(e.activation, t)
    else:
        value, near = functions.agrees(e.activation, t, got)
        c[...] = np.where(near, got, value)


def _epilogue_operands(
    e: Epilogue, m: int, n: int, seed: int, dtype: np.dtype[Any], special_every: int
) -> list[Array]:
    """Numbers for the bias and the residual, as far as there are any."""
    operands = []
    if e.bias != "none":
        operands.append(special_numbers(seed + 4, n if e.bias == "row" else m, dtype, special_every))
    if e.residual is not None:
        numbers = special_numbers(seed + 6, m * n, dtype, special_every)
        operands.append(_strided(numbers, m, n, e.residual, 1))
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


def special_numbers(seed: int, count: int, dtype: np.dtype[Any], special_every: int) -> Array:
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


def _frame(m: int, n: int, row_stride: int, dtype: np.dtype[Any], start: float) -> Array:
    """C and what surrounds it. C holds `start`: NaN where the kernel must write without reading."""
    frame: Array = np.full(2 * FRAME + (m - 1) * row_stride + n, -12345.0, dtype)
    _inside(frame, m, n, row_stride)[...] = start
    return frame


def _inside(frame: Array, m: int, n: int, row_stride: int) -> Array:
    item = frame.itemsize
    return np.lib.stride_tricks.as_strided(frame[FRAME:], (m, n), (row_stride * item, item))
