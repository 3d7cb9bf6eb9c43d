"""Operands to multiply: numbers that are hard on arithmetic, in every layout that NumPy can express."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from neurojit.plan.blocking import one_tile
from neurojit.plan.gemm import ELEMENT_SIZE, Gemm, GemmSchedule, Matrix, Output
from neurojit.plan.tiling import schedule_gemm
from neurojit.target import ISAS, Target, host, host_choice, target_for

Array = np.ndarray[Any, Any]

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
DTYPES = {"f32": F32, "f64": F64}


def runnable_isas() -> list[str]:
    """Every ISA whose code runs on this machine, best first. `neurojit.target` has no way around XCR0."""
    best = host_choice().isa
    lesser = ISAS[ISAS.index(best) :]
    return [isa.option for isa in lesser if isa.architecture == best.architecture and isa.widest]


needs_kernels = pytest.mark.skipif(not runnable_isas(), reason="no emitted code runs here")

TARGETS: dict[str, Target] = {isa.option: target_for(isa.name, host()) for isa in ISAS if isa.widest}
"""To plan and emit for. Only `runnable_isas` may be run."""


# Numbers ---------------------------------------------------------------------------------------------


def plain(seed: int, shape: tuple[int, ...], dtype: Any = F32) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def wide(seed: int, shape: tuple[int, ...], dtype: Any = F32) -> Array:
    """Exponents over most of the range whose products stay finite; some products are denormal."""
    rng = np.random.default_rng(seed)
    most = 55 if np.dtype(dtype) == F32 else 480
    return np.ldexp(rng.standard_normal(shape), rng.integers(-most, most, shape)).astype(dtype)


def cancelling(seed: int, shape: tuple[int, ...], dtype: Any = F32) -> Array:
    """Large values of both signs and equal size beside small ones: sums lose all leading digits."""
    rng = np.random.default_rng(seed)
    large = rng.choice([-1.0, 1.0], shape) * 2.0**20
    return np.where(rng.random(shape) < 0.7, large, rng.standard_normal(shape)).astype(dtype)


def denormal(seed: int, shape: tuple[int, ...], dtype: Any = F32) -> Array:
    rng = np.random.default_rng(seed)
    values = rng.integers(-1000, 1000, shape) * float(np.finfo(dtype).smallest_subnormal)
    return np.where(rng.random(shape) < 0.6, values, rng.standard_normal(shape)).astype(dtype)


def special(seed: int, shape: tuple[int, ...], dtype: Any = F32) -> Array:
    """NaN, infinities and zeros of both signs among small integers."""
    rng = np.random.default_rng(seed)
    sown = rng.choice([np.nan, np.inf, -np.inf, -0.0, 0.0], shape)
    return np.where(rng.random(shape) < 0.08, sown, rng.integers(-8, 8, shape)).astype(dtype)


def negative_zero(seed: int, shape: tuple[int, ...], dtype: Any = F32) -> Array:
    return np.full(shape, -0.0, dtype)


NUMBERS: dict[str, Callable[..., Array]] = {
    f.__name__: f for f in (plain, wide, cancelling, denormal, special, negative_zero)
}


# Layouts: each takes an array and gives one of the same values (zero strides: of the same shape) ------


def c_order(x: Array) -> Array:
    return np.array(x, order="C")


def f_order(x: Array) -> Array:
    return np.array(x, order="F")


def reversed_rows(x: Array) -> Array:
    return np.array(x[::-1])[::-1] if x.ndim else x


def reversed_columns(x: Array) -> Array:
    return np.array(x[..., ::-1])[..., ::-1] if x.ndim else x


def every_third_column(x: Array) -> Array:
    wider = np.full((*x.shape[:-1], 3 * x.shape[-1]), 77, x.dtype) if x.ndim else x
    wider[..., ::3] = x
    return wider[..., ::3] if x.ndim else x


def rows_apart(x: Array) -> Array:
    """A window in a wider and higher matrix."""
    if x.ndim < 2:
        return every_third_column(x)
    larger = np.full((*x.shape[:-2], x.shape[-2] + 2, x.shape[-1] + 5), 77, x.dtype)
    larger[..., 1:-1, 2:-3] = x
    return larger[..., 1:-1, 2:-3]


def off_by_one_byte(x: Array) -> Array:
    placed: Array = np.ndarray(x.shape, x.dtype, bytearray(x.nbytes + 1), offset=1)
    placed[...] = x
    return placed


def odd_strides(x: Array) -> Array:
    """Strides that are no whole number of elements, as in a packed structure."""
    item = x.dtype.itemsize + 3
    strides, size = [], item
    for extent in reversed(x.shape):
        strides.append(size)
        size = size * max(extent, 1) + 1
    placed: Array = np.ndarray(x.shape, x.dtype, bytearray(size + 1), 1, tuple(reversed(strides)))
    placed[...] = x
    return placed


def zero_rows(x: Array) -> Array:
    """All rows are the first one, in the same memory."""
    return np.broadcast_to(x[..., :1, :].copy(), x.shape) if x.ndim > 1 and x.shape[-2] else x


def zero_columns(x: Array) -> Array:
    return np.broadcast_to(x[..., :1].copy(), x.shape) if x.ndim and x.shape[-1] else x


def swapped_bytes(x: Array) -> Array:
    return x.astype(x.dtype.newbyteorder())


def read_only(x: Array) -> Array:
    copy = x.copy()
    copy.flags.writeable = False
    return copy


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    f.__name__: f
    for f in (
        c_order,
        f_order,
        reversed_rows,
        reversed_columns,
        every_third_column,
        rows_apart,
        off_by_one_byte,
        odd_strides,
        zero_rows,
        zero_columns,
        swapped_bytes,
        read_only,
    )
}


# Kernels ---------------------------------------------------------------------------------------------


def transposed_gemm(dtype: str, m: int, n: int, k: int) -> Gemm:
    """A in column-major order, B and C with rows apart."""
    return Gemm(dtype, m, n, k, Matrix(1, m), Matrix(n + 3), Output(n + 1))


def strides(matrix: Matrix, dtype: str) -> tuple[int, int]:
    """In bytes."""
    return matrix.row_stride * ELEMENT_SIZE[dtype], matrix.column_stride * ELEMENT_SIZE[dtype]


def planned(g: Gemm, target: Target) -> GemmSchedule:
    """The planner's schedule."""
    return one_tile(g, target) if g.is_micro_kernel else schedule_gemm(g, target)
