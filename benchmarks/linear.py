"""Dense layers: nj.linear as one kernel against its own passes, the product alone, NumPy and PyTorch.

All compute relu(x @ w + b) into an array that is there; `batch` rows times a square w. `passes`: nj.matmul,
then bias and activation by NumPy in place, which is what fusing saves. `product`: nj.matmul alone, the least
there is. Two threads where a product is large enough for them; NumPy's and PyTorch's work with as many.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from contest import Contender, sleep, take_turns, timed
from goals import Goal, print_goals
from threads import CORES, blas_threads, limited, settle, threadpoolctl

import neurojit as nj

BATCHES = (1, 8, 100)
SIZES = (8, 16, 32, 64, 128, 256, 512, 1024)
SHORT_SIZES = (8, 32, 128, 1024)
SHARED_WORK = 1 << 20
"""Multiply-adds from which a product has a second thread."""
SPIN_S = 0.2
"""How long a BLAS's other threads may spin after a large product, on a core that the next contender needs."""
LARGE_WORK = 1 << 26
"""Multiply-adds from which the epilogue is to be lost in the product."""
NOISE, OF_PRODUCT = 1.02, 1.03
Array = np.ndarray[Any, Any]


def measure(short: bool) -> dict[str, Any]:
    sizes = SHORT_SIZES if short else SIZES
    shapes = [(batch, size) for size in sizes for batch in BATCHES] + [(1024, 1024)]
    print("\nrelu(x @ w + b) with out, float32, us. x is batch x size, w size x size")
    print(f"{'size':>5}{'batch':>6}{'threads':>8}{'nj.linear':>11}{'passes':>10}{'product':>10}{'numpy':>10}{'torch':>10}"
          f"{'x passes':>10}{'x numpy':>9}")  # fmt: skip
    rows = []
    for batch, size in shapes:
        for threads in (1, 2):
            if threads == 1 or (threads <= len(CORES) and batch * size * size >= SHARED_WORK):
                rows.append(table_row(batch, size, threads, race(batch, size, threads, 9 if short else 20)))
    goals = goals_of(rows)
    print_goals(goals)
    return {"rows": rows, "goals": [goal.as_json() for goal in goals]}


def table_row(batch: int, size: int, threads: int, ns: dict[str, float]) -> dict[str, Any]:
    """One row, printed."""
    us = "".join(
        f"{ns[name] / 1000:>{width}.2f}" if name in ns else f"{'-':>{width}}"
        for name, width in (("linear", 11), ("passes", 10), ("product", 10), ("numpy", 10), ("torch", 10))
    )
    ratios = {name: ns[name] / ns["linear"] for name in ns}
    numpy = f"{ratios['numpy']:>9.2f}" if "numpy" in ratios else f"{'-':>9}"
    print(f"{size:>5}{batch:>6}{threads:>8}{us}{ratios['passes']:>10.2f}{numpy}", flush=True)
    return {"batch": batch, "size": size, "threads": threads, "ns": ns, "ratios": ratios}


def goals_of(rows: list[dict[str, Any]]) -> list[Goal]:
    def name(row: dict[str, Any]) -> str:
        return f"{row['batch']} x {row['size']} x {row['size']}, {row['threads']} threads"

    slowest = min(rows, key=lambda row: row["ratios"]["passes"])
    goals = [
        Goal(f"fused, x passes, least ({name(slowest)})", slowest["ratios"]["passes"], 1 / NOISE, form=".2f")
    ]
    goals += [
        Goal(f"fused against the product, {name(row)}", 1 / row["ratios"]["product"], OF_PRODUCT, True, ".3f")
        for row in rows
        if row["batch"] * row["size"] ** 2 >= LARGE_WORK
    ]
    if any("numpy" in row["ratios"] for row in rows):
        slowest = min(
            (row for row in rows if "numpy" in row["ratios"]), key=lambda row: row["ratios"]["numpy"]
        )
        goals.append(
            Goal(f"fused, x NumPy, least ({name(slowest)})", slowest["ratios"]["numpy"], 1.0, form=".2f")
        )
    return goals


def race(batch: int, size: int, threads: int, repeats: int) -> dict[str, float]:
    """Nanoseconds of each contender that can have so many threads."""
    generator = np.random.default_rng(size)
    x = generator.standard_normal((batch, size), np.float32)
    w = generator.standard_normal((size, size), np.float32)
    names = {"x": x, "w": w, "b": generator.standard_normal(size, np.float32), "y": np.empty_like(x)}
    steps = "f(x, w, y); np.add(y, b, y); np.maximum(y, 0, y)"
    ours = {
        "linear": timed('f(x, w, b, "relu", y)', names | {"f": nj.linear}),
        "passes": timed(steps, names | {"f": nj.matmul, "np": np}),
        "product": timed("f(x, w, y)", names | {"f": nj.matmul}),
    }
    contenders = {name: limited(run, threads, nj.num_threads) for name, run in ours.items()}
    numpy = timed(steps, names | {"f": np.matmul, "np": np})
    if threadpoolctl is not None:
        contenders["numpy"] = limited(numpy, threads, blas_threads)
    elif threads == 1:
        contenders["numpy"] = numpy
    contenders |= torch_contender(names, threads)
    if threads == 1:
        return take_turns(contenders, repeats)
    for name in contenders.keys() & {"numpy", "torch"}:
        contenders[name] = spun_down(contenders[name])
    return take_turns(contenders, repeats, rest=settle)


def spun_down(run: Contender) -> Contender:
    """`run`, and then a wait for its threads."""

    def turn(calls: int) -> float:
        seconds = run(calls)
        sleep(SPIN_S)
        return seconds

    return turn


def torch_contender(names: dict[str, Any], threads: int) -> dict[str, Contender]:
    """torch.nn.functional.linear and relu in place, where PyTorch is installed; it has no out for a layer."""
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return {}
    tensors = {name: torch.from_numpy(names[name]) for name in "xwb"}
    tensors["w"] = tensors["w"].T.contiguous()  # as it keeps them, (n, k)
    tensors |= {"f": torch.nn.functional.linear, "relu": torch.relu_}
    run = timed("relu(f(x, w, b))", tensors)

    def turn(calls: int) -> float:
        torch.set_num_threads(threads)
        with torch.no_grad():
            return run(calls)

    return {"torch": turn}
