"""fold-constants: the interpreter's bits in place of ops on constants, where they take no more room."""

from texts import check_text

from neurojit.passes.fold_constants import FOLD_CONSTANTS


def test_constants_are_computed() -> None:
    check_text(
        FOLD_CONSTANTS,
        """%k = constant() {value = dense<[1.0, -2.0, 0.5]> : tensor<3xf32>} :  -> 3xf32
        %a = exp(%k) : 3xf32 -> 3xf32
        %b = sum(%a) {axes = [0]} : 3xf32 -> f32
        %e = add(%b, %x) : f32 2x3xf32 -> 2x3xf32
        return %e : 2x3xf32""",
        """%k = constant() {value = dense<[1.0, -2.0, 0.5]> : tensor<3xf32>} :  -> 3xf32
        %a = constant() {value = dense<[2.7182817, 0.13533528, 1.6487212]> : tensor<3xf32>} :  -> 3xf32
        %b = constant() {value = dense<4.5023384> : tensor<f32>} :  -> f32
        %e = add(%b, %x) : f32 2x3xf32 -> 2x3xf32
        return %e : 2x3xf32""",
    )


def test_what_would_grow_stays() -> None:
    text = """%k = constant() {value = dense<1.0> : tensor<f32>} :  -> f32
        %a = broadcast(%k) {shape = [2, 3, 3]} : f32 -> 2x3x3xf32
        %b = broadcast(%k) {shape = [-1, 3]} : f32 -> ?x3xf32
        return %a, %b : 2x3x3xf32, ?x3xf32"""
    check_text(FOLD_CONSTANTS, text, text)
