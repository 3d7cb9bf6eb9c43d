"""What can be said of kernels for CPUs that are not here: their main loops, by listing and by llvm-mca.

    .venv/bin/python benchmarks/static.py

Instructions in a step of k and for each multiply-add, beside the least there could be (the multiply-adds,
the loads of B, and a load for as many elements of A as a register holds); and the cycles that llvm-mca
predicts for the loop, as a fraction of what its multiply-adds alone would take in the same model, independent
of each other. Goal: 92%. Of RISC-V V, for registers of several lengths, the instructions alone: its cores
differ too much for one model. (llvm's model of the Apple M1 is that of an older core, with 3 pipes for floats
and 2 for doubles where the M1 has 4: the fraction is of that model.)
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, replace

from neurojit.codegen import list_gemm
from neurojit.plan.blocking import micro_tile, one_tile
from neurojit.plan.gemm import ELEMENT_SIZE, Gemm
from neurojit.plan.tiling import schedule_gemm
from neurojit.target import Target, target_for

GOAL = 0.92
CPUS = ("neoverse-n1", "neoverse-n2", "neoverse-v1", "neoverse-v2", "apple-m1")
LENGTHS = (128, 256, 512)  # of RISC-V V's registers
ITERATIONS = 200
FMA = re.compile(r"\bfmla |\bvfmacc\.|\bvfmadd231")


@dataclass(frozen=True)
class Loop:
    """The main loop of a kernel: its instructions, and how many steps of k it makes."""

    kernel: str
    steps: int
    instructions: list[str]

    @property
    def fmas(self) -> int:
        return sum(bool(FMA.search(line)) for line in self.instructions)


def main_loop(kernel: str, listing: str, fmas_a_step: int) -> Loop:
    """The innermost loop with the most multiply-adds."""
    best: list[str] = []
    body: list[str] = []
    label = ""
    for line in listing.splitlines():
        if line.startswith("L"):
            label, body = line.rstrip(":"), []
            continue
        text = re.sub(r"^[0-9a-f]{4,}  (?:[0-9a-f]{8}|(?:[0-9a-f]{2} ?)+) +", "", line)
        body.append(text)
        ends = label and text.split()[-1] == label
        if ends and sum(map(bool, map(FMA.search, body))) > sum(map(bool, map(FMA.search, best))):
            best = list(body)
    fmas = sum(map(bool, map(FMA.search, best)))
    return Loop(kernel, fmas // fmas_a_step, best)


def packed(dtype: str, target: Target) -> Loop:
    """The micro-kernel of the blocked driver."""
    mr, nr = micro_tile(dtype, target)
    g = Gemm.micro_kernel(dtype, mr, nr, (mr, nr), accumulate=False)
    lanes = target.isa.widest // 8 // ELEMENT_SIZE[dtype]
    name = f"{dtype} {mr}x{nr} packed"
    return main_loop(name, list_gemm(g, one_tile(g, target), target.isa), mr * nr // lanes)


def in_place(dtype: str, m: int, n: int, target: Target) -> Loop:
    """A small product of row-major matrices, by the tiles of the planner."""
    g = Gemm.contiguous(dtype, m, n, 256)
    schedule = schedule_gemm(g, target)
    block = schedule.columns[0]
    name = f"{dtype} {m}x{n} in place, tiles {block.rows.size}x{block.width}"
    return main_loop(name, list_gemm(g, schedule, target.isa), block.rows.size * len(block.lanes))


def least_instructions(height: int, vectors: int, lanes: int) -> float:
    """Of one step, where one load brings `lanes` elements of A."""
    return height * vectors + vectors + height / lanes


def cycles(instructions: list[str], cpu: str) -> float:
    """Of one trip through a loop, by llvm-mca. The text is the listing's own."""
    text = "\n".join(["L0:", *(re.sub(r"\bL\d+$", "L0", line) for line in instructions)])
    command = ["llvm-mca-19", "-mtriple=aarch64", f"-mcpu={cpu}", f"-iterations={ITERATIONS}"]
    run = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    total = re.search(r"Total Cycles:\s+(\d+)", run.stdout)
    assert total is not None
    return int(total[1]) / ITERATIONS


def cycles_of_fmas(loop: Loop, cpu: str) -> float:
    """Of as many multiply-adds as the loop has, each with an accumulator and a factor of its own."""
    kind = next(line for line in loop.instructions if FMA.search(line))
    arrangement, lane = ("4s", "s") if ".4s" in kind else ("2d", "d")
    fmas = [f"fmla v{n}.{arrangement}, v{n}.{arrangement}, v{n}.{lane}[0]" for n in range(32)]
    return cycles(fmas, cpu) / len(fmas) * loop.fmas


@dataclass(frozen=True)
class Figure:
    """fraction: of the bound by the multiply-adds alone, None without llvm-mca."""

    kernel: str
    cpu: str
    instructions_a_step: float
    least: float
    instructions_a_fma: float
    cycles_a_step: float | None
    fraction: float | None


def figures() -> list[Figure]:
    target = target_for("aarch64-neon")
    found = []
    for dtype in ("f32", "f64"):
        lanes = target.isa.widest // 8 // ELEMENT_SIZE[dtype]
        for loop in (packed(dtype, target), in_place(dtype, 64, 48 * lanes // 4, target)):
            height, width = map(int, re.findall(r"(\d+)x(\d+)", loop.kernel)[-1])
            a_step = len(loop.instructions) / loop.steps
            least = least_instructions(height, width // lanes, lanes)
            for cpu in CPUS:
                taken = fraction = None
                if shutil.which("llvm-mca-19"):
                    taken = cycles(loop.instructions, cpu) / loop.steps
                    fraction = cycles_of_fmas(loop, cpu) / loop.steps / taken
                a_fma = len(loop.instructions) / loop.fmas
                found.append(Figure(loop.kernel, cpu, a_step, least, a_fma, taken, fraction))
    return [*found, *figures_of_riscv()]


def figures_of_riscv() -> list[Figure]:
    """Groups of registers are one operand, and each element of A is a load of its own."""
    found, row = [], target_for("riscv64-rvv")
    for bits, dtype in itertools.product(LENGTHS, ("f32", "f64")):
        target = replace(row, isa=row.isa.with_vectors_of(bits))
        loop = in_place(dtype, 64, 64, target)
        block = schedule_gemm(Gemm.contiguous(dtype, 64, 64, 256), target).columns[0]
        least = least_instructions(block.rows.size, len(block.lanes), 1)
        a_step, a_fma = len(loop.instructions) / loop.steps, len(loop.instructions) / loop.fmas
        found.append(Figure(loop.kernel, f"rvv {bits} bits", a_step, least, a_fma, None, None))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    found = figures()
    if parser.parse_args().json:
        print(json.dumps([asdict(figure) for figure in found], indent=2))
        return 0
    print(f"{'kernel':42}{'CPU':14}{'instr/step':>11}{'least':>7}{'instr/fma':>10}{'cycles':>8}{'of FMA':>8}")
    for f in found:
        last = f"{f.cycles_a_step:8.2f}{f.fraction:8.1%}" if f.fraction is not None else ""
        if f.fraction is None and f.cpu in CPUS:
            last = "   no llvm-mca-19"
        missed = "" if f.fraction is None or f.fraction >= GOAL else f"  missed: goal {GOAL:.0%}"
        print(
            f"{f.kernel:42}{f.cpu:14}{f.instructions_a_step:11.2f}{f.least:7.2f}"
            f"{f.instructions_a_fma:10.3f}{last}{missed}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
