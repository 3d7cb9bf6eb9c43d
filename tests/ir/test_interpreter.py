"""The interpreter: states, scan, asserts, dynamic extents, bf16, the exact mode, and what it refuses."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from neurojit.errors import AssertFailedError, TensorLangError
from neurojit.ir import Builder, Function, evaluate


def counter() -> Function:
    """y = x + h; h becomes 2 h + 1; read twice, written before the last read."""
    b = Builder()
    x = b.parameter("x", "tensor<2xf32>")
    h = b.state_read(name="h", type="tensor<2xf32>", initial=3.0)
    b.state_write(b.add(b.mul(h, 2.0), 1.0), name="h")
    again = b.state_read(name="h", type="tensor<2xf32>", initial=3.0)
    return b.build(b.add(x, again))


def test_states_are_read_as_they_were_and_written_at_the_end() -> None:
    f, x = counter(), np.array([10, 20], "f4")
    first = evaluate(f, [x])
    assert first.outputs[0].tolist() == [13, 23]
    assert first.states["h"].tolist() == [7, 7]
    second = evaluate(f, [x], states=first.states)
    assert second.outputs[0].tolist() == [17, 27]
    assert second.states["h"].tolist() == [15, 15]
    assert f.states == {"h": f.parameters[0].type}


def lstm_like(reverse: bool) -> Function:
    b = Builder()
    xs, h0 = b.parameter("xs", "tensor<?x2xf32>"), b.parameter("h0", "tensor<2xf32>")
    w = b.weight(name="w", type="tensor<2x2xf32>")

    def step(h: Any, x: Any) -> Any:
        product = b.reshape(b.matmul(b.reshape(h, shape=(1, 2)), w), shape=(2,))
        new = b.add(product, x)
        return [new], [new, b.neg(x)]

    (last,), (hs, negated) = b.scan(step, [h0], [xs], reverse=reverse)
    return b.build(last, hs, negated)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_scan(reverse: bool, steps: int) -> None:
    xs = np.arange(steps * 2, dtype="f4").reshape(steps, 2)
    h0, w = np.array([1, -1], "f4"), np.array([[1, 2], [0, -1]], "f4")
    last, hs, negated = evaluate(lstm_like(reverse), [xs, h0], {"w": w}).outputs
    h, expected = h0, np.zeros((steps, 2), "f4")
    for step in reversed(range(steps)) if reverse else range(steps):
        h = expected[step] = h @ w + xs[step]
    np.testing.assert_array_equal(last, h)
    np.testing.assert_array_equal(hs, expected)
    np.testing.assert_array_equal(negated, -xs)


def test_scan_of_a_given_length() -> None:
    b = Builder()
    one = b.constant(1.0)
    (last,), (powers,) = b.scan(lambda v: ([b.mul(v, 2.0)], [v]), [one], length=5)
    last_value, powers_value = evaluate(b.build(last, powers), []).outputs
    assert last_value == 32
    assert powers_value.tolist() == [1, 2, 4, 8, 16]


def checked() -> Function:
    b = Builder()
    x = b.parameter("x", "tensor<3xf32>")
    b.op("assert", b.compare(x, 0.0, predicate="ge"), text="x must not be negative")
    b.op("assert", b.compare(x, 9.0, predicate="lt"), text="x must be below 9")
    b.state_write(x, name="seen")
    return b.build(x)


def test_asserts_have_numbers_and_places_and_keep_states() -> None:
    f = checked()
    assert evaluate(f, [np.zeros(3, "f4")]).outputs[0].tolist() == [0, 0, 0]
    with pytest.raises(AssertFailedError, match=r"test_interpreter.py:\d+: x must be below 9") as caught:
        evaluate(f, [np.array([1, 2, 9], "f4")])
    assert caught.value.number == 2
    assert caught.value.span == f.asserts[1].span
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.number, again.text, str(again)) == (2, "x must be below 9", str(caught.value))
    with pytest.raises(AssertFailedError, match="x must not be negative"):
        evaluate(f, [np.array([1, np.nan, 9], "f4")])


def test_exact_mode_rounds_nothing() -> None:
    b = Builder()
    x = b.parameter("x", "tensor<2xf32>")
    y = b.convert(b.mul(b.convert(x, dtype="bf16"), 3.0), dtype="f32")
    f = b.build(y, b.div(x, 3.0))
    given = np.array([1.00390625, 1 / 3], "f4")
    exact, third = evaluate(f, [given], exact=True).outputs
    assert exact.dtype == np.float64
    np.testing.assert_array_equal(exact, given.astype("f8") * 3)
    np.testing.assert_array_equal(third, given.astype("f8") / 3)
    rounded = evaluate(f, [given]).outputs[0]
    assert rounded.dtype == np.float32
    assert rounded.tolist() == [3.0, 1.0]  # 1.00390625 is a tie: to 1; 3 (1 / 3) to 1 after two roundings


def test_bf16_comes_as_bits_or_as_numbers() -> None:
    b = Builder()
    w = b.weight(name="w", type="tensor<3xbf16>")
    f = b.build(b.add(w, w))
    numbers = np.array([1.5, -2.0, 3e38], "f4")
    bits = (numbers.view("u4") >> 16).astype("u2")
    got = evaluate(f, [], {"w": bits}).outputs[0]
    assert got[:2].tolist() == [3, -4]
    assert np.isinf(got[2])
    assert evaluate(f, [], {"w": numbers}).outputs[0][:2].tolist() == [3, -4]


def test_attributes_are_rounded_to_the_element_type() -> None:
    b = Builder()
    x = b.parameter("x", "tensor<1xf32>")
    (got,) = evaluate(b.build(b.leaky_relu(x, alpha=0.1)), [np.array([-3], "f4")]).outputs
    assert got == np.float32(-3) * np.float32(0.1)


def dynamic() -> Function:
    b = Builder()
    x, y = b.parameter("x", "tensor<?x2xf32>"), b.parameter("y", "tensor<?xf32>")
    zeros = b.broadcast(b.constant(0.0), shape=(-1, 2))
    return b.build(b.add(x, zeros), y)


def test_dynamic_extents_are_one() -> None:
    for n in (0, 1, 4):
        got = evaluate(dynamic(), [np.ones((n, 2), "f4"), np.ones(n, "f4")]).outputs
        assert got[0].shape == (n, 2)
    with pytest.raises(TensorLangError, match="dynamic extents of %x and %y differ: expected 3, got 4"):
        evaluate(dynamic(), [np.ones((3, 2), "f4"), np.ones(4, "f4")])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([np.ones((3, 2), "f4")], "inputs of @main: expected 2, got 1"),
        (
            [np.ones((3, 3), "f4"), np.ones(3, "f4")],
            r"%x has another shape: expected tensor<\?x2xf32>, \(3, 2\)",
        ),
        ([np.ones((3, 2), "f8"), np.ones(3, "f4")], "%x has another dtype: expected float32, got float64"),
    ],
)
def test_inputs_that_do_not_fit(inputs: list[Any], message: str) -> None:
    with pytest.raises(TensorLangError, match=message):
        evaluate(dynamic(), inputs)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"v": np.ones(2)}, "weight 'w' is not among those given: got v"),
        ({"w": np.ones((2, 3), "f4")}, r"weight 'w' has another shape: expected tensor<2x2xf32>"),
        ({"w": np.ones((2, 2))}, "weight 'w' has another dtype: expected float32, got float64"),
    ],
)
def test_weights_that_do_not_fit_are_located(weights: dict[str, Any], message: str) -> None:
    with pytest.raises(TensorLangError, match=message) as caught:
        evaluate(lstm_like(False), [np.ones((1, 2), "f4"), np.ones(2, "f4")], weights)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.span is not None
    assert diagnostic.span.source == __file__
    assert lstm_like(False).weights.keys() == {"w"}


def test_states_that_do_not_fit() -> None:
    with pytest.raises(TensorLangError, match="state 'h' has another shape"):
        evaluate(counter(), [np.ones(2, "f4")], states={"h": np.ones(3, "f4")})
