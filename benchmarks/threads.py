"""Products large enough to share: nj.matmul against NumPy on one and on two threads.

NumPy's threads are set through threadpoolctl; without it NumPy stays on one. A BLAS's threads spin for some
milliseconds after a product, on the cores the next contender needs, so every turn begins with a pause. On
Linux the calling thread has the first core and all workers the second: left alone, the kernel keeps a caller
and its worker on one core for many turns in a row, and then it is the kernel that is measured.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from contest import Contender, take_turns, timed
from goals import Goal

import neurojit as nj
from neurojit.report.ceiling import fma_ceiling

try:
    import threadpoolctl
except ImportError:
    threadpoolctl = None

TURNS = {128: 20, 256: 20, 512: 20, 1024: 10, 2048: 4}
"""n -> turns of each contender, in the short form."""
PAUSE_S = 0.04
CORES = (
    sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
)
GOAL_RATIO, GOAL_OF_CEILING = 1.07, 0.95


def measure(short: bool) -> dict[str, Any]:
    counts = [threads for threads in (1, 2) if threads <= len(CORES)]
    before = fma_ceiling("float32")
    times = {n: race(n, counts, turns if short else 3 * turns) for n, turns in TURNS.items()}
    ceiling = max(before, fma_ceiling("float32"))
    print(f"\nLarge products, float32, with out. FMA ceiling of one core {ceiling:.1f} GFLOP/s")
    if threadpoolctl is None:
        print("NumPy on one thread only: no threadpoolctl here")
    print(
        f"{'n':>5}{'threads':>9}{'neurojit us':>13}{'numpy us':>12}{'x NumPy':>9}{'goal':>13}"
        f"{'of ceiling':>12}{'goal':>13}"
    )
    rows, goals = [], []
    for n, ns in times.items():
        for threads in counts:
            row, ends = table_row(n, threads, ns, ceiling)
            rows.append(row)
            goals += ends
    return {"ceiling": ceiling, "rows": rows, "goals": [goal.as_json() for goal in goals]}


def table_row(
    n: int, threads: int, ns: dict[str, float], ceiling: float
) -> tuple[dict[str, Any], list[Goal]]:
    """One row, printed, and its goals."""
    neurojit, numpy = ns[f"neurojit {threads}"], ns.get(f"numpy {threads}")
    fraction = 2 * n**3 / neurojit / (threads * ceiling)
    ratio = None if numpy is None else numpy / neurojit
    of_ceiling = Goal(f"n = {n}, threads = {threads}, of the ceiling", fraction, GOAL_OF_CEILING, form=".1%")
    goals = [of_ceiling]
    peer = f"{'-':>12}{'-':>9}{'':>13}"
    if numpy is not None and ratio is not None:
        goals.insert(0, Goal(f"n = {n}, threads = {threads}, x NumPy", ratio, GOAL_RATIO, form=".2f"))
        peer = f"{numpy / 1000:>12.1f}{ratio:>9.2f}{goals[0].mark:>13}"
    print(f"{n:>5}{threads:>9}{neurojit / 1000:>13.1f}{peer}{fraction:>12.1%}{of_ceiling.mark:>14}")
    row = {"n": n, "threads": threads, "ns": {"neurojit": neurojit, "numpy": numpy}}
    return row | {"ratio": ratio, "of_ceiling": fraction}, goals


def race(n: int, counts: list[int], repeats: int) -> dict[str, float]:
    """Nanoseconds of each library on each number of threads."""
    a, b = np.random.default_rng(n).standard_normal((2, n, n), np.float32)
    out = np.empty((n, n), np.float32)
    contenders = {}
    for threads in counts:
        ours = timed("f(a, b, out)", {"f": nj.matmul, "a": a, "b": b, "out": out})
        contenders[f"neurojit {threads}"] = limited(ours, threads, nj.num_threads)
        theirs = timed("f(a, b, out)", {"f": np.matmul, "a": a, "b": b, "out": out})
        if threadpoolctl is not None:
            contenders[f"numpy {threads}"] = limited(theirs, threads, blas_threads)
        elif threads == 1:
            contenders["numpy 1"] = theirs
    return take_turns(contenders, repeats, rest=settle)


def settle() -> None:
    """Before a turn: every thread to its core, then wait for those of the last turn to go to sleep."""
    if hasattr(os, "sched_setaffinity") and len(CORES) > 1:
        for thread in map(int, os.listdir("/proc/self/task")):
            os.sched_setaffinity(thread, {CORES[0] if thread == os.getpid() else CORES[1]})
    time.sleep(PAUSE_S)


def limited(run: Contender, threads: int, limit: Callable[[int], Any]) -> Contender:
    """`run` under a limit of threads. The limit is set, and one call made, before the clock starts."""

    def turn(calls: int) -> float:
        with limit(threads):
            run(1)
            return run(calls)

    return turn


def blas_threads(threads: int) -> Any:
    return threadpoolctl.threadpool_limits(threads, user_api="blas")
