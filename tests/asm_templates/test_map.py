"""map: every tail length between guard pages, in place, the ABI, and chains of functions."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np
import pytest
from measured_functions import TYPES, Array, apply, kernel
from test_math import ISAS

from neurojit.codegen import emit_map
from neurojit.encoder import peachpy_encoder
from neurojit.plan.epilogue import Activation
from neurojit.plan.map import Map
from neurojit.runtime import Code
from neurojit.target import isa_named

PAGE = mmap.PAGESIZE


class GuardedPage:
    """A page of numbers between two that cannot be touched."""

    def __init__(self) -> None:
        self.map = mmap.mmap(-1, 3 * PAGE)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        libc = ctypes.CDLL(None, use_errno=True)
        for page in (0, 2):
            assert libc.mprotect(ctypes.c_void_p(self.base + page * PAGE), PAGE, 0) == 0

    def array(self, dtype: type[np.generic], count: int, at_end: bool) -> Array:
        size = count * np.dtype(dtype).itemsize
        offset = PAGE + (PAGE - size if at_end else 0)
        return np.frombuffer(self.map, dtype, count, offset)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("at_end", [False, True])
def test_tails_between_guard_pages(dtype: str, isa: str, at_end: bool) -> None:
    code = kernel("exp", dtype, isa)
    source, target = GuardedPage(), GuardedPage()
    for n in range(70):
        x, y = (page.array(TYPES[dtype], n, at_end) for page in (source, target))
        x[:] = np.linspace(-3, 3, n)
        y[:] = 7
        assert code.call((x.ctypes.data, y.ctypes.data), n) == 0
        np.testing.assert_allclose(y, np.exp(x), rtol=1e-6)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_nothing_else_is_written(dtype: str, isa: str) -> None:
    code = kernel("tanh", dtype, isa)
    for n in range(40):
        x = np.ones(64, TYPES[dtype])
        y = np.full(64, -5, TYPES[dtype])
        assert code.call((x.ctypes.data, y[8:].ctypes.data), n) == 0
        assert (y[:8] == -5).all()
        assert (y[8 + n :] == -5).all()


@pytest.mark.parametrize("isa", ISAS)
def test_in_place(isa: str) -> None:
    x = np.linspace(-4, 4, 101).astype(np.float32)
    expected = apply(kernel("sigmoid", "f32", isa), x)
    assert kernel("sigmoid", "f32", isa).call((x.ctypes.data, x.ctypes.data), x.size) == 0
    assert x.tobytes() == expected.tobytes()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ["exp", "log", "tanh", "sigmoid", "erf", "gelu", "silu"])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_abi(name: str, dtype: str, isa: str) -> None:
    x = np.linspace(0.5, 4, 37).astype(TYPES[dtype])
    y = np.empty_like(x)
    for stack_offset in (0, 16, 32, 48):
        buffers = (x.ctypes.data, y.ctypes.data)
        report = kernel(name, dtype, isa).call_checked(buffers, 37, stack_offset=stack_offset)
        assert report is not None
        assert report["violations"] == ()
        assert report["result"] == 0


@pytest.mark.parametrize("isa", ISAS)
def test_chain(isa: str) -> None:
    chain = Map.of_functions("f32", (Activation("tanh"), Activation("clamp", (-0.5, 0.5)), Activation("exp")))
    x = np.linspace(-2, 2, 45).astype(np.float32)
    got = apply(Code.map(emit_map(chain, isa_named(isa))), x)
    tanh = apply(kernel("tanh", "f32", isa), x)
    assert got.tobytes() == apply(kernel("exp", "f32", isa), np.clip(tanh, -0.5, 0.5)).tobytes()


@pytest.mark.skipif(peachpy_encoder.load() is None, reason="no PeachPy")
@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_both_encoders_give_the_same_bytes(isa: str) -> None:
    for name in ("log", "gelu"):
        chain = Map.of_functions("f64", (Activation(name),))
        assert emit_map(chain, isa_named(isa), "peachpy") == emit_map(chain, isa_named(isa), "table")
