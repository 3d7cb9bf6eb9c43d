"""Fusion: what becomes one kernel, and what must not."""

from __future__ import annotations

from neurojit.ir import Builder, Function
from neurojit.planner.fusion import Group, Pointwise, Product, group


def names(groups: list[Group]) -> list[list[str]]:
    return [[op.name for op in made.ops] for made in groups]


def builder() -> Builder:
    return Builder("main")


def test_a_product_takes_bias_residual_and_activation() -> None:
    b = builder()
    x, w = b.parameter("x", "tensor<4x8xf32>"), b.weight(name="w", type="tensor<8x8xf32>")
    bias = b.weight(name="b", type="tensor<8xf32>")
    f = b.build(b.tanh(b.add(b.add(b.matmul(x, w), bias), x)))
    (made,) = group(f.block)
    assert isinstance(made, Product)
    assert (made.bias, made.residual, made.activation.name) == (bias, x, "tanh")
    assert len(group(f.block, most=0)) == 4


def test_a_product_that_is_used_twice_is_stored_as_it_is() -> None:
    b = builder()
    x, w = b.parameter("x", "tensor<4x8xf32>"), b.weight(name="w", type="tensor<8x8xf32>")
    y = b.matmul(x, w)
    f = b.build(y, b.tanh(y))
    assert names(group(f.block)) == [["matmul"], ["tanh"]]


def test_what_comes_later_is_no_residual() -> None:
    """The other summand is made from a later product: the first one cannot wait for it."""
    b = builder()
    x, w = b.parameter("x", "tensor<4x8xf32>"), b.weight(name="w", type="tensor<8x8xf32>")
    first = b.matmul(x, w)
    second = b.matmul(b.exp(x), w)
    f = b.build(b.add(first, second))
    assert names(group(f.block)) == [["matmul"], ["exp"], ["matmul", "add"]]


def test_elementwise_ops_of_one_shape_are_one_group_wherever_they_come_from() -> None:
    b = builder()
    x, y = b.parameter("x", "tensor<4x8xf32>"), b.parameter("y", "tensor<4x8xf32>")
    f = b.build(b.mul(b.sigmoid(x), b.tanh(y)))
    (made,) = group(f.block)
    assert isinstance(made, Pointwise)
    assert [op.name for op in made.ops] == ["sigmoid", "tanh", "mul"]
    assert made.outputs == [made.ops[-1].result]


def around_a_product() -> Function:
    """exp leads to the sum directly, and by way of a product."""
    b = builder()
    x, w = b.parameter("x", "tensor<4x8xf32>"), b.weight(name="w", type="tensor<8x8xf32>")
    e = b.exp(x)
    s = b.softmax(b.matmul(e, w), axis=1)
    return b.build(b.mul(e, b.neg(s)))


def test_a_path_out_of_a_group_and_back_keeps_ops_apart() -> None:
    groups = group(around_a_product().block)
    assert names(groups) == [["exp"], ["matmul"], ["softmax"], ["neg", "mul"]]


def test_other_shapes_and_element_types_are_other_groups() -> None:
    b = builder()
    x, y = b.parameter("x", "tensor<8xf32>"), b.parameter("y", "tensor<4x8xf32>")
    wide = b.convert(b.add(b.exp(x), y), dtype="f64")
    f = b.build(b.tanh(wide))
    assert names(group(f.block)) == [["exp"], ["add"], ["convert"], ["tanh"]]


def test_conversions_within_32_bits_join_a_group() -> None:
    b = builder()
    x = b.parameter("x", "tensor<8xf32>")
    whole = b.add(b.convert(b.exp(x), dtype="i32"), b.constant(1, "i32"))
    f = b.build(b.tanh(b.convert(b.compare(whole, whole, predicate="eq"), dtype="bf16")))
    assert names(group(f.block)) == [["exp", "convert", "add", "compare", "convert", "tanh"]]


def test_at_most_so_many_ops_are_in_a_group() -> None:
    b = builder()
    x = b.parameter("x", "tensor<8xf32>")
    for _ in range(10):
        x = b.tanh(x)
    f = b.build(x)
    assert [len(made.ops) for made in group(f.block, most=4)] == [4, 4, 2]
