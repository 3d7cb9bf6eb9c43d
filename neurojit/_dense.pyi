from collections.abc import Callable
from inspect import Signature
from typing import Any

import numpy as np

from neurojit._packed import PackedWeights

Array = np.ndarray[Any, Any]

class Linear:
    __signature__: Signature
    def __new__(cls, general: Callable[..., Any], signature: Signature) -> Linear: ...
    def __call__(self, x: Any, w: Any, b: Any = None, activation: Any = None, out: Any = None) -> Array: ...

def number_activation(activation: Any) -> int: ...
def describe_linear(
    x: Array, w: Array | PackedWeights, out: Array, activation: int, biased: bool
) -> tuple[tuple[int, int, int, int], tuple[int, ...]] | None: ...
