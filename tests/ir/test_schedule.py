"""The schedule region: what is legal, and every refusal at its place; no step changes what is computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neurojit.errors import TensorLangError
from neurojit.ir import (
    OPS,
    STEPS,
    Builder,
    Function,
    Module,
    ScheduleText,
    check_schedule,
    evaluate,
    parse,
    step,
)
from neurojit.ir.verifier import check_module, verify

PAYLOAD = """\
module @m {
  func.func @main(%x: tensor<12x64xf32>, %d: tensor<?x64xf32>, %r: tensor<12x24xf32>) -> tensor<?x24xf32> {
    %w = "nj.weight"() {name = "w"} : () -> tensor<64x24xf32>
    %b = "nj.weight"() {name = "b"} : () -> tensor<24xf32>
    %y = "nj.matmul"(%x, %w) : (tensor<12x64xf32>, tensor<64x24xf32>) -> tensor<12x24xf32>
    %sy = "nj.softmax"(%y) {axis = 1} : (tensor<12x24xf32>) -> tensor<12x24xf32>
    %late = "nj.exp"(%r) : (tensor<12x24xf32>) -> tensor<12x24xf32>
    %z = "nj.add"(%y, %b) : (tensor<12x24xf32>, tensor<24xf32>) -> tensor<12x24xf32>
    %t = "nj.tanh"(%z) : (tensor<12x24xf32>) -> tensor<12x24xf32>
    %u = "nj.mul"(%t, %late) : (tensor<12x24xf32>, tensor<12x24xf32>) -> tensor<12x24xf32>
    %v = "nj.mul"(%t, %sy) : (tensor<12x24xf32>, tensor<12x24xf32>) -> tensor<12x24xf32>
    %s = "nj.softmax"(%u) {axis = 1} : (tensor<12x24xf32>) -> tensor<12x24xf32>
    %m = "nj.sum"(%s) {axes = [0, 1]} : (tensor<12x24xf32>) -> tensor<f32>
    %o = "nj.outer"(%b, %b) : (tensor<24xf32>, tensor<24xf32>) -> tensor<24x24xf32>
    %e = "nj.exp"(%w) : (tensor<64x24xf32>) -> tensor<64x24xf32>
    %dy = "nj.matmul"(%d, %e) : (tensor<?x64xf32>, tensor<64x24xf32>) -> tensor<?x24xf32>
    %wide = "nj.add"(%y, %o2) : (tensor<12x24xf32>, tensor<2x12x24xf32>) -> tensor<2x12x24xf32>
    %h, %hs = "nj.scan"(%b, %x) ({
    ^bb0(%c: tensor<24xf32>, %row: tensor<64xf32>):
      %c1 = "nj.tanh"(%c) : (tensor<24xf32>) -> tensor<24xf32>
      "nj.yield"(%c1, %c) : (tensor<24xf32>, tensor<24xf32>) -> ()
    }) {carried = 1} : (tensor<24xf32>, tensor<12x64xf32>) -> (tensor<24xf32>, tensor<12x24xf32>)
    func.return %dy : tensor<?x24xf32>
  }
  "nj.schedule"() ({
STEPS  }) : () -> ()
}
""".replace(
    '    %wide = "nj.add"(%y, %o2)',
    '    %o2 = "nj.constant"() {value = dense<1.0> : tensor<2x12x24xf32>} : () -> tensor<2x12x24xf32>\n'
    '    %wide = "nj.add"(%y, %o2)',
)


def text(*steps: str) -> str:
    lines = "".join(f'    "nj.{s.partition(" ")[0]}"() {{{s.partition(" ")[2]}}} : () -> ()\n' for s in steps)
    return PAYLOAD.replace("STEPS", lines)


TILE = 'tile op = "y", rows = [6, 2], columns = [16, 8]'
LEGAL = [
    [TILE],
    ['tile op = "y", rows = [5, 2, 2, 1], columns = [8], count = 3, depth = 32'],
    ['tile op = "y", rows = [6, 2], columns = [16]', 'tile op = "y", rows = [4, 3], columns = [8]'],
    ['tile op = "dy", rows = [3, 2], columns = [16, 8], part = 6', 'unroll op = "dy", steps = 2, part = 6'],
    ['unfuse op = "z"', 'unfuse op = "t"'],
    ['keep op = "s", registers = true'],
    ['rows op = "dy", heights = [6, 1]', 'parallel op = "dy", axis = 0, ways = 2'],
    ['tile op = "dy", rows = [8, -1, 3, -1, 1, -1], columns = [16, 8]'],
    ['tile op = "o", rows = [8, 3], columns = [24]'],
    ['unroll op = "y", steps = 64', 'unroll op = "h", steps = 12', 'unroll op = "late", steps = 8'],
    ['vectorize op = "t", lanes = 16', 'vectorize op = "s", lanes = 1', 'vectorize op = "c1", lanes = 8'],
    ['pack op = "y"'],
    ['pack op = "y", width = 32'],
    ['fuse op = "z", into = "y"', 'fuse op = "t", into = "y"', 'fuse op = "e", into = "dy"'],
    ['fuse op = "late", into = "u"', 'fuse op = "u", into = "s"', 'fuse op = "t", into = "s"'],
    ['prefetch op = "y", operand = 0, distance = 2', 'prefetch op = "y", distance = 64'],
    ['parallel op = "y", axis = 1, ways = 2', 'parallel op = "s", axis = 0, ways = 2'],
]


@pytest.mark.parametrize("steps", LEGAL)
def test_legal(steps: list[str]) -> None:
    module = parse(text(*steps))
    verify(module)
    assert len(module.schedule("main").steps) == len(steps)
    assert parse(module.text).text == module.text


ILLEGAL: list[tuple[list[str], str, str]] = [
    (
        ['tile op = "yy", rows = [6, 2], columns = [8]'],
        '"yy"',
        "tile: op: expected the name of what an op defines, got 'yy'; did you mean 'y'?",
    ),
    (
        ['tile op = "t", rows = [6, 2], columns = [8]'],
        '"t"',
        "expected an op that lowers to gemm, got tanh, which lowers to map",
    ),
    (
        ['tile op = "y", rows = [6], columns = [8]'],
        "[6]",
        "expected pairs of a height and a count of tiles, got [6]",
    ),
    (['tile op = "y", rows = [], columns = [8]'], "[]", "expected pairs of a height and a count of tiles"),
    (['tile op = "y", rows = [6, 3], columns = [8]'], "[6, 3]", "rows: expected tiles that cover 12, got 18"),
    (['tile op = "y", rows = [65, 1], columns = [8]'], "[65, 1]", "rows: expected 1 to 64, got 65"),
    (
        ['tile op = "y", rows = [6, -1], columns = [8]'],
        "[6, -1]",
        "rows: count of tiles: expected at least 1, got -1",
    ),
    (
        ['tile op = "dy", rows = [6, 2], columns = [8]'],
        "[6, 2]",
        "expected -1, as many as fit, for a dynamic extent",
    ),
    (
        ['tile op = "dy", rows = [6, -1], columns = [8]'],
        "[6, -1]",
        "expected falling heights, the last of them 1",
    ),
    (['tile op = "dy", rows = [1, -1, 1, -1], columns = [8]'], "[1, -1, 1", "expected falling heights"),
    (
        ['tile op = "y", rows = [6, 1, 4, 1, 2, 1], columns = [24]'],
        "[6, 1",
        "rows: expected at most 2 heights of tiles, got 3",
    ),
    (
        ['tile op = "y", rows = [6, 2], columns = [24], part = 6'],
        "6",
        "part: expected 0, for %y has no dynamic extent",
    ),
    (['tile op = "dy", rows = [6, 2], columns = [24], part = 6'], "[6, 2]", "tiles that cover 6, got 12"),
    (['unroll op = "t", steps = 2, part = -1'], "-1", "part: expected 0 to 4096, got -1"),
    (['rows op = "y", heights = [4, 1]'], '"y"', "expected one of dynamic extent, got %y = matmul(%x, %w)"),
    (['rows op = "dy", heights = []'], "[]", "heights: expected rows that are computed at once"),
    (['rows op = "dy", heights = [4]'], "[4]", "heights: expected falling heights, the last of them 1"),
    (['rows op = "dy", heights = [5000, 1]'], "[5000", "heights: expected 1 to 4096, got 5000"),
    (['keep op = "t", registers = true'], '"t"', "expected an op that lowers to reduce, got tanh"),
    (['unfuse op = "y"'], '"y"', "expected an op that lowers to map, got matmul"),
    (['pack op = "y", width = 2000'], "2000", "width: expected -1 to 1024, got 2000"),
    (['tile op = "y", rows = [6, 2], columns = []'], "[]", "columns: expected lanes of at least one vector"),
    (['tile op = "y", rows = [6, 2], columns = [128]'], "[128]", "columns: expected 1 to 64, got 128"),
    (
        ['tile op = "y", rows = [6, 2], columns = [16]'],
        "[16]",
        "columns: expected tiles that cover 24, got 16",
    ),
    (
        ['tile op = "y", rows = [6, 2], columns = [8], count = 1000000000'],
        "1000000000",
        "count: expected 1 to 24",
    ),
    (
        ['tile op = "y", rows = [6, 2], columns = [24], depth = -1'],
        "-1",
        "depth: expected 0 to 1048576, got -1",
    ),
    (
        ['tile op = "y", rows = [12, 1], columns = [' + "1, " * 23 + "1]"],
        "[1, 1",
        "at most 256 accumulators, got 288",
    ),
    ([TILE, TILE], "", "tile: %y has such a step already: expected one"),
    (
        [
            'tile op = "y", rows = [6, 2], columns = [16], depth = 8',
            'tile op = "y", rows = [4, 3], columns = [8]',
        ],
        "",
        "depth: expected as in the other tiles of %y",
    ),
    (
        ['unroll op = "y", steps = 1000000000'],
        "1000000000",
        "unroll: steps: expected 1 to 64, got 1000000000",
    ),
    (['unroll op = "y", steps = 0'], "0", "unroll: steps: expected 1 to 64, got 0"),
    (['unroll op = "h", steps = 13'], "13", "steps: expected at most 12, the trips of the loop, got 13"),
    (['unroll op = "o", steps = 2'], "2", "steps: expected at most 1, the trips of the loop"),
    (['vectorize op = "t", lanes = 12'], "12", "vectorize: lanes: expected a power of two, got 12"),
    (['vectorize op = "t", lanes = 128'], "128", "lanes: expected 1 to 64, got 128"),
    (['vectorize op = "h", lanes = 8'], '"h"', "got scan, which lowers to scan"),
    (
        ['pack op = "y", operand = 0'],
        "0",
        "pack: %x is packed before the call: expected a weight or a constant, got an input",
    ),
    (
        ['pack op = "dy"'],
        "",
        "%e is packed before the call: expected a weight or a constant, got the result of exp",
    ),
    (['pack op = "y", operand = 2'], "2", "operand: expected 0 to 1, got 2"),
    (['fuse op = "z", into = "q"'], '"q"', "fuse: into: expected what an op defines, got 'q'"),
    (['fuse op = "z", into = "z"'], '"z"}', "an op is not fused into itself"),
    (['fuse op = "t", into = "y"'], '"y"', "%t does not use %y"),
    (['fuse op = "late", into = "y"'], '"y"', "%late does not use %y"),
    (['fuse op = "e", into = "o"'], '"o"', "%e does not use %o"),
    (['fuse op = "late", into = "dy"'], '"dy"', "%dy does not use %late"),
    (
        ['fuse op = "v", into = "y"', 'fuse op = "t", into = "y"', 'fuse op = "z", into = "y"'],
        '"y"',
        "fuse: %sy is not there yet when %y is computed",
    ),
    (['fuse op = "wide", into = "y"'], '"y"', "shape of %wide: expected 12x24, that of %y, got 2x12x24"),
    (
        ['fuse op = "c1", into = "h"'],
        '"h"',
        "into: expected an op that lowers to gemm, map or reduce, got scan",
    ),
    (['fuse op = "c1", into = "t"'], '"t"', "into: expected an op of the same block, got %t = tanh(%z)"),
    (['fuse op = "s", into = "u"'], '"s"', "expected an op that lowers to map, got softmax"),
    (['prefetch op = "y", distance = 65'], "65", "prefetch: distance: expected 1 to 64, got 65"),
    (
        ['parallel op = "s", axis = 1, ways = 2'],
        "1",
        "expected one whose elements do not depend on each other, got 1",
    ),
    (['parallel op = "y", axis = 2, ways = 2'], "2", "axis: expected 0 to 1, got 2"),
    (['parallel op = "y", axis = 0, ways = 99999'], "99999", "ways: expected 1 to 1024, got 99999"),
    (
        ['parallel op = "m", axis = 0, ways = 2'],
        "0",
        "axis: expected an op whose result has axes, got tensor<f32>",
    ),
    (['parallel op = "h", axis = 0, ways = 2'], '"h"', "got scan, which lowers to scan"),
    (['explode op = "h"'], "", "explode: no such step: expected tile, unroll, vectorize"),
    (["unroll steps = 3"], "", "unroll: the attribute 'op' is missing"),
    (
        ['unroll op = "y", step = 3'],
        "3",
        "unroll: no attribute 'step': expected op, steps, part; did you mean 'steps'?",
    ),
]


@pytest.mark.parametrize(("steps", "place", "message"), ILLEGAL)
def test_illegal(steps: list[str], place: str, message: str) -> None:
    source = text(*steps)
    with pytest.raises(TensorLangError) as caught:
        parse(source)
    found = caught.value.diagnostics[-1]
    assert message in str(found)
    assert found.span is not None
    line = source.splitlines()[found.span.line - 1]
    if place:
        assert line[found.span.column - 1 :].startswith(place), (line, found.span.column)
    else:
        assert line.strip().startswith('"nj.')
        assert found.span.column == 5


def test_every_step_is_tried() -> None:
    tried = {steps[0].partition(" ")[0] for steps in LEGAL} & {s[0].partition(" ")[0] for s, _, _ in ILLEGAL}
    assert tried == STEPS.keys()
    assert {lowering for row in STEPS.values() for lowering in row.lowerings} <= {
        r.lowering for r in OPS.values()
    }


def simple() -> Function:
    b = Builder()
    x = b.parameter("x", "tensor<4x4xf32>")
    return b.build(b.tanh(b.matmul(x, x, result="y"), result="z"))


def test_steps_from_python() -> None:
    schedule = ScheduleText("main", (step("unroll", "y", steps=2), step("fuse", "z", into="y")))
    assert check_schedule(simple(), schedule) == []
    (found,) = check_schedule(simple(), ScheduleText("main", (step("unroll", "y", steps=9),)))
    assert found.span is None
    with pytest.raises(ValueError, match="unroll: the attribute 'steps' is missing"):
        step("unroll", "y")


def test_schedules_of_a_module() -> None:
    function, empty = simple(), ScheduleText("main", ())
    assert [str(d) for d in check_module(Module("m", (function,), (empty, ScheduleText("f", ()))))] == [
        "function of a schedule: expected main, got 'f'"
    ]
    assert [str(d) for d in check_module(Module("m", (function,), (empty, empty)))] == [
        "second schedule of @main: expected one"
    ]
    assert Module("m", (function,)).schedule("main") == empty


def test_no_step_changes_what_is_computed() -> None:
    arrays: list[Any] = [np.ones((12, 64), "f4"), np.ones((3, 64), "f4"), np.ones((12, 24), "f4")]
    weights = {"w": np.full((64, 24), 0.1, "f4"), "b": np.ones(24, "f4")}
    plain = evaluate(parse(text()).main, arrays, weights).outputs
    for steps in LEGAL:
        scheduled = evaluate(parse(text(*steps)).main, arrays, weights).outputs
        assert [a.tobytes() for a in plain] == [a.tobytes() for a in scheduled]
