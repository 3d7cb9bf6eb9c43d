"""Shape rules: what each op's result is, and every way an op can be refused, by message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from neurojit.errors import TensorLangError
from neurojit.ir import Builder, Dense, Value
from neurojit.ir.rules import MOST_STEPS

Case = tuple[str, tuple[str, ...], dict[str, Any], str]

RESULTS: list[Case] = [
    ("matmul", ("?x64xf32", "64x8xf32"), {}, "?x8xf32"),
    ("matmul", ("?x64xf32", "8x64xf32"), {"transpose_b": True}, "?x8xf32"),
    ("matmul", ("?x64xf32", "?x8xf32"), {"transpose_a": True}, "64x8xf32"),
    ("matmul", ("?x4x3x5xf64", "4x5x2xf64"), {}, "?x4x3x2xf64"),
    ("matmul", ("3x5xi8", "5x2xi8"), {}, "3x2xi32"),
    ("outer", ("?x3xf32", "4xf32"), {}, "?x3x4xf32"),
    ("add", ("?x3xf32", "f32"), {}, "?x3xf32"),
    ("add", ("4x1x3xi8", "5x1xi8"), {}, "4x5x3xi8"),
    ("div", ("1x3xf32", "?x1xf32"), {}, "?x3xf32"),
    ("compare", ("?x3xf32", "3xf32"), {"predicate": "lt"}, "?x3xi1"),
    ("select", ("?x1xi1", "3xf32", "f32"), {}, "?x3xf32"),
    ("convert", ("?x3xf32",), {"dtype": "bf16"}, "?x3xbf16"),
    ("clamp", ("?x3xf32",), {"low": 0, "high": 6.0}, "?x3xf32"),
    ("sum", ("2x3x4xf32",), {"axes": (0, 2)}, "3xf32"),
    ("sum", ("2x3x4xf32",), {"axes": -1, "keepdims": True}, "2x3x1xf32"),
    ("mean", ("?x3xf32",), {"axes": 0}, "3xf32"),
    ("argmax", ("?x3xf32",), {"axis": 1}, "?xi32"),
    ("logsumexp", ("?x3xf32",), {"axis": 1, "keepdims": True}, "?x1xf32"),
    ("softmax", ("?x3xf32",), {"axis": -1}, "?x3xf32"),
    ("cumsum", ("5x3xi32",), {"axis": 0}, "5x3xi32"),
    ("layer_norm", ("?x3xf32", "3xf32", "3xf32"), {}, "?x3xf32"),
    ("rms_norm", ("?x3xf32", "3xf32"), {}, "?x3xf32"),
    ("reshape", ("?x4x6xf32",), {"shape": [-1, 24]}, "?x24xf32"),
    ("reshape", ("4x6xf32",), {"shape": [2, -1]}, "2x12xf32"),
    ("reshape", ("f32",), {"shape": [1, 1]}, "1x1xf32"),
    ("reshape", ("0x6xf32",), {"shape": [6, 0]}, "6x0xf32"),
    ("broadcast", ("3xf32",), {"shape": [-1, 3]}, "?x3xf32"),
    ("broadcast", ("?x1xf32",), {"shape": [-1, 3]}, "?x3xf32"),
    ("transpose", ("?x3x4xf32",), {"permutation": (0, -1, 1)}, "?x4x3xf32"),
    ("slice", ("?x10xf32",), {"axis": 1, "start": 1, "end": 8, "step": 3}, "?x3xf32"),
    ("concat", ("?x3xf32", "?x4xf32"), {"axis": 1}, "?x7xf32"),
    ("pad", ("?x3xf32",), {"low": [0, 1], "high": [0, 2]}, "?x6xf32"),
    ("gather", ("100x16xf32", "?xi32"), {"axis": 0}, "?x16xf32"),
    ("gather", ("3x100xf32", "2x2xi32"), {"axis": 1}, "3x2x2xf32"),
    ("random_normal", ("2xi32", "i32"), {"shape": [-1, 3]}, "?x3xf32"),
    ("random_uniform", ("2xi32", "i32"), {"shape": [5], "dtype": "f64"}, "5xf64"),
]


def apply(op: str, operands: tuple[str, ...], attributes: dict[str, Any]) -> Value:
    b = Builder()
    values = [b.parameter(f"p{i}", f"tensor<{type_}>") for i, type_ in enumerate(operands)]
    return b.op(op, *values, **attributes)


@pytest.mark.parametrize(("op", "operands", "attributes", "result"), RESULTS)
def test_result(op: str, operands: tuple[str, ...], attributes: dict[str, Any], result: str) -> None:
    assert str(apply(op, operands, attributes).type) == f"tensor<{result}>"


REFUSED: list[Case] = [
    ("matnul", (), {}, "no such op: got 'matnul'; did you mean 'matmul'?"),
    ("matmul", ("2x3xf32",), {}, "operands of matmul: expected 2, got 1"),
    ("concat", (), {"axis": 0}, "operands of concat: expected 1 or more, got 0"),
    ("exp", ("2xi32",), {}, "element type of operand 1: expected f32 or f64 or bf16, got i32"),
    ("add", ("2xf32", "2xf64"), {}, "element type of operand 2: expected f32, got f64; convert it"),
    ("gather", ("2xf32", "2xf32"), {"axis": 0}, "element type of operand 2: expected i32, got f32"),
    ("softmax", ("2xf32",), {}, "softmax: the attribute 'axis' is missing: expected one of kind int"),
    ("softmax", ("2xf32",), {"axs": 0, "axis": 0}, "no attribute 'axs': expected axis; did you mean 'axis'?"),
    ("tanh", ("2xf32",), {"alpha": 0.5}, "tanh: no attribute 'alpha': expected none"),
    ("elu", ("2xf32",), {"alpha": "1"}, "attribute alpha: expected one of kind float, got '1'"),
    ("elu", ("2xf32",), {"alpha": "1" * 99}, "expected one of kind float, got '" + "1" * 36 + "..."),
    ("softmax", ("2xf32",), {"axis": True}, "attribute axis: expected one of kind int, got True"),
    ("compare", ("2xf32", "2xf32"), {"predicate": "less"}, "attribute predicate: expected one of eq, ne, lt"),
    ("matmul", ("2x3xf32", "4x5xf32"), {}, "inner extents differ: expected 3, got 4"),
    ("matmul", ("2x3xf32", "5x3xf32"), {}, "expected 3, got 5; transpose the right operand?"),
    ("matmul", ("3xf32", "3x5xf32"), {}, "expected rank 2 or more, got tensor<3xf32>; reshape"),
    ("matmul", ("?x3xf32", "?x5xf32"), {}, "inner extents differ: expected 3, got ?"),
    ("outer", ("f32", "3xf32"), {}, "expected rank 1 or more, got tensor<f32>"),
    ("outer", ("3xf32", "?xf32"), {}, "a dynamic extent must lead"),
    ("add", ("2x3xf32", "4xf32"), {}, "do not broadcast: expected extents equal to 3 or 1 on axis -1, got 4"),
    ("add", ("?x3xf32", "5x3xf32"), {}, "expected extents equal to ? or 1 on axis -2, got 5x3"),
    ("convert", ("2xf32",), {"dtype": "f16"}, "expected one of f32, f64, bf16, i32, i8, i1, got 'f16'"),
    ("softmax", ("2xf32",), {"axis": 1}, "axis is outside tensor<2xf32>: expected 0 to 0, got 1"),
    ("softmax", ("f32",), {"axis": 0}, "expected an operand that has axes"),
    ("sum", ("2x2xf32",), {"axes": (0, 2)}, "axes is outside tensor<2x2xf32>: expected 0 to 1, got 2"),
    ("sum", ("2x2xf32",), {"axes": (1, 1)}, "expected at least one, each once, in rising order, got [1, 1]"),
    ("sum", ("2x2xf32",), {"axes": ()}, "expected at least one, each once"),
    ("sum", ("4x4xf32",), {"axes": "all"}, "attribute axes: expected one of kind ints, got 'all'"),
    ("argmax", ("0xf32",), {"axis": 0}, "nothing to choose from"),
    ("layer_norm", ("2x3xf32", "3xf32", "2xf32"), {}, "for each of the last axis: expected 3, got 2"),
    ("rms_norm", ("?xf32", "2xf32"), {}, "normalises over the last axis: expected a static one"),
    ("reshape", ("2x3xf32",), {"shape": [4, 2]}, "expected as many elements as tensor<2x3xf32>, got [4, 2]"),
    ("reshape", ("2x3xf32",), {"shape": [-1, -1]}, "at most one of them -1"),
    ("reshape", ("2x3xf32",), {"shape": [4, -1]}, "expected one that tensor<2x3xf32> fits"),
    ("reshape", ("?x3xf32",), {"shape": [3, -1]}, "expected one that tensor<?x3xf32> fits"),
    ("reshape", ("?x3xf32",), {"shape": [3, 1]}, "expected as many elements as tensor<?x3xf32>"),
    ("broadcast", ("3xf32",), {"shape": [4]}, "shapes do not broadcast: expected extents equal to 4 or 1"),
    ("broadcast", ("3xf32",), {"shape": [1]}, "does not stretch"),
    ("broadcast", ("1xf32",), {"shape": [2, -1]}, "a dynamic extent must lead"),
    ("broadcast", ("2x1xf32",), {"shape": [2]}, "does not stretch"),
    ("transpose", ("2x3xf32",), {"permutation": (0, 0)}, "expected each of 0 to 1 once, got [0, 0]"),
    ("transpose", ("?x3xf32",), {"permutation": (1, 0)}, "a dynamic extent must lead"),
    ("slice", ("?x3xf32",), {"axis": 0, "end": 2}, "slices a static axis"),
    ("slice", ("3xf32",), {"axis": 0, "end": 4}, "expected 0 <= start <= end <= 3, got 0 to 4"),
    ("slice", ("3xf32",), {"axis": 0, "end": 2, "step": 0}, "step: expected at least 1, got 0"),
    ("concat", ("2x3xf32", "2x4xf32"), {"axis": 0}, "shapes differ beside axis 0: expected 2x3, got 2x4"),
    ("concat", ("?x3xf32", "?x3xf32"), {"axis": 0}, "joins a static axis"),
    ("pad", ("2x3xf32",), {"low": [0], "high": [0, 0]}, "low: expected 2 widths of at least 0, got [0]"),
    ("pad", ("?x3xf32",), {"low": [0, 0], "high": [1, 0]}, "pads static axes"),
    ("gather", ("?x3xf32", "2xi32"), {"axis": 0}, "gathers from a static axis that has elements"),
    ("random_normal", ("3xi32", "i32"), {"shape": [2]}, "key: expected tensor<2xi32>, got tensor<3xi32>"),
    ("random_normal", ("2xi32", "1xi32"), {"shape": [2]}, "counter: expected tensor<i32>, got tensor<1xi32>"),
    ("random_normal", ("2xi32", "i32"), {"shape": [2], "dtype": "i8"}, "expected one of f32, f64"),
    ("random_normal", ("2xi32", "i32"), {"shape": [2, -1]}, "a dynamic extent must lead"),
    ("weight", (), {"name": "w"}, "the type of the result must be stated"),
    ("weight", (), {"name": "w", "type": "tensor<?xf32>"}, "lives beside the program: expected a static"),
    ("state_write", ("?xf32",), {"name": "h"}, "lives beside the program: expected a static type"),
    ("scan", (), {"carried": 0}, "regions of scan: expected 1, got 0"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "operands", "attributes", "message"), REFUSED)
def test_refusal(op: str, operands: tuple[str, ...], attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(TensorLangError) as caught:
        apply(op, operands, attributes)
    (diagnostic,) = caught.value.diagnostics
    assert message in str(diagnostic)
    assert diagnostic.span is not None
    assert diagnostic.span.source == __file__


def step_of(h: str, xs: str) -> Callable[..., Any]:
    """A scan whose body hands out what the caller chooses."""

    def scan(body: Callable[..., Any], **arguments: Any) -> Any:
        b = Builder()
        carried = [b.parameter("h", f"tensor<{h}>")] if h else []
        inputs = [b.parameter("x", f"tensor<{xs}>")] if xs else []
        return b.scan(lambda *args: body(b, *args), carried, inputs, **arguments)

    return scan


def test_scan_results() -> None:
    (last,), (stacked,) = step_of("4xf32", "?x3xf32")(lambda b, h, x: ([b.tanh(h)], [b.exp(x)]))
    assert (str(last.type), str(stacked.type)) == ("tensor<4xf32>", "tensor<?x3xf32>")
    (last,), (stacked,) = step_of("4xf32", "")(lambda b, h: ([h], [h]), length=7)
    assert str(stacked.type) == "tensor<7x4xf32>"


@pytest.mark.parametrize(
    ("h", "xs", "body", "arguments", "message"),
    [
        ("4xf32", "f32", lambda b, h, x: ([h], []), {}, "an input of a scan: expected a leading axis"),
        ("4xf32", "5xf32", lambda b, h, x: ([], []), {}, "the body yields the carried values first"),
        ("4xf32", "5xf32", lambda b, h, x: ([x], []), {}, "expected (tensor<4xf32>), got (tensor<f32>)"),
        ("?xf32", "5xf32", lambda b, h, x: ([h], [h]), {}, "stacked behind the step: expected a static type"),
        ("4xf32", "5xf32", lambda b, h, x: ([h], []), {"length": 5}, "expected none beside inputs, got 5"),
        ("4xf32", "", lambda b, h: ([h], []), {}, f"expected 0 to {MOST_STEPS}, got -1"),
        ("4xf32", "", lambda b, h: ([h], []), {"length": 10**9}, f"0 to {MOST_STEPS}, got 1000000000"),
    ],
)  # fmt: skip
def test_scan_refusals(
    h: str, xs: str, body: Callable[..., Any], arguments: dict[str, int], message: str
) -> None:
    with pytest.raises(TensorLangError) as caught:
        step_of(h, xs)(body, **arguments)
    assert message in str(caught.value)


def test_a_constant_is_small() -> None:
    with pytest.raises(
        TensorLangError, match="at most 65536 elements, got tensor<65537xf32>; larger ones are"
    ):
        Builder().constant(np.zeros(65537))


def test_inputs_of_a_scan_agree_in_length() -> None:
    b = Builder()
    xs, ys = b.parameter("x", "tensor<5xf32>"), b.parameter("y", "tensor<6xf32>")
    with pytest.raises(TensorLangError, match="inputs of a scan differ in length: expected 5, got 6"):
        b.scan(lambda x, y: ([], [x]), inputs=[xs, ys])


def test_numbers_become_constants_of_the_operands_they_stand_for() -> None:
    b = Builder()
    condition, x = b.parameter("c", "tensor<3xi1>"), b.parameter("x", "tensor<3xf64>")
    assert str(b.select(condition, 0, x).type) == "tensor<3xf64>"
    assert str(b.gather(x, 1, axis=0).type) == "tensor<f64>"
    assert str(b.add(1.0, 2.0).type) == "tensor<f32>"
    kept = b.build(x).block.ops[0].attributes["value"]
    assert isinstance(kept, Dense)
    assert kept.array.dtype == np.float64


def test_names() -> None:
    b = Builder()
    x = b.parameter("x", "tensor<3xf32>")
    assert b.tanh(x, result="x").name == "x_1"
    assert [b.tanh(x).name, b.tanh(x, result="2").name, b.tanh(x).name, b.tanh(x).name] == [
        "0",
        "2",
        "1",
        "3",
    ]
    assert b.weight(name="layers.0/w", type="tensor<3xf32>").name == "layers.0_w"
    with pytest.raises(ValueError, match="name '3x': expected letters, digits"):
        b.tanh(x, result="3x")
    with pytest.raises(AttributeError, match="op 'tang': did you mean 'tan"):
        b.tang(x)
