"""Reductions of one vector after another: what is kept for each, and how it becomes one value.

    sum: 1 register for every partial vector; least, greatest: as many; their positions: twice as many + 1

The order in which elements meet is `plan.reduce`'s: partial vectors are taken in turn; at the end they are
combined in halves, then the lanes of the last one.
"""

from __future__ import annotations

import math

from neurojit.asm_templates.machine import Machine, Mask, Vector


class Accumulator:
    """One reduction over a row. `lanes` of each of the `partials` vectors; `across` lanes too, at the end."""

    identity = 0.0

    def __init__(self, m: Machine, lanes: int, partials: int, across: bool) -> None:
        self.m, self.lanes, self.across = m, lanes, across
        self.vectors = [self.nothing() for _ in range(partials)]

    def nothing(self) -> Vector:
        """A fresh vector of what changes no value when it is taken in."""
        return self.m.spread(self.lanes, self.identity)

    def take(self, x: Vector, number: int, tail: Mask | None) -> None:
        """The vector that is number `number` of the row; of its lanes only those of `tail`, where given."""
        m = self.m
        own = None
        if tail is not None:
            nothing = self.nothing()
            own = x = m.select(tail, m.view(x, self.lanes), nothing, into=nothing)
        self.add(self.vectors[number % len(self.vectors)], x)
        if own is not None:
            m.drop(own)

    def add(self, a: Vector, x: Vector) -> None:
        """a takes x in."""
        self.m.add(a, x, into=a)

    def finish(self) -> Vector:
        """The value: in one lane, or in each lane its own if not `across`."""
        m, half = self.m, len(self.vectors)
        while half > 1:
            half //= 2
            for low, high in zip(self.vectors[:half], self.vectors[half : 2 * half], strict=True):
                self.add(low, high)
                m.drop(high)
        return self.fold(self.vectors[0])

    def fold(self, a: Vector) -> Vector:
        """Lane l and l + half, until one is left."""
        m = self.m
        while self.across and a.lanes > 1:
            high = m.upper(a)
            a = m.view(a, a.lanes // 2)
            self.add(a, high)
            m.drop(high)
        return a


class Mean(Accumulator):
    """The sum, divided by the count."""

    count = 1

    def finish(self) -> Vector:
        total = super().finish()
        return self.m.div(total, float(self.count), into=total)


class IntegerSum(Accumulator):
    """The sum of integers of 32 bits, which wraps."""

    least = 0

    def nothing(self) -> Vector:
        return self.m.spread_integer(self.lanes, self.least & 0xFFFF_FFFF)

    def add(self, a: Vector, x: Vector) -> None:
        self.m.add_integers(a, x, into=a)


class GreatestInteger(IntegerSum):
    """The greatest integer of 32 bits."""

    least = -(1 << 31)

    def add(self, a: Vector, x: Vector) -> None:
        self.m.max_integers(a, x, into=a)


class LeastInteger(IntegerSum):
    """The smallest integer of 32 bits."""

    least = (1 << 31) - 1

    def add(self, a: Vector, x: Vector) -> None:
        self.m.min_integers(a, x, into=a)


class GreatestNumber(Accumulator):
    """The greatest element that is not NaN."""

    identity = -math.inf

    def add(self, a: Vector, x: Vector) -> None:
        self.m.max(x, a, into=a)


class LeastNumber(Accumulator):
    """The least element that is not NaN."""

    identity = math.inf

    def add(self, a: Vector, x: Vector) -> None:
        self.m.min(x, a, into=a)


class Greatest(Accumulator):
    """The greatest element; NaN where there is one."""

    identity = -math.inf

    def add(self, a: Vector, x: Vector) -> None:
        m = self.m
        better = m.max(x, a) if self.identity < 0 else m.min(x, a)
        number = m.compare(x, "==", x)
        m.select(number, better, x, into=a)
        m.drop_mask(number)
        m.drop(better)


class Least(Greatest):
    """The least element; NaN where there is one."""

    identity = math.inf


class FirstGreatest(Greatest):
    """The position of the first greatest element, or of the first NaN.

    Each lane keeps its first; at the end the least position among the lanes that hold the row's value."""

    def __init__(self, m: Machine, lanes: int, partials: int, across: bool) -> None:
        super().__init__(m, lanes, partials, across)
        self.position = m.lane_numbers(lanes) if across else m.spread(lanes, 0.0)
        self.firsts = [m.duplicate(self.position)]
        for _ in self.vectors[1:]:
            self.firsts.append(m.add(self.firsts[-1], float(lanes)))

    def add_at(self, a: Vector, first: Vector, x: Vector) -> None:
        """`a` takes x in, and `first` the position if that changes a."""
        m = self.m
        kept = m.compare(x, "<=" if self.identity < 0 else ">=", a)  # false where either is NaN
        better = m.select(kept, a, x)
        where = m.select(kept, first, self.position)
        m.drop_mask(kept)
        number = m.compare(a, "==", a)
        m.select(number, where, first, into=first)
        m.select(number, better, a, into=a)
        m.drop_mask(number)
        m.drop(better, where)

    def take(self, x: Vector, number: int, tail: Mask | None) -> None:
        m, at = self.m, number % len(self.vectors)
        own = None
        if tail is not None:
            nothing = m.spread(self.lanes, self.identity)
            own = x = m.select(tail, m.view(x, self.lanes), nothing, into=nothing)
        self.add_at(self.vectors[at], self.firsts[at], x)
        if own is not None:
            m.drop(own)
        m.add(self.position, float(self.lanes if self.across else 1), into=self.position)

    def finish(self) -> Vector:
        m = self.m
        m.drop(self.position)
        if not self.across:
            m.drop(self.vectors[0])
            return self.firsts[0]
        best = m.duplicate(self.vectors[0])
        for other in self.vectors[1:]:
            self.add(best, other)
        single = self.fold(best)
        best = m.spread_first(single, self.lanes)
        m.drop(single)
        nowhere = m.spread(self.lanes, math.inf)
        for a, first in zip(self.vectors, self.firsts, strict=True):
            number = m.compare(a, "==", a)  # if best is NaN, the lanes that are
            here = m.select(number, nowhere, first)
            m.drop_mask(number)
            equal = m.compare(a, "==", best)
            m.select(equal, first, here, into=first)
            m.drop_mask(equal)
            m.drop(here, a)
        m.drop(best, nowhere)
        low = self.firsts[0]
        for first in self.firsts[1:]:
            m.min(low, first, into=low)
            m.drop(first)
        while low.lanes > 1:
            high = m.upper(low)
            low = m.view(low, low.lanes // 2)
            m.min(low, high, into=low)
            m.drop(high)
        return low


class FirstLeast(FirstGreatest):
    """The position of the first least element, or of the first NaN."""

    identity = math.inf


ACCUMULATORS: dict[str, type[Accumulator]] = {
    "reduce_sum": Accumulator,
    "reduce_mean": Mean,
    "reduce_max": Greatest,
    "reduce_min": Least,
    "reduce_fmax": GreatestNumber,
    "reduce_fmin": LeastNumber,
    "reduce_argmax": FirstGreatest,
    "reduce_argmin": FirstLeast,
    "reduce_isum": IntegerSum,
    "reduce_imax": GreatestInteger,
    "reduce_imin": LeastInteger,
}


def accumulator(m: Machine, op: str, lanes: int, partials: int, across: bool, count: int) -> Accumulator:
    """For a reduction of `count` elements."""
    made = ACCUMULATORS[op](m, lanes, partials, across)
    if isinstance(made, Mean):
        made.count = count
    return made
