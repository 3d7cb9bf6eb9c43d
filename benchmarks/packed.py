"""Packed weights: x[M,K] @ w[K,K] as it is, packed, and kept in bf16 and int8, against NumPy. `int8 x int8`
and `bf16 x bf16`: activations rounded too, which their time includes.

One row reads every weight once, so beyond L1 its time is that of bringing them from the cache they lie in:
the smaller they are stored, the better, until widening them takes longer. More rows share each widened
vector; many are bound by arithmetic, where packing saves only what rows that collide in a cache cost.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from contest import best_ns
from goals import Goal

import neurojit as nj

ONE_ROW = (64, 256, 512, 1024, 2048)
FEW_ROWS = (2, 4, 8, 16)
MANY_ROWS = ((100, 256), (1000, 1000), (1024, 1024))
GOALS_OF_ONE_ROW = {
    ("packed", "numpy", 1024): 1.5,
    ("bf16", "packed", 1024): 2.0,
    ("int8", "packed", 1024): 3.0,
    ("bf16", "packed", 2048): 2.0,
    ("int8", "packed", 2048): 3.0,
    ("int8 x int8", "packed", 1024): 3.0,
    ("int8 x int8", "packed", 2048): 3.0,
    ("bf16 x bf16", "packed", 1024): 2.0,
    ("bf16 x bf16", "packed", 2048): 2.0,
}
"""(faster, slower, K) -> how many times."""
COLUMNS = ("numpy", "neurojit", "packed", "bf16", "int8", "int8 x int8", "bf16 x bf16")


def measure(short: bool) -> dict[str, Any]:
    repeats = 15 if short else 40
    print("\nx[M,K] @ w[K,K] with out, float32 activations; microseconds, and times NumPy")
    print(f"{'M':>5}{'K':>6}" + "".join(f"{name + ' us':>15}" for name in COLUMNS) + f"{'x NumPy':>42}")
    rows: list[dict[str, Any]] = []
    for k in ONE_ROW:
        rows.append(race(1, k, repeats))
    for m in FEW_ROWS:
        rows.append(race(m, 1024, repeats))
    for m, k in MANY_ROWS[: 1 if short else None]:
        rows.append(race(m, k, repeats // 3))
    goals = [goal for row in rows for goal in goals_of(row)]
    for goal in goals:
        print(f"  {goal}")
    return {"rows": rows, "goals": [goal.as_json() for goal in goals]}


def race(m: int, k: int, repeats: int) -> dict[str, Any]:
    """One row of the table, printed."""
    generator = np.random.default_rng(k)
    x, w = (generator.standard_normal(shape, np.float32) for shape in ((m, k), (k, k)))
    out = np.empty((m, k), np.float32)
    right = {"numpy": w, "neurojit": w, "packed": nj.pack(w)}
    right |= {storage: nj.pack(w, storage) for storage in ("bf16", "int8")}
    right |= {f"{both} x {both}": nj.pack(w, both, activations=both) for both in ("int8", "bf16")}
    ns = best_ns(
        {
            name: ("f(x, w, o)", {"f": np.matmul if name == "numpy" else nj.matmul, "x": x, "w": b, "o": out})
            for name, b in right.items()
        },
        repeats,
    )
    ratios = {name: ns["numpy"] / ns[name] for name in COLUMNS[1:]}
    times = "".join(f"{ns[name] / 1000:>15.2f}" for name in COLUMNS)
    print(f"{m:>5}{k:>6}{times}" + "".join(f"{ratio:>7.2f}" for ratio in ratios.values()), flush=True)
    return {"m": m, "k": k, "ns": ns, "ratios": ratios}


def goals_of(row: dict[str, Any]) -> list[Goal]:
    m, k, ns = row["m"], row["k"], row["ns"]
    if m > 16:
        return [Goal(f"{m} x {k} x {k}, packed x NumPy", row["ratios"]["packed"], 1.07, form=".2f")]
    if m > 1:
        return [Goal(f"{m} x {k} x {k}, packed x NumPy", row["ratios"]["packed"], 1.5, form=".2f")]
    return [
        Goal(f"1 x {k} x {k}, {faster} x {slower}", ns[slower] / ns[faster], bound, form=".2f")
        for (faster, slower, at), bound in GOALS_OF_ONE_ROW.items()
        if at == k
    ]
