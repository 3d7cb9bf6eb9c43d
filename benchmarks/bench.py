"""`make bench`: every figure of this program beside its goal, and all of them as JSON and as pictures.

Each part is a module with `measure(short)`, which prints its tables and returns what it measured, its goals
among it. A part runs in a process of its own, because the environment that chooses instruction sets and
threads is read once. `bench.py c_to_c few_rows` runs only those.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "OMP", "MKL", "NEUROJIT")}

HOLDS_PEERS_BACK = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""Set on some machines for the sake of old releases: NumPy's BLAS then runs the kernels of another CPU."""


class Part(NamedTuple):
    module: str
    environment: dict[str, str]


PARTS = {
    "matmul": Part("matmul", {}),
    "c_to_c": Part("c_to_c", {}),
    "c_to_c_avx2": Part("c_to_c", {"NEUROJIT_ISA": "avx2"}),
    "irregular": Part("irregular", {}),
    "few_rows": Part("few_rows", {}),
    "levels": Part("levels", {}),
    "packed": Part("packed", {}),
    "kernels": Part("kernels", {}),
    "kernels_avx2": Part("kernels", {"NEUROJIT_ISA": "avx2"}),
    "threads": Part("threads", {}),
    "linear": Part("linear", {}),
    "programs": Part("programs", {}),
    "compiling": Part("compiling", {}),
    "compile": Part("compile_stages", {}),
    "latencies": Part("latencies", {}),
    "crowd": Part("crowd", {}),
    "programs_c_to_c": Part("programs_c_to_c", {}),
}


def main() -> None:
    for name in HOLDS_PEERS_BACK:  # before NumPy is imported, here and in the parts
        os.environ.pop(name, None)
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--short", action="store_true", help="fewer sizes and repeats: two minutes")
    parser.add_argument("--json", metavar="PATH", help="write everything to this file")
    parser.add_argument("--pictures", metavar="FOLDER", help="draw them there, where matplotlib is installed")
    parser.add_argument("--in-this-process", metavar="MODULE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_this_process:
        measured = importlib.import_module(arguments.in_this_process).measure(arguments.short)
        write_json(measured, arguments.json)
        return
    unknown = [name for name in arguments.parts if name not in PARTS]
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    run(arguments)


def run(arguments: argparse.Namespace) -> None:
    from goals import Goal, print_summary

    document = head()
    document["short"] = arguments.short
    names = arguments.parts or [
        name for name in PARTS if not name.endswith("_avx2") or "avx512" in document["isa"]
    ]
    document["parts"] = {name: measure_apart(PARTS[name], arguments.short) for name in names}
    goals = [
        Goal(**{key: value for key, value in goal.items() if key != "met"})
        for name in names
        for goal in named(name, document["parts"][name]["goals"])
    ]
    print_summary(goals)
    if arguments.json:
        write_json(document, arguments.json)
        print(f"\nAll of it as JSON: {arguments.json}")
    if arguments.pictures:
        if importlib.util.find_spec("matplotlib") is None:
            print("No pictures: matplotlib is not installed (pip install 'neurojit[bench]')")
        else:
            import pictures

            print("Pictures:", *pictures.draw(document, Path(arguments.pictures)))


def named(part: str, goals: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The goals of a part, told apart from the same ones on another instruction set."""
    isa = PARTS[part].environment.get("NEUROJIT_ISA")
    return [{**goal, "what": f"{isa}: {goal['what']}"} for goal in goals] if isa else goals


def head() -> dict[str, Any]:
    """What the figures hold for, printed."""
    import numpy as np

    import neurojit as nj
    from neurojit.target import host, host_target

    machine = {"cpu": host().brand, "microarchitecture": host().microarchitecture}
    versions = {"python": platform.python_version(), "numpy": np.__version__, "neurojit": nj.__version__}
    print(f"{host().brand} ({host().microarchitecture}), neurojit emits {host_target().isa.name}")
    print(", ".join(f"{name} {version}" for name, version in versions.items()), "with", blas())
    print("One thread unless said otherwise. Times are the best of interleaved repeats; those of calls from")
    print("Python include timeit's loop. `x NumPy`: how many times faster than numpy.matmul.", flush=True)
    return {**machine, "isa": host_target().isa.name, "versions": versions, "blas": blas()}


def blas() -> str:
    """NumPy's BLAS, and whose kernels it runs."""
    from threadpoolctl import threadpool_info

    loaded = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return ", ".join(f"{pool['internal_api']} {pool['version']} ({pool['architecture']})" for pool in loaded)


def measure_apart(part: Part, short: bool) -> dict[str, Any]:
    """Run a part in a process of its own. Raises CalledProcessError where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "measured.json")
        command = [sys.executable, __file__, "--in-this-process", part.module, "--json", str(path)]
        environment = {**os.environ, **ONE_THREAD, **part.environment}
        subprocess.run(command + ["--short"] * short, env=environment, check=True)
        measured: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return measured


def write_json(document: dict[str, Any], path: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
