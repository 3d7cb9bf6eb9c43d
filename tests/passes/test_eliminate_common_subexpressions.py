"""eliminate-common-subexpressions: one of each; bits, types and blocks tell apart."""

from texts import check_text

from neurojit.ir import Builder
from neurojit.passes.eliminate_common_subexpressions import ELIMINATE_COMMON_SUBEXPRESSIONS


def test_computed_once() -> None:
    check_text(
        ELIMINATE_COMMON_SUBEXPRESSIONS,
        """%a = tanh(%x) : 2x3xf32 -> 2x3xf32
        %b = tanh(%x) : 2x3xf32 -> 2x3xf32
        %e = softmax(%a) {axis = 1} : 2x3xf32 -> 2x3xf32
        %f = softmax(%b) {axis = 1} : 2x3xf32 -> 2x3xf32
        %g = softmax(%b) {axis = 0} : 2x3xf32 -> 2x3xf32
        %h = state_read() {name = "h"} :  -> 3xf32
        state_write(%z) {name = "h"} : 3xf32 ->
        %j = state_read() {name = "h"} :  -> 3xf32
        return %e, %f, %g, %h, %j : 2x3xf32, 2x3xf32, 2x3xf32, 3xf32, 3xf32""",
        """%a = tanh(%x) : 2x3xf32 -> 2x3xf32
        %e = softmax(%a) {axis = 1} : 2x3xf32 -> 2x3xf32
        %g = softmax(%a) {axis = 0} : 2x3xf32 -> 2x3xf32
        %h = state_read() {name = "h"} :  -> 3xf32
        state_write(%z) {name = "h"} : 3xf32 ->
        return %e, %e, %g, %h, %h : 2x3xf32, 2x3xf32, 2x3xf32, 3xf32, 3xf32""",
    )


def test_zeros_differ_by_their_sign() -> None:
    text = """%a = leaky_relu(%x) {alpha = 0.0} : 2x3xf32 -> 2x3xf32
        %b = leaky_relu(%x) {alpha = -0.0} : 2x3xf32 -> 2x3xf32
        %e = constant() {value = dense<0.0> : tensor<f32>} :  -> f32
        %f = constant() {value = dense<-0.0> : tensor<f32>} :  -> f32
        return %a, %b, %e, %f : 2x3xf32, 2x3xf32, f32, f32"""
    check_text(ELIMINATE_COMMON_SUBEXPRESSIONS, text, text)


def test_blocks() -> None:
    """What is outside serves inside; what is inside one body serves nobody else."""
    b = Builder()
    x, xs = b.parameter("x", "tensor<3xf32>"), b.parameter("xs", "tensor<2x3xf32>")
    before = b.tanh(x)
    (h,), _ = b.scan(lambda h, s: ([b.add(b.tanh(x), b.exp(x))], []), [x], [xs])
    after = b.exp(x)
    made = ELIMINATE_COMMON_SUBEXPRESSIONS.run(b.build(before, h, after))
    assert [op.name for op in made.block.walk()] == ["tanh", "scan", "exp", "add", "yield", "exp", "return"]
