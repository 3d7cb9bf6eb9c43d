"""Numbers from one element type to another, by the rules of the op `convert`.

To a float: the nearest, ties to even. To an integer: towards zero, out of range the nearest limit, NaN to 0.
To i1: whether it is not zero.
"""

from __future__ import annotations

import numpy as np

from neurojit.ir.types import ELEMENTS, Array, round_bf16


def to_element(x: Array, element: str) -> Array:
    """x as the interpreter holds numbers of `element`."""
    row = ELEMENTS[element]
    with np.errstate(all="ignore"):
        if element == "bf16":
            if x.dtype == np.float16 or x.dtype.kind in "iub":
                x = x.astype(np.float64)
            return round_bf16(x)
        if row.kind == "bool":
            return np.not_equal(x, 0)
        if row.kind == "int" and x.dtype.kind == "f":
            info = np.iinfo(row.dtype)
            whole = np.nan_to_num(np.trunc(x.astype(np.float64)), nan=0.0)
            x = np.clip(whole, info.min, info.max)
        elif row.kind == "int" and x.dtype.itemsize > row.size:
            info = np.iinfo(row.dtype)
            x = np.clip(x, info.min, info.max)
        converted: Array = x.astype(row.dtype)
        return converted
