"""Schedules at compile time: obeyed or refused at their place, said back in full; they change no result."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import networks
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from operands import TARGETS, needs_kernels, plain, runnable_isas
from test_program import agree

import neurojit as nj
from neurojit.codegen import emit_program
from neurojit.errors import TensorLangError
from neurojit.ir import Module, ScheduleText, Step, Value, parse_schedule, print_schedule, step
from neurojit.ir.schedule import product_extents, rows_in_part
from neurojit.ir.table import OPS
from neurojit.plan.gemm import ELEMENT_SIZE, Gemm
from neurojit.plan.map import Map, MapSchedule
from neurojit.plan.panels import Panels
from neurojit.plan.program import Loop, ProgramPlan, Rows
from neurojit.plan.program import Step as Kernel
from neurojit.plan.reduce import ReduceSchedule
from neurojit.plan.tiling import max_height
from neurojit.planner import plan_program

pytestmark = needs_kernels

Network = tuple[Module, networks.Weights]


def code(program: nj.Program, isa: str) -> bytes:
    return emit_program(plan_of(program), TARGETS[isa].isa)


def plan_of(program: nj.Program) -> ProgramPlan:
    plan = program.contract.plan
    assert isinstance(plan, ProgramPlan), program.explain()
    return plan


def kernel(program: nj.Program, op: str) -> Kernel:
    return next(kernel for kernel in plan_of(program).steps() if kernel.op == op)


def mixed(batch: int | str = 6) -> Network:
    """Products with epilogues, maps over rows and columns, reductions both ways, running sums, a copy."""
    net = networks.Net()
    b, x = net.b, net.input("x", batch, 24)
    h = net.dense(x, "a", 24, 40, "tanh")
    g = b.mul(h, b.sigmoid(b.add(h, net.weight("row", 40))))
    y = b.add(net.dense(g, "b", 40, 24), x)
    s = b.softmax(y, axis=1)
    c = b.cumsum(b.layer_norm(y, net.weight("lw", 24), net.weight("lb", 24)), axis=1)
    return net.module(b.concat(s, c, axis=1), b.exp(b.neg(b.abs(y))))


def attention() -> Network:
    """Batched products, rank 3 against one matrix, a scan, reductions down columns."""
    net = networks.Net()
    b, x = net.b, net.input("x", 4, 6, 16)
    q, k = b.matmul(x, net.weight("q", 16, 16)), b.matmul(x, net.weight("k", 16, 16))
    a = b.softmax(b.matmul(q, k, transpose_b=True), axis=2)
    o = b.matmul(a, x)
    return net.module(o, b.mean(o, axes=(1,)), b.cumsum(o, axis=1))


NETWORKS: dict[str, Any] = {
    "perceptron": lambda: networks.perceptron((16, 32, 20, 8)),
    "perceptron of three": lambda: networks.perceptron((16, 30, 8), 3),
    "in panels": lambda: networks.perceptron((100, 200, 40)),
    "one row in panels": lambda: networks.perceptron((64, 100, 8), 1),
    "f64": lambda: networks.perceptron((9, 33, 5), 7, element="f64"),
    "residual": networks.residual_block,
    "recurrent": networks.recurrent,
    "mixed": mixed,
    "mixed rows": lambda: mixed("?"),
    "attention": attention,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_said_makes_the_same_code(isa: str, name: str) -> None:
    module, weights = NETWORKS[name]()
    program = nj.compile(module, weights)
    own = {key: program.weights[key] for key in program.weights}
    again = nj.compile(program.ir, own, schedule=program.schedule)
    assert code(again, isa) == code(program, isa)
    assert again.schedule == program.schedule
    assert again.ir == program.ir
    joined = program.ir.rstrip().removesuffix("}") + program.schedule + "}\n"
    assert code(nj.compile(joined, own), isa) == code(program, isa)
    schedule = parse_schedule(program.schedule, nj.parse(program.ir).main)
    assert print_schedule(schedule) == program.schedule
    spoken = {s.op for s in schedule.steps}
    made = {k.op for k in plan_of(program).steps() if k.op}
    assert made <= spoken, "every kernel is spoken of"


# Each step does what it says ---------------------------------------------------------------------------

NET = """
module @net {
  func.func @main(%x: tensor<20x64xf32>) -> tensor<20x48xf32> {
    %w = "nj.weight"() {name = "w"} : () -> tensor<64x48xf32>
    %b = "nj.weight"() {name = "b"} : () -> tensor<48xf32>
    %y = "nj.matmul"(%x, %w) : (tensor<20x64xf32>, tensor<64x48xf32>) -> tensor<20x48xf32>
    %z = "nj.add"(%y, %b) : (tensor<20x48xf32>, tensor<48xf32>) -> tensor<20x48xf32>
    %t = "nj.tanh"(%z) : (tensor<20x48xf32>) -> tensor<20x48xf32>
    %n = "nj.neg"(%t) : (tensor<20x48xf32>) -> tensor<20x48xf32>
    %s = "nj.softmax"(%n) {axis = 1} : (tensor<20x48xf32>) -> tensor<20x48xf32>
    %c = "nj.softmax"(%s) {axis = 0} : (tensor<20x48xf32>) -> tensor<20x48xf32>
    %u = "nj.cumsum"(%c) {axis = 1} : (tensor<20x48xf32>) -> tensor<20x48xf32>
    %v = "nj.cumsum"(%u) {axis = 0} : (tensor<20x48xf32>) -> tensor<20x48xf32>
    func.return %v : tensor<20x48xf32>
  }
STEPS
}
"""
WEIGHTS = {"w": plain(1, (64, 48)) / 8, "b": plain(2, (48,))}
X = plain(3, (20, 64))


def scheduled(*steps: str, net: str = NET) -> str:
    lines = [f'"nj.{s.partition(" ")[0]}"() {{{s.partition(" ")[2]}}} : () -> ()' for s in steps]
    region = '  "nj.schedule"() ({\n    ' + "\n    ".join(lines) + "\n  }) : () -> ()"
    return net.replace("STEPS", region if steps else "")


def run(*steps: str) -> nj.Program:
    """The program under these steps, whose result is that of the program without any."""
    program = nj.compile(scheduled(*steps), WEIGHTS)
    assert program.compiled, program.explain()
    np.testing.assert_array_equal(program(X), nj.compile(scheduled(), WEIGHTS)(X))
    return program


def columns(count: int, isa: str) -> str:
    """So many columns as vectors of 8, or of as many as a register has where that is fewer."""
    wide = lanes_of_eight(isa)
    return str([wide] * (count // wide))


def lanes_of_eight(isa: str) -> int:
    return 4 if isa == "neon" else 8


def test_tile_and_unroll_and_depth(isa: str) -> None:
    wide = lanes_of_eight(isa)
    program = run(
        f'tile op = "y", rows = [3, 6, 2, 1], columns = [{wide}], count = {48 // wide}, depth = 24',
        'unroll op = "y", steps = 3',
    )
    schedule = kernel(program, "y").schedule
    (block,) = schedule.columns  # type: ignore[union-attr]
    assert (block.lanes, block.tiles, block.rows.groups) == ((wide,), 48 // wide, ((3, 6), (2, 1)))
    assert (schedule.unroll, schedule.k_block) == (3, 24)  # type: ignore[union-attr]


def test_columns_in_segments_and_shared_scalars(isa: str) -> None:
    """48 columns as 32 and 16 folded ones: four, or two, rows in a register."""
    lanes = "[16, 16]" if isa == "avx512" else columns(32, isa)
    height = "[8, 2, 4, 1]" if isa == "avx512" else "[2, 10]"
    tiles = [
        f'tile op = "y", rows = {height}, columns = {lanes}',
        'tile op = "y", rows = [4, 5], columns = [], folded = 16',
    ]
    if not TARGETS[isa].isa.has_segments:
        with pytest.raises(TensorLangError, match="are not taken in segments"):
            run(*tiles)
        return
    program = run(*tiles)
    assert [b.folded for b in kernel(program, "y").schedule.columns] == [0, 16]  # type: ignore[union-attr]
    assert nj.compile(scheduled(), WEIGHTS).rescheduled(program.schedule).schedule == program.schedule
    shared = [tiles[0] + ", shared = true", tiles[1]]
    if isa == "avx512":
        assert kernel(run(*shared), "y").schedule.columns[0].shared  # type: ignore[union-attr]
    else:
        with pytest.raises(TensorLangError, match="share each element as it is"):
            run(*shared)
    for wrong, message in (
        ([tiles[0] + ", depth = 2", tiles[1] + ", depth = 2"], "not read in segments"),
        (['tile op = "y", rows = [20, 1], columns = [8], folded = 40'], "in segments needs"),
        ([*tiles, 'pack op = "y", width = 16'], "no panels"),
    ):
        with pytest.raises(TensorLangError, match=message):
            run(*wrong)


def test_vectorize(isa: str) -> None:
    lanes = [bits // 32 for bits in TARGETS[isa].isa.vector_bits if bits >= 128]
    for few in lanes:
        ops = ("y", "n", "s", "c", "u")
        program = run(*(f'vectorize op = "{op}", lanes = {few}' for op in ops))
        assert max(max(block.lanes) for block in kernel(program, "y").schedule.columns) <= few  # type: ignore
        assert [kernel(program, op).schedule.lanes for op in ("n", "s", "c")] == [few] * 3  # type: ignore
        assert kernel(program, "u").schedule.side == few  # type: ignore[union-attr]


def test_unroll_and_keep(isa: str) -> None:
    program = run(
        'unroll op = "n", steps = 5', 'unroll op = "c", steps = 2', 'keep op = "s", registers = false',
        'keep op = "v", registers = false',
    )  # fmt: skip
    assert isinstance(kernel(program, "n").schedule, MapSchedule)
    assert kernel(program, "n").schedule.unroll == 5  # type: ignore[union-attr]
    assert kernel(program, "c").schedule.columns == 2  # type: ignore[union-attr]
    assert isinstance(kernel(program, "s").schedule, ReduceSchedule)
    assert not kernel(program, "s").schedule.in_registers  # type: ignore[union-attr]
    assert kernel(program, "v").schedule.side == 0  # type: ignore[union-attr]
    more = ['keep op = "s", registers = true'] if isa == "avx512" else []
    kept = run(*more, 'unroll op = "v", steps = 2', 'keep op = "v", registers = true')
    beside = run('unroll op = "s", steps = 2', 'keep op = "s", registers = false')
    assert kernel(beside, "s").schedule.rows == 2  # type: ignore[union-attr]
    assert kernel(kept, "s").schedule.in_registers == bool(more)  # type: ignore[union-attr]
    assert kernel(kept, "v").schedule.side == 2  # type: ignore[union-attr]


def test_fuse_and_unfuse(isa: str) -> None:
    whole = run()
    assert kernel(whole, "y").fused == ("z", "t")
    apart = run('unfuse op = "z"', 'unfuse op = "t"')
    assert kernel(apart, "y").fused == ()
    assert (kernel(apart, "z").fused, kernel(apart, "t").fused) == ((), ("n",))
    part = run('fuse op = "z", into = "y"', 'unfuse op = "t"', 'fuse op = "n", into = "t"')
    assert (kernel(part, "y").fused, kernel(part, "t").fused) == (("z",), ("n",))
    chain = run('fuse op = "t", into = "z"', 'fuse op = "n", into = "t"', 'unfuse op = "z"')
    assert kernel(chain, "z").fused == ("t", "n")


def test_pack_lays_weights_in_panels(isa: str) -> None:
    for width in (-1, 16, 32, 48, 64):
        program = run(f'pack op = "y", width = {width}')
        panels = kernel(program, "y").kernel.b  # type: ignore[union-attr]
        assert isinstance(panels, Panels)
        assert width in (-1, panels.width)
        assert program.memory_map().splitlines()[0] != "weights  0 bytes"
        program.weights["w"] = WEIGHTS["w"] * 2
        twice = nj.compile(scheduled(), {**WEIGHTS, "w": WEIGHTS["w"] * 2})
        np.testing.assert_array_equal(program(X), twice(X))
    run('pack op = "y", width = 16', f'tile op = "y", rows = [4, 5], columns = {columns(16, isa)}, count = 3')
    assert not isinstance(kernel(run('pack op = "y", width = 0'), "y").kernel.b, Panels)  # type: ignore


def test_prefetch_is_in_the_code(isa: str) -> None:
    def count(program: nj.Program) -> int:
        return program.listing().count("prefetch") + program.listing().count("prfm")

    assert count(run()) == 0
    one = run('tile op = "y", rows = [4, 5], columns = [4], count = 12', 'prefetch op = "y", distance = 2')
    assert kernel(one, "y").schedule.prefetch == (0, 2)  # type: ignore[union-attr]
    assert count(one) == 4, "a line of each of four steps"
    assert count(run('prefetch op = "y", operand = 0, distance = 1')) > 0
    of_map = run(
        'unroll op = "n", steps = 1', 'unfuse op = "n"', 'prefetch op = "n", operand = 0, distance = 4'
    )
    assert kernel(of_map, "n").schedule.prefetch == ((0, 4),)  # type: ignore[union-attr]
    assert count(of_map) > 0


def test_unroll_of_a_scan(isa: str) -> None:
    net = networks.Net()
    b, x, h = net.b, net.input("x", 7, 12), net.input("h", 12)
    w = net.weight("w", 12, 12)

    def one_step(old: Value, now: Value) -> tuple[list[Value], list[Value]]:
        new = b.tanh(b.add(b.reshape(b.matmul(b.reshape(old, shape=(1, 12)), w), shape=(12,)), now))
        return [new], [new]

    last, stacked = b.scan(one_step, [h], [x])
    module, weights = net.module(*last, *stacked)
    plain_program = nj.compile(module, weights)
    name = next(n.op for n in plan_of(plain_program).body if isinstance(n, Loop))
    arrays = [plain(1, (7, 12)), plain(2, (12,))]
    for steps in (2, 3, 7):
        program = plain_program.rescheduled(
            print_schedule(ScheduleText("main", (step("unroll", name, steps=steps),)))
        )
        (loop,) = (n for n in plan_of(program).body if isinstance(n, Loop))
        assert loop.unroll == steps
        for got, expected in zip(program(*arrays), plain_program(*arrays), strict=True):
            np.testing.assert_array_equal(got, expected)
        assert f"steps = {steps}" in program.schedule


ROWS = """
module @net {
  func.func @main(%x: tensor<?x32xf32>) -> tensor<?x16xf32> {
    %w = "nj.weight"() {name = "w"} : () -> tensor<32x16xf32>
    %y = "nj.matmul"(%x, %w) : (tensor<?x32xf32>, tensor<32x16xf32>) -> tensor<?x16xf32>
    %t = "nj.tanh"(%y) : (tensor<?x16xf32>) -> tensor<?x16xf32>
    func.return %t : tensor<?x16xf32>
  }
STEPS
}
"""


def test_rows_and_threads(isa: str) -> None:
    weights = {"w": plain(1, (32, 16)) / 8}
    x = plain(2, (3001, 32))
    expected = nj.compile(scheduled(net=ROWS), weights)(x)
    for steps in (
        [f'tile op = "y", rows = [6, -1, 2, -1, 1, -1], columns = {columns(16, isa)}'],
        [
            'rows op = "t", heights = [6, 2, 1]',
            'tile op = "y", rows = [4, 1, 2, 1], columns = [16], part = 6',
        ],
        [
            'rows op = "y", heights = [6, 2, 1]',
            'unroll op = "y", steps = 2',
            'parallel op = "y", axis = 0, ways = 1',
        ],
    ):
        if isa != "avx512":
            steps[-1] = steps[-1].replace("[16]", columns(16, isa))
        program = nj.compile(scheduled(*steps, net=ROWS), weights)
        (rows,) = (node for node in plan_of(program).body if isinstance(node, Rows))
        assert [part.height for part in rows.parts] == [6, 2, 1]
        np.testing.assert_array_equal(program(x), expected)
    assert plan_of(program).ways == 1
    assert "ways = 1" in program.schedule


# What cannot be obeyed is refused, at its place --------------------------------------------------------

EIGHT_LANES = "8 lanes"
REFUSED: list[tuple[list[str], str, str, str]] = [
    (
        [
            'tile op = "y", rows = [20, 1], columns = [8, 8, 8, 8]',
            'tile op = "y", rows = [4, 5], columns = [8, 8]',
        ],
        "avx2",
        "[20, 1]",
        "tile: scheduled tile 20x4 needs 80 accumulators, avx2 has 16: expected at most 3 rows of 4 vectors, "
        "beside which B and A find registers, got 20",
    ),
    (
        ['tile op = "y", rows = [20, 1], columns = [16, 16, 16]'],
        "avx512",
        "[20, 1]",
        "tile: scheduled tile 20x3 needs 60 accumulators, avx512 has 32",
    ),
    (
        ['tile op = "y", rows = [4, 5], columns = [16], count = 3'],
        "avx2",
        "[16]",
        "tile: scheduled vector: expected at most 8 lanes, that a register of avx2 has, got 16",
    ),
    (
        ['vectorize op = "y", lanes = 4', 'tile op = "y", rows = [4, 5], columns = [8], count = 6'],
        EIGHT_LANES,
        "[8]",
        "expected at most 4 lanes, as vectorize says, got 8",
    ),
    (
        ['vectorize op = "n", lanes = 64'],
        "avx512",
        "64",
        "lanes of 32 bits on avx512: expected one of 4, 8, 16",
    ),
    (['vectorize op = "n", lanes = 16'], "avx2", "16", "lanes of 32 bits on avx2: expected one of 4, 8, as"),
    (
        ['vectorize op = "t", lanes = 8'],
        "",
        "",
        "vectorize: %t has no kernel of its own that takes this step",
    ),
    (
        ['fuse op = "t", into = "z"', 'unroll op = "t", steps = 2'],
        "",
        "",
        "unroll: %t has no kernel of its own that takes this step; name the first of",
    ),
    (
        ['unroll op = "s", steps = 3'],
        "",
        "3",
        "unroll: rows side by side: expected a divisor of 20, got 3",
    ),
    (['keep op = "c", registers = true'], "", "true", "goes down columns, whose sums alone are kept"),
    (['keep op = "u", registers = true'], "", "true", "goes along rows, whose sums are kept"),
    (['unroll op = "u", steps = 2'], "", "2", "does not take vectors of columns side by side"),
    (['vectorize op = "v", lanes = 4'], "", "", "goes down columns, in vectors as wide as they are"),
    (
        ['prefetch op = "y", distance = 1', 'unroll op = "y", steps = 64'],
        "",
        "",
        "expected at least 2, got 1; unroll less",
    ),
    (['prefetch op = "z", operand = 1, distance = 1'], "", "", "prefetch: %z has no kernel of its own"),
    (
        ['parallel op = "y", axis = 0, ways = 2'],
        "",
        "0",
        "%y is computed by one thread: expected axis 0 of an op",
    ),
    (
        ['fuse op = "n", into = "y"', 'fuse op = "t", into = "y"', 'fuse op = "z", into = "y"'],
        "",
        "",
        "no epilogue of %y has",
    ),
    (
        ['fuse op = "z", into = "y"', 'unfuse op = "z"'],
        "",
        "",
        "unfuse: %z is fused into %y: expected one of the two",
    ),
    (['fuse op = "n", into = "s"'], "", "", "no kernel of %s = softmax(%n) computes other ops"),
    (
        ['pack op = "y", width = 32', 'tile op = "y", rows = [4, 5], columns = [8, 8], count = 3'],
        EIGHT_LANES,
        "[8, 8]",
        "scheduled tile: expected whole panels of 32 columns, got 16",
    ),
    (
        ['pack op = "y", width = 12', 'tile op = "y", rows = [4, 5], columns = [8, 8, 8], count = 2'],
        EIGHT_LANES,
        "[8, 8, 8]",
        "scheduled vector: expected one inside a panel of 12 columns, got 8",
    ),
]


@pytest.mark.parametrize(("steps", "of", "place", "message"), REFUSED)
def test_refused(steps: list[str], of: str, place: str, message: str, isa: str) -> None:
    source = scheduled(*steps)
    if of not in ("", isa, EIGHT_LANES if lanes_of_eight(isa) == 8 else isa):
        pytest.skip("another machine's limit")
    with pytest.raises(TensorLangError) as caught:
        nj.compile(source, WEIGHTS)
    (found,) = caught.value.diagnostics
    assert message in str(found)
    assert found.span is not None
    line = source.splitlines()[found.span.line - 1]
    assert line[found.span.column - 1 :].startswith(place or '"nj.'), (line, found.span.column)


ROWS_REFUSED = [
    (['unroll op = "y", steps = 2, part = 5'], "part: expected one of 12, 4, 1, got 5"),
    (
        ['rows op = "y", heights = [3, 1]', 'unroll op = "y", steps = 2, part = 12'],
        "part: expected one of 3, 1, got 12",
    ),
    (
        ['rows op = "y", heights = [3, 1]', 'tile op = "y", rows = [4, -1, 1, -1], columns = [8, 8]'],
        "rows: expected heights [3, 1], as in another step: one loop takes all rows",
    ),
    (['parallel op = "y", axis = 1, ways = 2'], "%y is computed by one thread"),
    (
        ['parallel op = "y", axis = 0, ways = 2', 'parallel op = "t", axis = 0, ways = 3'],
        "ways: expected 2, as in another step",
    ),
]


@pytest.mark.parametrize(("steps", "message"), ROWS_REFUSED)
def test_refused_of_rows(steps: list[str], message: str) -> None:
    with pytest.raises(TensorLangError, match=r"^<text>:\d+:\d+: ") as caught:
        nj.compile(scheduled(*steps, net=ROWS), {"w": np.zeros((32, 16), np.float32)})
    assert message in str(caught.value)


def test_threads_of_a_program_with_state_are_refused() -> None:
    net = networks.Net()
    b, x, old = net.b, net.input("x", "?", 8), net.state("s", 8)
    b.state_write(b.tanh(old), name="s")
    module, weights = net.module(b.add(x, old, result="y"))
    with pytest.raises(TensorLangError, match="it has state"):
        nj.compile(
            module,
            weights,
            schedule=print_schedule(ScheduleText("main", (step("parallel", "y", axis=0, ways=2),))),
        )


def test_a_kernel_that_runs_out_of_registers_is_blamed_on_its_step(isa: str) -> None:
    net = networks.Net()
    b, x = net.b, net.input("x", 4, 16)
    values = [b.mul(x, net.weight(f"w{i}", 16), result=f"m{i}") for i in range(40)]
    total = values[0]
    for i, value in enumerate((*values[1:], *values)):  # each is needed again after all were
        total = b.add(b.sigmoid(b.mul(total, value)), value, result=f"t{i}")
    module, weights = net.module(total)
    steps = [
        step("fuse", op.result.name, into="m0")
        for op in module.main.block.body
        if OPS[op.name].lowering == "map"
    ]
    text = print_schedule(ScheduleText("main", tuple(s for s in steps if s.op != "m0")))
    with pytest.raises(TensorLangError, match=r"^<schedule>:\d+:\d+: fuse: .*registers"):
        nj.compile(module, weights, schedule=text)
    program = nj.compile(module, weights)  # the planner finds smaller kernels
    agree(module, weights, [plain(1, (4, 16))], program(plain(1, (4, 16))))


def test_the_text_of_a_schedule_alone() -> None:
    program = nj.compile(scheduled(), WEIGHTS)
    main = nj.parse(program.ir).main
    assert parse_schedule("// nothing\n", main).steps == ()
    for text, message in (
        ("nonsense", '<schedule>:1:1: syntax: expected "nj.schedule", got'),
        (program.schedule + "more", "syntax: expected the end of the text"),
        (
            '"nj.schedule"() ({"nj.unfuse"() {op = "q"} : () -> ()}) : () -> ()',
            "expected the name of what an op defines",
        ),
        (
            '"nj.schedule"() ({}) {function = "f"} : () -> ()',
            "function of a schedule: expected main, got 'f'",
        ),
        ('"nj.schedule"() ({', "syntax"),
    ):
        with pytest.raises(TensorLangError) as caught:
            parse_schedule(text, main)
        assert message in str(caught.value)


def test_another_schedule_for_a_program_that_runs(isa: str) -> None:
    program = nj.compile(scheduled(), WEIGHTS)
    other = program.rescheduled('"nj.schedule"() ({"nj.unfuse"() {op = "t"} : () -> ()}) : () -> ()')
    assert kernel(other, "t").fused == ("n",)
    np.testing.assert_array_equal(other(X), program(X))
    loaded = pickle.loads(pickle.dumps(other))
    assert loaded.schedule == other.schedule
    np.testing.assert_array_equal(loaded(X), program(X))


def test_a_saved_schedule_that_another_machine_cannot_obey_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    if not {"avx512", "avx2"} <= set(runnable_isas()):
        pytest.skip("one ISA runs here")
    program = nj.compile(scheduled('vectorize op = "n", lanes = 16'), WEIGHTS)
    saved = pickle.dumps(program)
    monkeypatch.setattr("neurojit.contract.host_target", lambda: TARGETS["avx2"])
    loaded = pickle.loads(saved)
    assert "its schedule was made for another machine" in loaded.explain()
    assert "lanes of 32 bits on avx2" in loaded.explain()
    np.testing.assert_array_equal(loaded(X), program(X))


def test_without_kernels_a_schedule_is_said_to_have_no_effect() -> None:
    text = scheduled('unroll op = "n", steps = 2').replace("nj.cumsum", "nj.cumsum")
    module = nj.parse(text)
    program = nj.compile(text.replace("20x64xf32", "0x64xf32").replace("20x48", "0x48"), WEIGHTS)
    assert not program.compiled
    assert "the schedule beside the text has no effect" in program.explain()
    assert program.schedule.startswith("// interpreted: ")
    assert module.schedule("main").steps


# No schedule changes what is computed ------------------------------------------------------------------


NO_SHRINKING = (Phase.explicit, Phase.generate)
"""Each example compiles twice for every ISA."""


def steps_for(draw: Any, program: nj.Program, isa: str) -> Iterator[Step]:
    """Legal steps for the kernels of a program, drawn op by op."""
    target = TARGETS[isa]
    main = nj.parse(program.ir).main
    inside = [value.name for op in main.block.body for value in op.results]
    dynamic = any(value.type.is_dynamic for value in main.parameters)
    heights = draw(st.sampled_from([(12, 4, 1), (5, 3, 1), (1,)])) if dynamic else (0,)
    first = next((op.result.name for op in main.block.body if op.results and op.result.type.is_dynamic), None)
    if dynamic and first is not None:
        yield step("rows", first, heights=list(heights))
    for op in main.block.body:
        if not op.results or op.result.name not in inside:
            continue
        name, kind = op.result.name, OPS[op.name].lowering
        size = ELEMENT_SIZE.get(op.result.type.element, 4)
        full = target.isa.widest // 8 // size
        if kind == "map" and draw(st.booleans()):
            yield step("unfuse", name)
            if draw(st.booleans()):
                yield step("vectorize", name, lanes=draw(st.sampled_from([full, full // 2])))
                yield step("unroll", name, steps=draw(st.integers(1, 5)))
        elif op.name == "matmul":
            _, n, k = product_extents(op)
            assert n is not None
            assert k is not None
            for part in heights if op.result.type.is_dynamic else (0,):
                if not draw(st.booleans()):
                    continue
                m = rows_in_part(op, part)
                vectors = draw(st.integers(1, 2))
                height = draw(st.integers(1, min(m, max_height(target.isa, vectors + 1, 2))))
                rows = [height, m // height] + ([m % height, 1] if m % height else [])
                at: Any = {"rows": rows, "depth": draw(st.sampled_from([0, 5, 8])), "part": part}
                count, rest = divmod(n, vectors * full)
                if count:
                    yield step("tile", name, columns=[full] * vectors, count=count, **at)
                if rest:
                    columns = [full] * (rest // full) + ([rest % full] if rest % full else [])
                    yield step("tile", name, columns=columns, **at)
                yield step("unroll", name, steps=draw(st.integers(1, min(k, 6))), part=part)


@pytest.mark.parametrize("name", ["perceptron", "f64", "residual", "mixed", "mixed rows"])
@settings(max_examples=8, phases=NO_SHRINKING)
@given(data=st.data())
def test_any_legal_schedule_computes_the_same(name: str, data: st.DataObject) -> None:
    for isa in runnable_isas():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("neurojit.contract.host_target", lambda isa=isa: TARGETS[isa])
            module, weights = NETWORKS[name]()
            program = nj.compile(module, weights)
            steps = tuple(steps_for(data.draw, program, isa))
            own = {key: program.weights[key] for key in program.weights}
            other = nj.compile(program.ir, own, schedule=print_schedule(ScheduleText("main", steps)))
            assert other.compiled, other.explain()
            inputs = [
                plain(n, v.type.static_shape(17)).astype(networks.ELEMENT[v.type.element])
                for n, v in enumerate(module.main.parameters)
            ]
            agree(module, weights, inputs, other(*inputs))
            again = nj.compile(program.ir, own, schedule=other.schedule)
            assert code(again, isa) == code(other, isa)


@settings(max_examples=20, phases=NO_SHRINKING)
@given(data=st.data())
def test_products_have_the_same_bits_under_any_schedule(data: st.DataObject) -> None:
    for isa in runnable_isas():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("neurojit.contract.host_target", lambda isa=isa: TARGETS[isa])
            module, weights = networks.perceptron((24, 40, 21), data.draw(st.sampled_from(["?", 9])), "relu")
            program = nj.compile(module, weights)
            steps = tuple(steps_for(data.draw, program, isa))
            if data.draw(st.booleans()):
                steps = (*(s for s in steps if s.kind != "tile"), *(step("pack", op.result.name)
                         for op in module.main.block.body if op.name == "matmul"))  # fmt: skip
            other = program.rescheduled(print_schedule(ScheduleText("main", steps)))
            x = plain(5, (9, 24))
            np.testing.assert_array_equal(other(x), program(x))


def test_equal_kernels_need_no_second_name() -> None:
    """Two products alike under different steps are two kernels."""
    net = networks.Net()
    b, x = net.b, net.input("x", 4, 16)
    w = net.weight("w", 16, 16)
    one = b.matmul(x, w, result="one")
    module, weights = net.module(b.matmul(one, w, result="two"))
    program = nj.compile(
        module, weights, schedule=print_schedule(ScheduleText("main", (step("unroll", "one", steps=2),)))
    )
    assert [kernel(program, op).schedule.unroll for op in ("one", "two")] == [2, 16]  # type: ignore[union-attr]
    assert isinstance(plan_program(module.main, TARGETS["avx2"]).body[0], Kernel)
    assert isinstance(kernel(program, "one").kernel, Gemm)
    assert not isinstance(kernel(program, "one").kernel, Map)
