"""Types follow from the parameters' types: every op's are derived again, in order.

With an extent, all `?` become that number: one program specialised to one batch. Without, a -1 in a shape
that means a known number becomes that number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from neurojit.errors import Diagnostic, TensorLangError
from neurojit.ir.rules import MisfitError
from neurojit.ir.structure import Attribute, Block, Function, Op, Value
from neurojit.ir.table import OPS, infer
from neurojit.ir.types import TensorType


@dataclass(frozen=True)
class InferShapes:
    """extent: what the dynamic extent is; None leaves it dynamic. TensorLangError: an op does not allow it,
    a slice or argmax of nothing for instance."""

    extent: int | None = None
    name: str = "infer-shapes"

    def run(self, function: Function) -> Function:
        if self.extent is None and not any(_has_open_shape(op) for op in function.block.walk()):
            return function  # the other types are what they would be found to be
        block = _Inference(self.extent).block(function.block)
        return function if block is function.block else replace(function, block=block)


class _Inference:
    def __init__(self, extent: int | None) -> None:
        self.extent = extent
        self.values: dict[Value, Value] = {}

    def block(self, block: Block) -> Block:
        parameters = tuple(self.value(value, self.known(value.type)) for value in block.parameters)
        ops = tuple(map(self.op, block.ops))
        same = parameters == block.parameters and all(a is b for a, b in zip(ops, block.ops, strict=True))
        return block if same else Block(parameters, ops)

    def value(self, value: Value, type_: TensorType) -> Value:
        if type_ == value.type:
            return value
        new = self.values[value] = Value(value.name, type_)
        return new

    def known(self, type_: TensorType) -> TensorType:
        return type_.with_extent(self.extent) if type_.is_dynamic and self.extent is not None else type_

    def op(self, op: Op) -> Op:
        operands = tuple(self.values.get(operand, operand) for operand in op.operands)
        regions = tuple(map(self.block, op.regions))
        stated = tuple(value.type for value in op.results)
        types = tuple(value.type for value in operands)
        attributes = self.without_dynamic_extent(op)
        try:
            inferred = infer(OPS[op.name], types, attributes, regions, stated)
        except MisfitError as misfit:
            message = f"{op.name}: {misfit.message}"
            found = Diagnostic(op.span, message, misfit.expected, misfit.got, misfit.hint)
            raise TensorLangError([found]) from None
        if op.name == "reshape" and -1 in _shape(attributes) and not inferred[0].is_dynamic:
            attributes = {"shape": inferred[0].static_shape(0)}
        results = tuple(self.value(value, type_) for value, type_ in zip(op.results, inferred, strict=True))
        same_regions = all(a is b for a, b in zip(regions, op.regions, strict=True))
        if operands == op.operands and results == op.results and same_regions and attributes is op.attributes:
            return op
        return Op(op.name, operands, attributes, results, regions, op.span)

    def without_dynamic_extent(self, op: Op) -> Mapping[str, Attribute]:
        """The attributes, with the extent in place of the -1 in a shape that stands for it."""
        if self.extent is None or "shape" not in op.attributes or not op.result.type.is_dynamic:
            return op.attributes
        return {**op.attributes, "shape": (self.extent, *_shape(op.attributes)[1:])}


def _has_open_shape(op: Op) -> bool:
    return op.name == "reshape" and not op.result.type.is_dynamic and -1 in _shape(op.attributes)


def _shape(attributes: Mapping[str, Attribute]) -> tuple[int, ...]:
    shape = attributes["shape"]
    assert isinstance(shape, tuple)
    return shape


INFER_SHAPES = InferShapes()
