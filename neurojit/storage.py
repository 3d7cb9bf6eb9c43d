"""What weights become when they are packed: rounded to a storage type, and laid out in panels.

bf16   the upper half of a float32, rounded to nearest, of two the even one; NaN stays NaN
int8   q * scale, one float32 scale a column: the least that keeps the column's |q| within 127

The layout is that of neurojit.plan.panels; kernels read nothing else.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from neurojit.plan.panels import LINE, SCALE_SIZE, STORAGES, Panels

Array = np.ndarray[Any, Any]

MOST_INT8 = 127
UNSIGNED = 128
"""What makes an int8 an unsigned byte."""
TYPES = {
    "f32": np.float32, "f64": np.float64, "bf16": np.uint16,
    "int8": np.int8, "int8 bytes": np.int8, "int8 signed": np.int8,
    "int8 words": np.int8,
    "bf16 pairs": np.uint16, "bf16 wide": np.uint16,
}  # fmt: skip
"""Of stored elements in NumPy; bf16 as its bits."""


class Stored(NamedTuple):
    """values: k x n, of the storage type. scales: n float32 for int8, else None."""

    values: Array
    scales: Array | None


def to_bf16(x: Array) -> Array:
    """The bits of float32 numbers rounded to bf16. Beyond the largest one, 3.39e38, infinite."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = (bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16
    quiet = (bits >> 16) | 0x40  # rounding could carry the payload of a NaN out of its fraction
    return np.where(np.isnan(x), quiet, rounded).astype(np.uint16)


def from_bf16(bits: Array) -> Array:
    widened: Array = (bits.astype(np.uint32) << 16).view(np.float32)
    return widened


def to_int8(x: Array) -> Stored:
    """Columns of finite float32 numbers, each q * scale: |x - q * scale| <= scale / 2.

    scale is max|x| / 127 rounded up to float32, and 1 for a column of zeros. ValueError: not finite."""
    finite = np.isfinite(x)
    if not finite.all():
        row, column = (int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(
            f"pack: w[{row}, {column}] is {x[row, column]}: int8 has a scale for each column, and none for "
            'infinities or NaN; store as "bf16" or float32'
        )
    most = np.abs(x).max(axis=0, initial=0).astype(np.float64)
    scales = (most / MOST_INT8).astype(np.float32)
    low = scales.astype(np.float64) * MOST_INT8 < most
    scales[low] = np.nextafter(scales[low], np.float32(np.inf))
    scales[most == 0] = 1
    return Stored(np.rint(x / scales.astype(np.float64)).astype(np.int8), scales)


def store(x: Array, storage: str) -> Stored:
    """k x n numbers in a storage type. ValueError as to_int8."""
    if storage == "int8":
        return to_int8(x)
    return Stored(to_bf16(x) if storage == "bf16" else np.asarray(x, TYPES[storage]), None)


def widen(stored: Stored, storage: str) -> Array:
    """The numbers that the product is of, but for the scales of int8: k x n, float32 or float64."""
    if storage == "bf16":
        return from_bf16(stored.values)
    return stored.values.astype(TYPES[STORAGES[storage].element])


def round_rows(x: Array, activations: str) -> Stored:
    """Rows of float32 numbers as csrc/round_rows.c rounds activations: m x k of "bf16"; or of "int8",
    q * scale with a scale a row: NaN for a row that is not finite; one below 3.8e-37 counts as zero."""
    if activations == "bf16":
        return Stored(to_bf16(x), None)
    with np.errstate(all="ignore"):
        most = np.abs(x).max(axis=1, initial=0)
        inverse, scales = np.float32(MOST_INT8) / most, most / np.float32(MOST_INT8)
        finite, usable = np.isfinite(most), np.isfinite(inverse)
        inverse = np.where(finite & usable, inverse, np.float32(0))
        scales = np.where(finite, np.where(usable, scales, np.float32(0)), np.float32(np.nan))
        rounded = np.rint(np.where(finite[:, None], x, np.float32(0)) * inverse[:, None])
    return Stored(rounded.astype(np.int8), scales)


def product_of_integers(rows: Stored, weights: Stored) -> Array:
    """The sums, exact, as float32, times the scale of the row, then of the column: each rounded."""
    assert rows.scales is not None
    assert weights.scales is not None
    sums = rows.values.astype(np.float64) @ weights.values.astype(np.float64)
    with np.errstate(all="ignore"):
        scaled: Array = sums.astype(np.float32) * rows.scales[:, None] * weights.scales
    return scaled


LEAST_NORMAL = 2.0**-126
ANY_ROUNDING = 2.0**-23
"""Of one float32 operation, relative to its exact result, to whichever neighbour it rounds."""


class Bounded(NamedTuple):
    """m x n float64: exact sums of products of bf16, and how far those of float32 may be from them."""

    sums: Array
    error: Array

    def nearest(self) -> Array:
        """The sums as float32, infinite beyond its largest."""
        with np.errstate(all="ignore"):
            return self.sums.astype(np.float32)

    def agree(self, got: Array) -> Array:
        """Where float32 results are sums within the bound. Infinite ones may have become NaN on their way."""
        exact = self.sums
        with np.errstate(all="ignore"):
            near = (np.abs(got - exact) <= self.error) | np.isinf(self.error)
        infinite = np.isnan(got) | (got == exact)
        agree: Array = np.where(np.isfinite(exact), near, np.where(np.isinf(exact), infinite, np.isnan(got)))
        return agree


def products_of_bf16(rows: Stored, weights: Stored) -> Bounded:
    """vdpbf16ps and bfdot add two exact products to a float32 in orders of their own, take numbers below
    2^-126 for zero, and make zeros of results below it. So K + 1 roundings at most on the way of each
    product, to whichever neighbour, the terms that may count as zero, and three results a step that may.

    The rule is that of running error analysis: Higham, Accuracy and Stability of Numerical Algorithms, 2nd
    ed., chapter 3. The bound is infinite where sums of magnitudes leave float32."""
    x, w = (from_bf16(stored.values).astype(np.float64) for stored in (rows, weights))
    k = w.shape[0]
    rounded = (k + 1) * ANY_ROUNDING
    with np.errstate(all="ignore"):
        sums = x @ w + 0.0
        x, w = np.abs(x), np.abs(w)
        size = x @ w
        flushed = np.where(x < LEAST_NORMAL, x, 0) @ w + x @ np.where(w < LEAST_NORMAL, w, 0)
        error = rounded / (1 - rounded) * size + flushed + 3 * k * LEAST_NORMAL
        fits = (rounded < 1) & (size + error <= np.finfo(np.float32).max)
    return Bounded(sums, np.where(fits, error, np.inf))


def lay_out_rows(rows: Stored, panels: Panels) -> Array:
    """Rounded rows as csrc/round_rows.c writes them: m rows of `row_bytes`."""
    m, k = rows.values.shape
    memory = np.zeros((m, panels.row_bytes), np.uint8)
    padded = np.zeros((m, -(-k // panels.lane_steps) * panels.lane_steps), rows.values.dtype)
    padded[:, :k] = rows.values
    if rows.scales is None:
        numbers = padded if panels.storage == "bf16 pairs" else from_bf16(padded)
        memory[:, : numbers.shape[1] * numbers.itemsize] = numbers.view(np.uint8)
        return memory
    if panels.storage == "int8 bytes":
        integers = (padded.astype(np.int16) + UNSIGNED).astype(np.uint8)
    elif panels.storage == "int8 signed":
        integers = padded.view(np.uint8)
    else:
        words = np.ascontiguousarray(padded.reshape(m, -1, 4)[:, :, [0, 2, 1, 3]], np.int16)
        integers = words.reshape(m, -1).view(np.uint8)
    memory[:, : integers.shape[1]] = integers
    memory[:, integers.shape[1] : integers.shape[1] + SCALE_SIZE] = rows.scales[:, None].view(np.uint8)
    return memory


def aligned(size: int) -> Array:
    """So many bytes, zero, from a multiple of LINE on."""
    memory = np.zeros(size + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + size]


def lay_out(stored: Stored, panels: Panels, memory: Array | None = None) -> Array:
    """The panels in memory, as bytes: in `memory`, which holds zeros, or in fresh, aligned one."""
    n = stored.values.shape[1]
    if memory is None:
        memory = aligned(panels.panels(n) * panels.panel_bytes)
    for panel, (weights, scales) in enumerate(_views(memory, panels, n)):
        columns = slice(panel * panels.width, min((panel + 1) * panels.width, n))
        count = columns.stop - columns.start
        for part in range(panels.lane_steps):
            of_part = stored.values[part :: panels.lane_steps, columns]
            weights[: of_part.shape[0], :count, part] = of_part
        if stored.scales is not None:
            scales[:count] = stored.scales[columns]
        if panels.storage == "int8 bytes":
            at = panel * panels.panel_bytes + panels.corrections_at
            corrections = memory[at : at + panels.width * SCALE_SIZE].view(np.int32)
            corrections[:count] = -UNSIGNED * stored.values[:, columns].sum(axis=0, dtype=np.int64)
    return memory


def take_out(memory: Array, panels: Panels, k: int, n: int) -> Stored:
    """What `lay_out` laid out, k x n: fresh arrays."""
    values = np.empty((k, n), TYPES[panels.storage])
    all_scales = np.empty(n, np.float32) if panels.is_scaled else None
    for panel, (weights, scales) in enumerate(_views(memory, panels, n)):
        columns = slice(panel * panels.width, min((panel + 1) * panels.width, n))
        count = columns.stop - columns.start
        for part in range(panels.lane_steps):
            of_part = values[part :: panels.lane_steps, columns]
            of_part[...] = weights[: of_part.shape[0], :count, part]
        if all_scales is not None:
            all_scales[columns] = scales[:count]
    return Stored(values, all_scales)


def _views(memory: Array, panels: Panels, n: int) -> list[tuple[Array, Array]]:
    """Of each panel: its weights as (groups, columns, steps of a group), and its scales."""
    views = []
    groups, size = panels.groups, panels.scales_at
    for panel in range(panels.panels(n)):
        at = memory[panel * panels.panel_bytes : (panel + 1) * panels.panel_bytes]
        weights = at[: groups * panels.group_bytes].view(TYPES[panels.storage])
        scales = at[size : size + (panels.width * SCALE_SIZE if panels.is_scaled else 0)].view(np.float32)
        views.append((weights.reshape(groups, panels.width, panels.lane_steps), scales))
    return views
