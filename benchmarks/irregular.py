"""100 shapes that no tile was made for: M, N and K drawn from 1 to 200, nj.matmul against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from contest import best_ns, geometric_mean
from goals import Goal, print_goals

import neurojit as nj

SHAPES, LARGEST = 100, 200
WORST = 5  # listed


def measure(short: bool) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    shapes = generator.integers(1, LARGEST + 1, (SHAPES, 3)).tolist()
    rows = [race(*shape, repeats=10 if short else 20) for shape in shapes]
    rows.sort(key=lambda row: row["ratio"])
    print(f"\n{SHAPES} shapes, M, N and K drawn from 1 to {LARGEST}, float32, with out. The {WORST} worst:")
    print(f"{'M':>5}{'N':>5}{'K':>5}{'neurojit ns':>13}{'numpy ns':>12}{'x NumPy':>9}")
    for row in rows[:WORST]:
        m, n, k = row["shape"]
        ns = row["ns"]
        print(f"{m:>5}{n:>5}{k:>5}{ns['neurojit']:>13.0f}{ns['numpy']:>12.0f}{row['ratio']:>9.2f}")
    mean = geometric_mean(row["ratio"] for row in rows)
    goals = [
        Goal("irregular shapes, x NumPy, geometric mean", mean, 1.5, form=".2f"),
        Goal("irregular shapes, x NumPy, least", rows[0]["ratio"], 1.0, form=".2f"),
    ]
    print_goals(goals)
    return {"rows": rows, "goals": [goal.as_json() for goal in goals]}


def race(m: int, n: int, k: int, repeats: int) -> dict[str, Any]:
    generator = np.random.default_rng(m + n + k)
    a = generator.standard_normal((m, k), np.float32)
    b = generator.standard_normal((k, n), np.float32)
    out = np.empty((m, n), np.float32)
    ns = best_ns(
        {
            name: ("f(a, b, out)", {"f": f, "a": a, "b": b, "out": out})
            for name, f in (("neurojit", nj.matmul), ("numpy", np.matmul))
        },
        repeats,
    )
    return {"shape": [m, n, k], "ns": ns, "ratio": ns["numpy"] / ns["neurojit"]}
