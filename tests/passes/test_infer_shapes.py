"""infer-shapes: known extents in place of -1, and one batch in place of all."""

from contextlib import nullcontext

import numpy as np
import pytest
from programs import by_choice, program
from texts import PARAMETERS, assert_same, check_text

from neurojit.errors import TensorLangError
from neurojit.ir import Builder, check_module, evaluate
from neurojit.passes import InferShapes
from neurojit.passes.infer_shapes import INFER_SHAPES


def test_known_extents() -> None:
    check_text(
        INFER_SHAPES,
        """%a = reshape(%x) {shape = [-1, 2]} : 2x3xf32 -> 3x2xf32
        %b = reshape(%d) {shape = [-1, 1, 3]} : ?x3xf32 -> ?x1x3xf32
        return %a, %b : 3x2xf32, ?x1x3xf32""",
        """%a = reshape(%x) {shape = [3, 2]} : 2x3xf32 -> 3x2xf32
        %b = reshape(%d) {shape = [-1, 1, 3]} : ?x3xf32 -> ?x1x3xf32
        return %a, %b : 3x2xf32, ?x1x3xf32""",
    )


def test_one_batch() -> None:
    check_text(
        InferShapes(4),
        """%a = reshape(%d) {shape = [-1, 1, 3]} : ?x3xf32 -> ?x1x3xf32
        %b = broadcast(%z) {shape = [-1, 3]} : 3xf32 -> ?x3xf32
        %e = sum(%b) {axes = [1]} : ?x3xf32 -> ?xf32
        return %a, %e : ?x1x3xf32, ?xf32""",
        """%a = reshape(%d) {shape = [4, 1, 3]} : 4x3xf32 -> 4x1x3xf32
        %b = broadcast(%z) {shape = [4, 3]} : 3xf32 -> 4x3xf32
        %e = sum(%b) {axes = [1]} : 4x3xf32 -> 4xf32
        return %a, %e : 4x1x3xf32, 4xf32""",
        PARAMETERS.replace("?", "4"),
    )


@pytest.mark.parametrize("seed", range(150))
def test_random_programs_for_their_batch(seed: int) -> None:
    made = program(by_choice(seed))
    extents = [
        len(array)
        for value, array in zip(made.function.parameters, made.inputs, strict=True)
        if value.type.is_dynamic
    ]
    refused = extents[0] == 0 and any(
        op.name == "argmax" and op.attributes["axis"] == 0 and op.operands[0].type.is_dynamic
        for op in made.function.block.walk()
    )
    with pytest.raises(TensorLangError, match="nothing to choose from") if refused else nullcontext():
        static = InferShapes(extents[0]).run(made.function)
    if refused:
        return
    assert not any(value.type.is_dynamic for op in static.block.walk() for value in op.results)
    assert check_module(made._replace(function=static).module) == []
    given = (made.inputs, made.weights, made.states)
    assert_same(evaluate(made.function, *given), evaluate(static, *given))


def test_what_an_extent_does_not_allow_is_located() -> None:
    b = Builder()
    x = b.parameter("x", "tensor<?x3xf32>")
    function = b.build(b.argmax(x, axis=0))
    with pytest.raises(TensorLangError, match=r"test_infer_shapes.py:\d+: argmax: nothing to choose from"):
        InferShapes(0).run(function)
    assert evaluate(function, [np.zeros((0, 3), "f4")]).outputs[0].tolist() == [0, 0, 0]
