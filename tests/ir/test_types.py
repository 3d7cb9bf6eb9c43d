"""Types: spelling, limits, dynamic extents; bf16 rounding against its definition."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from neurojit.ir.numbers import to_element
from neurojit.ir.types import ELEMENTS, MOST_ELEMENTS, TensorType, parse_type, round_bf16


@pytest.mark.parametrize("text", ["tensor<f32>", "tensor<?xbf16>", "tensor<64x32xf32>", "tensor<?x0x3xi1>"])
def test_text_and_back(text: str) -> None:
    assert str(parse_type(text)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tensor<4xf16>", "element type 'f16': expected one of f32, f64, bf16, i32, i8, i1"),
        ("tensor<4x?xf32>", "a dynamic extent must lead"),
        ("tensor<1x1x1x1x1x1x1x1x1xf32>", "rank 9: expected at most 8"),
        (f"tensor<{MOST_ELEMENTS}x2xf32>", "more than 2147483648 elements"),
        ("tensor<-4xf32>", "expected the form tensor<64x32xf32>"),
        ("tensor<4xf32", "expected the form"),
    ],
)
def test_what_is_no_type(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".+") as caught:
        parse_type(text)
    assert message in str(caught.value)


def test_negative_extents_are_refused() -> None:
    with pytest.raises(ValueError, match="expected extents of at least 0"):
        TensorType((-2, 3))


def test_dynamic_extent() -> None:
    type_ = TensorType((None, 3))
    assert type_.is_dynamic
    assert type_.static_shape(5) == (5, 3)
    assert type_.count(5) == 15
    assert type_.with_extent(5) == TensorType((5, 3))
    assert not TensorType(()).is_dynamic


def nearest_bf16(x: float) -> float:
    """By exhaustive arithmetic on fractions: the nearest, ties to even."""
    exponent = max(np.frexp(x)[1] - 8, -133)
    scaled = Fraction(x) / Fraction(2) ** int(exponent)
    return float(round(scaled) * Fraction(2) ** int(exponent))  # round() ties to even


def test_bf16_rounds_once() -> None:
    rng = np.random.default_rng(3)
    ordinary = rng.standard_normal(2000) * 10.0 ** rng.integers(-40, 38, 2000)
    halves = (rng.integers(128, 256, 2000) * 2 + 1) * 2.0 ** rng.integers(-120, 100, 2000)  # ties
    beside = np.nextafter(halves, rng.choice([-np.inf, np.inf], 2000))  # float32 would make ties of them
    numbers = np.concatenate([ordinary, halves, beside, -halves, [1e-320, -1e-320, 0.0]])
    expected = [nearest_bf16(float(x)) for x in numbers]
    np.testing.assert_array_equal(round_bf16(numbers), expected)
    assert np.signbit(round_bf16(np.array([-1e-320, -0.0]))).all()


def test_bf16_specials() -> None:
    got = round_bf16(np.array([np.inf, -np.inf, np.nan, 3.4e38, 1e300]))
    np.testing.assert_array_equal(got, [np.inf, -np.inf, np.nan, np.inf, np.inf])
    assert round_bf16(np.float32(1.0).reshape(())).shape == ()


@pytest.mark.parametrize(
    ("given", "element", "expected"),
    [
        ([1.9, -1.9, np.nan, 1e10, -np.inf], "i32", [1, -1, 0, 2**31 - 1, -(2**31)]),
        ([127.5, -300.0, 5.0], "i8", [127, -128, 5]),
        (np.array([300, -300, 7], np.int32), "i8", [127, -128, 7]),
        ([0.0, -0.0, np.nan, 3.0], "i1", [False, False, True, True]),
        ([True, False], "f32", [1.0, 0.0]),
        (np.array([257], np.int32), "bf16", [256.0]),
    ],
)
def test_convert(given: Any, element: str, expected: Any) -> None:
    got = to_element(np.asarray(given), element)
    np.testing.assert_array_equal(got, expected)
    assert got.dtype.name == ELEMENTS[element].dtype
