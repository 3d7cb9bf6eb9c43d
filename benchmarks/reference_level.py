"""What compiling is worth: nj.matmul against level O0, the plain C triple loop it is validated with."""

from __future__ import annotations

from typing import Any

import numpy as np
from contest import best_ns
from goals import Goal

import neurojit as nj
from neurojit.runtime import reference_matmul

GOALS = {32: 20.0, 64: 25.0, 128: 30.0, 256: 40.0}
"""n -> how many times faster, float32."""


def measure(short: bool) -> dict[str, Any]:
    print("\nnj.matmul with out against level O0, a triple loop in C, float32")
    print(f"{'n':>5}{'neurojit us':>13}{'O0 us':>12}{'x O0':>9}{'goal':>12}")
    rows, goals = [], []
    for n, bound in GOALS.items():
        a, b = np.random.default_rng(n).standard_normal((2, n, n), np.float32)
        out = np.empty((n, n), np.float32)
        functions = {"neurojit": nj.matmul, "O0": reference_matmul}
        statements = {
            name: ("f(a, b, out)", {"f": f, "a": a, "b": b, "out": out}) for name, f in functions.items()
        }
        ns = best_ns(statements, 6 if short else 15)
        goal = Goal(f"x O0, n = {n}", ns["O0"] / ns["neurojit"], bound, form=".1f")
        goals.append(goal)
        rows.append({"n": n, "ns": ns, "ratio": goal.measured})
        us = {name: time / 1000 for name, time in ns.items()}
        print(
            f"{n:>5}{us['neurojit']:>13.2f}{us['O0']:>12.1f}{goal.measured:>9.1f}{goal.mark:>12}", flush=True
        )
    return {"rows": rows, "goals": [goal.as_json() for goal in goals]}
