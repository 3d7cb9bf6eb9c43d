from collections.abc import Callable
from inspect import Signature
from typing import Any

import numpy as np

from neurojit._packed import PackedWeights

Array = np.ndarray[Any, Any]

class Matmul:
    __signature__: Signature
    def __new__(
        cls,
        general: Callable[..., Any],
        signature: Signature,
        binder: Callable[[Any, Any, Any], Callable[[], Any]],
    ) -> Matmul: ...
    def bind(self, a: Any, b: Any, out: Any, level: str | None = None) -> Callable[[], Any]: ...
    def __call__(self, a: Any, b: Any, /, out: Any = None, **keywords: Any) -> Any: ...

def describe(
    a: Array, b: Array | PackedWeights, c: Array
) -> tuple[tuple[int, int, int, int], tuple[int, ...]] | None: ...
def products(a: Array, b: Array | PackedWeights, c: Array) -> bool: ...
