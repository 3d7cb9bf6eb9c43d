"""The control register of floating-point arithmetic (MXCSR, FPCR), read without code of our own: row 32.

The C library's `fegetenv` stores it in an `fenv_t`, at a place that its ABI fixes. Nothing of neurojit is
imported here, so that the first look comes before it.
"""

from __future__ import annotations

import ctypes
import platform
import struct

# machine: where it is in glibc's fenv_t; its control bits; what a new process has there.
PLACES = {"x86_64": (28, 0xFFC0, 0x1F80), "aarch64": (0, 0xFFFFFFFF, 0), "riscv64": (0, 0xE0, 0)}
PLACE, CONTROL_BITS, DEFAULT = PLACES.get(platform.machine(), PLACES["x86_64"])

_fegetenv = ctypes.CDLL("libm.so.6").fegetenv


def float_control() -> int:
    """The control bits, without the exception flags, which any arithmetic may raise."""
    environment = ctypes.create_string_buffer(64)
    assert _fegetenv(environment) == 0
    (word,) = struct.unpack_from("<I", environment, PLACE)
    return int(word) & CONTROL_BITS
