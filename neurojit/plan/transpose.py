"""What a kernel of transposed copies computes (`Transpose`), and which kernel a copy is (`plan_copy`).

Any permutation, slice, concatenation, spreading or padding is a copy between two sets of strides. Where both
sides have adjacent elements along one dimension, vectors of a `Map` move them, and a side that stands still
is spread. Where source and target are adjacent along different dimensions, squares of lanes are transposed
in registers. Where one is adjacent nowhere, elements go one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from neurojit.plan.expression import Builder
from neurojit.plan.gemm import ELEMENT_SIZE
from neurojit.plan.map import Access, Map, check_layout
from neurojit.target import Isa

_build = Builder()
COPY = _build.done(_build.input(0))
"""The expression of a copy: its input."""


@dataclass(frozen=True)
class Transpose:
    """target[..., i, j] = source[..., i, j], where the source is adjacent along i and the target along j.
    The two do not overlap. ValueError: other strides, or a dynamic extent that is i or j."""

    dtype: str
    shape: tuple[int | None, ...]
    source: Access
    target: Access
    unit: int = 1

    def __post_init__(self) -> None:
        if len(self.shape) < 2 or None in self.shape[-2:]:
            raise ValueError(f"transpose: shape {self.shape}, expected two known extents at the end")
        target = replace(self.target, strides=(*self.target.strides[:-1], 1))
        check_layout("transpose", self.shape, (), (target,), COPY_NOTHING)
        strides = self.source.strides, self.target.strides
        if len(strides[0]) != len(self.shape) or strides[0][-2] != 1 or strides[1][-1] != 1:
            raise ValueError(
                f"transpose: strides {strides[0]} and {strides[1]}, expected 1 at the last but one "
                "dimension of the source and at the last of the target"
            )

    @property
    def buffers(self) -> int:
        """How many addresses the kernel takes."""
        return 1 + max(self.source.buffer, self.target.buffer)


_nothing = Builder()
COPY_NOTHING = _nothing.done(_nothing.constant(0.0))


@dataclass(frozen=True)
class TransposeSchedule:
    """side: lanes of a square. prefetch: ask for the lines of the target's next square, where stores would
    wait for them."""

    side: int
    prefetch: bool = False


FAR_BYTES = 1 << 19
"""A plane of more does not stay near: half of the L2 that most cores have."""


def schedule_transpose(g: Transpose, isa: Isa) -> TransposeSchedule:
    """The widest squares that the shorter side fills by half: wide ones take and give whole cache lines."""
    shorter = min(extent or 1 for extent in g.shape[-2:])
    lanes = [bits // 8 // ELEMENT_SIZE[g.dtype] for bits in isa.vector_bits if bits >= 128]
    fitting = [side for side in lanes if 2 * shorter > side]
    far = (g.shape[-2] or 1) * (g.shape[-1] or 1) * ELEMENT_SIZE[g.dtype] > FAR_BYTES
    return TransposeSchedule(max(fitting, default=min(lanes)), prefetch=far)


def plan_copy(dtype: str, shape: tuple[int | None, ...], source: Access, target: Access) -> Map | Transpose:
    """The kernel that copies every element of `shape` from source to target, which do not overlap.

    A dynamic extent must come first. ValueError: strides or shape that no kernel takes."""
    order = _order(shape, source, target)
    shape = tuple(shape[d] for d in order)
    source, target = (replace(a, strides=tuple(a.strides[d] for d in order)) for a in (source, target))
    if source.strides[-1] in (0, 1) and target.strides[-1] == 1:
        return Map(dtype, shape, (source,), (target,), COPY)
    adjacent = [
        d for d, (extent, s) in enumerate(zip(shape, source.strides, strict=True)) if s == 1 and extent
    ]
    if target.strides[-1] == 1 and adjacent:
        d = adjacent[-1]
        moved = [*(x for x in range(len(shape)) if x not in (d, len(shape) - 1)), d, len(shape) - 1]
        shape = tuple(shape[x] for x in moved)
        source, target = (replace(a, strides=tuple(a.strides[x] for x in moved)) for a in (source, target))
        return Transpose(dtype, shape, source, target)
    one_by_one = (replace(a, strides=(*a.strides, 1)) for a in (source, target))
    source, target = one_by_one
    return Map(dtype, (*shape, 1), (source,), (target,), COPY)


def _order(shape: tuple[int | None, ...], source: Access, target: Access) -> list[int]:
    """The dimensions with falling strides of the target, a dynamic one first, those of extent 1 left out."""
    kept = [d for d, extent in enumerate(shape) if extent != 1] or [len(shape) - 1]
    return sorted(kept, key=lambda d: (shape[d] is not None, -target.strides[d], -source.strides[d]))
