"""The ladder of levels: what each adds to the one below, from plain C loops to tuned tiles.

O0 is the triple loop that kernels are validated with; O1 to O3 are presets of the same templates. All bound
calls (`nj.matmul.bind`), one thread, the same bits.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from contest import best_ns
from goals import Goal

import neurojit as nj

LEVELS = ("O0", "O1", "O2", "O3")
GOALS = {32: 20.0, 64: 25.0, 128: 30.0, 256: 40.0}
"""n -> how many times faster than O0 the highest level is, float32."""


def measure(short: bool) -> dict[str, Any]:
    print(
        "\nLevels, C[n,n] = A[n,n] @ B[n,n] bound, float32: us, and how many times faster than the one below"
    )
    print(f"{'n':>5}" + "".join(f"{level:>16}" for level in LEVELS) + f"{'O3 x O0':>10}{'goal':>14}")
    rows, goals = [], []
    for n, bound in GOALS.items():
        a, b = np.random.default_rng(n).standard_normal((2, n, n), np.float32)
        calls = {level: nj.matmul.bind(a, b, np.empty((n, n), np.float32), level) for level in LEVELS}
        ns = best_ns({level: ("f()", {"f": call}) for level, call in calls.items()}, 8 if short else 20)
        steps = {high: ns[low] / ns[high] for low, high in pairwise(LEVELS)}
        least = min(steps, key=steps.__getitem__)
        ladder = Goal(f"n = {n}, each level x the one below, least ({least})", steps[least], 1.0, form=".2f")
        whole = Goal(f"O3 x O0, n = {n}", ns["O0"] / ns["O3"], bound, form=".1f")
        goals += [ladder, whole]
        rows.append({"n": n, "ns": ns, "steps": steps, "ratio": whole.measured})
        times = "".join(
            f"{ns[level] / 1000:>9.2f}" + (f" {steps[level]:5.2f}x" if level in steps else " " * 7)
            for level in LEVELS
        )
        print(f"{n:>5}{times}{whole.measured:>10.1f}{whole.mark:>14}", flush=True)
    return {"rows": rows, "goals": [goal.as_json() for goal in goals]}
