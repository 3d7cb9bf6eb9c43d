"""The pipeline: every pass and all of them keep every result; verified, dumped, bounded."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import by_choice, program
from texts import assert_same, check_results

import neurojit.passes
from neurojit.errors import TensorLangError
from neurojit.ir import Builder, Function, Module, ScheduleText, Value, evaluate, parse, step
from neurojit.ir.structure import Block, Op
from neurojit.ir.types import TensorType
from neurojit.passes import PIPELINE, Pass, run
from neurojit.passes.absorb_transposes import ABSORB_TRANSPOSES

# A product whose operands change places is added in another order where the interpreter calls BLAS.
ULPS = {ABSORB_TRANSPOSES.name: 2}


@pytest.mark.parametrize("one", PIPELINE, ids=lambda one: one.name)
@settings(max_examples=60)
@given(data=st.data())
def test_each_pass_keeps_results(one: Pass, data: st.DataObject) -> None:
    check_results(one, program(lambda n: data.draw(st.integers(0, n - 1))), ULPS.get(one.name, 0))


@pytest.mark.parametrize("seed", range(0, 300, 10))
def test_all_passes_keep_results(seed: int) -> None:
    for made in map(program, map(by_choice, range(seed, seed + 10))):
        after = run(made.module)
        given_ = (made.inputs, made.weights, made.states)
        assert_same(evaluate(made.function, *given_), evaluate(after.main, *given_), ulps=2)
        assert run(after) is after
        assert parse(after.text).text == after.text


def test_passes_find_something_in_random_programs() -> None:
    """A property of passes that never do anything would hold too."""
    found = {
        one.name: sum(one.run(program(by_choice(seed), 24).function) is not program for seed in range(3))
        for one in PIPELINE
    }
    assert set(found) == {one.name for one in PIPELINE}
    changed = dict.fromkeys(found, 0)
    for seed in range(150):
        function = program(by_choice(seed), 24).function
        for one in PIPELINE:
            after = one.run(function)
            changed[one.name] += after is not function
            function = after
    del changed[ABSORB_TRANSPOSES.name]  # products of transposes are rare: its own test has them
    assert min(changed.values()) > 0, changed


def test_every_file_is_in_the_pipeline_and_has_its_test() -> None:
    folder = Path(neurojit.passes.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "pipeline", "rewrite"}
    assert files == {one.name.replace("-", "_") for one in PIPELINE}
    tests = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    assert files == tests - {"pipeline"}


def module_of(*ops: Callable[[Builder, Value], Value]) -> Module:
    b = Builder()
    value = b.parameter("x", "tensor<2x3xf32>")
    for op in ops:
        value = op(b, value)
    return Module("m", (b.build(value),))


def test_dump() -> None:
    module = module_of(lambda b, x: b.neg(b.neg(b.add(1.0, x))))
    texts: list[str] = []
    after = run(module, dump=texts.append)
    heads = [text.partition("\n")[0] for text in texts]
    assert heads == [
        "// m: before the passes",
        "// m: after canonicalize",
        "// m: after simplify",
        "// m: after eliminate-dead-code",
    ]
    assert texts[0].partition("\n")[2] == module.text
    assert texts[-1].partition("\n")[2] == after.text
    assert [op.name for op in after.main.block.ops] == ["constant", "add", "return"]


def test_dump_through_the_environment(child: Callable[..., object]) -> None:
    script = """
from neurojit.ir import Builder, Module
from neurojit.passes import run
b = Builder()
run(Module("m", (b.build(b.neg(b.neg(b.parameter("x", "tensor<f32>")))),)))
"""
    for value, expected in (
        ("ir", ["before the passes", "after simplify", "after eliminate-dead-code"]),
        ("", []),
    ):
        done = child(script, NEUROJIT_DUMP=value)
        assert done.returncode == 0, done.stderr  # type: ignore[attr-defined]
        assert re.findall("// m: (.*)", done.stderr) == expected  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Breaks:
    """A pass with a fault: it forgets what defines the output."""

    name: str = "breaks"

    def run(self, function: Function) -> Function:
        return replace(function, block=Block(function.parameters, function.block.ops[-1:]))


def test_a_pass_that_breaks_the_module_is_found_at_once() -> None:
    with pytest.raises(TensorLangError, match="return: %0 is used before it is defined"):
        run(module_of(lambda b, x: b.tanh(x)), (Breaks(),))
    x = Value("x", TensorType(()))
    wrong = Module("m", (Function("main", Block((), (Op("return", (x,)),))),))
    with pytest.raises(TensorLangError, match="return: %x is used before it is defined"):
        run(wrong)


def test_a_function_with_a_schedule_stays_as_it_is_written() -> None:
    module = module_of(lambda b, x: b.neg(b.neg(x)))
    scheduled = replace(module, schedules=(ScheduleText("main", (step("vectorize", "1", lanes=8),)),))
    assert run(scheduled) is scheduled
    assert run(replace(module, schedules=(ScheduleText("main", ()),))) is not module


def test_time_grows_with_the_program() -> None:
    """Eight times the ops, at most sixteen times the time."""

    def seconds(n: int) -> float:
        module, times = module_of(*[lambda b, x: b.add(b.tanh(b.neg(b.neg(x))), b.tanh(x))] * n), []
        for _ in range(3):
            start = time.process_time()
            run(module)
            times.append(time.process_time() - start)
        return min(times)

    assert seconds(400) < 16 * seconds(50) + 0.02
