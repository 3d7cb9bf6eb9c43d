"""How contenders are timed against each other: interleaved, the best of several repeats of each.

Clocks and neighbours change over seconds, so contenders take turns within every repeat, and the best of
the repeats counts: it is the run that was least disturbed. Turns are short and begin with a rest, because a
scheduler lets a process that has slept run undisturbed for its first milliseconds. A contender is anything
that does so many calls and says how many seconds they took: timeit's loop around a Python statement, which
costs some nanoseconds a call that are not subtracted, or a loop in C.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable, Iterable, Mapping
from math import exp, log
from time import sleep
from typing import Any

RUN_NS = 2_000_000  # one turn of one contender
REST_S = 0.003

Contender = Callable[[int], float]
"""calls -> seconds."""
Statement = tuple[str, dict[str, Any]]
"""Python to time, and the names in it."""


def take_turns(
    contenders: Mapping[str, Contender],
    repeats: int,
    rest: Callable[[], None] = lambda: sleep(REST_S),
) -> dict[str, float]:
    """Nanoseconds a call of each contender. `rest` comes before every turn."""
    calls = {name: _calls(run) for name, run in contenders.items()}
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(repeats):
        for name, run in contenders.items():
            rest()
            best[name] = min(best[name], run(calls[name]) * 1e9 / calls[name])
    return best


def best_ns(statements: Mapping[str, Statement], repeats: int) -> dict[str, float]:
    """Nanoseconds a call of each statement, under timeit."""
    return take_turns({name: timed(*statement) for name, statement in statements.items()}, repeats)


def timed(statement: str, names: dict[str, Any]) -> Contender:
    return timeit.Timer(statement, globals=names).timeit


def geometric_mean(ratios: Iterable[float]) -> float:
    logs = [log(ratio) for ratio in ratios]
    return exp(sum(logs) / len(logs))


def _calls(run: Contender) -> int:
    """How many calls fill one turn; the first ones compile and warm up."""
    run(2)
    calls = 1
    while (elapsed := run(calls) * 1e9) < RUN_NS / 10 and calls < 1 << 24:
        calls *= 4
    return max(1, int(calls * RUN_NS / max(elapsed, 1)))
