"""Where tensors lie while a program is planned: buffers, and views of them.

A `Buffer` is memory that steps write and read. That of a temporary has no place until its life is known; all
others have one from the start. A `View` is a tensor in a buffer: shape, strides, offset, in elements. Slices,
transposes, broadcasts and most reshapes are views: no code, no copy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from neurojit.errors import NeurojitError
from neurojit.ir.types import ELEMENTS
from neurojit.plan.program import Place

HELD = {"f32": "f32", "f64": "f64", "i32": "i32", "bf16": "f32", "i8": "i32", "i1": "f32"}
"""Element type -> how a temporary holds it. bf16 as the f32 numbers that bf16 has, i8 as integers of 32 bits,
i1 as 1.0 or 0.0, of f64 too where it comes from numbers of f64. Only what the caller brings or takes, and
state, lie in memory as their own types: they are cast at the edges of the program."""
NARROW = frozenset({"bf16", "i8", "i1"})


def lanes_of(element: str) -> str:
    """The element type of the kernels that move what is held so: integers are moved as f32."""
    return "f64" if element == "f64" else "f32"


class UnplannedError(NeurojitError):
    """A function, or an op, that no kernel computes yet: the interpreter answers instead."""


@dataclass(eq=False)
class Buffer:
    """bytes: its size. place: None for a temporary, until it is laid out. first, last: the steps it lives
    through, by their numbers in the order of the code; -1 before the first."""

    bytes: int
    place: Place | None = None
    first: int = -1
    last: int = -1
    names: list[str] = field(default_factory=list)

    def used(self, step: int) -> None:
        """The step reads or writes it."""
        self.first = step if self.first < 0 else self.first
        self.last = max(self.last, step)


@dataclass(frozen=True)
class View:
    """A tensor in a buffer. Strides and offset count elements."""

    buffer: Buffer
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0
    element: str = "f32"

    @classmethod
    def of(cls, shape: tuple[int, ...], element: str, place: Place | None = None) -> View:
        """A fresh contiguous tensor."""
        size = ELEMENTS[element].size
        return cls(Buffer(math.prod(shape) * size, place), shape, row_major(shape), 0, element)

    @property
    def byte_offset(self) -> int:
        return self.offset * ELEMENTS[self.element].size

    @property
    def is_contiguous(self) -> bool:
        expected = row_major(self.shape)
        return all(
            extent == 1 or stride == wanted
            for extent, stride, wanted in zip(self.shape, self.strides, expected, strict=True)
        )

    def sliced(self, axis: int, start: int, end: int, step: int) -> View:
        extent = max(0, -(-(end - start) // step))
        return View(
            self.buffer,
            (*self.shape[:axis], extent, *self.shape[axis + 1 :]),
            (*self.strides[:axis], self.strides[axis] * step, *self.strides[axis + 1 :]),
            self.offset + start * self.strides[axis],
            self.element,
        )

    def transposed(self, permutation: tuple[int, ...]) -> View:
        shape = tuple(self.shape[axis] for axis in permutation)
        strides = tuple(self.strides[axis] for axis in permutation)
        return View(self.buffer, shape, strides, self.offset, self.element)

    def spread(self, shape: tuple[int, ...]) -> View:
        """Broadcast to `shape`, by NumPy's rule."""
        missing = len(shape) - len(self.shape)
        strides = tuple(
            0
            if axis < missing or (self.shape[axis - missing] == 1 and extent != 1)
            else self.strides[axis - missing]
            for axis, extent in enumerate(shape)
        )
        return View(self.buffer, shape, strides, self.offset, self.element)

    def reshaped(self, shape: tuple[int, ...]) -> View | None:
        """The same elements in row-major order; None where that is no view.

        Axes are taken in runs, from the last one on, whose extents multiply to the same number before and
        after; a run of axes that follow each other in memory may be cut anew."""
        if self.is_contiguous:
            return View(self.buffer, shape, row_major(shape), self.offset, self.element)
        kept = [(e, s) for e, s in zip(self.shape, self.strides, strict=True) if e != 1]
        strides = [0] * len(shape)
        at = len(shape)
        while kept:
            extent, stride = kept.pop()
            run, cut = extent, 1
            begin = at
            while True:
                while cut < run and begin > 0:
                    begin -= 1
                    cut *= shape[begin]
                if cut == run:
                    break
                if cut < run or not kept or kept[-1][1] != extent * stride:
                    return None
                extent, _ = extent * kept[-1][0], kept.pop()
                run = extent
            step = stride
            for axis in range(at - 1, begin - 1, -1):
                strides[axis] = 0 if shape[axis] == 1 else step
                step *= shape[axis]
            at = begin
        return View(self.buffer, shape, tuple(strides), self.offset, self.element)


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides, in elements, of a contiguous tensor."""
    strides, step = [], 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))
