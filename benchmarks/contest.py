"""How contenders are timed against each other: interleaved, the best of several repeats of each.

Clocks and neighbours change over seconds, so contenders take turns within every repeat, and the best of
the repeats counts: it is the run that was least disturbed. The loop around the call is timeit's, which
costs some nanoseconds a call; `empty_loop_ns` says how many, and nothing is subtracted.
"""

from __future__ import annotations

import timeit
from collections.abc import Mapping
from typing import Any

RUN_NS = 4_000_000  # one turn of one contender


def best_ns(contenders: Mapping[str, tuple[str, dict[str, Any]]], repeats: int) -> dict[str, float]:
    """Nanoseconds a call of each contender: name -> (statement, its globals)."""
    timers = {name: timeit.Timer(statement, globals=names) for name, (statement, names) in contenders.items()}
    calls = {name: _calls(timer) for name, timer in timers.items()}
    best = dict.fromkeys(timers, float("inf"))
    for _ in range(repeats):
        for name, timer in timers.items():
            best[name] = min(best[name], timer.timeit(calls[name]) * 1e9 / calls[name])
    return best


def empty_loop_ns() -> float:
    """What timeit's loop itself costs."""
    return best_ns({"nothing": ("pass", {})}, 20)["nothing"]


def _calls(timer: timeit.Timer) -> int:
    """How many calls fill one turn; the first ones compile and warm up."""
    timer.timeit(2)
    calls = 1
    while (elapsed := timer.timeit(calls) * 1e9) < RUN_NS / 10 and calls < 1 << 24:
        calls *= 4
    return max(1, int(calls * RUN_NS / max(elapsed, 1)))
