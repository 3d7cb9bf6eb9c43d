"""out=: every way to give it, every way it can overlap an input, everything that can be wrong with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operands import LAYOUTS, Array, plain
from oracle import assert_same_bits, reference

import neurojit as nj

WAYS = {
    "positional": lambda a, b, out: nj.matmul(a, b, out),
    "keyword": lambda a, b, out: nj.matmul(a, b, out=out),
    "tuple": lambda a, b, out: nj.matmul(a, b, out=(out,)),
    "positional tuple": lambda a, b, out: nj.matmul(a, b, (out,)),
}
SHAPES = [
    ((3, 4), (4, 5)),
    ((17, 9), (9, 33)),
    ((1, 1), (1, 1)),
    ((4,), (4, 5)),
    ((3, 4), (4,)),
    ((4,), (4,)),
    ((2, 3, 4), (4, 5)),
    ((2, 1, 3, 4), (3, 4, 5)),
    ((300, 70), (70, 90)),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_out_is_filled_and_returned(way: str, shapes: Any, dtype: str) -> None:
    a, b = plain(1, shapes[0], dtype), plain(2, shapes[1], dtype)
    expected = reference(a, b)
    out = np.full(expected.shape, np.nan, dtype)
    for _ in range(2):  # the first compiles
        out.fill(np.nan)
        assert WAYS[way](a, b, out) is out
        assert_same_bits(out, expected)


@pytest.mark.parametrize("none", [{"out": None}, {"out": (None,)}])
def test_no_out_said_in_words(none: Any) -> None:
    a, b = plain(1, (3, 4)), plain(2, (4, 5))
    assert_same_bits(nj.matmul(a, b, **none), reference(a, b))
    assert_same_bits(nj.matmul(a, b, None), reference(a, b))


WRITABLE = sorted(set(LAYOUTS) - {"zero_rows", "zero_columns", "read_only", "swapped_bytes"})


@pytest.mark.parametrize("layout", WRITABLE)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_row_26_out_in_any_layout_and_nothing_beside_it(layout: str, shapes: Any) -> None:
    a, b = plain(1, shapes[0]), plain(2, shapes[1])
    expected = reference(a, b)
    if not expected.ndim:
        pytest.skip("a scalar has one layout")
    out = LAYOUTS[layout](np.full(expected.shape, 5, np.float32))
    around = out if out.base is None else out.base
    memory = np.frombuffer(around, np.uint8) if isinstance(around, bytearray) else around
    before = memory.copy()
    for _ in range(2):
        assert nj.matmul(a, b, out) is out
        assert_same_bits(np.array(out), expected)
    out[...] = 5
    np.testing.assert_array_equal(memory, before)  # so nothing but out was written


# Row 28: overlap -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 7, 16, 40])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("which", ["a", "b", "both", "a transposed", "b reversed"])
def test_row_28_out_is_an_input(n: int, dtype: str, which: str) -> None:
    for _ in range(2):
        a, b = plain(1, (n, n), dtype), plain(2, (n, n), dtype)
        if which == "both":
            b = a
        expected = reference(a, b)
        out = {"a": a, "b": b, "both": a, "a transposed": a.T, "b reversed": b[::-1]}[which]
        assert nj.matmul(a, b, out) is out
        assert_same_bits(np.array(out), expected)


@settings(max_examples=300)
@given(
    m=st.integers(1, 9),
    n=st.integers(1, 9),
    k=st.integers(1, 9),
    offsets=st.tuples(*[st.integers(0, 120)] * 3),
    transposed=st.tuples(*[st.booleans()] * 3),
    shift=st.integers(0, 3),
    dtype=st.sampled_from(["f4", "f8"]),
)
def test_row_28_windows_of_one_memory(
    m: int, n: int, k: int, offsets: Any, transposed: Any, shift: int, dtype: str
) -> None:
    """a, b and out anywhere in the same 1,700 bytes, also by single bytes apart."""
    memory = bytearray(np.arange(1, 430, dtype="f4").tobytes())
    if dtype == "f8":
        memory = bytearray(np.arange(1, 215, dtype="f8").tobytes())

    def window(rows: int, columns: int, which: int) -> Array:
        shape = (columns, rows) if transposed[which] else (rows, columns)
        view: Array = np.ndarray(shape, dtype, memory, offsets[which] * 4 + (shift if which == 2 else 0))
        return view.T if transposed[which] else view

    a, b, out = window(m, k, 0), window(k, n, 1), window(m, n, 2)
    with np.errstate(all="ignore"):
        expected = reference(a.copy(), b.copy())
    assert nj.matmul(a, b, out) is out
    assert_same_bits(out.copy(), expected)


@pytest.mark.parametrize("batch", [(3,), (2, 3)])
def test_row_28_a_batch_over_itself(batch: tuple[int, ...]) -> None:
    a, b = plain(1, (*batch, 5, 5)), plain(2, (5, 5))
    expected = reference(a, b)
    nj.matmul(a, b, out=a)
    assert_same_bits(a, expected)


def test_row_28_a_row_of_the_result_is_the_vector() -> None:
    x = plain(1, (6,))
    w = plain(2, (6, 6))
    expected = reference(x, w)
    nj.matmul(x, w, x)
    assert_same_bits(x, expected)


# Row 29: wrong outs ----------------------------------------------------------------------------------


def read_only(shape: tuple[int, ...], dtype: Any) -> Array:
    out = np.full(shape, 7, dtype)
    out.flags.writeable = False
    return out


WRONG = {
    "read-only": lambda: read_only((3, 5), "f4"),
    "a row too few": lambda: np.full((2, 5), 7, "f4"),
    "a row too many": lambda: np.full((4, 5), 7, "f4"),
    "a column too few": lambda: np.full((3, 4), 7, "f4"),
    "a column too many": lambda: np.full((3, 6), 7, "f4"),
    "flat": lambda: np.full((15,), 7, "f4"),
    "transposed": lambda: np.full((5, 3), 7, "f4"),
    "0-d": lambda: np.full((), 7, "f4"),
    "empty": lambda: np.full((0, 5), 7, "f4"),
    "integers": lambda: np.full((3, 5), 7, "i4"),
    "booleans": lambda: np.full((3, 5), 7, "?"),
    "a structure": lambda: np.zeros((3, 5), [("x", "f4")]),
    "broadcast": lambda: np.broadcast_to(np.full((1, 5), 7, "f4"), (3, 5)),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("way", WAYS)
def test_row_29_a_wrong_out_is_numpys_error_and_untouched(wrong: str, way: str) -> None:
    a, b = plain(1, (3, 4)), plain(2, (4, 5))
    nj.matmul(a, b)
    out = WRONG[wrong]()
    before = out.copy()
    with pytest.raises((ValueError, TypeError)) as theirs:
        np.matmul(a, b, out=out)
    with pytest.raises((ValueError, TypeError)) as ours:
        WAYS[way](a, b, out)
    assert ours.type is theirs.type
    assert str(ours.value) == str(theirs.value)
    np.testing.assert_array_equal(out, before)


@pytest.mark.parametrize("shapes", [((3, 4), (5, 6)), ((3, 4), (3, 4)), ((2, 3, 4), (3, 4, 5)), ((), (4,))])
def test_row_29_wrong_inputs_leave_out_untouched(shapes: Any) -> None:
    out = np.full((3, 5), 7, np.float32)
    with pytest.raises(ValueError, match=r"matmul|broadcast"):
        nj.matmul(plain(1, shapes[0]), plain(2, shapes[1]), out)
    assert (out == 7).all()


@pytest.mark.parametrize("make", [
    lambda: np.full((3, 5), 7, "f8"),
    lambda: np.full((3, 5), 7, "c8"),
    lambda: np.full((3, 5), 7, ">f4"),
    lambda: np.full((2, 3, 5), 7, "f4"),
    lambda: np.full((3, 5), None),
])  # fmt: skip
def test_outs_that_numpy_converts_into(make: Any) -> None:
    a, b = plain(1, (3, 4)), plain(2, (4, 5))
    expected, got = make(), make()
    np.matmul(a, b, out=expected)
    assert nj.matmul(a, b, out=got) is got
    np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))
