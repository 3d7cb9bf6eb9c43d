"""Specialisation, caching and the ways a traced function can be called."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest
from operands import plain

import neurojit as nj
from neurojit.frontends import jit as jit_module

F4 = np.float32
X = plain(1, (4, 6))


def counted() -> tuple[Any, list[tuple[int, ...]]]:
    """A traced function, and the shapes it was traced for."""
    traced = []

    @nj.jit
    def double(x: Any, factor: Any = 2, *, shift: Any = 0) -> Any:
        """Doubles."""
        traced.append(x.shape)
        return x * factor + shift

    return double, traced


def test_one_trace_for_each_shape_and_dtype() -> None:
    double, traced = counted()
    for _ in range(2):
        for x in (X, X[:2], X.astype(np.float64), X[0], X.T):
            np.testing.assert_array_equal(double(x), x * 2)
    assert traced == [(4, 6), (2, 6), (4, 6), (6,), (6, 4)]
    assert len(double.programs) == 5
    assert all(program.compiled for program in double.programs.values())
    assert double.__name__ == "double"
    assert double.__doc__ == "Doubles."
    assert repr(double).endswith("double: 5 programs>")


def test_keywords_defaults_and_numbers_are_part_of_the_key() -> None:
    double, traced = counted()
    assert double(X)[0, 0] == double(x=X, factor=2)[0, 0] == double(X, shift=0)[0, 0]
    assert len(traced) == 1
    np.testing.assert_array_equal(double(X, 3), X * 3)
    np.testing.assert_array_equal(double(X, 3.0), X * 3)
    np.testing.assert_array_equal(double(X, factor=X, shift=X), X * X + X)
    np.testing.assert_array_equal(double(X, shift=np.float32(0.5)), X * 2 + F4(0.5))
    assert len(traced) == 5
    assert np.signbit(nj.jit(lambda x, y: x * y)(F4(1), -0.0))
    sign = nj.jit(lambda x, y: x * 0 + y)
    assert np.copysign(1, sign(X, 0.0)).min() == 1
    assert np.signbit(nj.jit(lambda x, y: x * y)(np.ones(2, F4), -0.0)).all()


def test_functions_tuples_and_types_are_compiled_in() -> None:
    apply = nj.jit(lambda x, f, shape, dtype, *more, **named: f(x).reshape(shape).astype(dtype) + sum(more))
    got = apply(X, np.tanh, (6, 4), np.float64, np.ones(4), 2)
    np.testing.assert_allclose(got, np.tanh(X).reshape(6, 4).astype(np.float64) + 3, rtol=1e-6)
    assert nj.jit(lambda x, **named: x + named["y"])(X, y=X)[1, 1] == 2 * X[1, 1]


def test_results_are_arrays_or_tuples_as_the_function_returned_them() -> None:
    single, pair, one = nj.jit(lambda x: x + 1), nj.jit(lambda x: (x, x.T)), nj.jit(lambda x: (x * 2,))
    assert isinstance(single(X), np.ndarray)
    assert [y.shape for y in pair(X)] == [(4, 6), (6, 4)]
    for _ in range(2):
        (y,) = one(X)
        np.testing.assert_array_equal(y, X * 2)


def test_captured_arrays_are_weights_or_constants() -> None:
    large, small = plain(3, (6, 5)), np.arange(4, dtype=F4)[:, None]
    function = nj.jit(lambda x: (x @ large) @ large.T + x @ large @ np.ones((5, 6), F4) + small)
    program = function.program(X)
    assert not function.programs.keys() - {next(iter(function.programs))}
    assert sorted(program.weights) == ["captured0", "captured1", "captured2"]
    before = function(X)
    large[:] = 0  # read when it was traced
    np.testing.assert_array_equal(function(X), before)
    assert function.program(X) is program


def test_a_traced_function_inside_another_is_a_part_of_it() -> None:
    double, traced = counted()
    both = nj.jit(lambda x: double(double(x), shift=1))
    np.testing.assert_array_equal(both(X), X * 4 + 1)
    assert len(both.programs) == 1
    assert not double.programs
    assert len(traced) == 2


def test_only_the_latest_programs_are_kept(monkeypatch: Any) -> None:
    monkeypatch.setattr(jit_module, "MOST_KEPT", 3)
    double, traced = counted()
    for n in range(1, 6):
        double(np.ones(n, F4))
    assert [program.signature[-12:] for program in double.programs.values()] == [
        f"ensor<{n}xf32>" for n in (3, 4, 5)
    ]
    double(np.ones(1, F4))
    assert traced[-1] == (1,)


def test_layouts_and_byte_orders() -> None:
    double, traced = counted()
    wide = plain(1, (8, 12))
    for x in (wide[::2, ::2], wide[4:, 6:][::-1], X.astype(">f4"), np.asfortranarray(X)):
        np.testing.assert_array_equal(double(x), x * 2)
    assert len(traced) == 1


class Exported:
    """Some other library's array."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack__(self, **keywords: Any) -> Any:
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


def test_whatever_has_dlpack_is_an_array() -> None:
    double, traced = counted()
    for _ in range(2):
        np.testing.assert_array_equal(double(Exported(X)), X * 2)
    assert len(traced) == 1


def test_threads_may_meet_at_a_cold_function() -> None:
    double, _ = counted()
    barrier, results = threading.Barrier(8), []

    def call() -> None:
        barrier.wait()
        results.append(double(X))

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all((result == X * 2).all() for result in results)


def test_a_failed_trace_leaves_nothing_behind() -> None:
    flag = [True, False]

    @nj.jit
    def fails_once(x: Any) -> Any:
        return np.arctan(x) if flag.pop(0) else x + 1

    with pytest.raises(TypeError, match="arctan"):
        fails_once(X)
    assert not fails_once.programs
    np.testing.assert_array_equal(fails_once(X), X + 1)


def test_more_shapes_than_the_call_path_remembers_in_any_order() -> None:
    """And arrays that look like remembered ones: another byte order, strides, a rank, a type."""

    @nj.jit
    def twice(x: Any) -> Any:
        return x + x

    dtypes = ("f4", "f8", "i4")
    arrays = [np.arange(2 * n, dtype=dtype).reshape(2, n) for n in range(1, 8) for dtype in dtypes]
    for turn in range(3):
        for array in arrays[:: -1 if turn == 1 else 1]:
            np.testing.assert_array_equal(twice(array), array + array)
            assert twice(array).dtype == array.dtype
    x = arrays[-3]
    assert len(twice.programs) == len(arrays)
    np.testing.assert_array_equal(twice(x[:, ::-1]), x[:, ::-1] * 2)
    np.testing.assert_array_equal(twice(np.asfortranarray(x)), x * 2)
    np.testing.assert_array_equal(twice(x.astype(">f4")), x * 2)
    np.testing.assert_array_equal(twice(x[0]), x[0] * 2)
    np.testing.assert_array_equal(twice(x=x), x * 2)
    assert twice.program(x) is list(twice.programs.values())[-4]
    with pytest.raises(TypeError):
        twice(x, x)
    known = weakref.ref(twice)
    del twice
    gc.collect()
    assert known() is None
