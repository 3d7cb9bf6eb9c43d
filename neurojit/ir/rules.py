"""Shape rules: from the types of an op's operands and its attributes to the types of its results.

A rule takes a `Signature` whose operands have been counted, whose element types fit the row, and whose
attributes are complete and of the right kinds. It raises `MisfitError`, which names the operand or attribute
at fault, so that a text's error can point at it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neurojit.ir.types import ELEMENTS, FLOATS, Extent, Shape, TensorType

if TYPE_CHECKING:
    from neurojit.ir.structure import Block

Types = tuple[TensorType, ...]

MOST_CONSTANT = 1 << 16
"""Elements of a constant; larger ones are weights."""
MOST_STEPS = 1 << 20
"""Of a scan that has no inputs to count them."""


class MisfitError(Exception):
    """What a rule finds wrong. at: the operand's number, the attribute's name, or None for the whole op."""

    def __init__(
        self, message: str, expected: str = "", got: str = "", hint: str = "", at: int | str | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.expected, self.got, self.hint, self.at = message, expected, got, hint, at


@dataclass(frozen=True)
class Signature:
    """What a rule may look at. declared: the result types that the text or the caller states, which only
    ops without operands (weight, state_read) need; None where none are stated."""

    operands: Types
    attributes: Mapping[str, Any]
    regions: tuple[Block, ...] = ()
    declared: Types | None = None


def spell(shape: Shape) -> str:
    return "x".join("?" if extent is None else str(extent) for extent in shape) or "a scalar"


def typed(shape: Shape, element: str, at: int | str | None = None) -> TensorType:
    """A type, or a MisfitError with the reason why there is none."""
    try:
        return TensorType(shape, element)
    except ValueError as error:
        raise MisfitError(f"no such result: {error}", at=at) from None


def broadcast_shapes(shapes: list[Shape]) -> Shape:
    """NumPy's rule: aligned at the end, an extent of 1 stretches. `?` meets only 1 and `?`."""
    if shapes and shapes.count(shapes[0]) == len(shapes):
        return shapes[0]
    rank = max(map(len, shapes), default=0)
    result: list[Extent] = [1] * rank
    for number, shape in enumerate(shapes):
        for axis, extent in enumerate(shape, rank - len(shape)):
            if result[axis] == 1:
                result[axis] = extent
            elif extent not in (1, result[axis]):
                raise MisfitError(
                    "shapes do not broadcast",
                    f"extents equal to {spell((result[axis],))} or 1 on axis {axis - rank}",
                    spell(shape),
                    "reshape or broadcast one of them",
                    at=number,
                )
    return tuple(result)


def elementwise(s: Signature) -> Types:
    return (typed(broadcast_shapes([t.shape for t in s.operands]), s.operands[-1].element),)


def to_i1(s: Signature) -> Types:
    return (typed(broadcast_shapes([t.shape for t in s.operands]), "i1"),)


def convert(s: Signature) -> Types:
    return (TensorType(s.operands[0].shape, element_named(s.attributes["dtype"])),)


def element_named(name: str, among: tuple[str, ...] = tuple(ELEMENTS)) -> str:
    if name not in among:
        raise MisfitError("element type", f"one of {', '.join(among)}", repr(name), at="dtype")
    return name


def axis_of(s: Signature, operand: int = 0) -> int:
    """The attribute `axis`, inside the operand's rank."""
    return _inside("axis", s.attributes["axis"], s.operands[operand])


def _inside(attribute: str, axis: int, operand: TensorType) -> int:
    if not 0 <= axis < operand.rank:
        hint = f"count from the front: {axis + operand.rank}" if -operand.rank <= axis < 0 else ""
        expected = f"0 to {operand.rank - 1}" if operand.rank else "an operand that has axes"
        raise MisfitError(f"{attribute} is outside {operand}", expected, str(axis), hint, at=attribute)
    return axis


def along_axis(s: Signature) -> Types:
    axis_of(s)
    return s.operands


def reduce(s: Signature) -> Types:
    (x,), axes = s.operands, s.attributes["axes"]
    for axis in axes:
        _inside("axes", axis, x)
    if not axes or list(axes) != sorted(set(axes)):
        raise MisfitError("axes", "at least one, each once, in rising order", str(list(axes)), at="axes")
    return (_without(x, axes, s.attributes["keepdims"], x.element),)


def reduce_axis(s: Signature) -> Types:
    return (_without(s.operands[0], (axis_of(s),), s.attributes["keepdims"], s.operands[0].element),)


def argmax(s: Signature) -> Types:
    (x,), axis = s.operands, axis_of(s)
    if x.shape[axis] == 0:
        raise MisfitError("nothing to choose from", "an axis with elements", str(x), at=0)
    return (_without(x, (axis,), s.attributes["keepdims"], "i32"),)


def _without(x: TensorType, axes: tuple[int, ...], keepdims: bool, element: str) -> TensorType:
    shape = [1 if i in axes else extent for i, extent in enumerate(x.shape) if keepdims or i not in axes]
    return typed(tuple(shape), element)


def matmul(s: Signature) -> Types:
    a, b = s.operands
    for number, operand in enumerate(s.operands):
        if operand.rank < 2:
            raise MisfitError(
                "an operand", "rank 2 or more", str(operand), "reshape a vector to a row or a column", number
            )
    m, k = a.shape[-2:][:: -1 if s.attributes["transpose_a"] else 1]
    inner, n = b.shape[-2:][:: -1 if s.attributes["transpose_b"] else 1]
    if k != inner:
        swapped = n == k
        raise MisfitError(
            "inner extents differ",
            spell((k,)),
            spell((inner,)),
            "transpose the right operand?" if swapped else "",
            at=1,
        )
    batch = broadcast_shapes([a.shape[:-2], b.shape[:-2]])
    return (typed((*batch, m, n), "i32" if a.element == "i8" else a.element),)


def outer(s: Signature) -> Types:
    x, y = s.operands
    for number, operand in enumerate(s.operands):
        if operand.rank < 1:
            raise MisfitError("an operand", "rank 1 or more", str(operand), at=number)
    batch = broadcast_shapes([x.shape[:-1], y.shape[:-1]])
    return (typed((*batch, x.shape[-1], y.shape[-1]), x.element),)


def norm(s: Signature) -> Types:
    """x normalised over its last axis; weight and bias, where there are any, have one element for each."""
    x, *rest = s.operands
    if x.rank < 1 or x.shape[-1] is None:
        raise MisfitError("normalises over the last axis", "a static one", str(x), at=0)
    for number, operand in enumerate(rest, 1):
        if operand.shape != x.shape[-1:]:
            raise MisfitError(
                "one element for each of the last axis", spell(x.shape[-1:]), spell(operand.shape), at=number
            )
    return (x,)


def declared_shape(s: Signature) -> Shape:
    """The attribute `shape`, where -1 is the dynamic extent."""
    shape: Shape = tuple(None if extent == -1 else extent for extent in s.attributes["shape"])
    typed(shape, "f32", at="shape")
    return shape


def reshape(s: Signature) -> Types:
    """-1 stands for the extent that follows from the others, or for a dynamic one that stays in front."""
    (x,), wanted = s.operands, s.attributes["shape"]
    shape = list(wanted)
    if shape.count(-1) > 1 or any(extent < -1 for extent in shape):
        raise MisfitError("shape", "extents of at least 0, at most one of them -1", str(shape), at="shape")
    known = math.prod(extent for extent in shape if extent != -1)
    if -1 in shape and not (x.is_dynamic and shape[0] == -1):
        if x.is_dynamic or known == 0 or x.count(1) % known:
            raise MisfitError("shape", f"one that {x} fits", str(shape), at="shape")
        shape[shape.index(-1)] = x.count(1) // known
    result = typed(tuple(None if extent == -1 else extent for extent in shape), x.element, at="shape")
    if result.is_dynamic != x.is_dynamic or result.count(1) != x.count(1):
        raise MisfitError("shape", f"as many elements as {x}", str(list(wanted)), at="shape")
    return (result,)


def broadcast(s: Signature) -> Types:
    (x,), shape = s.operands, declared_shape(s)
    if broadcast_shapes([shape, x.shape]) != shape:
        raise MisfitError("does not stretch", f"a shape that {x} broadcasts to", spell(shape), at="shape")
    return (typed(shape, x.element, at="shape"),)


def transpose(s: Signature) -> Types:
    (x,), permutation = s.operands, s.attributes["permutation"]
    if sorted(permutation) != list(range(x.rank)):
        raise MisfitError(
            "permutation", f"each of 0 to {x.rank - 1} once", str(list(permutation)), at="permutation"
        )
    return (typed(tuple(x.shape[axis] for axis in permutation), x.element, at="permutation"),)


def slice_(s: Signature) -> Types:
    """Elements start, start + step, ... below end, along one axis."""
    (x,), axis = s.operands, axis_of(s)
    start, end, step = (s.attributes[name] for name in ("start", "end", "step"))
    extent = x.shape[axis]
    if extent is None:
        raise MisfitError("slices a static axis", "another one", f"axis {axis} of {x}", at="axis")
    if step < 1:
        raise MisfitError("step", "at least 1", str(step), at="step")
    if not 0 <= start <= end <= extent:
        raise MisfitError("range", f"0 <= start <= end <= {extent}", f"{start} to {end}", at="end")
    return (typed((*x.shape[:axis], -(-(end - start) // step), *x.shape[axis + 1 :]), x.element),)


def concat(s: Signature) -> Types:
    first, axis = s.operands[0], axis_of(s)
    total = 0
    for number, operand in enumerate(s.operands):
        others = operand.shape[:axis] + operand.shape[axis + 1 :]
        if operand.rank != first.rank or others != first.shape[:axis] + first.shape[axis + 1 :]:
            raise MisfitError(
                f"shapes differ beside axis {axis}", spell(first.shape), spell(operand.shape), at=number
            )
        extent = operand.shape[axis]
        if extent is None:
            raise MisfitError("joins a static axis", "another one", f"axis {axis} of {operand}", at="axis")
        total += extent
    return (typed((*first.shape[:axis], total, *first.shape[axis + 1 :]), first.element),)


def pad(s: Signature) -> Types:
    (x,) = s.operands
    low, high = s.attributes["low"], s.attributes["high"]
    for name, widths in (("low", low), ("high", high)):
        if len(widths) != x.rank or any(width < 0 for width in widths):
            raise MisfitError(name, f"{x.rank} widths of at least 0", str(list(widths)), at=name)
    if x.is_dynamic and (low[0] or high[0]):
        raise MisfitError("pads static axes", "0 on the dynamic one", str(x), at="low" if low[0] else "high")
    shape = (
        None if e is None else before + e + after for before, e, after in zip(low, x.shape, high, strict=True)
    )
    return (typed(tuple(shape), x.element),)


def gather(s: Signature) -> Types:
    (x, indices), axis = s.operands, axis_of(s)
    if x.shape[axis] is None or x.shape[axis] == 0:
        raise MisfitError("gathers from a static axis that has elements", "another one", str(x), at="axis")
    return (typed(x.shape[:axis] + indices.shape + x.shape[axis + 1 :], x.element),)


def random(s: Signature) -> Types:
    key, counter = s.operands
    if key.shape != (2,):
        raise MisfitError("key", "tensor<2xi32>", str(key), at=0)
    if counter.shape != ():
        raise MisfitError("counter", "tensor<i32>", str(counter), at=1)
    return (typed(declared_shape(s), element_named(s.attributes["dtype"], FLOATS[:2]), at="shape"),)


def constant(s: Signature) -> Types:
    value = s.attributes["value"].type
    if value.count(0) > MOST_CONSTANT:
        expected = f"at most {MOST_CONSTANT} elements"
        raise MisfitError("value of a constant", expected, str(value), "larger ones are weights", at="value")
    return (s.attributes["value"].type,)


def stated(s: Signature) -> Types:
    """A weight or a state: its type is what the text says."""
    if s.declared is None or len(s.declared) != 1:
        raise MisfitError(
            "the type of the result must be stated", "one", "none" if s.declared is None else "several"
        )
    if s.declared[0].is_dynamic:
        raise MisfitError("lives beside the program", "a static type", str(s.declared[0]))
    return s.declared


def state_write(s: Signature) -> Types:
    if s.operands[0].is_dynamic:
        raise MisfitError("lives beside the program", "a static type", str(s.operands[0]), at=0)
    return ()


def nothing(s: Signature) -> Types:
    return ()


def scan(s: Signature) -> Types:
    """See the table. Operands: carried values, then inputs; results: carried values, then outputs."""
    carried, (block,) = s.attributes["carried"], s.regions
    if not 0 <= carried <= len(s.operands):
        raise MisfitError("carried", f"0 to {len(s.operands)}", str(carried), at="carried")
    length = scan_length(s)
    expected = list(s.operands[:carried]) + [TensorType(t.shape[1:], t.element) for t in s.operands[carried:]]
    if [p.type for p in block.parameters] != expected:
        raise MisfitError(
            "parameters of the body", _listed(expected), _listed([p.type for p in block.parameters])
        )
    handed = [value.type for value in block.terminator.operands]
    if handed[:carried] != expected[:carried] or len(handed) < carried:
        raise MisfitError(
            "the body yields the carried values first", _listed(expected[:carried]), _listed(handed)
        )
    outputs = []
    for out in handed[carried:]:
        if out.is_dynamic:
            raise MisfitError("an output of a step is stacked behind the step", "a static type", str(out))
        outputs.append(typed((length, *out.shape), out.element))
    return (*s.operands[:carried], *outputs)


def scan_length(s: Signature) -> Extent:
    """Steps of a scan: the leading extent of its inputs, or the attribute `length` where it has none."""
    inputs, length = s.operands[s.attributes["carried"] :], s.attributes["length"]
    for number, operand in enumerate(inputs, s.attributes["carried"]):
        if operand.rank == 0:
            raise MisfitError("an input of a scan", "a leading axis", str(operand), at=number)
        if operand.shape[0] != inputs[0].shape[0]:
            first, own = inputs[0].shape[:1], operand.shape[:1]
            raise MisfitError("inputs of a scan differ in length", spell(first), spell(own), at=number)
    if inputs and length != -1:
        raise MisfitError("length", "none beside inputs", str(length), at="length")
    if not inputs and not 0 <= length <= MOST_STEPS:
        raise MisfitError("length of a scan without inputs", f"0 to {MOST_STEPS}", str(length), at="length")
    return inputs[0].shape[0] if inputs else length


def _listed(types: list[TensorType]) -> str:
    return "(" + ", ".join(map(str, types)) + ")"
