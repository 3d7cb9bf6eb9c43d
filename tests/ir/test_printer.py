"""Printer and parser are inverses, for random programs and every number; MLIR and xDSL read the text too."""

from __future__ import annotations

import math
import re
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import by_choice, program

from neurojit.ir import OPS, Builder, Dense, Module, ScheduleText, evaluate, step
from neurojit.ir.lexer import Tokens
from neurojit.ir.literals import read_float, read_string, spell_float, spell_string
from neurojit.ir.parser import parse, parse_with_diagnostics
from neurojit.ir.types import ELEMENTS, TensorType
from neurojit.ir.verifier import check_module

MLIR_OPT = shutil.which("mlir-opt-19") or shutil.which("mlir-opt")


@given(st.data())
def test_random_programs_come_back(data: st.DataObject) -> None:
    made = program(lambda n: data.draw(st.integers(0, n - 1)))
    assert check_module(made.module) == []
    text = made.module.text
    again = parse(text)
    assert again.text == text
    first = evaluate(made.function, made.inputs, made.weights, made.states)
    second = evaluate(again.main, made.inputs, made.weights, made.states)
    for before, after in zip(first.outputs, second.outputs, strict=True):
        assert before.tobytes() == after.tobytes()


def constants_in(element: str, bits: list[int], shape: tuple[int, ...]) -> Dense:
    unsigned = np.array(bits, f"u{ELEMENTS[element].size}").reshape(shape)
    if element == "bf16":
        array = (unsigned.astype("u4") << np.uint32(16)).view("f4")
    else:
        array = unsigned.view(ELEMENTS[element].dtype)
    return Dense(TensorType(shape, element), array)


@given(st.sampled_from(["f32", "f64", "bf16", "i32", "i8"]), st.data())
def test_every_bit_of_a_constant_comes_back(element: str, data: st.DataObject) -> None:
    size = ELEMENTS[element].size
    shape = data.draw(st.sampled_from([(), (1,), (3,), (2, 2), (1, 2, 3), (70,), (2, 40)]))
    count = math.prod(shape)
    bits = data.draw(st.lists(st.integers(0, 256**size - 1), min_size=count, max_size=count))
    value = constants_in(element, bits, shape)
    b = Builder()
    text = Module("m", (b.build(b.op("constant", value=value)),)).text
    kept = parse(text).main.block.ops[0].attributes["value"]
    assert isinstance(kept, Dense)
    assert kept == value
    assert ("0x" in text) >= (count > 64 and len(set(bits)) > 1)


@given(st.floats(), st.floats(width=32))
def test_floats_come_back(wide: float, single: float) -> None:
    for value, element in ((wide, "f64"), (single, "f32")):
        text = spell_float(value, element)
        if math.isfinite(value):
            assert re.fullmatch(r"-?\d+\.\d*(e[+-]?\d+)?", text)
            assert np.float64(read_float(text, element)).tobytes() == np.float64(value).tobytes()
        else:
            assert re.fullmatch(r"0x[0-9A-F]+", text)
    b = Builder()
    x = b.parameter("x", "tensor<f64>")
    again = parse(Module("m", (b.build(b.leaky_relu(x, alpha=wide)),)).text)
    kept = again.main.block.ops[0].attributes["alpha"]
    assert np.float64(kept).tobytes() == np.float64(wide).tobytes() or math.isnan(wide)


@given(st.text())
def test_strings_come_back(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate has no UTF-8
        return
    spelled = spell_string(text)
    assert read_string(spelled) == text
    assert [token.kind for token in Tokens(spelled, "").tokens] == ["string", "end"]


def test_a_sign_of_zero_is_not_the_default() -> None:
    b = Builder()
    h = b.state_read(name="h", type="tensor<f32>", initial=-0.0)
    text = Module("m", (b.build(h),)).text
    assert "initial = -0.0" in text
    assert evaluate(parse(text).main, []).outputs[0].tobytes() == np.float32(-0.0).tobytes()


def test_schedules_come_back() -> None:
    b = Builder()
    x, w = b.parameter("x", "tensor<?x4xf32>"), b.weight(name="w", type="tensor<4x24xf32>")
    b_y = b.matmul(x, w, result="y")
    function = b.build(b.tanh(b_y, result="z"))
    steps = (
        step("tile", "y", rows=[8, -1, 1, -1], columns=[16, 8], depth=4),
        step("pack", "y"),
        step("fuse", "z", into="y"),
    )
    module = Module("m", (function,), (ScheduleText("main", steps),))
    assert check_module(module) == []
    again = parse(module.text)
    assert again.text == module.text
    assert again.schedule("main") == module.schedule("main")


@settings(max_examples=300)
@given(st.data())
def test_mutated_texts_give_diagnostics_and_nothing_else(data: st.DataObject) -> None:
    """Whatever is done to a text: diagnostics inside it, or a module that is all of the text."""
    text = TEXTS[data.draw(st.integers(0, len(TEXTS) - 1))]
    pieces = re.findall(r"\w+|\s+|.", text)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(pieces) - 1))
        kind = data.draw(st.integers(0, 4))
        if kind == 0:
            pieces[at] = data.draw(st.text(max_size=5))
        elif kind == 1:
            del pieces[at : at + data.draw(st.integers(1, 30))]
            pieces = pieces or [" "]
        elif kind == 2:
            pieces[at:at] = pieces[data.draw(st.integers(0, len(pieces) - 1)) :][
                : data.draw(st.integers(1, 40))
            ]
        elif kind == 3:
            pieces[at] = data.draw(
                st.sampled_from(["%0", "{", "}", "(", "tensor<3xf32>", "-1", "9" * 20, '"', "nan"])
            )
        else:
            other = data.draw(st.integers(0, len(pieces) - 1))
            pieces[at], pieces[other] = pieces[other], pieces[at]
    changed = "".join(pieces)
    module, found = parse_with_diagnostics(changed)
    lines = changed.count("\n") + 1
    for diagnostic in found:
        assert diagnostic.message
        if diagnostic.span:
            assert 1 <= diagnostic.span.line <= lines
    if module is None:
        assert found
    else:
        assert check_module(module) == []
        assert parse(module.text).text == module.text
        ops = sum(1 for function in module.functions for op in function.block.walk())
        heads = [t for t in Tokens(changed, "").tokens if t.text in HEADS]
        assert ops == len(heads)


TOKENS = ["%0", "{", "}", "(", "tensor<3xf32>", "-1", "9" * 20, '"', "nan", "dense"]
HEADS = {f'"nj.{name}"' for name in OPS} | {"func.return", "return"}
TEXTS = [program(by_choice(seed), 8).module.text for seed in range(12)]


# ---- other readers of the same text ---------------------------------------------------------------


def canonical(module: Module) -> str:
    """The text with values named in their order."""
    names: dict[str, str] = {}
    return re.sub(
        r"%[A-Za-z0-9_.$]+", lambda match: names.setdefault(match[0], f"%v{len(names)}"), module.text
    )


@pytest.mark.skipif(MLIR_OPT is None, reason="no mlir-opt-19 or mlir-opt (Debian: mlir-19-tools)")
def test_mlir_reads_the_text_and_we_read_what_it_prints() -> None:
    modules = [program(by_choice(seed)).module for seed in range(100, 160)]
    modules.append(parse(SCHEDULED))
    separator = "// -----\n"
    done = subprocess.run(
        [str(MLIR_OPT), "--allow-unregistered-dialect", "--split-input-file", "--mlir-print-unique-ssa-ids"],
        input=separator.join(module.text for module in modules),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[:2000]
    printed = done.stdout.split(separator)
    assert len(printed) == len(modules)
    for module, text in zip(modules[:-1], printed, strict=False):
        again = parse(text)
        assert check_module(again) == []
        assert canonical(again) == canonical(module)
    assert '"nj.unroll"' in printed[-1]


def test_xdsl_reads_the_text() -> None:
    pytest.importorskip("xdsl", reason="no xdsl (pip install xdsl)")
    from xdsl.context import Context
    from xdsl.dialects.builtin import Builtin
    from xdsl.dialects.func import Func
    from xdsl.parser import Parser

    for text in [*(program(by_choice(seed)).module.text for seed in range(200, 230)), SCHEDULED]:
        context = Context(allow_unregistered=True)
        context.load_dialect(Builtin)
        context.load_dialect(Func)
        module = Parser(context, text).parse_module()
        ops = sum(1 for op in module.walk() if op.name == "builtin.unregistered")
        assert ops == len(re.findall(r'"nj\.\w+"\(', text))


SCHEDULED = """\
module @m {
  func.func @main(%x: tensor<8x4xf32>, %y: tensor<4x8xf32>) -> tensor<8x8xf32> {
    %z = "nj.matmul"(%x, %y) : (tensor<8x4xf32>, tensor<4x8xf32>) -> tensor<8x8xf32>
    func.return %z : tensor<8x8xf32>
  }
  "nj.schedule"() ({
    "nj.tile"() {op = "z", rows = [4, 2], columns = [8]} : () -> ()
    "nj.unroll"() {op = "z", steps = 4} : () -> ()
  }) {function = "main"} : () -> ()
}
"""
