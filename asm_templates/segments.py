"""Steps on segments of 128 bits, where a register holds several of them.

A segment is as many adjacent elements as fill 128 bits. Side by side in a register they are of several rows
of a matrix, or one segment again and again. So a product of few columns fills whole registers: accumulators
hold a segment of each of several rows, B's segment stands beside itself, and of A's, a row's in each, one
element after the other is spread over its segment. A machine may have none of these steps.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from neurojit.asm_templates.arithmetic import Pointer, Vector
from neurojit.asm_templates.lanes import Lanes

SEGMENT = 16
"""Bytes."""


class Segments(Lanes):
    """See the module's head."""

    segments: int = 1
    """How many the widest register holds."""

    def expect_segments(self, most: int) -> None:
        """Prepare these steps, `load_segments` of at most so many. Called before loops, after `expect`."""
        self._lacks("expect_segments")

    def load_segments(self, into: Vector, count: int, pointer: Pointer, offset: int, step: int) -> None:
        """into = a segment of memory in each of the first `count` segments, `step` bytes apart."""
        self._lacks("load_segments")

    def repeat_segment(self, lanes: int, pointer: Pointer, offset: int, into: Vector | None = None) -> Vector:
        """The first `lanes` elements of every segment are those in memory, of which no others are read."""
        self._lacks("repeat_segment")

    def steps_of_segments(self, times: int, steps: dict[Pointer, int]) -> AbstractContextManager[None]:
        """As `repeat`; the n-th time `spread_in_segments` takes n lanes further."""
        self._lacks("steps_of_segments")

    def spread_in_segments(self, a: Vector, lane: int) -> Vector:
        """A fresh vector: element `lane` of each segment in all of that segment."""
        self._lacks("spread_in_segments")

    def segment(self, a: Vector, index: int, lanes: int) -> Vector:
        """A fresh vector of the first `lanes` elements of one segment."""
        self._lacks("segment")

    def insert_segment(self, into: Vector, index: int, segment: Vector) -> None:
        """One segment of a vector replaced by a vector of 128 bits or less."""
        self._lacks("insert_segment")

    def store_segment(self, a: Vector, index: int, lanes: int, pointer: Pointer, offset: int) -> None:
        """Write the first `lanes` elements of one segment to memory, and nothing beside them."""
        self._lacks("store_segment")
