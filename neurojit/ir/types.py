"""Types: the element types as rows, and `TensorType`, a shape with one of them.

A leading extent may be dynamic (`?` in text, None here). All `?` of one function are the same number, the
leading extent of one call: a kernel gets it as `n`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, Any]
Extent = int | None
Shape = tuple[Extent, ...]

MOST_RANK = 8
MOST_ELEMENTS = 1 << 31
"""Of one tensor, its dynamic extent counted as 1."""


@dataclass(frozen=True)
class Element:
    """One element type. size: bytes in a buffer. dtype: what the interpreter computes in. wide: the next
    higher precision. bf16 is held as the float32 numbers that bf16 has; its buffers are uint16."""

    name: str
    kind: Literal["float", "int", "bool"]
    size: int
    dtype: str
    wide: str


ELEMENTS = {
    row.name: row
    for row in (
        Element("f32", "float", 4, "float32", "float64"),
        Element("f64", "float", 8, "float64", "longdouble"),
        Element("bf16", "float", 2, "float32", "float64"),
        Element("i32", "int", 4, "int32", "int64"),
        Element("i8", "int", 1, "int8", "int64"),
        Element("i1", "bool", 1, "bool", "bool"),
    )
}
FLOATS = ("f32", "f64", "bf16")
NUMBERS = (*FLOATS, "i32", "i8")
ANY = (*NUMBERS, "i1")


@dataclass(frozen=True)
class TensorType:
    """`tensor<?x64xf32>` is TensorType((None, 64), "f32"); rank 0 is `tensor<f32>`.

    ValueError: an unknown element type, a `?` that does not lead, a negative or too large shape."""

    shape: Shape
    element: str = "f32"

    def __post_init__(self) -> None:
        if self.element not in ELEMENTS:
            raise ValueError(f"element type {self.element!r}: expected one of {', '.join(ELEMENTS)}")
        if len(self.shape) > MOST_RANK:
            raise ValueError(f"rank {len(self.shape)}: expected at most {MOST_RANK}")
        if None in self.shape[1:]:
            raise ValueError(f"{self}: a dynamic extent must lead; transpose or reshape so that it does")
        count = 1
        for extent in self.shape:
            if extent is not None:
                if extent < 0:
                    raise ValueError(f"{self}: expected extents of at least 0")
                count *= extent
        if count > MOST_ELEMENTS:
            raise ValueError(f"{self}: more than {MOST_ELEMENTS} elements")

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def is_dynamic(self) -> bool:
        return bool(self.shape) and self.shape[0] is None

    def static_shape(self, n: int) -> tuple[int, ...]:
        """The shape where the dynamic extent is n."""
        return (n, *self.shape[1:]) if self.is_dynamic else self.shape  # type: ignore[return-value, arg-type]

    def with_extent(self, n: int) -> TensorType:
        return TensorType(self.static_shape(n), self.element)

    def count(self, n: int) -> int:
        """Elements where the dynamic extent is n."""
        return math.prod(self.static_shape(n))

    def __str__(self) -> str:
        extents = ("?" if extent is None else str(extent) for extent in self.shape)
        return f"tensor<{'x'.join([*extents, self.element])}>"


_TENSOR = re.compile(r"tensor<((?:(?:\?|[0-9]{1,18})x)*)([a-z][a-z0-9]*)>")


def parse_type(text: str) -> TensorType:
    """`tensor<64x32xf32>` as a value. ValueError says what is wrong with it."""
    match = _TENSOR.fullmatch(text)
    if match is None:
        raise ValueError(f"type {text!r}: expected the form tensor<64x32xf32>")
    extents = match[1].split("x")[:-1]
    return TensorType(tuple(None if extent == "?" else int(extent) for extent in extents), match[2])


def round_bf16(x: Array) -> Array:
    """x rounded to the nearest bf16 number, ties to even, as float32. NaN stays NaN.

    From float64 in one rounding: the value is first rounded to odd, which loses nothing."""
    x = np.asarray(x)
    if x.dtype != np.float32:
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            nearest = x.astype(np.float32)
            residue = x - nearest.astype(x.dtype)
        bits = nearest.view(np.uint32)
        inexact = (residue != 0) & np.isfinite(nearest)
        beyond = inexact & (np.signbit(residue) != np.signbit(nearest))  # nearest is farther from 0 than x
        x = np.where(inexact, (bits - beyond.astype(np.uint32)) | 1, bits).astype(np.uint32).view(np.float32)
    bits = np.ascontiguousarray(x).view(np.uint32).reshape(x.shape)
    rounded = bits + (0x7FFF + ((bits >> 16) & 1)).astype(np.uint32)
    kept = np.where(np.isnan(x), bits | 0x0040_0000, rounded) & np.uint32(0xFFFF_0000)
    result: Array = kept.astype(np.uint32).view(np.float32)
    return result
