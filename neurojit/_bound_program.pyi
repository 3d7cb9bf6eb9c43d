from typing import Any

import numpy as np

from neurojit._program import Program

Array = np.ndarray[Any, Any]

class BoundProgram:
    def __new__(cls, program: Program, arrays: tuple[Array, ...], result: Any) -> BoundProgram: ...
    def __call__(self) -> Any: ...
