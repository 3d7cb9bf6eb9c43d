"""absorb-transposes: into the flags of the product, from its operands and from its result."""

from texts import check_text

from neurojit.passes.absorb_transposes import ABSORB_TRANSPOSES


def test_operands_and_result() -> None:
    check_text(
        ABSORB_TRANSPOSES,
        """%a = transpose(%x) {permutation = [1, 0]} : 2x3xf32 -> 3x2xf32
        %b = matmul(%a, %m) {transpose_b = true} : 3x2xf32 3x2xf32 -> 3x3xf32
        %e = transpose(%b) {permutation = [1, 0]} : 3x3xf32 -> 3x3xf32
        return %e : 3x3xf32""",
        """%a = transpose(%x) {permutation = [1, 0]} : 2x3xf32 -> 3x2xf32
        %b = matmul(%x, %m) {transpose_a = true, transpose_b = true} : 2x3xf32 3x2xf32 -> 3x3xf32
        %e = matmul(%m, %x) : 3x2xf32 2x3xf32 -> 3x3xf32
        return %e : 3x3xf32""",
    )


def test_a_product_that_others_use_stays() -> None:
    text = """%b = matmul(%x, %m) : 2x3xf32 3x2xf32 -> 2x2xf32
        %e = transpose(%b) {permutation = [1, 0]} : 2x2xf32 -> 2x2xf32
        return %b, %e : 2x2xf32, 2x2xf32"""
    check_text(ABSORB_TRANSPOSES, text, text)


def test_only_the_last_two_axes() -> None:
    text = """%a = reshape(%x) {shape = [1, 2, 3]} : 2x3xf32 -> 1x2x3xf32
        %b = transpose(%a) {permutation = [1, 0, 2]} : 1x2x3xf32 -> 2x1x3xf32
        %e = matmul(%b, %m) : 2x1x3xf32 3x2xf32 -> 2x1x2xf32
        return %e : 2x1x2xf32"""
    check_text(ABSORB_TRANSPOSES, text, text)
