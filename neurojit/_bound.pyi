from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

class Bound:
    def __new__(
        cls,
        key: tuple[int, int, int, int],
        operands: tuple[Any, ...],
        out: Array,
        general: Callable[[], Any],
        text: str,
        keeps: object = None,
    ) -> Bound: ...
    def __call__(self) -> Array: ...
