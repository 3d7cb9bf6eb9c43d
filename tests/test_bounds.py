"""Error bounds: float32 arithmetic in any order stays within them, and a wrong result does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import Net
from operands import Array, plain

from neurojit import bounds
from neurojit.ir import OPS, Value, evaluate


def unary(name: str, **attributes: Any) -> Any:
    return lambda b, x, y: getattr(b, name)(x, **attributes)


def binary(name: str, **attributes: Any) -> Any:
    return lambda b, x, y: getattr(b, name)(x, y, **attributes)


CASES: dict[str, Any] = {
    **{
        name: unary(name)
        for name in (
            "exp", "tanh", "sigmoid", "erf", "silu", "gelu", "gelu_tanh", "relu", "neg", "abs",
        )
    },
    "log": lambda b, x, y: b.log(b.add(b.abs(x), 0.1)),
    "sqrt": lambda b, x, y: b.sqrt(b.abs(x)),
    "rsqrt": lambda b, x, y: b.rsqrt(b.add(b.abs(x), 0.1)),
    "elu": unary("elu", alpha=1.5),
    "leaky_relu": unary("leaky_relu", alpha=0.1),
    "clamp": unary("clamp", low=-0.5, high=0.5),
    **{name: binary(name) for name in ("add", "sub", "mul", "div", "maximum", "minimum")},
    "compare": lambda b, x, y: b.select(b.compare(x, y, predicate="lt"), x, y),
    "logic": lambda b, x, y: b.select(
        b.or_(b.compare(x, y, predicate="gt"), b.not_(b.compare(x, 0.0, predicate="le"))), x, y
    ),
    "matmul": lambda b, x, y: b.matmul(x, y, transpose_b=True),
    "outer": binary("outer"),
    **{name: unary(name, axes=(1,)) for name in ("sum", "mean", "max", "min")},
    "softmax": unary("softmax", axis=1),
    "softmax, masked": lambda b, x, y: b.softmax(
        b.add(x, b.select(b.compare(y, 0.0, predicate="lt"), -1e30, 0.0)), axis=1
    ),
    "logsumexp": unary("logsumexp", axis=1),
    "cumsum": unary("cumsum", axis=1),
    "layer_norm": lambda b, x, y: b.layer_norm(x, b.slice_row(y), b.slice_row(x)),
    "rms_norm": lambda b, x, y: b.rms_norm(x, b.slice_row(y)),
    "reshape": unary("reshape", shape=(40, 6)),
    "transpose": unary("transpose", permutation=(1, 0)),
    "broadcast": unary("broadcast", shape=(2, 12, 20)),
    "slice": unary("slice", axis=1, start=1, end=9, step=3),
    "concat": binary("concat", axis=1),
    "pad": unary("pad", low=(0, 2), high=(1, 0), value=3.0),
    "gather": lambda b, x, y: b.gather(x, b.constant([3, 1, 1], "i32"), axis=1),
    "convert": lambda b, x, y: b.convert(b.convert(x, dtype="f64"), dtype="f32"),
}  # fmt: skip


class WithRows:
    """A builder that also takes the first row of a matrix."""

    def __init__(self, b: Any) -> None:
        self._b = b

    def slice_row(self, x: Value) -> Value:
        row: Value = self._b.reshape(self._b.slice(x, axis=0, start=0, end=1), shape=(20,))
        return row

    def __getattr__(self, name: str) -> Any:
        return getattr(self._b, name)


def result(name: str) -> tuple[Any, list[Array]]:
    """The op behind two layers of arithmetic, so that its operands have errors of their own."""
    net = Net()
    b = WithRows(net.b)
    x, y = net.input("x", 12, 20), net.input("y", 12, 20)
    u, v = b.add(b.mul(x, 1.1), b.mul(y, 0.3)), b.sub(b.mul(y, 0.7), b.mul(x, 0.2))
    module, _ = net.module(CASES[name](b, u, v))
    return module.main, [plain(1, (12, 20)), plain(2, (12, 20))]


@pytest.mark.parametrize("name", CASES)
def test_the_interpreter_is_within_the_bound_and_a_wrong_result_is_not(name: str) -> None:
    function, inputs = result(name)
    (meant,), _ = bounds.bounds(function, inputs, {}, {})
    (got,) = evaluate(function, inputs).outputs
    assert bounds.agrees(got, meant).all()
    size = np.abs(meant.value).max()
    certain = np.isfinite(meant.error)
    assert certain.mean() > 0.9
    assert meant.error[certain].max() < 2e-4 * max(1.0, size)  # it would notice
    wrong = got + np.float32(1e-2) * np.float32(max(1.0, size))
    assert not bounds.agrees(wrong, meant)[certain].any()


def test_every_op_has_a_rule_but_those_that_the_walk_knows() -> None:
    known = {"constant", "weight", "state_read", "state_write", "assert", "scan", "yield", "return"}
    assert set(OPS) - set(bounds.RULES) == known


def test_without_a_rule_there_is_no_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net()
    module, _ = net.module(net.b.exp(net.input("x", 4)))
    monkeypatch.delitem(bounds.RULES, "exp")
    with pytest.raises(bounds.UnboundedError, match="exp"):
        bounds.bounds(module.main, [plain(1, (4,))], {}, {})


def test_special_numbers_are_asked_for_exactly() -> None:
    net = Net()
    x = net.input("x", 5)
    module, _ = net.module(net.b.tanh(x))
    data = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-42], np.float32)
    (meant,), _ = bounds.bounds(module.main, [data], {}, {})
    assert bounds.agrees(np.tanh(data), meant).all()
    for at, value in ((0, 0.0), (1, np.nan), (1, 0.9), (2, 1.0), (3, 1e-3)):
        wrong = np.tanh(data)
        wrong[at] = value
        assert not bounds.agrees(wrong, meant)[at]


def test_nothing_is_asked_where_an_error_could_decide() -> None:
    net = Net()
    x, y = net.input("x", 3), net.input("y", 3)
    b = net.b
    u = b.sub(b.add(x, y), y)  # x, with an error
    module, _ = net.module(b.select(b.compare(u, x, predicate="lt"), 100.0, 1.0))
    inputs = [np.array([1.0, 2.0, 3.0], np.float32), np.array([1e5, 1e5, 1e5], np.float32)]
    (meant,), _ = bounds.bounds(module.main, inputs, {}, {})
    assert bounds.agrees(np.array([100, 1, 100], np.float32), meant).all()
    assert not bounds.agrees(np.array([300, 300, 300], np.float32), meant).any()
