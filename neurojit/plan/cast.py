"""What a kernel that changes how numbers lie in memory computes (`Cast`): contiguous elements, one by one.

Kernels compute in lanes of 32 bits, f32 and integers, or of f64. i8, i1 and bf16 are how numbers lie in the
caller's arrays, and become lanes of 32 bits before they are computed with: integers of i8, 1.0 or 0.0 of i1,
f32 of bf16. Between 32 and 64 bits numbers are cast where a program converts them.
"""

from __future__ import annotations

from dataclasses import dataclass

from neurojit.ir.types import ELEMENTS
from neurojit.plan.map import FARTHEST

CASTS = frozenset(
    {
        ("i8", "i32"), ("i32", "i8"), ("i1", "f32"), ("f32", "i1"), ("bf16", "f32"), ("f32", "bf16"),
        ("f32", "f64"), ("f64", "f32"), ("i32", "f64"), ("f64", "i32"),
    }
)  # fmt: skip


@dataclass(frozen=True)
class Cast:
    """Buffers: source, target; `count` adjacent elements of each. To i8 the lowest 8 bits; to bf16 the upper
    half, of numbers that are rounded already; f64 to f32 rounded to nearest, to i32 of whole numbers within
    the range. ValueError: types that are not in CASTS, or a count that is not from 1 up."""

    source: str
    target: str
    count: int

    def __post_init__(self) -> None:
        if (self.source, self.target) not in CASTS:
            raise ValueError(f"cast: {self.source} to {self.target}: expected one of {sorted(CASTS)}")
        if not 1 <= self.count < FARTHEST:
            raise ValueError(f"cast: count {self.count}, expected 1 to {FARTHEST - 1}")

    @property
    def dtype(self) -> str:
        """The element type of the lanes."""
        return "f64" if "f64" in (self.source, self.target) else "f32"

    @property
    def shape(self) -> tuple[int]:
        return (self.count,)

    def size(self, element: str) -> int:
        """Bytes of an element."""
        return ELEMENTS[element].size
