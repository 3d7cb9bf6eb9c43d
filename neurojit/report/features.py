"""`neurojit features`: what this CPU has, what the OS allows, what neurojit uses of it, and why.

`collect` gathers one plain document; `--json` prints it, and the text (neurojit.report.layout) is
written from it, so the two cannot disagree. `--raw` prints the undecoded facts instead, for bug
reports and tests/target/recorded/.
"""

from __future__ import annotations

import argparse
import json
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from neurojit.config import CONFIG
from neurojit.errors import ExecutableMemoryError, NeurojitError
from neurojit.runtime import Code, executable_memory
from neurojit.target import Caches, Cpu, IsaChoice, choose_isa, gather, host, target_for

DTYPES = ("float32", "float64")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON instead of text")
    form.add_argument("--raw", action="store_true", help="print the undecoded facts of this CPU, as JSON")
    parser.add_argument("--measure", action="store_true", help="also measure the FMA ceiling of one core")


def run(arguments: argparse.Namespace) -> int:
    from neurojit.report.layout import render

    if arguments.raw:
        print(json.dumps(gather().to_json(), indent=1))
        return 0
    document = collect(host(), choose_isa(host(), CONFIG.isa), measure=arguments.measure)
    print(json.dumps(document, indent=2) if arguments.json else render(document))
    return 0


def collect(cpu: Cpu, choice: IsaChoice, measure: bool = False) -> dict[str, Any]:
    """The report on a CPU as plain values: strings, numbers, booleans, None, lists and dicts."""
    isa = choice.isa
    target = target_for(isa.name, cpu)
    return {
        "cpu": {
            "architecture": cpu.architecture,
            "system": cpu.system,
            "vendor": cpu.vendor,
            "brand": cpu.brand,
            "microarchitecture": cpu.microarchitecture,
            "signature": None if cpu.signature is None else cpu.signature._asdict(),
            "cores": cpu.cores,
            "threads": cpu.threads,
            "usable": cpu.usable,
        },
        "features": [
            {
                "name": state.name,
                "cpu": state.cpu,
                "os": state.os,
                "used": state.name in isa.needs,
                "purpose": state.feature.purpose,
            }
            for state in cpu.features
        ],
        "caches": _caches(cpu.caches),
        "isa": {
            "name": isa.name,
            "reason": choice.reason,
            "cap": choice.cap,
            "vector_registers": isa.vector_registers,
            "vector_bits": target.isa.widest,
            "mask_registers": isa.mask_registers,
        },
        "pipes": asdict(cpu.pipes),
        "encoder": CONFIG.encoder if isa.vector_registers else None,
        "executable_memory": _executable_memory(),
        "ceiling_gflops": {dtype: _ceiling(dtype) for dtype in DTYPES} if measure else None,
    }


def _caches(caches: Caches) -> dict[str, Any]:
    rows = {"l1d": caches.l1d, "l1i": caches.l1i, "l2": caches.l2, "l3": caches.l3}
    return {"source": caches.source, **{name: cache and cache._asdict() for name, cache in rows.items()}}


def _executable_memory() -> dict[str, Any]:
    """How code becomes executable here, tried out: {"strategy": str, "reasons": [str]}."""
    with suppress(ExecutableMemoryError):  # which is told by the reasons
        Code.map(b"\0")
    memory = executable_memory()
    return {"strategy": memory.strategy, "reasons": list(memory.reasons)}


def _ceiling(dtype: str) -> float | str:
    """GFLOP/s of FMAs on one core, or why there is no number."""
    from neurojit.report.ceiling import fma_ceiling

    try:
        return fma_ceiling(dtype)
    except NeurojitError as error:
        return str(error)
