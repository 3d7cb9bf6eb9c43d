"""Pictures of what `bench.py` measured: the fraction of the FMA ceiling against n, a panel for each ISA."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

Document = dict[str, Any]
ISA_NAMES = {"x86_64-avx512": "AVX-512", "x86_64-avx2": "AVX2"}
LARGEST = 256


class Curve(NamedTuple):
    label: str
    points: list[tuple[int, float]]
    style: dict[str, Any]


def draw(document: Document, folder: Path) -> list[Path]:
    """A picture for each dtype that was called from C, as .png and .svg. Gives their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    mpl.rcParams["svg.hashsalt"] = "neurojit"  # the same figures, the same file
    paths = []
    for dtype in ("float32", "float64"):
        panels = panels_of(document["parts"], dtype)
        if panels:
            figure = fraction_of_ceiling(document, dtype, panels)
            stem = folder / ("fraction_of_ceiling" + ("" if dtype == "float32" else f"_{dtype}"))
            paths += [save_png(figure, stem.with_suffix(".png")), save_svg(figure, stem.with_suffix(".svg"))]
    return paths


def save_png(figure: Figure, path: Path) -> Path:
    """With a palette: a third of the bytes, and nothing to be seen of it."""
    figure.savefig(path)
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(128).save(path, optimize=True)
    return path


def save_svg(figure: Figure, path: Path) -> Path:
    figure.savefig(path, metadata={"Date": None})
    return path


def panels_of(parts: Document, dtype: str) -> dict[str, list[Curve]]:
    """ISA -> its curves; calls from Python, dashed, in the first, which is the one nj.matmul emits."""
    panels: dict[str, list[Curve]] = {}
    for part in ("c_to_c", "c_to_c_avx2"):
        table = parts.get(part, {}).get("tables", {}).get(dtype)
        if table is None:
            continue
        panels[ISA_NAMES.get(parts[part]["isa"], parts[part]["isa"])] = curves = []
        for who, rate, style in (
            ("neurojit", "gflops", {"color": "tab:blue", "linewidth": 2.2}),
            ("LIBXSMM", "libxsmm_gflops", {"color": "tab:orange", "linewidth": 1.6}),
        ):
            points = [(row["n"], row[rate] / table["ceiling"]) for row in table["rows"] if row[rate]]
            curves.append(Curve(f"{who}, from C", points, style))
    if panels:
        rows = [row for row in parts.get("matmul", {}).get("rows", []) if row["dtype"] == dtype]
        next(iter(panels.values())).extend(from_python([row for row in rows if row["n"] <= LARGEST]))
    return {isa: [curve for curve in curves if curve.points] for isa, curves in panels.items()}


def from_python(rows: list[dict[str, Any]]) -> list[Curve]:
    neurojit = [(row["n"], row["of_ceiling"]) for row in rows]
    numpy = [(row["n"], row["of_ceiling"] / row["ratio"]) for row in rows]
    return [
        Curve("nj.matmul, from Python", neurojit, {"color": "tab:blue", "linestyle": "--"}),
        Curve("numpy.matmul, from Python", numpy, {"color": "tab:red", "linestyle": "--"}),
    ]


def fraction_of_ceiling(document: Document, dtype: str, panels: dict[str, list[Curve]]) -> Figure:
    figure = Figure(figsize=(5.2 * len(panels), 4.4), dpi=100, layout="constrained")
    for axes, (isa, curves) in zip(
        figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.items(), strict=True
    ):
        draw_panel(axes, curves)
        axes.set_title(isa, fontsize=11)
    figure.axes[0].set_ylabel("fraction of the FMA ceiling of one core")
    machine = f"{document['cpu'].strip()} ({document['microarchitecture']})"
    figure.suptitle(f"C[n,n] = A[n,n] @ B[n,n] in {dtype}, one thread, {machine}", fontsize=12)
    return figure


def draw_panel(axes: Axes, curves: list[Curve]) -> None:
    for curve in curves:
        axes.plot(*zip(*curve.points, strict=True), label=curve.label, **curve.style)
    axes.set_xscale("log", base=2)
    ticks = [2**power for power in range(2, 9)]
    axes.set_xticks(ticks, [str(n) for n in ticks])
    axes.set_xlim(4, LARGEST)
    axes.set_ylim(0, 1.03)
    axes.yaxis.set_major_formatter(mpl.ticker.PercentFormatter(1.0))
    axes.grid(alpha=0.3)
    axes.set_xlabel("n")
    axes.legend(loc="lower right", fontsize=9)
