"""Memory between two pages that nobody may touch: a read or write beyond an array ends the process."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

PROT_NONE = 0
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

SIDES = ("low", "high")


class Fence:
    """At least `size` bytes, flush against an inaccessible page on both sides. Kept for good."""

    def __init__(self, size: int) -> None:
        page = mmap.PAGESIZE
        self.size = -(-size // page) * page
        self._first = page
        self._map = mmap.mmap(-1, self.size + 2 * page)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        for guard in (self._address, self._address + page + self.size):
            if _libc.mprotect(guard, page, PROT_NONE) != 0:
                raise OSError(ctypes.get_errno(), "mprotect")

    def place(self, shape: Sequence[int], dtype: Any, strides: Sequence[int], side: str) -> Array:
        """An array (strides in bytes, of any sign) whose lowest or highest byte touches a guard page."""
        item = np.dtype(dtype).itemsize
        reach = [(extent - 1) * stride for extent, stride in zip(shape, strides, strict=True)]
        below = -sum(r for r in reach if r < 0)
        above = sum(r for r in reach if r > 0) + item
        assert below + above <= self.size, f"{below + above} bytes do not fit this fence of {self.size}"
        start = self._first + (0 if side == "low" else self.size - below - above) + below
        return np.ndarray(tuple(shape), dtype, self._map, start, tuple(strides))

    def hold(self, values: Array, side: str, strides: Sequence[int] | None = None) -> Array:
        """The values, contiguous or with these strides, against one side."""
        if strides is None:
            strides = np.empty(values.shape, values.dtype).strides
        placed = self.place(values.shape, values.dtype, strides, side)
        placed[...] = values
        return placed

    @property
    def guard_address(self) -> int:
        """Of the inaccessible page behind the memory."""
        return self._address + self._first + self.size
