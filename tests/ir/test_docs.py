"""docs/tensorlang.md: its tables are the tables of the code (`--bless` writes them), its example compiles."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import numpy as np
import pytest

from neurojit.ir import LOWERINGS, OPS, STEPS, evaluate, parse
from neurojit.ir.literals import spell
from neurojit.ir.table import REQUIRED, Attr
from neurojit.passes import PIPELINE

DOCUMENT = Path(__file__).parents[2] / "docs/tensorlang.md"
MARK = "<!-- written by tests/ir/test_docs.py --bless -->\n"
END = "<!-- end -->\n"


def attributes(known: tuple[Attr, ...]) -> str:
    spelled = []
    for a in known:
        default = "" if a.default is REQUIRED else f" = {spell(a.default)}"
        spelled.append(f"`{a.name}: {a.kind}{default}`")
    return ", ".join(spelled)


def ops() -> str:
    lines = ["| op | operands | attributes | element types | lowers to |", "|---|---|---|---|---|"]
    for row in OPS.values():
        operands = ", ".join(f"`{name}`" for name in row.operands)
        elements = ", ".join(row.elements) if row.operands else ""
        lines.append(
            f"| `{row.name}` | {operands} | {attributes(row.attributes)} | {elements} | {row.lowering} |"
        )
    lines += ["", "| lowers to | which |", "|---|---|"]
    lines += [f"| {name} | {text} |" for name, text in LOWERINGS.items()]
    return "\n".join(lines) + "\n"


def steps() -> str:
    lines = ["| step | parameters, after `op` | ops that lower to |", "|---|---|---|"]
    for row in STEPS.values():
        lines.append(f"| `{row.name}` | {attributes(row.parameters)} | {', '.join(row.lowerings)} |")
    return "\n".join(lines) + "\n"


def passes() -> str:
    lines = ["| pass | what |", "|---|---|"]
    for one in PIPELINE:
        module = importlib.import_module(f"neurojit.passes.{one.name.replace('-', '_')}")
        sentence = re.match(r"(.*?[.:])(\s|$)", (module.__doc__ or "").replace("\n", " "))
        assert sentence is not None
        lines.append(f"| {one.name} | {sentence[1].rstrip(':.')} |")
    return "\n".join(lines) + "\n"


def test_tables_are_those_of_the_code(request: pytest.FixtureRequest) -> None:
    text = DOCUMENT.read_text()
    head, *parts = text.split(MARK)
    tables = [ops(), steps(), passes()]
    assert len(parts) == len(tables)
    after = [part.partition(END)[2] for part in parts]
    expected = head + "".join(f"{MARK}{table}{END}{rest}" for table, rest in zip(tables, after, strict=True))
    if request.config.getoption("--bless"):
        DOCUMENT.write_text(expected)
    assert text == expected or request.config.getoption("--bless"), "run this test with --bless"


def test_the_example_is_what_its_module_prints_and_runs() -> None:
    example = DOCUMENT.read_text().split("```mlir\n")[1].partition("```")[0]
    module = parse(example)
    assert module.text == example
    weights = {name: np.zeros(type_.static_shape(0), "f4") for name, type_ in module.main.weights.items()}
    (got,) = evaluate(module.main, [np.ones((3, 16), "f4")], weights).outputs
    assert got.tolist() == [[0.125] * 8] * 3
