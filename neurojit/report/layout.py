"""The text form of the features report: aligned columns, nothing but ASCII, at most 110 wide."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

WIDTH = 110
LABEL = 20


def render(document: dict[str, Any]) -> str:
    """The document of `neurojit.report.features.collect` as text."""
    return "\n".join(
        (
            *_machine(document),
            "",
            *_use(document),
            "",
            *_cache_table(document["caches"]),
            "",
            *_feature_table(document["features"]),
        )
    )


def _machine(document: dict[str, Any]) -> Iterable[str]:
    cpu, pipes = document["cpu"], document["pipes"]
    signature = cpu["signature"]
    yield _line("vendor", cpu["vendor"])
    yield _line("model", cpu["brand"] or "the CPU does not say")
    numbers = signature and ", ".join(f"{name} {value:#x}" for name, value in signature.items())
    yield _line(
        "microarchitecture",
        f"{cpu['microarchitecture']} ({numbers})" if numbers else cpu["microarchitecture"],
    )
    yield _line("platform", f"{cpu['system']} on {cpu['architecture']}")
    yield _line("cores", f"{cpu['cores']}, threads {cpu['threads']}, usable by this process {cpu['usable']}")
    slots = pipes["fma_slots"]
    yield _line(
        "FMA pipes",
        f"{pipes['fma_pipes']}, latency {pipes['fma_latency']} cycles, pipe-cycles for 128/256/512 bits: "
        f"{slots['bits128']}/{slots['bits256']}/{slots['bits512']} ({pipes['name']})",
    )
    ceilings = document["ceiling_gflops"]
    if ceilings is not None:
        for dtype, ceiling in ceilings.items():
            text = ceiling if isinstance(ceiling, str) else f"{ceiling:.1f} GFLOP/s per core, measured"
            yield _line(f"FMA {dtype}", text)


def _use(document: dict[str, Any]) -> Iterable[str]:
    isa, memory = document["isa"], document["executable_memory"]
    yield _line("ISA", isa["name"])
    yield _line("  because", isa["reason"])
    masks = f", {isa['mask_registers']} for masks" if isa["mask_registers"] else ""
    registers = f"{isa['vector_registers']} of up to {isa['vector_bits']} bits{masks}"
    yield _line("vector registers", registers if isa["vector_registers"] else "none")
    yield _line("encoder", document["encoder"] or "none")
    yield _line("executable memory", memory["strategy"] or "none")
    for reason in memory["reasons"]:
        yield _line("  because", reason)


def _cache_table(caches: dict[str, Any]) -> Iterable[str]:
    rows = [("cache", "size", "line", "ways", "shared by")]
    for name in ("l1d", "l1i", "l2", "l3"):
        cache = caches[name]
        if cache is not None:
            sharing = _count(cache["shared_by"], "thread")
            rows.append(
                (name.upper(), _size(cache["size"]), str(cache["line"]), str(cache["ways"] or "?"), sharing)
            )
    yield from _table(rows)
    yield (
        f"(from {caches['source']})"
        if caches["source"] != "assumed"
        else "(assumed: this machine hides them)"
    )


def _feature_table(features: list[dict[str, Any]]) -> Iterable[str]:
    rows = [("feature", "CPU", "OS", "used", "for")]
    for row in features:
        # Where the CPU has no such thing the OS has nothing to allow.
        allowed = _yes(row["os"]) if row["cpu"] else "-"
        used = "yes" if row["used"] and row["cpu"] and row["os"] else "-"
        rows.append((row["name"], _yes(row["cpu"]), allowed, used, row["purpose"]))
    return _table(rows) if features else ["no features are known for this architecture"]


def _line(label: str, text: str) -> str:
    indent = " " * LABEL
    filled = textwrap.wrap(text, WIDTH - LABEL, break_long_words=False) or [""]
    return f"\n{indent}".join([f"{label:<{LABEL}}{filled[0]}", *filled[1:]])


def _table(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _size(size: int) -> str:
    for unit, shift in (("MiB", 20), ("KiB", 10)):
        if size >= 1 << shift and size % (1 << shift) == 0:
            return f"{size >> shift} {unit}"
    return f"{size} B"
