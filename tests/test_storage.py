"""Storage types: bf16 against exact rounding, int8 against its bound, panels there and back."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from operands import NUMBERS, TARGETS, plain

from neurojit.plan.panels import LINE, ROUNDED, SCALE_SIZE, STORAGES, Panels, panel_width
from neurojit.runtime._blocked import round_row
from neurojit.storage import (
    MOST_INT8,
    from_bf16,
    lay_out,
    lay_out_rows,
    round_rows,
    store,
    take_out,
    to_bf16,
    to_int8,
    widen,
)

ALL_BF16 = from_bf16(np.arange(1 << 16, dtype=np.uint16))
LARGEST_BF16 = Fraction(float(from_bf16(np.array([0x7F7F], np.uint16))[0]))


def test_bf16_numbers_are_kept() -> None:
    """All 65536, NaN with their payloads but for the bit that makes them quiet."""
    kept = to_bf16(ALL_BF16)
    nan = np.isnan(ALL_BF16)
    assert (kept[~nan] == np.arange(1 << 16)[~nan]).all()
    assert (kept[nan] == np.arange(1 << 16)[nan] | 0x40).all()


def test_bf16_rounds_to_nearest_even() -> None:
    """Between each two neighbours: below, at and above the middle, by exact arithmetic."""
    positive = ALL_BF16[:0x7F80]
    for low, high, even in zip(positive[::7], positive[1::7], range(0, 0x7F80, 7), strict=False):
        middle = (Fraction(float(low)) + Fraction(float(high))) / 2
        exact = np.float32(float(middle))
        if Fraction(float(exact)) != middle:
            continue  # between denormal float32 numbers there may be no room
        tie = low if even % 2 == 0 else high
        for x, expected in (
            (np.nextafter(exact, np.float32(0)), low),
            (exact, tie),
            (np.nextafter(exact, np.float32(np.inf)), high),
        ):
            for sign in (1, -1):
                assert from_bf16(to_bf16(np.array([sign * x])))[0] == sign * expected, (sign, x)


def test_bf16_beyond_the_largest() -> None:
    half_a_unit = Fraction(2) ** 119
    last = np.float32(float(LARGEST_BF16 + half_a_unit - Fraction(2) ** 104))
    numbers = np.array([last, np.finfo(np.float32).max, -np.inf, np.nan, -0.0], np.float32)
    rounded = from_bf16(to_bf16(numbers))
    assert rounded[0] == float(LARGEST_BF16)
    assert (rounded[1:3] == [np.inf, -np.inf]).all()
    assert np.isnan(rounded[3])
    assert np.signbit(rounded[4])
    tied = np.array([float(LARGEST_BF16 + half_a_unit)]).astype(np.float32)
    assert from_bf16(to_bf16(tied))[0] == np.inf


@pytest.mark.parametrize("numbers", ["plain", "wide", "cancelling", "denormal"])
def test_bf16_error(numbers: str) -> None:
    x = NUMBERS[numbers](1, (1000, 30))
    error = np.abs(from_bf16(to_bf16(x)).astype(np.float64) - x)
    assert (error <= np.maximum(np.abs(x.astype(np.float64)) / 256, 2.0**-134)).all()


@pytest.mark.parametrize("numbers", ["plain", "wide", "cancelling", "denormal", "negative_zero"])
def test_int8_error(numbers: str) -> None:
    x = NUMBERS[numbers](2, (500, 40))
    x[:, 7] = 0
    x[:, 8] *= np.float32(1e-40)
    x[:, 9] = np.float32(1e-45)
    x[0, 10] = np.finfo(np.float32).max
    values, scales = to_int8(x)
    assert scales is not None
    assert (np.abs(values.astype(int)) <= MOST_INT8).all()
    assert (scales > 0).all()
    assert scales[7] == 1
    most = np.abs(x.astype(np.float64)).max(axis=0)
    least = most / MOST_INT8
    assert (scales >= least).all()
    assert (scales[most > 0] <= np.maximum(least * (1 + 2.0**-23), 2.0**-149)[most > 0] + 2.0**-149).all()
    error = np.abs(values * scales.astype(np.float64) - x)
    assert (error <= scales.astype(np.float64) * (0.5 + 1e-9)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_int8_says_where_it_fails(bad: float) -> None:
    x = plain(1, (5, 6))
    x[3, 4] = bad
    with pytest.raises(ValueError, match=r"w\[3, 4\] is .*(inf|nan).*bf16"):
        to_int8(x)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("isa", TARGETS)
def test_panels_there_and_back(storage: str, isa: str) -> None:
    dtype = np.float64 if storage == "f64" else np.float32
    for k, n in ((1, 1), (2, 3), (3, 63), (17, 64), (64, 65), (5, 200), (0, 5), (5, 0)):
        panels = Panels.of(storage, k, panel_width(STORAGES[storage].element, TARGETS[isa].isa))
        stored = store(plain(3, (k, n), dtype), storage.partition(" ")[0])
        memory = lay_out(stored, panels)
        assert memory.size == 0 or memory.ctypes.data % LINE == 0
        assert memory.size == panels.panels(n) * panels.panel_bytes
        assert panels.panel_bytes % LINE == 0
        values, scales = take_out(memory, panels, k, n)
        assert (values == stored.values).all()
        assert scales is None or (scales == stored.scales).all()
        assert_where_kernels_look(memory, panels, stored.values)


def assert_where_kernels_look(memory: np.ndarray, panels: Panels, values: np.ndarray) -> None:
    """Each element at the address that the layout promises, and zeros behind the last column."""
    size, depth = values.itemsize, values.shape[0]
    for k in {0, 1, depth // 2, depth - 1} & set(range(depth)):
        group, part = divmod(k, panels.lane_steps)
        for column in range(panels.panels(values.shape[1]) * panels.width):
            at = panels.column_bytes(column) + group * panels.group_bytes + part * size
            element = memory[at : at + size].view(values.dtype)[0]
            assert element == (values[k, column] if column < values.shape[1] else 0)


def test_padding_is_zero_and_widening_exact() -> None:
    panels = Panels("bf16", 3, 16)
    memory = lay_out(store(np.ones((3, 5), np.float32), "bf16"), panels)
    assert np.count_nonzero(memory.view(np.uint16)) == 15
    stored = store(plain(1, (9, 4)), "int8")
    assert (widen(stored, "int8") == stored.values).all()


def test_corrections_take_off_what_makes_activations_unsigned() -> None:
    values = np.arange(-30, 30, dtype=np.int8).reshape(6, 10)
    panels = Panels.of("int8 bytes", 6, 16)
    memory = lay_out(to_int8(values.astype(np.float32))._replace(values=values), panels)
    corrections = memory[panels.corrections_at :][: 10 * SCALE_SIZE].view(np.int32)
    assert (corrections == -128 * values.sum(axis=0)).all()


@pytest.mark.parametrize("numbers", sorted(NUMBERS))
@pytest.mark.parametrize("layout", ROUNDED)
def test_rows_are_rounded_in_c_as_in_numpy(layout: str, numbers: str) -> None:
    for k in (1, 2, 3, 4, 5, 31, 255, 256, 257, 258, 259, 1000):
        x = NUMBERS[numbers](k, (5, k))
        x[3] *= np.float32(1e-42)
        panels = Panels.of(layout, k, 16)
        expected = lay_out_rows(round_rows(x, layout.partition(" ")[0]), panels)
        integers = panels.depth * 4
        used = integers + (SCALE_SIZE if panels.is_scaled else 0)
        for stride, source in ((1, x), (5, np.asfortranarray(x))):
            got = np.full_like(expected, 0xA5)
            for row in range(5):
                round_row(got[row:].ctypes.data, source[row:].ctypes.data, k, stride, panels.row_format)
            if panels.is_scaled:
                scales = np.stack([got, expected])[:, :, integers:used].copy().view(np.float32)
                assert ((scales[0] == scales[1]) | (np.isnan(scales[0]) & np.isnan(scales[1]))).all()
            assert (got[:, :integers] == expected[:, :integers]).all()
            assert (got[:, used:] == 0xA5).all()


@pytest.mark.parametrize("numbers", ["plain", "wide", "cancelling"])
def test_error_of_rounded_rows(numbers: str) -> None:
    x = NUMBERS[numbers](3, (200, 60))
    values, scales = round_rows(x, "int8")
    assert scales is not None
    assert (np.abs(values.astype(int)) <= MOST_INT8).all()
    error = np.abs(values * scales.astype(np.float64)[:, None] - x)
    assert (error <= 0.501 * scales.astype(np.float64)[:, None] + 3.8e-37).all()
