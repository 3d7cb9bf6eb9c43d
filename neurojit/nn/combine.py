"""Layers made of layers."""

from __future__ import annotations

from neurojit.ir.layer import Layer, LayerLike, Scope, as_layer, build_in_turn
from neurojit.ir.structure import Value
from neurojit.ir.types import TensorType


class Sequential(Layer):
    """Layers one after the other. ValueError: none given."""

    def __init__(self, *layers: LayerLike) -> None:
        if not layers:
            raise ValueError(f"{type(self).__name__}: no layers, expected at least one")
        self.layers = [as_layer(layer) for layer in layers]

    @property
    def input_type(self) -> TensorType | None:
        return self.layers[0].input_type

    def build(self, scope: Scope, x: Value) -> Value:
        return build_in_turn(scope, self.layers, x)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.layers))})"


class Residual(Sequential):
    """x + f(x), f being the layers one after the other: their result has x's shape."""

    def build(self, scope: Scope, x: Value) -> Value:
        return scope.b.add(x, super().build(scope, x))
