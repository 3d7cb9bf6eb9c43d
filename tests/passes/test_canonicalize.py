"""canonicalize: each of its rules, as text."""

from texts import check_text

from neurojit.passes.canonicalize import CANONICALIZE


def test_constants_stand_to_the_right() -> None:
    check_text(
        CANONICALIZE,
        """%k = constant() {value = dense<2.0> : tensor<f32>} :  -> f32
        %a = add(%k, %x) : f32 2x3xf32 -> 2x3xf32
        %b = sub(%k, %a) : f32 2x3xf32 -> 2x3xf32
        %p = compare(%k, %b) {predicate = "lt"} : f32 2x3xf32 -> 2x3xi1
        return %p : 2x3xi1""",
        """%k = constant() {value = dense<2.0> : tensor<f32>} :  -> f32
        %a = add(%x, %k) : 2x3xf32 f32 -> 2x3xf32
        %b = sub(%k, %a) : f32 2x3xf32 -> 2x3xf32
        %p = compare(%b, %k) {predicate = "gt"} : 2x3xf32 f32 -> 2x3xi1
        return %p : 2x3xi1""",
    )


def test_movement_that_moves_nothing() -> None:
    check_text(
        CANONICALIZE,
        """%a = reshape(%x) {shape = [2, 3]} : 2x3xf32 -> 2x3xf32
        %b = transpose(%a) {permutation = [0, 1]} : 2x3xf32 -> 2x3xf32
        %e = slice(%b) {axis = 1, end = 3} : 2x3xf32 -> 2x3xf32
        %f = concat(%e) {axis = 0} : 2x3xf32 -> 2x3xf32
        %g = pad(%f) {low = [0, 0], high = [0, 0]} : 2x3xf32 -> 2x3xf32
        %h = broadcast(%g) {shape = [2, 3]} : 2x3xf32 -> 2x3xf32
        %j = convert(%h) {dtype = "f32"} : 2x3xf32 -> 2x3xf32
        %k = tanh(%j) : 2x3xf32 -> 2x3xf32
        return %k : 2x3xf32""",
        """%k = tanh(%x) : 2x3xf32 -> 2x3xf32
        return %k : 2x3xf32""",
    )


def test_movement_after_movement() -> None:
    check_text(
        CANONICALIZE,
        """%a = reshape(%x) {shape = [3, 2]} : 2x3xf32 -> 3x2xf32
        %b = reshape(%a) {shape = [6]} : 3x2xf32 -> 6xf32
        %e = transpose(%x) {permutation = [1, 0]} : 2x3xf32 -> 3x2xf32
        %f = transpose(%e) {permutation = [1, 0]} : 3x2xf32 -> 2x3xf32
        %g = transpose(%one) {permutation = [1, 0]} : 1x3xf32 -> 3x1xf32
        return %b, %f, %g : 6xf32, 2x3xf32, 3x1xf32""",
        """%a = reshape(%x) {shape = [3, 2]} : 2x3xf32 -> 3x2xf32
        %b = reshape(%x) {shape = [6]} : 2x3xf32 -> 6xf32
        %e = transpose(%x) {permutation = [1, 0]} : 2x3xf32 -> 3x2xf32
        %g = reshape(%one) {shape = [3, 1]} : 1x3xf32 -> 3x1xf32
        return %b, %x, %g : 6xf32, 2x3xf32, 3x1xf32""",
    )


def test_conversions_there_and_back() -> None:
    """To f64 and back is nothing; to bf16 and back is not."""
    check_text(
        CANONICALIZE,
        """%a = convert(%x) {dtype = "f64"} : 2x3xf32 -> 2x3xf64
        %b = convert(%a) {dtype = "f32"} : 2x3xf64 -> 2x3xf32
        %e = convert(%b) {dtype = "bf16"} : 2x3xf32 -> 2x3xbf16
        %f = convert(%e) {dtype = "f32"} : 2x3xbf16 -> 2x3xf32
        %g = convert(%f) {dtype = "f64"} : 2x3xf32 -> 2x3xf64
        return %g : 2x3xf64""",
        """%a = convert(%x) {dtype = "f64"} : 2x3xf32 -> 2x3xf64
        %e = convert(%x) {dtype = "bf16"} : 2x3xf32 -> 2x3xbf16
        %f = convert(%e) {dtype = "f32"} : 2x3xbf16 -> 2x3xf32
        %g = convert(%e) {dtype = "f64"} : 2x3xbf16 -> 2x3xf64
        return %g : 2x3xf64""",
    )


def test_broadcasts_that_the_op_does_anyhow() -> None:
    check_text(
        CANONICALIZE,
        """%a = broadcast(%z) {shape = [2, 3]} : 3xf32 -> 2x3xf32
        %b = mul(%x, %a) : 2x3xf32 2x3xf32 -> 2x3xf32
        %e = mul(%z, %a) : 3xf32 2x3xf32 -> 2x3xf32
        return %b, %e : 2x3xf32, 2x3xf32""",
        """%a = broadcast(%z) {shape = [2, 3]} : 3xf32 -> 2x3xf32
        %b = mul(%x, %z) : 2x3xf32 3xf32 -> 2x3xf32
        %e = mul(%z, %a) : 3xf32 2x3xf32 -> 2x3xf32
        return %b, %e : 2x3xf32, 2x3xf32""",
    )
