"""What a kernel that picks rows computes (`Gather`): target[o, i] = source[o, indices[i]], whole rows.

An index below 0 counts as 0, one beyond the last row as the last: no index reads outside the source, whatever
it is. That is the meaning of TensorLang's gather; a program that wants an error asserts first.
"""

from __future__ import annotations

from dataclasses import dataclass

from neurojit.plan.map import FARTHEST


@dataclass(frozen=True)
class Gather:
    """Buffers: source, indices (adjacent 32-bit integers), target. `outer` sources one after another, each of
    `rows` rows, have `count` rows picked by the same indices. Strides in elements; n elements are adjacent.
    Source and target do not overlap. ValueError: an extent below 1, or a stride too far."""

    dtype: str
    rows: int
    n: int
    count: int
    source_row: int
    target_row: int
    outer: int = 1
    source_outer: int = 0
    target_outer: int = 0

    def __post_init__(self) -> None:
        extents = self.rows, self.n, self.count, self.outer
        if min(extents) < 1:
            raise ValueError(f"gather: rows, n, count, outer {extents}, expected 1 and more")
        strides = self.source_row, self.target_row, self.source_outer, self.target_outer
        if max(map(abs, strides)) * max(extents) >= FARTHEST:
            raise ValueError(f"gather: strides {strides}, expected to stay below {FARTHEST} elements")
