"""The steps of a vector machine that cross lanes, take lanes as integers, or compute addresses from data.

Reductions, transpositions, gathers, integers and random numbers need them; products and plain maps do not. So
a machine may lack some: a template that asks for one is then refused with an error that names the step, and
whoever compiles falls back. Integers have the element's size; only 32 bits are needed, so f64 has none of
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NoReturn

from neurojit.asm_templates.arithmetic import Mask, Pointer, Vector
from neurojit.errors import MissingStepError

Order = Literal["<", "==", ">"]
Stored = Literal["i8", "bf16", "f32", "i32"]
"""How numbers may lie in memory: i8 or bf16 for lanes of 32 bits, f32 or i32 for lanes of f64."""


class Lanes:
    """See the module's head. `into` as in `arithmetic`."""

    template: str

    def _lacks(self, step: str) -> NoReturn:
        raise MissingStepError(
            f"template {self.template}: {type(self).__name__} has no step {step!r}; write it there, or "
            "compute this with NumPy"
        )

    # Across lanes -------------------------------------------------------------------------------------

    def upper(self, a: Vector) -> Vector:
        """A fresh vector of half the lanes, of a power of two: the upper half of a's."""
        self._lacks("upper")

    def spread_first(self, a: Vector, lanes: int) -> Vector:
        """A fresh vector with a's first lane in every one of `lanes`."""
        self._lacks("spread_first")

    def lane_numbers(self, lanes: int) -> Vector:
        """A fresh vector of the numbers 0, 1, 2, ..."""
        self._lacks("lane_numbers")

    def transposed(self, rows: list[Vector]) -> list[Vector]:
        """A square of lanes with rows and columns exchanged, in the registers of the rows and few others.

        As many rows as lanes, a power of two up to the widest; rows are given back."""
        self._lacks("transposed")

    # Integers of 32 bits in the lanes of f32 --------------------------------------------------------------

    def to_integer(self, a: Vector, into: Vector | None = None) -> Vector:
        """The integer of each number, rounded towards 0; beyond the range the least one."""
        self._lacks("to_integer")

    def from_integer(self, a: Vector, into: Vector | None = None) -> Vector:
        """The number of each integer, rounded to nearest."""
        self._lacks("from_integer")

    def spread_integer(self, lanes: int, value: int) -> Vector:
        """A fresh vector with these 32 bits in every lane."""
        self._lacks("spread_integer")

    def add_integers(self, a: Vector, b: Vector, into: Vector | None = None) -> Vector:
        """a + b, modulo 2^32."""
        self._lacks("add_integers")

    def sub_integers(self, a: Vector, b: Vector, into: Vector | None = None) -> Vector:
        """a - b, modulo 2^32."""
        self._lacks("sub_integers")

    def mul_integers(self, a: Vector, b: Vector, into: Vector | None = None) -> Vector:
        """a * b, modulo 2^32."""
        self._lacks("mul_integers")

    def max_integers(self, a: Vector, b: Vector, into: Vector | None = None) -> Vector:
        """The greater of two signed integers."""
        self._lacks("max_integers")

    def min_integers(self, a: Vector, b: Vector, into: Vector | None = None) -> Vector:
        """The smaller of two signed integers."""
        self._lacks("min_integers")

    def compare_integers(self, a: Vector, order: Order, b: Vector) -> Mask:
        """Where the signed integers stand in this order. The mask is the caller's to drop."""
        self._lacks("compare_integers")

    def xor(self, a: Vector, b: Vector, into: Vector | None = None) -> Vector:
        """The bits that differ."""
        self._lacks("xor")

    def rotate_left(self, a: Vector, bits: int, into: Vector | None = None) -> Vector:
        """Bits that leave at the upper end come back at the lower; 0 < bits < 32."""
        self._lacks("rotate_left")

    def shift_right(self, a: Vector, bits: int, into: Vector | None = None) -> Vector:
        """Zeros come in at the upper end."""
        self._lacks("shift_right")

    def shift_left(self, a: Vector, bits: int, into: Vector | None = None) -> Vector:
        """Zeros come in at the lower end; 0 < bits < 32, here and below."""
        self._lacks("shift_left")

    def shift_right_signed(self, a: Vector, bits: int, into: Vector | None = None) -> Vector:
        """Copies of the sign bit come in at the upper end."""
        self._lacks("shift_right_signed")

    # Numbers that lie in memory as another type -----------------------------------------------------------
    # `lanes` are those of the widest register, or 1; just so many numbers are touched.

    def load_cast(self, stored: Stored, lanes: int, pointer: Pointer, offset: int) -> Vector:
        """A fresh vector: of i8 the 32-bit integers, of bf16 the f32 numbers, of f32 and i32 the f64
        numbers."""
        self._lacks(f"load_cast of {stored}")

    def store_cast(self, stored: Stored, vector: Vector, pointer: Pointer, offset: int) -> None:
        """The reverse: as i8 integers of 8 bits; as bf16 the upper halves; as f32 rounded to nearest; as i32
        whole numbers within the range. The vector's lanes are spoilt."""
        self._lacks(f"store_cast of {stored}")

    # Eight numbers to choose from, f32 ---------------------------------------------------------------------

    def choice(self, a: Vector, shift: int) -> Vector:
        """What `look_up` chooses by, in a's register: a's pattern without its `shift` lowest bits, of which
        the lowest three count. a is gone."""
        self._lacks("choice")

    def look_up(self, choice: Vector, values: Sequence[float]) -> Vector:
        """A fresh vector: in each lane that of eight values whose number `choice` has there."""
        self._lacks("look_up")

    # Addresses from data ------------------------------------------------------------------------------

    def load_index(self, pointer: Pointer, offset: int) -> Pointer:
        """A fresh general register with a signed 32-bit integer from memory."""
        self._lacks("load_index")

    def clamp_index(self, index: Pointer, count: int) -> None:
        """index = 0 below 0, count - 1 from count on, else itself."""
        self._lacks("clamp_index")
