"""A few rows times a square matrix, as in a network with a small batch: M = 1 to 16, K = N.

There is to be no cliff between one row, where reading B bounds the time, and many, where arithmetic does:
M rows take at most M times as long as one.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from contest import geometric_mean
from goals import Goal, print_goals
from irregular import race

ROWS = range(1, 17)
SIDES = (64, 256, 1024)
STEP = 1.1
"""How much more than in proportion one row more may cost: what timing leaves uncertain, and no cliff."""


def measure(short: bool) -> dict[str, Any]:
    rows, goals = [], []
    print("\nA[M,K] @ B[K,K] with out, float32; `of M`: the time against M times that of one row")
    print(f"{'K':>5}{'M':>5}{'neurojit us':>13}{'numpy us':>12}{'x NumPy':>9}{'goal':>13}{'of M':>8}")
    for side in SIDES:
        block = [race(m, side, side, repeats=15 if short else 20) for m in ROWS]
        one_row = block[0]["ns"]["neurojit"]
        for m, row in zip(ROWS, block, strict=True):
            row["of_m"] = row["ns"]["neurojit"] / (m * one_row)
            goal = Goal(f"{m} x {side} x {side}, x NumPy", row["ratio"], 1.5, form=".2f")
            goals.append(goal)
            us = {name: time / 1000 for name, time in row["ns"].items()}
            print(
                f"{side:>5}{m:>5}{us['neurojit']:>13.2f}{us['numpy']:>12.2f}{row['ratio']:>9.2f}"
                f"{goal.mark:>13}{row['of_m']:>8.2f}",
                flush=True,
            )
        growth = growth_goals(side, block)
        print_goals(growth)
        goals += growth
        rows += block
    mean = geometric_mean(row["ratio"] for row in rows)
    print(f"  x NumPy, geometric mean of all: {mean:.2f}")
    return {"rows": rows, "mean": mean, "goals": [goal.as_json() for goal in goals]}


def growth_goals(side: int, block: list[dict[str, Any]]) -> list[Goal]:
    """How time grows with M: against one row, and from any M to the next."""
    most = max(row["of_m"] for row in block[1:])
    steps = {row["shape"][0]: row["of_m"] / last["of_m"] for last, row in pairwise(block)}
    steepest = max(steps, key=steps.__getitem__)
    return [
        Goal(f"K = {side}: M rows against M times one row, most", most, 1.0, True, ".2f"),
        Goal(
            f"K = {side}: one row more against M / (M - 1), most ({steepest})",
            steps[steepest],
            STEP,
            True,
            ".2f",
        ),
    ]
