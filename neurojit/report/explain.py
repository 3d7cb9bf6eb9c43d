"""`nj.explain_matmul(a, b)`: how this product is computed, why so, and how close it comes.

print(nj.explain_matmul(a, b))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from neurojit import _matmul
from neurojit._packed import PackedWeights
from neurojit.codegen import gemm_buffer, gemv_buffer
from neurojit.encoder.listing import listing
from neurojit.numpy_matmul import matmul
from neurojit.plan.blocking import cut_panels
from neurojit.plan.gemm import Gemm
from neurojit.plan.gemv import Gemv, schedule_gemv
from neurojit.plan.level import Level, level_of
from neurojit.plan.panels import Panels
from neurojit.plan.prediction import predict
from neurojit.plan.product import Product, plan_product
from neurojit.plan.tiling import schedule_gemm
from neurojit.report.ceiling import fma_ceiling
from neurojit.report.emit import schedule_lines
from neurojit.runtime import clock_ns
from neurojit.target import Target, host_choice, host_target

MEASURED_NS = 20_000_000
REPEATS = 9


@dataclass(frozen=True)
class Explanation:
    """product: shape and strides as the compiler sees them. kernel: what serves it. reason: why that
    kernel. schedule: its tiles, unrolling, blocks. bound: what the model expects to hold it back.
    predicted, measured: fractions of the FMA ceiling of one core; measured is None if it was not asked
    for. nanoseconds: of one call. ceiling: GFLOP/s, measured in the same run. code_bytes: of the kernel;
    0 for the blocked driver, which is C around micro-kernels. listing: the kernel's instructions.
    """

    product: str
    isa: str
    kernel: str
    reason: str
    schedule: tuple[str, ...]
    bound: str
    predicted: float
    measured: float | None
    nanoseconds: float | None
    ceiling: float | None
    code_bytes: int
    listing: str

    def __str__(self) -> str:
        lines = [
            f"product     {self.product} on {self.isa}",
            f"kernel      {self.kernel}: {self.reason}",
            *(f"            {line}" for line in self.schedule),
            f"bound       {self.bound}; predicted {self.predicted:.0%} of the FMA ceiling",
        ]
        if self.measured is not None:
            lines.append(
                f"measured    {self.measured:.0%} of {self.ceiling:.1f} GFLOP/s: "
                f"{self.nanoseconds:.0f} ns a call"
            )
        if self.code_bytes:
            lines.append(f"code        {self.code_bytes} bytes")
        return "\n".join(lines)


def explain_matmul(
    a: Any, b: Any, out: Any = None, *, measure: bool = True, level: str | None = None
) -> Explanation:
    """How nj.matmul(a, b, out) computes the product of the last two dimensions of these operands.

    a: (..., m, k), b: (..., k, n), float32 or float64 arrays, or b packed by nj.pack; out: as for nj.matmul,
    or None for a new array. measure: also run it, for about a quarter of a second, into an array of its own;
    `a` and `b` are only read. level: "O0" to "O3", None for NEUROJIT_LEVEL's; packed weights have one. Of a
    product that threads share in strips, the one kernel for all of it is described.
    Raises ValueError for operands that have no product or no kernel: not float32 or float64, fewer than
    two dimensions, shapes that do not fit, a machine that nothing is emitted for.
    """
    x, y = np.asarray(a), b if isinstance(b, PackedWeights) else np.asarray(b)
    if x.ndim < 2 or y.ndim < 2 or x.dtype != y.dtype or x.dtype not in (np.float32, np.float64):
        raise ValueError(
            f"explain_matmul: expected two float32 or float64 arrays of two or more dimensions, got "
            f"{x.dtype} {x.shape} and {y.dtype} {y.shape}; give vectors a second dimension"
        )
    x = x[(0,) * (x.ndim - 2)]
    y = y if isinstance(y, PackedWeights) else y[(0,) * (y.ndim - 2)]
    c = (
        np.empty((x.shape[0], y.shape[1]), x.dtype)
        if out is None
        else np.asarray(out)[(0,) * (np.ndim(out) - 2)]
    )
    if x.shape[1] != y.shape[0] or c.shape != (x.shape[0], y.shape[1]) or 0 in (*x.shape, *y.shape):
        raise ValueError(f"explain_matmul: no product of {x.shape} and {y.shape} into {c.shape}")
    described = _matmul.describe(x, y, c)
    if host_choice().isa.name == "none" or described is None:
        raise ValueError(f"explain_matmul: NumPy computes this product: {host_choice().reason}")
    return _explain(Product(*described[1]), host_target(), level_of(level), (x, y, c) if measure else None)


def _explain(p: Product, target: Target, level: Level, operands: tuple[Any, Any, Any] | None) -> Explanation:
    prediction = predict(p, target, level)
    kernel, reason, schedule, code, text = _kernel(p, target, level)
    nanoseconds = ceiling = measured = None
    if operands is not None:
        nanoseconds, ceiling = _measure(*operands, level.name), fma_ceiling(str(operands[0].dtype))
        measured = 2 * p.work / nanoseconds / ceiling
    return Explanation(
        product=str(p),
        isa=target.isa.name,
        kernel=kernel,
        reason=reason,
        schedule=tuple(schedule),
        bound=prediction.bound,
        predicted=prediction.fraction,
        measured=measured,
        nanoseconds=nanoseconds,
        ceiling=ceiling,
        code_bytes=code,
        listing=text,
    )


def _kernel(p: Product, target: Target, level: Level) -> tuple[str, str, list[str], int, str]:
    """(kernel, reason, schedule in words, bytes of code, listing)."""
    level = p.level_at(level)
    plan = plan_product(p, target, level=level)
    if level == Level.O0:
        return "reference", "level O0 emits nothing", ["plain loops in C"], 0, ""
    if isinstance(plan, Gemm):
        schedule = schedule_gemm(plan, target, level)
        buffer = gemm_buffer(plan, schedule, target.isa)
        lines = schedule_lines(schedule)
        if schedule.k_block:
            lines.append(f"passes over C  every {schedule.k_block} steps of k, along the rows of B")
        if isinstance(plan.b, Panels):
            reason = f"weights packed in panels of {plan.b.width} columns, kept as {plan.b.storage}"
            strips = cut_panels(plan)
            if strips is not None:
                lines.append(f"parts  {strips.rows} rows, {strips.columns} columns")
            return "gemm, packed", reason, lines, len(buffer.finish()), listing(buffer)
        reason = (
            "a column, computed as a row of the transpose" if plan.swapped else "operands read where they are"
        )
        return "gemm in place", reason, lines, len(buffer.finish()), listing(buffer)
    if isinstance(plan, Gemv):
        of = schedule_gemv(plan, target, level)
        buffer = gemv_buffer(plan, of, target.isa)
        lines = [f"rows {of.rows}, {plan.lanes} partial sums each, unrolled by {of.unroll}"]
        return (
            "gemv",
            "a matrix read along its rows, one vector",
            lines,
            len(buffer.finish()),
            listing(buffer),
        )
    columns_apart = "columns of B are not adjacent" if p.b_column != 1 else "B does not stay in L2"
    tile = f"{plan.rows.size} x {plan.columns.size}"
    lines = [f"micro-tile {tile}, {plan.rows.tiles} x {plan.columns.tiles} tiles, KC {plan.kc}"]
    return "blocked", f"{columns_apart}: panels are packed", lines, 0, ""


def _measure(a: Any, b: Any, c: Any, level: str) -> float:
    """Nanoseconds of one call, best of several batches of calls."""
    call = matmul.bind(a, b, np.empty_like(c), level)
    call()
    start = clock_ns()
    call()
    count = max(1, MEASURED_NS // max(clock_ns() - start, 1))
    best = float("inf")
    for _ in range(REPEATS):
        start = clock_ns()
        for _ in range(count):
            call()
        best = min(best, (clock_ns() - start) / count)
    return best
