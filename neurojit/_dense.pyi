from collections.abc import Callable, Hashable
from inspect import Signature
from typing import Any, Literal

import numpy as np

from neurojit._packed import PackedWeights

Array = np.ndarray[Any, Any]

BIAS_KINDS: tuple[Literal["none", "row", "column"], ...]

class Linear:
    __signature__: Signature
    def __new__(
        cls, general: Callable[..., Any], signature: Signature, binder: Callable[..., Callable[[], Any]]
    ) -> Linear: ...
    def bind(
        self,
        x: Any,
        w: Any,
        b: Any = None,
        activation: Any = None,
        out: Any = None,
        *,
        alpha: float = 1.0,
        beta: float = 0.0,
        residual: Any = None,
    ) -> Callable[[], Any]: ...
    def __call__(
        self,
        x: Any,
        w: Any,
        b: Any = None,
        activation: Any = None,
        out: Any = None,
        *,
        alpha: float = 1.0,
        beta: float = 0.0,
        residual: Any = None,
    ) -> Any: ...

class Number:
    number: int
    given: bool
    def __new__(cls, key: Hashable, name: Hashable = None) -> Number: ...

def describe_layer(
    x: Array, w: Array | PackedWeights, y: Array, number: int, bias: int
) -> tuple[tuple[int, int, int, int], tuple[int, ...]] | None: ...
def layers(
    x: Array, w: Array | PackedWeights, y: Array, number: int, bias: int, besides: tuple[Array, ...]
) -> bool: ...
