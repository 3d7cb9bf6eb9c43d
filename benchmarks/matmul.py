"""nj.matmul against NumPy and whatever else is installed, from Python, on one thread; and what it costs.

A table for each dtype: time of one call with `out`, the ratio to NumPy, GFLOP/s and the fraction of the
FMA ceiling measured in the same run, and the goal beside it. Then what a call costs at least, what a
kernel costs to compile, and what importing costs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np
from contest import best_ns
from goals import Goal
from peers import Peer, peers

import neurojit as nj
from neurojit.plan.gemm import Gemm
from neurojit.plan.tiling import schedule_gemm
from neurojit.report.ceiling import fma_ceiling
from neurojit.runtime import Code, clock_ns
from neurojit.target import host_target

SIZES = (*range(4, 65, 4), 80, 96, 112, 128, 160, 192, 224, 256, 512, 1024)
SHORT_SIZES = (4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
DTYPES = ("float32", "float64")

GOAL_RATIO = {4: 6.0, 8: 5.0, 16: 4.0, 32: 2.0, 64: 1.25} | dict.fromkeys((128, 256, 512, 1024), 1.07)
"""float32, n -> how many times faster than NumPy."""
GOALS = {
    "call, allocating (ns)": 120.0,
    "call, positional out (ns)": 60.0,
    "compile 32x32x32 (us)": 60.0,
    "import beyond NumPy (ms)": 40.0,
}


def measure(short: bool) -> dict[str, Any]:
    sizes, repeats = (SHORT_SIZES, 15) if short else (SIZES, 30)
    rivals = peers()
    rows = [row for dtype in DTYPES for row in measure_dtype(dtype, sizes, rivals, repeats)]
    measured = costs(repeats)
    print_costs(measured)
    goals = [row_goal(row) for row in rows] + [cost_goal(*cost) for cost in measured.items()]
    return {
        "versions": {rival.name: rival.version for rival in rivals},
        "rows": rows,
        "costs": measured,
        "goals": [goal.as_json() for goal in goals if goal],
    }


def row_goal(row: dict[str, Any]) -> Goal | None:
    bound = GOAL_RATIO.get(row["n"]) if row["dtype"] == "float32" else None
    if bound is None:
        return None
    return Goal(f"nj.matmul x NumPy, n = {row['n']}", row["ratio"], bound, form=".2f")


def cost_goal(name: str, value: float) -> Goal | None:
    bound = GOALS.get(name)
    return None if bound is None else Goal(name, value, bound, at_most=True, form=".1f")


def measure_dtype(
    dtype: str, sizes: tuple[int, ...], rivals: list[Peer], repeats: int
) -> list[dict[str, Any]]:
    """One row for each n, printed as they come."""
    ceiling = fma_ceiling(dtype)
    print(f"\nC[n,n] = A[n,n] @ B[n,n] with out, from Python, {dtype}. FMA ceiling {ceiling:.1f} GFLOP/s")
    others = "".join(f"{rival.name + ' ns':>12}" for rival in rivals)
    print(f"{'n':>5}{'neurojit ns':>13}{others}{'x NumPy':>9}{'goal':>12}{'GFLOP/s':>9}{'of ceiling':>12}")
    rows = []
    for n in sizes:
        row = race(dtype, n, rivals, repeats, ceiling)
        rows.append(row)
        goal = row_goal(row)
        mark = goal.mark if goal else ""
        times = "".join(f"{row['ns'][rival.name]:>12.0f}" for rival in rivals)
        print(
            f"{n:>5}{row['ns']['neurojit']:>13.0f}{times}{row['ratio']:>9.2f}{mark:>12}"
            f"{row['gflops']:>9.1f}{row['of_ceiling']:>12.0%}",
            flush=True,
        )
    return rows


def race(dtype: str, n: int, rivals: list[Peer], repeats: int, ceiling: float) -> dict[str, Any]:
    generator = np.random.default_rng(n)
    a, b = generator.standard_normal((2, n, n)).astype(dtype)
    c = np.empty((n, n), dtype)
    contenders = {"neurojit": ("f(a, b, c)", {"f": nj.matmul, "a": a, "b": b, "c": c})}
    contenders |= {rival.name: rival.prepare(a, b, c) for rival in rivals}
    ns = best_ns(contenders, repeats)
    gflops = 2 * n**3 / ns["neurojit"]
    return {
        "dtype": dtype,
        "n": n,
        "ns": ns,
        "ratio": ns["numpy"] / ns["neurojit"],
        "gflops": gflops,
        "of_ceiling": gflops / ceiling,
    }


def costs(repeats: int) -> dict[str, float]:
    """What is paid beside the arithmetic, by the names of GOALS; and NumPy's call for comparison."""
    a, b, c = (np.ones((1, 1), np.float32) for _ in range(3))
    calls = {
        f"{name} {how}": (statement, {"f": f, "a": a, "b": b, "c": c})
        for name, f in (("neurojit", nj.matmul), ("numpy", np.matmul))
        for how, statement in (("new", "f(a, b)"), ("out", "f(a, b, c)"))
    }
    ns = best_ns(calls, 2 * repeats)
    emit, whole = compile_us()
    imports, first = import_ms()
    return {
        "call, allocating (ns)": ns["neurojit new"],
        "call, positional out (ns)": ns["neurojit out"],
        "  NumPy's, allocating (ns)": ns["numpy new"],
        "  NumPy's, positional out (ns)": ns["numpy out"],
        "compile 32x32x32 (us)": emit,
        "  with its validation (us)": whole,
        "import beyond NumPy (ms)": imports,
        "  first product, with the compiler's import (ms)": first,
    }


def compile_us() -> tuple[float, float]:
    """(schedule + emit + map, the same and validation) of one kernel, nothing about it cached: the best.

    Kernels are kept until the end, so that unmapping them is not part of it.
    """
    from neurojit.codegen import emit_gemm
    from neurojit.compiler import compile_gemm

    target = host_target()
    g = Gemm.contiguous("f32", 32, 32, 32)

    def emit() -> Code:
        return Code.map(emit_gemm(g, schedule_gemm(g, target), target.isa))

    best, kept = {}, []
    for name, work in (("emit", emit), ("whole", lambda: compile_gemm(g, target))):
        best[name] = float("inf")
        for _ in range(50):
            start = clock_ns()
            kept.append(work())
            best[name] = min(best[name], (clock_ns() - start) / 1000)
    return best["emit"], best["whole"]


IMPORT_SCRIPT = """
import time, numpy
a = numpy.ones((8, 8), numpy.float32)
start = time.perf_counter()
import neurojit
neurojit.matmul
imported = time.perf_counter()
neurojit.matmul(a, a)
print(imported - start, time.perf_counter() - imported)
"""


def import_ms() -> tuple[float, float]:
    """(importing nj.matmul after NumPy, the first product) in fresh interpreters: the best of ten.

    Python keeps the bytecode of modules, as it does for users, wherever this environment forbids it."""
    best = [float("inf")] * 2
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for _ in range(10):
            done = subprocess.run(
                [sys.executable, "-c", IMPORT_SCRIPT],
                capture_output=True,
                text=True,
                check=True,
                env=environment,
            )
            best = [min(old, 1000 * float(new)) for old, new in zip(best, done.stdout.split(), strict=True)]
    return best[0], best[1]


def print_costs(measured: dict[str, float]) -> None:
    print(f"\n{'costs':48}{'measured':>10}{'goal':>14}")
    for name, value in measured.items():
        goal = cost_goal(name, value)
        print(f"{name:48}{value:>10.1f}{goal.mark if goal else '':>14}".rstrip())
