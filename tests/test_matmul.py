"""nj.matmul against NumPy: the same shapes, types and exceptions for whatever is passed.

float32 and float64 results must have the reference's bits; all others must be NumPy's.
"""

from __future__ import annotations

import copy
import inspect
import mmap
import pickle
import resource
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from operands import DTYPES, LAYOUTS, NUMBERS, Array, plain, runnable_isas
from oracle import assert_same_bits, reference

import neurojit as nj

EXTENTS = st.one_of(st.integers(0, 9), st.sampled_from((15, 16, 17, 31, 33, 48, 64, 70)))
FLOATS = st.sampled_from(("f4", "f8"))
ALL_DTYPES = ("f4", "f8", "f2", "i1", "u2", "i4", "u8", "?", "c8", "c16", "g", "G", "O", ">f4", ">f8", ">i2")


def outcome(function: Any, *args: Any, **keywords: Any) -> Any:
    """What the call returns, or the type of what it raises."""
    try:
        with np.errstate(all="ignore"):
            return function(*args, **keywords)
    except Exception as error:
        return type(error)


def assert_as_numpy(a: Any, b: Any, **keywords: Any) -> None:
    """Same exception type; or same type, dtype and shape, with the reference's bits where it has any."""
    expected, got = outcome(np.matmul, a, b, **keywords), outcome(nj.matmul, a, b, **keywords)
    if isinstance(expected, type):
        assert got is expected, f"raised or returned {got!r}, NumPy raises {expected.__name__}"
        return
    assert type(got) is type(expected), f"{got!r} is no {type(expected).__name__}"
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    if got.size and got.dtype in DTYPES.values() and not keywords and runnable_isas():
        assert_same_bits(got, reference(a, b))
    else:
        np.testing.assert_array_equal(got, expected)  # without an ISA NumPy answers everything


@st.composite
def shape_pairs(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes that NumPy multiplies: matrices, vectors, batches that broadcast."""
    m, n, k = draw(EXTENTS), draw(EXTENTS), draw(EXTENTS)
    batch = draw(st.lists(st.integers(0, 3), max_size=3))
    ones = draw(st.lists(st.sampled_from("abx"), min_size=len(batch), max_size=len(batch)))
    a_batch = tuple(1 if one == "a" else extent for one, extent in zip(ones, batch, strict=True))
    b_batch = tuple(1 if one == "b" else extent for one, extent in zip(ones, batch, strict=True))
    a_batch = a_batch[draw(st.integers(0, len(batch))) :]
    a = draw(st.sampled_from([(k,), (*a_batch, m, k), (m, k)]))
    b = draw(st.sampled_from([(k,), (*b_batch, k, n), (k, n)]))
    return a, b


@settings(max_examples=400)
@given(
    shapes=shape_pairs(),
    dtypes=st.tuples(FLOATS, FLOATS),
    layouts=st.tuples(st.sampled_from(sorted(LAYOUTS)), st.sampled_from(sorted(LAYOUTS))),
    numbers=st.sampled_from(sorted(NUMBERS)),
    seed=st.integers(0, 99),
)
def test_rows_24_26_31_floats_have_the_references_bits_in_every_layout(
    shapes: Any, dtypes: Any, layouts: Any, numbers: str, seed: int
) -> None:
    with np.errstate(all="ignore"):
        a = LAYOUTS[layouts[0]](NUMBERS[numbers](seed, shapes[0], dtypes[0]))
        b = LAYOUTS[layouts[1]](NUMBERS[numbers](seed + 1, shapes[1], dtypes[1]))
    assert_as_numpy(a, b)


@pytest.mark.parametrize("a_layout", LAYOUTS)
@pytest.mark.parametrize("b_layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_row_26_every_pair_of_layouts(a_layout: str, b_layout: str, dtype: str) -> None:
    a = LAYOUTS[a_layout](plain(1, (13, 21), dtype))
    b = LAYOUTS[b_layout](plain(2, (21, 19), dtype))
    assert_as_numpy(a, b)


@given(
    a=st.lists(st.integers(0, 4), max_size=4).map(tuple),
    b=st.lists(st.integers(0, 4), max_size=4).map(tuple),
    dtype=FLOATS,
)
@example(a=(3, 4), b=(3, 4), dtype="f4")
@example(a=(), b=(2, 2), dtype="f4")
@example(a=(2, 3, 4), b=(3, 4, 5), dtype="f8")
def test_any_two_shapes_give_numpys_result_or_numpys_error(a: Any, b: Any, dtype: str) -> None:
    assert_as_numpy(np.ones(a, dtype), np.ones(b, dtype))


@pytest.mark.parametrize("shapes", [((0, 3), (3, 4)), ((2, 3), (3, 0)), ((2, 0), (0, 4)), ((0, 0), (0, 0)),
                                    ((0,), (0,)), ((0,), (0, 5)), ((4, 0), (0,)), ((2, 0, 3), (2, 3, 4)),
                                    ((0, 2, 3), (3, 4)), ((3, 2, 0), (0, 4))])  # fmt: skip
@pytest.mark.parametrize("with_out", [False, True])
def test_row_24_zero_extents(shapes: Any, with_out: bool) -> None:
    a, b = np.ones(shapes[0], np.float32), np.ones(shapes[1], np.float32)
    expected = np.matmul(a, b)
    if with_out:
        out = np.full(expected.shape, np.nan, np.float32)
        assert nj.matmul(a, b, out) is out
        np.testing.assert_array_equal(out, expected)
    else:
        np.testing.assert_array_equal(nj.matmul(a, b), expected)


# Row 30: dtypes that are NumPy's ---------------------------------------------------------------------


@pytest.mark.parametrize("a", ALL_DTYPES)
@pytest.mark.parametrize("b", ALL_DTYPES)
def test_row_30_every_pair_of_dtypes(a: str, b: str) -> None:
    values = np.arange(12).reshape(3, 4) % 5
    assert_as_numpy(values.astype(a), values.T.astype(b))


@pytest.mark.parametrize(
    "odd",
    [
        np.zeros((2, 2), [("x", "f4"), ("y", "i2")]),
        np.zeros((2, 2), "V4"),
        np.zeros((2, 2), "M8[s]"),
        np.zeros((2, 2), "m8[s]"),
        np.full((2, 2), "1.5"),
        np.full((2, 2), b"1.5"),
        np.full((2, 2), None),
        np.zeros((2, 2), np.dtype("f4", metadata={"unit": "m"})),
    ],
    ids=lambda x: str(x.dtype),
)
@pytest.mark.parametrize("side", ["both", "left", "right"])
def test_row_30_odd_dtypes_get_numpys_answer_or_error(odd: Array, side: str) -> None:
    number = np.ones((2, 2), np.float32)
    assert_as_numpy(odd if side != "right" else number, odd if side != "left" else number)


class WithArray:
    """Turns into an array on demand."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        return np.arange(4.0).reshape(2, 2)


class RefusesUfuncs(WithArray):
    __array_ufunc__ = None


@pytest.mark.parametrize(
    "other",
    [
        [[1, 2], [3, 4]],
        [[1.5, 2], [3, 4]],
        ((1, 2), (3, 4)),
        [1.0, 2.0],
        [[True, False], [False, True]],
        [[1j, 2], [3, 4]],
        [[], []],
        [],
        [[1, 2], [3]],
        [[10**30, 1], [1, 1]],
        1.0,
        3,
        None,
        "text",
        np.float32(2),
        np.array(2.0),
        memoryview(np.ones((2, 2), np.float32)),
        bytearray(b"ab"),
        range(2),
        np.ma.array([[1.0, 2], [3, 4]], mask=[[0, 1], [0, 0]]),
        np.rec.array(np.ones((2, 2))),
        WithArray(),
        RefusesUfuncs(),
    ],
    ids=lambda x: f"{type(x).__name__}-{x!r:.12}",
)
@pytest.mark.parametrize("side", ["left", "right", "both"])
def test_whatever_is_no_plain_array(other: Any, side: str) -> None:
    number = np.array([[1, 2], [3, 4]], np.float32)
    assert_as_numpy(other if side != "right" else number, other if side != "left" else number)


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_matrix_stays_a_matrix(side: str) -> None:
    number, matrix = plain(1, (2, 2)), np.matrix(plain(2, (2, 2)))
    assert_as_numpy(*((matrix, number) if side == "left" else (number, matrix)))


def test_array_ufunc_overrides_are_honoured() -> None:
    class Overrides:
        def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
            return ufunc.__name__, method, len(inputs), sorted(keywords)

    x, mine = plain(1, (2, 2)), Overrides()
    for args, keywords in (
        ((x, mine), {}),
        ((mine, x), {}),
        (([[1.0, 2]], mine), {}),
        ((x, x), {"out": mine}),
    ):
        assert nj.matmul(*args, **keywords) == np.matmul(*args, **keywords)


def test_a_failing_override_raises_its_own_error() -> None:
    class Fails:
        def __array_ufunc__(self, *args: Any, **keywords: Any) -> Any:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        nj.matmul(plain(1, (2, 2)), Fails())


# Arguments -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "keywords"),
    [
        ((), {}),
        (("a",), {}),
        (("a", "b", "c", "c"), {}),
        (("a", "b", "c"), {"out": "c"}),
        (("a",), {"b": "b"}),
        ((), {"x1": "a", "x2": "b"}),
        (("a", "b"), {"unknown": 1}),
        (("a", "b"), {"out": 5}),
        (("a", "b"), {"out": ["c"]}),
        (("a", "b"), {"out": ()}),
        (("a", "b"), {"out": ("c", "c")}),
        (("a", "b"), {"out": (5,)}),
        (("a", "b", 5), {}),
        (("a", "b"), {"dtype": "i4"}),
        (("a", "b"), {"casting": "nonsense"}),
        (("a", "b"), {"order": "Z"}),
        (("a", "b"), {"where": True}),
        (("a", "b"), {"axis": 0}),
        (("a", "b"), {"axes": [(0, 1)]}),
        (("a", "b"), {"signature": "qq->q"}),
    ],
)
def test_wrong_arguments_are_numpys_errors(args: Any, keywords: dict[str, Any]) -> None:
    arrays = {"a": plain(1, (3, 3)), "b": plain(2, (3, 3)), "c": np.full((3, 3), 7, np.float32)}

    def named(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(named(v) for v in value)
        return arrays.get(value, value) if isinstance(value, str) else value

    args, keywords = named(args), {key: named(value) for key, value in keywords.items()}
    expected = outcome(np.matmul, *args, **keywords)
    assert isinstance(expected, type), "this call was meant to fail"
    assert outcome(nj.matmul, *args, **keywords) is expected
    assert (arrays["c"] == 7).all()


@pytest.mark.parametrize(
    "keywords",
    [
        {"dtype": np.float64},
        {"dtype": np.float16, "casting": "same_kind"},
        {"casting": "no"},
        {"casting": "unsafe", "dtype": np.int32},
        {"order": "F"},
        {"order": "K", "subok": False},
        {"axes": [(1, 0), (0, 1), (0, 1)]},
        {"axes": [(0, 1), (1, 0), (1, 0)]},
        {"signature": "dd->d"},
        {"signature": (None, None, np.float64)},
    ],
    ids=str,
)
def test_numpys_keywords_are_honoured(keywords: dict[str, Any]) -> None:
    a, b = plain(1, (3, 3)), plain(2, (3, 3))
    expected, got = np.matmul(a, b, **keywords), nj.matmul(a, b, **keywords)
    np.testing.assert_array_equal(got, expected)
    assert (got.dtype, got.strides) == (expected.dtype, expected.strides)
    assert (
        sum(nj.info().fallbacks[reason] for reason in nj.info().fallbacks if reason.startswith("keyword")) > 0
    )


def test_the_result_is_a_new_contiguous_array() -> None:
    a, b = plain(1, (5, 6)), plain(2, (6, 7))
    first, second = nj.matmul(a, b), nj.matmul(a, b)
    assert first is not second
    assert first.flags.c_contiguous
    assert first.flags.owndata
    assert first.flags.writeable


def test_two_vectors_give_a_scalar() -> None:
    v = plain(1, (5,))
    assert type(nj.matmul(v, v)) is np.float32
    assert type(nj.matmul(v.astype("f8"), v)) is np.float64


def test_row_25_extents_and_strides_beyond_32_bits() -> None:
    one = np.ones(1, np.float32)
    huge = np.lib.stride_tricks.as_strided(one, (1, 1), (2**40, 2**40))
    assert_as_numpy(huge, huge)
    assert_as_numpy(np.broadcast_to(one, (0, 2**33)), np.broadcast_to(one, (2**33, 4)))
    assert_as_numpy(np.broadcast_to(one, (2**33, 0)), np.broadcast_to(one, (0, 2**33)))  # too big: ValueError
    assert_as_numpy(np.broadcast_to(one, (2**33, 3)), np.broadcast_to(one, (2, 2**33)))


def reserved(elements: int) -> Array:
    """Zeros in memory that is only reserved: pages exist once they are touched."""
    no_reserve = 0x4000
    memory = mmap.mmap(-1, elements * 4, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, np.float32)


@pytest.mark.parametrize("stride", [2**22 - 1, 2**24 + 1, 2**29, 2**31, -(2**24) - 1, -(2**31)])
@pytest.mark.parametrize("operand", ["a", "b", "c"])
def test_row_25_rows_too_far_apart_for_displacements(stride: int, operand: str) -> None:
    shape = {"a": (3, 5), "b": (5, 2), "c": (3, 2)}[operand]
    far = reserved((shape[0] - 1) * abs(stride) + shape[1])
    first = 0 if stride > 0 else (shape[0] - 1) * -stride
    view = np.lib.stride_tricks.as_strided(far[first:], shape, (stride * 4, 4))
    view[...] = plain(3, shape)
    a = view if operand == "a" else plain(1, (3, 5))
    b = view if operand == "b" else plain(2, (5, 2))
    out = view if operand == "c" else None
    if operand != "c" and stride < 2**31:
        assert_as_numpy(a, b)
        return
    returned = nj.matmul(a, b, out=out)
    assert operand != "c" or returned is view
    got = returned.copy()
    if stride < 2**31:
        assert_same_bits(got, reference(a, b))
    else:  # beyond 32 bits NumPy answers
        np.testing.assert_array_equal(got, np.matmul(a, b, out=out))


def test_row_25_a_long_k_whose_columns_are_far_apart() -> None:
    """k * stride overflows a 32-bit displacement though each step is small."""
    k, apart = 600, 2**20
    a = np.lib.stride_tricks.as_strided(reserved((k - 1) * apart + 1), (1, k), (4, apart * 4))
    a[...] = plain(1, (1, k))
    b = plain(2, (k, 3))
    assert_same_bits(nj.matmul(a, b), reference(a, b))


def test_row_25_rows_of_out_far_apart_cost_no_memory() -> None:
    """Gigabytes from the first row of out to the last: compiling must not touch as many of its own."""
    m, apart = 300, 2**21
    c = np.lib.stride_tricks.as_strided(reserved((m - 1) * apart + 2), (m, 2), (apart * 4, 4))
    a, b = plain(1, (m, 3)), plain(2, (3, 2))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    nj.matmul(a, b, c)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "KiB"
    assert_same_bits(c.copy(), reference(a, b))


# The public face ----------------------------------------------------------------


def test_signature() -> None:
    parameters = inspect.signature(nj.matmul).parameters
    kinds = inspect.Parameter
    assert [(name, p.kind, p.default) for name, p in parameters.items()] == [
        ("a", kinds.POSITIONAL_ONLY, kinds.empty),
        ("b", kinds.POSITIONAL_ONLY, kinds.empty),
        ("out", kinds.POSITIONAL_OR_KEYWORD, None),
        ("keywords", kinds.VAR_KEYWORD, kinds.empty),
    ]


def test_repr_name_and_help() -> None:
    assert repr(nj.matmul) == "<function neurojit.matmul>"
    assert nj.matmul.__name__ == "matmul"
    text = nj.matmul.__doc__
    assert text is not None
    for said in ("numpy.matmul", "out:", "float32", "ValueError", "TypeError", "(..., m, n)"):
        assert said in text


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_gives_the_same_object(protocol: int) -> None:
    assert pickle.loads(pickle.dumps(nj.matmul, protocol)) is nj.matmul
    assert nj.matmul.__module__ == "neurojit"  # so pickle searches no other module


def test_copies_are_the_same_object() -> None:
    assert copy.copy(nj.matmul) is nj.matmul
    assert copy.deepcopy(nj.matmul) is nj.matmul


def test_an_error_of_arguments_names_matmul() -> None:
    with pytest.raises(TypeError, match=r"^matmul\(\)"):
        nj.matmul()  # type: ignore[call-arg]
