"""What the tests of vector functions share: kernels of one function, and the C code that measures them."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from native import build

from neurojit.codegen import emit_map
from neurojit.plan.epilogue import Activation
from neurojit.plan.map import Map
from neurojit.runtime import Code
from neurojit.target import isa_named

Array = np.ndarray[Any, Any]
SOURCE = Path(__file__).with_name("ulp_sweep.c")
MEASURED = ("exp", "log", "tanh", "sigmoid", "erf", "elu", "silu", "gelu", "gelu_tanh")  # as in ulp_sweep.c
ALPHA = 0.75  # elu's
TYPES: dict[str, type[Any]] = {"f32": np.float32, "f64": np.float64}


class SweepResult(ctypes.Structure):
    _fields_ = [("worst", ctypes.c_double), ("at", ctypes.c_double), ("count", ctypes.c_int64)]


@dataclass(frozen=True)
class Measurement:
    worst: float
    at: float
    count: int


class Sweeper:
    """The functions of ulp_sweep.c."""

    def __init__(self, folder: Path) -> None:
        library = folder / "ulp_sweep.so"
        build(library, [SOURCE], "-O2", "-shared", "-fPIC", "-lm")
        self.library = ctypes.CDLL(str(library))
        self.library.differences_f32.restype = ctypes.c_int64

    def sweep(self, kernel: Code, function: str, first: int = 0, last: int = 2**32 - 1) -> Measurement:
        result = SweepResult()
        self.library.sweep_f32(
            ctypes.c_void_p(kernel.address), MEASURED.index(function), ctypes.c_double(ALPHA),
            ctypes.c_uint32(first), ctypes.c_uint32(last), ctypes.byref(result),
        )  # fmt: skip
        return Measurement(result.worst, result.at, result.count)

    def measure(self, function: str, x: Array, y: Array) -> Measurement:
        result = SweepResult()
        measure = self.library.measure_f32 if x.dtype == np.float32 else self.library.measure_f64
        measure(
            MEASURED.index(function), ctypes.c_double(ALPHA), ctypes.c_void_p(x.ctypes.data),
            ctypes.c_void_p(y.ctypes.data), ctypes.c_int64(x.size), ctypes.byref(result),
        )  # fmt: skip
        return Measurement(result.worst, result.at, result.count)

    def differences(self, f: Code, g: Code) -> int:
        return int(self.library.differences_f32(ctypes.c_void_p(f.address), ctypes.c_void_p(g.address)))


@lru_cache
def kernel(name: str, dtype: str, isa: str, parameters: tuple[float, ...] = ()) -> Code:
    """The map of one function. elu has ALPHA unless told otherwise."""
    parameters = parameters or ((ALPHA,) if name == "elu" else ())
    return Code.map(emit_map(Map.of_functions(dtype, (Activation(name, parameters),)), isa_named(isa)))


def apply(code: Code, x: Array) -> Array:
    y = np.full_like(x, 7)
    assert code.call((x.ctypes.data, y.ctypes.data), x.size) == 0
    return y
