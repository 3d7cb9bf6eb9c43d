"""Emitted kernels against LIBXSMM's, called from C: what the machine code itself is worth.

C[n,n] = A[n,n] @ B[n,n], contiguous, operands 64 bytes aligned. The kernel is always the one that reads A and
B in place, also where nj.matmul would pack them. LIBXSMM emits for the same instruction set: AVX2 ("hsw")
where neurojit does. The loops are in c_to_c.c, which is compiled here, into build/.

LIBXSMM_PATH is the prefix LIBXSMM is installed under (/usr: Debian's libxsmm-dev). Without it the tables
have neurojit alone, and say so.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from contest import Contender, geometric_mean, take_turns
from goals import Goal, print_goals
from peers import Array

from neurojit.codegen import emit_gemm
from neurojit.plan.gemm import Gemm
from neurojit.plan.tiling import schedule_gemm
from neurojit.report.ceiling import DTYPES, fma_ceiling
from neurojit.runtime import Code
from neurojit.target import host_target

SMALL = tuple(range(4, 65, 4))
LARGE, LARGE_SHORT = tuple(range(64, 257, 4)), tuple(range(64, 257, 16))

OF_CEILING = dict.fromkeys((16, 24, 32, 40, *range(48, 65, 4)), 0.95) | {
    20: 0.83,
    28: 0.83,
    36: 0.88,
    44: 0.88,
}
"""n -> the part of the FMA ceiling to be reached, float32."""


class Loops:
    """c_to_c.c, compiled and loaded, with LIBXSMM where there is one."""

    def __init__(self, library: ctypes.CDLL, *, has_libxsmm: bool) -> None:
        self.library = library
        self.has_libxsmm = has_libxsmm
        self.peer = "no LIBXSMM here (Debian: libxsmm-dev; elsewhere set LIBXSMM_PATH)"
        pointer = ctypes.c_void_p
        timers = ["time_kernel"]
        if has_libxsmm:
            for dtype in DTYPES.values():
                getattr(library, f"xsmm_{dtype}").restype = pointer
                timers.append(f"time_xsmm_{dtype}")
            library.xsmm_version.restype = library.xsmm_target.restype = ctypes.c_char_p
            self.peer = (
                f"LIBXSMM {library.xsmm_version().decode()}, emitting {library.xsmm_target().decode()}"
            )
        for name in timers:
            timer = getattr(library, name)
            timer.restype, timer.argtypes = ctypes.c_double, [pointer] * 4 + [ctypes.c_int64]

    def contender(self, timer: str, kernel: int, *operands: Array) -> Contender:
        addresses = [x.ctypes.data for x in operands]
        return lambda calls: float(getattr(self.library, timer)(kernel, *addresses, calls))

    def libxsmm(self, dtype: str, n: int, *operands: Array) -> Contender | None:
        """None without LIBXSMM, or where it has no kernel."""
        kernel = getattr(self.library, f"xsmm_{dtype}")(n, n, n) if self.has_libxsmm else None
        return self.contender(f"time_xsmm_{dtype}", kernel, *operands) if kernel else None


def build() -> Loops:
    """Compile c_to_c.c. Raises CalledProcessError where that fails."""
    if host_target().isa.name == "x86_64-avx2":
        os.environ["LIBXSMM_TARGET"] = "hsw"  # LIBXSMM reads it when it starts
    source = Path(__file__).with_suffix(".c")
    made = source.parent.parent / "build" / "c_to_c.so"
    made.parent.mkdir(exist_ok=True)
    prefix = Path(os.environ.get("LIBXSMM_PATH", "/usr"))
    archives = [prefix / "lib" / name for name in ("libxsmm.a", "libxsmmnoblas.a")]
    has_libxsmm = all(path.exists() for path in archives)
    command = [
        *shlex.split(os.environ.get("CC", "cc")),
        "-O2",
        "-Wall",
        "-shared",
        "-fPIC",
        "-o",
        made,
        source,
    ]
    if has_libxsmm:
        command += ["-DWITH_LIBXSMM", f"-I{prefix}/include", *archives, "-lpthread", "-ldl", "-lm"]
    subprocess.run(command, check=True)
    return Loops(ctypes.CDLL(str(made)), has_libxsmm=has_libxsmm)


def measure(short: bool) -> dict[str, Any]:
    loops = build()
    repeats = 20 if short else 30
    tables, goals = {}, []
    for dtype in ("float32",) if short else tuple(DTYPES):
        sizes = sorted({*SMALL, *(LARGE_SHORT if short else LARGE)})
        before = fma_ceiling(dtype)
        rows = [race(loops, dtype, n, repeats) for n in sizes]
        ceiling = max(before, fma_ceiling(dtype))
        for row in rows:
            row["of_ceiling"] = row["gflops"] / ceiling
        print(f"\nC to C, {dtype}, {host_target().isa.name}. Peer: {loops.peer}")
        print(f"FMA ceiling of one core {ceiling:.1f} GFLOP/s")
        print_table(rows, dtype)
        reached = table_goals(rows) if dtype == "float32" else []
        print_goals([goal for goal in reached if " at n" not in goal.what])  # those stand in the table
        goals += [goal.as_json() for goal in reached]
        tables[dtype] = {"ceiling": ceiling, "rows": rows}
    return {"isa": host_target().isa.name, "libxsmm": loops.peer, "tables": tables, "goals": goals}


def race(loops: Loops, dtype: str, n: int, repeats: int) -> dict[str, Any]:
    """One row of the table."""
    short_dtype, target = DTYPES[dtype], host_target()
    generator = np.random.default_rng(n)
    a, b, c, d = (aligned(generator.standard_normal((n, n)).astype(dtype)) for _ in range(4))
    g = Gemm.contiguous(short_dtype, n, n, n)
    kernel = Code.map(emit_gemm(g, schedule_gemm(g, target), target.isa))
    contenders = {"neurojit": loops.contender("time_kernel", kernel.address, a, b, c)}
    libxsmm = loops.libxsmm(short_dtype, n, a, b, d)
    if libxsmm is not None:
        contenders["libxsmm"] = libxsmm
    ns = take_turns(contenders, repeats)
    expected, tolerance = a @ b, 1e-3 if dtype == "float32" else 1e-10
    for result in (c, d) if libxsmm is not None else (c,):
        np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)
    rates = {name: 2 * n**3 / time for name, time in ns.items()}
    row = {"n": n, "ns": ns, "gflops": rates["neurojit"], "libxsmm_gflops": None, "ratio": None}
    if libxsmm is not None:
        row |= {"libxsmm_gflops": rates["libxsmm"], "ratio": ns["libxsmm"] / ns["neurojit"]}
    return row


def aligned(x: Array) -> Array:
    """A copy whose first byte lies on a cache line."""
    room = np.empty(x.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    copy = room[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
    copy[...] = x
    return copy


def print_table(rows: list[dict[str, Any]], dtype: str) -> None:
    print(f"{'n':>5}{'GFLOP/s':>9}{'of ceiling':>12}{'goal':>14}{'LIBXSMM':>10}{'x LIBXSMM':>11}")
    for row in rows:
        goal = of_ceiling_goal(row) if dtype == "float32" else None
        peer = "" if row["ratio"] is None else f"{row['libxsmm_gflops']:>10.1f}{row['ratio']:>11.2f}"
        mark = goal.mark if goal else ""
        print(f"{row['n']:>5}{row['gflops']:>9.1f}{row['of_ceiling']:>12.1%}{mark:>14}{peer}")


def of_ceiling_goal(row: dict[str, Any]) -> Goal | None:
    bound = OF_CEILING.get(row["n"])
    if bound is None:
        return None
    return Goal(f"C to C, of the ceiling at n = {row['n']}", row["of_ceiling"], bound, form=".1%")


def table_goals(rows: list[dict[str, Any]]) -> list[Goal]:
    small = [row for row in rows if row["n"] in SMALL]
    large = [row for row in rows if row["n"] in LARGE]
    goals = [goal for row in small if (goal := of_ceiling_goal(row))]
    ratios = {row["n"]: row["ratio"] for row in small if row["ratio"] is not None}
    if ratios:
        least = min(ratios, key=ratios.__getitem__)
        mean = geometric_mean(ratios.values())
        goals.append(Goal("C to C, x LIBXSMM, n = 4..64, geometric mean", mean, 1.15, form=".3f"))
        goals.append(Goal(f"C to C, x LIBXSMM, n = 4..64, least ({least})", ratios[least], 0.98, form=".3f"))
    fractions = {row["n"]: row["of_ceiling"] for row in large}
    least = min(fractions, key=fractions.__getitem__)
    mean = geometric_mean(fractions.values())
    goals.append(Goal("C to C, of the ceiling, n = 64..256, geometric mean", mean, 0.96, form=".1%"))
    goals.append(
        Goal(f"C to C, of the ceiling, n = 64..256, least ({least})", fractions[least], 0.90, form=".1%")
    )
    return goals
