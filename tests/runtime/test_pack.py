"""Packing: every stride class, every count of lanes and steps, between pages that must not be touched."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import platform

import numpy as np
import pytest

from neurojit.runtime import _blocked

LANES = (1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14, 16, 31, 32, 48, 64, 65)
STEPS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33)
INTEGERS = {4: np.dtype(np.uint32), 8: np.dtype(np.uint64)}

libc = ctypes.CDLL(None)


class Fenced:
    """Memory whose last byte lies before a page that cannot be read or written."""

    def __init__(self, pages: int) -> None:
        self.bytes = pages * mmap.PAGESIZE
        self.map = mmap.mmap(-1, self.bytes + 2 * mmap.PAGESIZE)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        for fence in (self.base, self.base + mmap.PAGESIZE + self.bytes):
            assert libc.mprotect(ctypes.c_void_p(fence), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0

    def last(self, count: int, dtype: np.dtype) -> np.ndarray:
        """The last `count` elements before the fence behind."""
        offset = mmap.PAGESIZE + self.bytes - count * dtype.itemsize
        return np.frombuffer(self.map, dtype, count, offset)

    def first(self, count: int, dtype: np.dtype) -> np.ndarray:
        return np.frombuffer(self.map, dtype, count, mmap.PAGESIZE)


SOURCE, PANEL = Fenced(32), Fenced(16)


def pack(portable: bool, source: np.ndarray, at_end: bool = True) -> np.ndarray:
    """A lanes x steps view as a panel of its own, flush against a fence."""
    lanes, steps = source.shape
    where = PANEL.last if at_end else PANEL.first
    panel = where(lanes * steps, source.dtype)
    panel[...] = 0
    strides = (stride // source.itemsize for stride in source.strides)
    _blocked.pack_panel(
        portable, source.itemsize, panel.ctypes.data, source.ctypes.data, lanes, steps, *strides
    )
    return panel.reshape(steps, lanes)


@pytest.mark.parametrize("portable", [True, False], ids=["portable", "here"])
@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize("order", ["lane stride 1", "step stride 1"])
def test_both_orders_between_fences(portable: bool, size: int, order: str) -> None:
    dtype = INTEGERS[size]
    for lanes, steps, at_end in itertools.product(LANES, STEPS, (False, True)):
        where = SOURCE.last if at_end else SOURCE.first
        flat = where(lanes * steps, dtype)
        flat[...] = np.arange(1, lanes * steps + 1, dtype=dtype)
        source = flat.reshape(steps, lanes).T if order == "lane stride 1" else flat.reshape(lanes, steps)
        assert (pack(portable, source, at_end) == source.T).all(), (lanes, steps)


@pytest.mark.parametrize("portable", [True, False], ids=["portable", "here"])
@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize(
    ("lane_step", "step_step"),
    [(1, 2), (2, 1), (3, 5), (-1, 1), (1, -1), (-1, -1), (-2, 3), (0, 1), (1, 0), (0, 0)],
)
def test_any_stride(portable: bool, size: int, lane_step: int, step_step: int) -> None:
    table = np.arange(1, 40_001, dtype=INTEGERS[size]).reshape(200, 200)
    for lanes, steps in itertools.product((1, 3, 6, 8, 12, 13, 16), (1, 4, 7, 16, 19)):
        for flat in (table[90:, 90:], table.T[90:, 90:]):
            row, column = flat.strides
            source = np.lib.stride_tricks.as_strided(
                flat, (lanes, steps), (row * lane_step, column * step_step)
            )
            assert (pack(portable, source) == source.T).all(), (lanes, steps)


@pytest.mark.parametrize("portable", [True, False], ids=["portable", "here"])
def test_neighbouring_panels_are_left_alone(portable: bool) -> None:
    for lanes, steps in itertools.product(LANES, STEPS):
        source = np.arange(1, lanes * steps + 1, dtype=np.uint32).reshape(lanes, steps)
        for view in (source, np.asfortranarray(source)):
            panel = np.full(lanes * steps + 64, 7, np.uint32)
            strides = (stride // 4 for stride in view.strides)
            _blocked.pack_panel(portable, 4, panel[32:].ctypes.data, view.ctypes.data, lanes, steps, *strides)
            assert (panel[:32] == 7).all()
            assert (panel[-32:] == 7).all()


def test_bits_are_moved_as_they_are() -> None:
    """Signalling NaNs stay signalling: no number is ever computed with."""
    source = np.full((13, 21), 0x7F800001, np.uint32)
    assert (pack(False, source) == 0x7F800001).all()
    wide = np.full((13, 21), 0x7FF0000000000001, np.uint64)
    assert (pack(False, wide) == 0x7FF0000000000001).all()


def test_the_packer_has_a_name() -> None:
    expected = {"x86_64": ("avx2", "portable"), "aarch64": ("neon",)}
    assert _blocked.packer() in expected.get(platform.machine(), ("portable",))
