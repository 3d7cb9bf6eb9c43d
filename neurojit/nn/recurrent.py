"""LSTM and GRU: a step a call with a state that persists, or a whole sequence in one call.

Weights (inputs, gates x hidden) and (hidden, gates x hidden), gates side by side: PyTorch's layout,
transposed.
"""

from __future__ import annotations

from abc import abstractmethod
from math import sqrt
from typing import Any, Literal

import numpy as np

from neurojit.ir.layer import Array, Layer, Scope
from neurojit.ir.structure import Value
from neurojit.ir.types import TensorType
from neurojit.nn.weights import checked_element, checked_extents, generator, given_or_drawn

Rng = np.random.Generator | int | None


class Recurrent(Layer):
    """What LSTM and GRU share.

    steps: None for one step a call: x (batch, inputs) gives h (batch, hidden), and the state is kept from
    call to call. A number for sequences: x (steps, batch, inputs) gives all h (steps, batch, hidden), from a
    state of zeros. Weights are drawn evenly within 1 / sqrt(hidden) where they are not given."""

    gates: int
    carried: tuple[str, ...]

    def __init__(
        self,
        inputs: int,
        hidden: int,
        input_weight: Any = None,
        state_weight: Any = None,
        input_bias: Any = None,
        state_bias: Any = None,
        *,
        batch: int = 1,
        steps: int | None = None,
        dtype: str = "f32",
        rng: Rng = None,
    ) -> None:
        what = f"{type(self).__name__}({inputs}, {hidden})"
        checked_extents(what, inputs=inputs, hidden=hidden, batch=batch, steps=1 if steps is None else steps)
        checked_element(what, dtype)
        self.inputs, self.hidden, self.batch, self.steps, self.dtype = inputs, hidden, batch, steps, dtype
        source, bound, width = generator(rng), 1 / sqrt(hidden), self.gates * hidden

        def array(name: str, given: Any, *shape: int) -> Array:
            return given_or_drawn(f"{what}: {name}", given, shape, dtype, source, bound)

        self.input_weight = array("input_weight", input_weight, inputs, width)
        self.state_weight = array("state_weight", state_weight, hidden, width)
        self.input_bias = array("input_bias", input_bias, width)
        self.state_bias = array("state_bias", state_bias, width)

    @property
    def input_type(self) -> TensorType:
        leading = () if self.steps is None else (self.steps,)
        return TensorType((*leading, self.batch, self.inputs), self.dtype)

    @property
    def state_type(self) -> TensorType:
        return TensorType((self.batch, self.hidden), self.dtype)

    def build(self, scope: Scope, x: Value) -> Value:
        b, weights = scope.b, self._weights(scope)
        if self.steps is None:
            state = [scope.state(name, self.state_type) for name in self.carried]
            state = self.step(scope, weights, x, state)
            for name, value in zip(self.carried, state, strict=True):
                scope.keep(name, value)
            return state[0]
        zeros = np.zeros((self.batch, self.hidden))
        first = [b.constant(zeros, self.dtype) for _ in self.carried]

        def body(*values: Value) -> tuple[list[Value], list[Value]]:
            *before, slice_ = values
            after = self.step(scope, weights, slice_, before)
            return after, after[:1]

        _, (outputs,) = b.scan(body, first, (x,))
        return outputs

    @abstractmethod
    def _weights(self, scope: Scope) -> dict[str, Value]:
        """The weights as values, in the form the step wants."""

    @abstractmethod
    def step(self, scope: Scope, weights: dict[str, Value], x: Value, state: list[Value]) -> list[Value]:
        """The state after one step; its first part is the output."""

    def part(self, scope: Scope, gates: Value, number: int) -> Value:
        """One gate's columns."""
        return scope.b.slice(gates, axis=1, start=number * self.hidden, end=(number + 1) * self.hidden)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.inputs}, {self.hidden})"


class LSTM(Recurrent):
    """Hochreiter and Schmidhuber's, with a forget gate; gates i, f, g, o, as in PyTorch.

    c' = sigmoid(f) c + sigmoid(i) tanh(g),  h' = sigmoid(o) tanh(c'). States: h, c."""

    gates, carried = 4, ("h", "c")

    def _weights(self, scope: Scope) -> dict[str, Value]:
        return {
            "input": scope.weight("input_weight", self.input_weight),
            "state": scope.weight("state_weight", self.state_weight),
            "bias": scope.weight("bias", self.input_bias + self.state_bias),
        }

    def step(self, scope: Scope, weights: dict[str, Value], x: Value, state: list[Value]) -> list[Value]:
        b, (h, c) = scope.b, state
        products = b.add(b.matmul(x, weights["input"]), b.matmul(h, weights["state"]))
        gates = b.add(products, weights["bias"])
        i, f, g, o = (self.part(scope, gates, number) for number in range(4))
        c = b.add(b.mul(b.sigmoid(f), c), b.mul(b.sigmoid(i), b.tanh(g)))
        return [b.mul(b.sigmoid(o), b.tanh(c)), c]


class GRU(Recurrent):
    """Gates r, z, n, as in PyTorch: h' = (1 - z) n + z h. State: h. reset says what r multiplies:

    after    n = tanh(x Wn + bn + r (h Un + un)): PyTorch, cuDNN, ONNX with linear_before_reset
    before   n = tanh(x Wn + bn + (r h) Un + un): Cho et al. 2014"""

    gates, carried = 3, ("h",)

    def __init__(self, *arguments: Any, reset: Literal["after", "before"] = "after", **options: Any) -> None:
        if reset not in ("after", "before"):
            raise ValueError(f"GRU: reset {reset!r}, expected 'after' or 'before'")
        self.reset = reset
        super().__init__(*arguments, **options)

    def _weights(self, scope: Scope) -> dict[str, Value]:
        cut = 2 * self.hidden
        weights = {"input": scope.weight("input_weight", self.input_weight)}
        if self.reset == "after":
            weights["state"] = scope.weight("state_weight", self.state_weight)
            weights["input_bias"] = scope.weight("input_bias", self.input_bias)
            weights["state_bias"] = scope.weight("state_bias", self.state_bias)
        else:
            weights["state"] = scope.weight("gate_weight", self.state_weight[:, :cut].copy())
            weights["new"] = scope.weight("new_weight", self.state_weight[:, cut:].copy())
            weights["input_bias"] = scope.weight("bias", self.input_bias + self.state_bias)
        return weights

    def step(self, scope: Scope, weights: dict[str, Value], x: Value, state: list[Value]) -> list[Value]:
        b, (h,) = scope.b, state
        of_x = b.add(b.matmul(x, weights["input"]), weights["input_bias"])
        of_h = b.matmul(h, weights["state"])
        if self.reset == "after":
            of_h = b.add(of_h, weights["state_bias"])
        r, z = (
            b.sigmoid(b.add(self.part(scope, of_x, number), self.part(scope, of_h, number)))
            for number in range(2)
        )
        if self.reset == "after":
            from_h = b.mul(r, self.part(scope, of_h, 2))
        else:
            from_h = b.matmul(b.mul(r, h), weights["new"])
        n = b.tanh(b.add(self.part(scope, of_x, 2), from_h))
        return [b.add(b.mul(b.sub(1.0, z), n), b.mul(z, h))]
