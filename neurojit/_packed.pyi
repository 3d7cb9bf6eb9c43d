from collections.abc import Callable
from typing import Any

import numpy as np

from neurojit.plan.panels import Panels
from neurojit.storage import Stored

Array = np.ndarray[Any, Any]

class PackedWeights:
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    storage: str
    activations: str | None
    scales: Array | None
    panels: Panels
    def __new__(
        cls,
        panels: Panels,
        shape: tuple[int, int],
        memory: Array,
        scales: Array | None,
        dtype: np.dtype[Any],
        activations: str | None,
        multiply: Callable[[Any, Any], Any],
    ) -> PackedWeights: ...
    @property
    def ndim(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def address(self) -> int: ...
    def stored(self) -> Stored: ...
    def unpack(self) -> Array: ...
    def numpy_product(self, x: Array) -> Array: ...
    def __rmatmul__(self, x: Any) -> Any: ...
