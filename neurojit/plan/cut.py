"""An extent cut into tiles of at most two sizes: rows of C, strips for threads, panels to be packed."""

from __future__ import annotations

from typing import NamedTuple


class Cut(NamedTuple):
    """An extent cut into `of_size` tiles of `size`, then `of_rest` tiles of `rest`."""

    size: int
    of_size: int
    rest: int = 0
    of_rest: int = 0

    @property
    def tiles(self) -> int:
        return self.of_size + self.of_rest

    @property
    def sizes(self) -> tuple[int, int]:
        """The two sizes, 0 for one that no tile has."""
        return self.size if self.of_size else 0, self.rest if self.of_rest else 0

    @property
    def groups(self) -> tuple[tuple[int, int], ...]:
        """(size, tiles of that size), for those there are."""
        both = ((self.size, self.of_size), (self.rest, self.of_rest))
        return both if self.of_size and self.of_rest else tuple(group for group in both if group[1])

    def __str__(self) -> str:
        return " + ".join(f"{tiles} x {size}" for size, tiles in self.groups)


def cut_equally(extent: int, tiles: int) -> Cut:
    """Tiles as equal as can be: 20 in two is 10 + 10, 130 in eleven is 9 of 12 and 2 of 11."""
    size, larger = divmod(extent, tiles)
    return Cut(size + 1, larger, size, tiles - larger) if larger else Cut(size, tiles)


def cut_by(extent: int, size: int) -> Cut:
    """Tiles of `size`, whole vectors, then one of what is left."""
    count, rest = divmod(extent, size)
    return Cut(size, count, rest, 1 if rest else 0)


def equal_share(extent: int, most: int, unit: int = 1) -> int:
    """The extent cut into as few pieces of at most `most` as possible, evenly, rounded up to `unit`."""
    return ceil_div(ceil_div(extent, ceil_div(extent, max(most, unit))), unit) * unit


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)
