"""Layers: objects that hold weights and add their ops to a function in the making.

    layers = [Linear(64, 64), "relu", Linear(64, 8)]         layers and names of functions
    module, weights = module_of(layers)

A layer says what it takes (`input_type`) and builds (`build`) in a `Scope`, which knows the builder, gathers
the weights and gives names: those of a layer's weights are `0.weight`, `0.bias`, by its place among its
siblings. `neurojit.nn` has the layers that networks are made of; whoever writes one of their own needs only
this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurojit.ir.builder import Builder
from neurojit.ir.structure import Module, Value
from neurojit.ir.table import OPS
from neurojit.ir.types import TensorType

Array = np.ndarray[Any, Any]
ELEMENT_OF = {np.dtype(np.float32): "f32", np.dtype(np.float64): "f64", np.dtype(np.int32): "i32"}


@dataclass(frozen=True)
class Scope:
    """b: the builder. prefix: of the names of weights and states made here."""

    b: Builder
    weights: dict[str, Array]
    prefix: str = ""

    def weight(self, name: str, array: Array) -> Value:
        """The value of a named weight; the array is what it is at first."""
        full = self.prefix + name
        self.weights[full] = array
        return self.b.op("weight", name=full, type=type_of(array), result=f"w.{full}")

    def state(self, name: str, type: TensorType, initial: float = 0.0) -> Value:
        """What a buffer that persists between calls holds when the call begins."""
        return self.b.op("state_read", name=self.prefix + name, initial=initial, type=type)

    def keep(self, name: str, value: Value) -> None:
        """Have the buffer hold `value` when the next call begins."""
        self.b.op("state_write", value, name=self.prefix + name)

    def within(self, name: str) -> Scope:
        """The scope of a part."""
        return Scope(self.b, self.weights, f"{self.prefix}{name}.")


class Layer(ABC):
    """Part of a network: one tensor in, one tensor out."""

    @property
    @abstractmethod
    def input_type(self) -> TensorType | None:
        """What it takes as the first of a network; None where it takes what comes."""

    @abstractmethod
    def build(self, scope: Scope, x: Value) -> Value:
        """Add the ops of this layer on `x`; their result."""


LayerLike = Layer | str | tuple[Any, ...] | Callable[[Builder, Value], Value]
"""A layer; the name of a function of one element, alone or before its parameters; or what builds on a
value."""


class Function(Layer):
    """A function of each element: `relu`, `("leaky_relu", 0.1)`. ValueError: no such function, or another
    count of parameters."""

    def __init__(self, name: str, *parameters: float) -> None:
        row = OPS.get(name)
        if row is None or row.operands != ("x",) or row.lowering != "map":
            raise ValueError(f"layer {name!r}: expected a function of one element, such as relu or tanh")
        names = [attribute.name for attribute in row.attributes]
        if len(names) != len(parameters):
            expected = ", ".join(names) or "no parameters"
            raise ValueError(f"layer {name!r}: {len(parameters)} parameters, expected {expected}")
        self.name = name
        self.parameters: dict[str, Any] = dict(zip(names, map(float, parameters), strict=True))

    @property
    def input_type(self) -> None:
        return None

    def build(self, scope: Scope, x: Value) -> Value:
        return scope.b.op(self.name, x, **self.parameters)

    def __repr__(self) -> str:
        return f"Function({', '.join(map(repr, (self.name, *self.parameters.values())))})"


class _Built(Layer):
    """A Python function of builder and value, as a layer."""

    def __init__(self, function: Callable[[Builder, Value], Value]) -> None:
        self.function = function

    @property
    def input_type(self) -> None:
        return None

    def build(self, scope: Scope, x: Value) -> Value:
        return self.function(scope.b, x)


def as_layer(given: LayerLike) -> Layer:
    """TypeError, ValueError: what is none of LayerLike."""
    if isinstance(given, Layer):
        return given
    if isinstance(given, str):
        return Function(given)
    if isinstance(given, tuple) and given and isinstance(given[0], str):
        return Function(*given)
    if callable(given):
        return _Built(given)
    raise TypeError(f"layer {given!r}: expected a Layer, the name of a function, or a function that builds")


def build_in_turn(scope: Scope, layers: Sequence[Layer], x: Value) -> Value:
    """One after the other."""
    for number, layer in enumerate(layers):
        x = layer.build(scope.within(str(number)), x)
    return x


def module_of(
    layers: Sequence[LayerLike], name: str = "network", input_type: TensorType | str | None = None
) -> tuple[Module, dict[str, Array]]:
    """The network of layers, one after the other, and its weights by name.

    input_type: of its input; without one the first layer's. ValueError: no layers, or none says what it
    takes.
    """
    made = [as_layer(layer) for layer in layers]
    if not made:
        raise ValueError("a network of no layers: expected at least one")
    taken = input_type or made[0].input_type
    if taken is None:
        raise ValueError(
            f"{made[0]!r} takes inputs of any width: expected input_type, or a first layer that says"
        )
    b = Builder("main")
    scope = Scope(b, {})
    y = build_in_turn(scope, made, b.parameter("x", taken))
    return Module(name, (b.build(y),)), scope.weights


def type_of(array: Array) -> TensorType:
    """The tensor type of an array. TypeError: of a dtype no tensor has."""
    if array.dtype not in ELEMENT_OF:
        raise TypeError(f"weight of {array.dtype}: expected float32, float64 or int32; convert with astype")
    return TensorType(array.shape, ELEMENT_OF[array.dtype])
