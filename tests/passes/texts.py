"""A function written briefly, before and after a pass, and random programs held to the same results."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from programs import Program

from neurojit.ir import Evaluation, Function, Module, check_module, evaluate, parse
from neurojit.passes import Pass

PARAMETERS = (
    "%x: tensor<2x3xf32>, %y: tensor<2x3xf32>, %z: tensor<3xf32>, %d: tensor<?x3xf32>, %i: tensor<2x3xi32>, "
    "%c: tensor<2x3xi1>, %m: tensor<3x2xf32>, %one: tensor<1x3xf32>"
)


def function_of(body: str, parameters: str = PARAMETERS) -> Function:
    """Lines `%a = tanh(%x) {attributes} : operand types -> result types`; types without tensor< >."""
    lines = []
    outputs = ""
    for line in filter(None, (raw.strip() for raw in body.splitlines())):
        if line.startswith("return"):
            outputs = re.sub(r"([\d?x]*[fi]\d+)\b(?![.])", r"tensor<\1>", line.partition(":")[2])
            line = f"func.return{line.partition(':')[0].removeprefix('return')} : {outputs}"
        else:
            match = re.fullmatch(r"((?:%\S+ = )?)(\w+)(\(.*?\))(.*) : (.*?) ->(.*)", line)
            assert match is not None, line
            results, name, operands, attributes, taken, given = match.groups()
            types = [", ".join(f"tensor<{t}>" for t in side.split()) for side in (taken, given)]
            line = f'{results}"nj.{name}"{operands}{attributes} : ({types[0]}) -> ({types[1]})'
        lines.append(line)
    text = "\n".join(lines)
    return parse(f"module @m {{\nfunc.func @main({parameters}) -> ({outputs}) {{\n{text}\n}}\n}}").main


def check_text(one: Pass, before: str, after: str, parameters: str = PARAMETERS) -> None:
    """The pass makes `after`, with `parameters`, of `before`, names included, and nothing of `after`."""
    made = one.run(function_of(before))
    assert Module("m", (made,)).text == Module("m", (function_of(after, parameters),)).text
    assert one.run(made) is made


def assert_same(first: Evaluation, second: Evaluation, ulps: int = 0) -> None:
    """The same numbers; zeros of both signs count as one, as do all NaN. ulps: of the greatest element."""
    pairs = [*zip(first.outputs, second.outputs, strict=True)]
    pairs += [(first.states[name], second.states[name]) for name in first.states]
    for before, after in pairs:
        assert before.dtype == after.dtype
        if ulps and before.dtype.kind == "f" and before.size:
            finite = np.isfinite(before)
            np.testing.assert_array_equal(finite, np.isfinite(after))
            largest: Any = np.max(np.abs(before[finite]), initial=0)
            np.testing.assert_allclose(before[finite], after[finite], rtol=0, atol=ulps * np.spacing(largest))
            before, after = before[~finite], after[~finite]
        np.testing.assert_array_equal(before, after)


def check_results(one: Pass, made: Program, ulps: int = 0) -> bool:
    """The pass gives valid IR with the same results; whether it changed anything."""
    changed = one.run(made.function)
    assert check_module(made._replace(function=changed).module) == []
    given = (made.inputs, made.weights, made.states)
    assert_same(evaluate(made.function, *given), evaluate(changed, *given), ulps)
    return changed is not made.function
