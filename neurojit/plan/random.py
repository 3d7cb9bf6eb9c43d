"""What a kernel of random numbers computes (`Random`): Threefry-2x32 of a key and a counter, see `ir.random`.

Element number i of a result is a function of the key, the counter and i alone, and has the same bits on every
ISA. Numbers of f32, or the words themselves: those of f64 are made of them by maps, for no lanes of 64 bits
have integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Random:
    """Buffers: key (two 32-bit integers), counter (one), the number of the first element (one, if `numbered`;
    else it is 0), target; or two targets, for `words`, of integers. uniform: (w0 >> 8) 2^-24. normal: Box and
    Muller's sqrt(-2 log u) cos(2 pi v), u = ((w0 >> 8) + 1) 2^-24, v = (w1 >> 8) 2^-24.

    ValueError: a count that is not from 1 to 2^31 - 1."""

    distribution: Literal["uniform", "normal", "words"]
    count: int
    dtype: Literal["f32"] = "f32"
    numbered: bool = False

    @property
    def buffers(self) -> int:
        return 3 + self.numbered + (self.distribution == "words")

    def __post_init__(self) -> None:
        if not 1 <= self.count < 1 << 31:
            raise ValueError(f"random: count {self.count}, expected 1 to 2^31 - 1")
