"""Layers without memory: products with a matrix, norms, rows picked from a table."""

from __future__ import annotations

from itertools import pairwise
from math import sqrt
from typing import Any

import numpy as np

from neurojit.ir.layer import Layer, LayerLike, Scope
from neurojit.ir.structure import Value
from neurojit.ir.types import TensorType
from neurojit.nn.combine import Sequential
from neurojit.nn.weights import checked_element, checked_extents, generator, given_or_drawn

Rng = np.random.Generator | int | None


class Linear(Layer):
    """x @ weight + bias, for x (..., inputs).

    weight (inputs, outputs): PyTorch keeps its transpose. bias (outputs,); `bias=False` for none. Drawn
    evenly within 1 / sqrt(inputs) where they are not given. dtype: "f32" or "f64"."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        weight: Any = None,
        bias: Any = None,
        *,
        dtype: str = "f32",
        rng: Rng = None,
    ) -> None:
        what = f"Linear({inputs}, {outputs})"
        checked_extents(what, inputs=inputs, outputs=outputs)
        checked_element(what, dtype)
        self.inputs, self.outputs, self.dtype = inputs, outputs, dtype
        source, bound = generator(rng), 1 / sqrt(inputs)
        self.weight = given_or_drawn(f"{what}: weight", weight, (inputs, outputs), dtype, source, bound)
        self.bias = None
        if bias is not False:
            self.bias = given_or_drawn(f"{what}: bias", bias, (outputs,), dtype, source, bound)

    @property
    def input_type(self) -> TensorType:
        return TensorType((None, self.inputs), self.dtype)

    def build(self, scope: Scope, x: Value) -> Value:
        y = scope.b.matmul(x, scope.weight("weight", self.weight))
        return y if self.bias is None else scope.b.add(y, scope.weight("bias", self.bias))

    def __repr__(self) -> str:
        return f"Linear({self.inputs}, {self.outputs}{', bias=False' if self.bias is None else ''})"


class MLP(Sequential):
    """Linear layers of these widths with a function after each but the last.

    activation, last: functions as in a list of layers; last=None for none. ValueError: fewer than two widths.
    """

    def __init__(
        self,
        *widths: int,
        activation: LayerLike = "relu",
        last: LayerLike | None = None,
        dtype: str = "f32",
        rng: Rng = None,
    ) -> None:
        if len(widths) < 2:
            raise ValueError(f"MLP{widths}: expected the width of the input and of each layer, two at least")
        source = generator(rng)
        layers: list[LayerLike] = []
        for k, n in pairwise(widths):
            layers += [Linear(k, n, dtype=dtype, rng=source), activation]
        super().__init__(*layers[:-1], *([] if last is None else [last]))


class LayerNorm(Layer):
    """(x - mean) / sqrt(variance + epsilon) * weight + bias over the last axis, of `width`. Ones and zeros
    where weight and bias are not given."""

    def __init__(
        self, width: int, weight: Any = None, bias: Any = None, *, epsilon: float = 1e-5, dtype: str = "f32"
    ) -> None:
        what = f"LayerNorm({width})"
        checked_extents(what, width=width)
        checked_element(what, dtype)
        self.width, self.epsilon, self.dtype = width, epsilon, dtype
        ones, zeros = np.ones(width), np.zeros(width)
        source = generator(0)
        given = ones if weight is None else weight
        self.weight = given_or_drawn(f"{what}: weight", given, (width,), dtype, source, 0)
        given = zeros if bias is None else bias
        self.bias = given_or_drawn(f"{what}: bias", given, (width,), dtype, source, 0)

    @property
    def input_type(self) -> TensorType:
        return TensorType((None, self.width), self.dtype)

    def build(self, scope: Scope, x: Value) -> Value:
        weight, bias = scope.weight("weight", self.weight), scope.weight("bias", self.bias)
        return scope.b.layer_norm(x, weight, bias, epsilon=self.epsilon)

    def __repr__(self) -> str:
        return f"LayerNorm({self.width})"


class RMSNorm(Layer):
    """x / sqrt(mean(x^2) + epsilon) * weight over the last axis, of `width`. Ones where none is given."""

    def __init__(self, width: int, weight: Any = None, *, epsilon: float = 1e-5, dtype: str = "f32") -> None:
        what = f"RMSNorm({width})"
        checked_extents(what, width=width)
        checked_element(what, dtype)
        self.width, self.epsilon, self.dtype = width, epsilon, dtype
        given = np.ones(width) if weight is None else weight
        self.weight = given_or_drawn(f"{what}: weight", given, (width,), dtype, generator(0), 0)

    @property
    def input_type(self) -> TensorType:
        return TensorType((None, self.width), self.dtype)

    def build(self, scope: Scope, x: Value) -> Value:
        return scope.b.rms_norm(x, scope.weight("weight", self.weight), epsilon=self.epsilon)

    def __repr__(self) -> str:
        return f"RMSNorm({self.width})"


class Embedding(Layer):
    """Rows of a table (count, width) by int32 indices: (n,) becomes (n, width). Normal numbers where no table
    is given. An index outside the table is an error of the call."""

    def __init__(
        self, count: int, width: int, table: Any = None, *, dtype: str = "f32", rng: Rng = None
    ) -> None:
        what = f"Embedding({count}, {width})"
        checked_extents(what, count=count, width=width)
        checked_element(what, dtype)
        self.count, self.width = count, width
        source = generator(rng)
        given = source.standard_normal((count, width)) if table is None else table
        self.table = given_or_drawn(f"{what}: table", given, (count, width), dtype, source, 0)

    @property
    def input_type(self) -> TensorType:
        return TensorType((None,), "i32")

    def build(self, scope: Scope, x: Value) -> Value:
        return scope.b.gather(scope.weight("table", self.table), x, axis=0)

    def __repr__(self) -> str:
        return f"Embedding({self.count}, {self.width})"
