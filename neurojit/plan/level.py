"""Levels: how much is done to make a product quick. Each is a preset of the same plans and templates.

    O0  reference   plain C loops, nothing emitted: the meaning of all others
    O1  cached      vector code that reads B along its rows: one row of C at a time, a few vectors wide
    O2  unrolled    one small register tile for all of C, steps of k unrolled
    O3  blocked     tiles chosen for the shape, cache blocks, packing, threads

A level changes no bit of a result: every element stays the same chain of multiply-adds (DECISIONS 2).
"""

from __future__ import annotations

from enum import IntEnum

from neurojit.config import CONFIG


class Level(IntEnum):
    """See the module's head. A higher one is quicker to run."""

    O0 = 0
    O1 = 1
    O2 = 2
    O3 = 3


LEVEL = Level[CONFIG.level]
"""What this process computes with where a call names no level."""


def level_of(name: str | None) -> Level:
    """The level of a name, the process's for None. Raises ValueError for what is no level."""
    if name is None:
        return LEVEL
    if name not in Level.__members__:
        raise ValueError(f"level {name!r}: expected one of {', '.join(Level.__members__)}, or None")
    return Level[name]


Key = tuple[int, int, int, int]


def key_at(key: Key, level: Level) -> Key:
    """A product's key (`_call.pxi`) at a level: in two bits that extents leave free, 0 for the process's."""
    code = (level - LEVEL) % len(Level)
    return (key[0] | (code & 1) << 63, key[1] | (code >> 1) << 31, *key[2:])
