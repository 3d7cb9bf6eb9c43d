"""The arena's layout: temporaries share bytes where their lives do not meet.

A life is the span of steps from the one that writes a temporary to the last that reads it. Largest first,
each is put at the lowest offset at which it overlaps no temporary alive at the same time: first fit by
decreasing size, within a few per cent of the best on the networks that were tried, and quick. (What is best
is NP-hard: Garey and Johnson, problem SR2, dynamic storage allocation.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from neurojit.plan.program import ceil_line


class Life(NamedTuple):
    """bytes: how many. Both steps belong to the life: what a step writes may not lie in what it reads."""

    bytes: int
    first: int
    last: int


def lay_out(lives: Sequence[Life]) -> tuple[tuple[int, ...], int]:
    """(the offset of each, at a multiple of 64; bytes in all)."""
    offsets = [0] * len(lives)
    placed: list[tuple[int, int, Life]] = []
    total = 0
    for index in sorted(range(len(lives)), key=lambda i: -lives[i].bytes):
        life = lives[index]
        offset = 0
        for begin, end, other in sorted(placed):
            if other.first <= life.last and life.first <= other.last:
                if offset + life.bytes <= begin:
                    break
                offset = max(offset, end)
        offsets[index] = offset
        end = offset + ceil_line(life.bytes)
        placed.append((offset, end, life))
        total = max(total, end)
    return tuple(offsets), total
