"""Emitted kernels as functions of arrays, before anything has validated them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from operands import DTYPES, TARGETS, planned

from neurojit.codegen import emit_gemm
from neurojit.plan.cut import Cut
from neurojit.plan.gemm import ColumnBlock, Gemm, GemmSchedule
from neurojit.runtime import Code
from neurojit.runtime._blocked import call_micro_kernel

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Kernel:
    """A GEMM on an ISA. `schedule` None: the planner's."""

    isa: str
    g: Gemm
    schedule: GemmSchedule | None = None
    encoder: str = "table"

    @property
    def bytes(self) -> bytes:
        target = TARGETS[self.isa]
        return emit_gemm(self.g, self.schedule or planned(self.g, target), target.isa, self.encoder)

    def load(self) -> Callable[[Array, Array, Array], int]:
        """What runs it on A, B and C; for a micro-kernel the depth is A's."""
        code = Code.map(self.bytes)
        if not self.g.is_micro_kernel:
            return lambda a, b, c: code.call((a.ctypes.data, b.ctypes.data, c.ctypes.data))

        def run(a: Array, b: Array, c: Array) -> int:
            operands = (x.ctypes.data for x in (a, b, c))
            return call_micro_kernel(code.address, *operands, a.shape[1], c.strides[0])

        return run

    def __str__(self) -> str:
        return f"{self.isa} {self.g} {self.schedule or ''}"


def byte_strides(g: Gemm) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Of A, B and C. A micro-kernel's C has rows that follow each other."""
    item = DTYPES[g.dtype].itemsize
    c_row = g.n if g.c.row_stride is None else g.c.row_stride
    return (
        (g.a.row_stride * item, g.a.column_stride * item),
        (g.b.row_stride * item, item),
        (c_row * item, item),
    )


def tiles(columns: Iterable[tuple[Iterable[int], int, tuple[int, ...]]], unroll: int) -> GemmSchedule:
    """A schedule from (lanes, tiles side by side, fields of the Cut of their rows)."""
    return GemmSchedule(
        tuple(ColumnBlock(tuple(lanes), count, Cut(*rows)) for lanes, count, rows in columns), unroll
    )


def partial(lanes: int, size: int) -> bool:
    """Whether so many elements fill no register or scalar exactly, and need a mask."""
    return lanes * size not in (4, 8, 16, 32, 64)


def registers_needed(isa: str, height: int, lanes: tuple[int, ...], masks: int) -> int:
    """An upper bound: accumulators, a row of B, a scalar of A, and on AVX2 the masks."""
    return height * len(lanes) + len(lanes) + 1 + (masks if isa == "avx2" else 0)
