"""Steps on pieces of 128 bits, where a register holds several of them.

A piece is as many adjacent elements as fill 128 bits. Side by side in a register they are of several rows of
a matrix, or one piece again and again. So a product of few columns fills whole registers: its accumulators
hold a piece of each of several rows, B's piece stands beside itself, and of A's pieces, a row's in each, one
element after the other is spread over its piece. A machine may have none of these steps.
"""

from __future__ import annotations

from neurojit.asm_templates.arithmetic import Pointer, Vector
from neurojit.asm_templates.lanes import Lanes

PIECE = 16
"""Bytes."""


class Pieces(Lanes):
    """See the module's head."""

    pieces: int = 1
    """How many the widest register holds."""

    def expect_pieces(self, most: int) -> None:
        """Prepare these steps, `load_pieces` of at most so many. Called before loops, after `expect`."""
        self._lacks("expect_pieces")

    def load_pieces(self, into: Vector, count: int, pointer: Pointer, offset: int, step: int) -> None:
        """into = a piece of memory in each of the first `count` pieces, `step` bytes apart."""
        self._lacks("load_pieces")

    def repeat_piece(self, lanes: int, pointer: Pointer, offset: int, into: Vector | None = None) -> Vector:
        """The first `lanes` elements of every piece are those in memory, of which no others are read."""
        self._lacks("repeat_piece")

    def spread_in_pieces(self, a: Vector, lane: int) -> Vector:
        """A fresh vector: element `lane` of each piece in all of that piece."""
        self._lacks("spread_in_pieces")

    def piece(self, a: Vector, index: int, lanes: int) -> Vector:
        """A fresh vector of the first `lanes` elements of one piece."""
        self._lacks("piece")

    def insert_piece(self, into: Vector, index: int, piece: Vector) -> None:
        """One piece of a vector replaced by a vector of 128 bits or less."""
        self._lacks("insert_piece")

    def store_piece(self, a: Vector, index: int, lanes: int, pointer: Pointer, offset: int) -> None:
        """Write the first `lanes` elements of one piece to memory, and nothing beside them."""
        self._lacks("store_piece")
