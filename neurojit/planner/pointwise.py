"""A group of elementwise ops as one `Map`: its expression, where its inputs and outputs lie.

bf16 is computed in f32 and rounded after each op that may give another number; i8 in 32 bits, and wrapped;
truth is 1.0 or 0.0. Conversions within lanes of 32 bits are operations like others.
"""

from __future__ import annotations

from collections.abc import Callable

from neurojit.ir.structure import Dense, Op, Value
from neurojit.ir.types import round_bf16
from neurojit.plan.epilogue import FUNCTIONS
from neurojit.plan.expression import Builder
from neurojit.plan.map import Access, Map
from neurojit.planner.fusion import Pointwise, activation_of, is_degenerate
from neurojit.planner.tensors import View

OPERATIONS = {
    "add": "add", "sub": "sub", "mul": "mul", "div": "div", "maximum": "max", "minimum": "min",
    "neg": "negate", "abs": "abs", "sqrt": "sqrt", "rsqrt": "rsqrt", "and": "and", "or": "or", "not": "not",
    "select": "select",
}  # fmt: skip
"""Op -> operation of an expression; functions have the same names in both."""
ON_INTEGERS = {"add": "iadd", "sub": "isub", "mul": "imul", "maximum": "imax", "minimum": "imin"}
RELATIONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
KEEPS_BF16 = frozenset({"neg", "abs", "maximum", "minimum", "select", "relu"})
"""Ops whose result is one of the numbers they got, or its opposite, or 0."""
LIMITS = {"i8": (-128, 127), "i32": (-(1 << 31), (1 << 31) - 1)}


class Expressions:
    """Turns groups into maps. constants: values that are known numbers."""

    def __init__(self, constants: dict[Value, Dense]) -> None:
        self.constants = constants

    def map_of(
        self,
        group: Pointwise,
        shape: tuple[int, ...],
        inputs: dict[Value, View],
        outputs: list[tuple[Value, View]],
    ) -> tuple[Map, tuple[View, ...]]:
        """The payload, and for each of its buffers a view that begins there.

        inputs: a view of each value from outside, not spread. outputs: where values go; one may go to
        several places."""
        shape = shape or (1,)
        buffers: dict[int, tuple[int, View]] = {}
        reads: dict[Value, int] = {}
        accesses: list[Access] = []
        build = Builder()
        nodes: dict[Value, int] = {}
        for value in group_inputs(group):
            constant = self.constants.get(value)
            if constant is not None and constant.array.size == 1:
                nodes[value] = constant_node(build, value.type.element, constant.array.reshape(()).item())
                continue
            reads[value] = len(accesses)
            accesses.append(_access(inputs[value].spread(shape), buffers))
            nodes[value] = build.input(reads[value])
        for op in group.ops:
            nodes[op.result] = node_of(build, op, [nodes[value] for value in op.operands])
        written = []
        for _, view in outputs:
            written.append(
                _access(View(view.buffer, shape, view.strides or (1,), view.offset, view.element), buffers)
            )
        expression = build.done(*(nodes[value] for value, _ in outputs))
        payload = Map(group.element, shape, tuple(accesses), tuple(written), expression)
        return payload, tuple(view for _, view in buffers.values())


def node_of(build: Builder, op: Op, operands: list[int]) -> int:
    """An elementwise op within one kind of lanes, of operands that are nodes already."""
    element = op.operands[0].type.element
    result = op.result.type.element
    if op.name == "compare":
        relation = RELATIONS[str(op.attributes["predicate"])]
        return build.apply(f"i{relation}" if element in LIMITS else relation, *operands)
    if op.name == "convert":
        return _converted(build, operands[0], element, result)
    if result in LIMITS and op.name != "select":
        return _integers(build, op.name, result, operands)
    if op.name in FUNCTIONS:
        parameters = activation_of(op).parameters
        if element == "bf16":
            parameters = tuple(float(round_bf16(value)) for value in parameters)  # type: ignore[arg-type]
        if is_degenerate(op):
            return _selected(build, op.name, operands[0], parameters)
        node = build.apply(op.name, *operands, parameters=parameters)
    else:
        node = build.apply(OPERATIONS[op.name], *operands)
    return build.apply("round_bf16", node) if result == "bf16" and op.name not in KEEPS_BF16 else node


def _selected(build: Builder, name: str, x: int, parameters: tuple[float, ...]) -> int:
    """A degenerate function, as it is meant."""
    if name == "leaky_relu":
        scaled = build.apply("mul", x, build.constant(parameters[0]))
        return build.apply("select", build.apply("<", x, build.constant(0.0)), scaled, x)
    low, high = map(build.constant, parameters)
    rest = build.apply("select", build.apply(">", x, high), high, x)
    return build.apply("select", build.apply("<", x, low), low, rest)


def _integers(build: Builder, name: str, element: str, operands: list[int]) -> int:
    """Arithmetic of integers, which wraps."""
    if name in ("neg", "abs"):
        node = build.apply("isub", build.integer(0), operands[0])
        node = node if name == "neg" else build.apply("imax", operands[0], node)
    else:
        node = build.apply(ON_INTEGERS[name], *operands)
    return build.apply("wrap8", node) if element == "i8" else node


def _converted(build: Builder, x: int, source: str, target: str) -> int:
    """By the rules of `convert`, within lanes of one kind."""
    if source == target:
        return x
    if target == "i1":
        if source in LIMITS:
            return build.apply("i!=", x, build.integer(0))
        return build.apply("!=", x, build.constant(0.0))
    if target in LIMITS:
        low, high = LIMITS["i8"]
        if source in LIMITS:  # from i32 to the nearest of i8, or from there to i32
            narrowed = build.apply("imin", build.apply("imax", x, build.integer(low)), build.integer(high))
            return narrowed if target == "i8" else x
        if target == "i8" and source != "i1":
            x = build.apply("min", build.apply("max", x, build.constant(low)), build.constant(high))
        return build.apply("to_integer", x)
    x = build.apply("to_number", x) if source in LIMITS else x
    return build.apply("round_bf16", x) if target == "bf16" and source != "i1" else x


def constant_node(build: Builder, element: str, value: float) -> int:
    """A number of this element type."""
    if element in LIMITS:
        return build.integer(int(value))
    return build.constant(float(round_bf16(value)) if element == "bf16" else float(value))  # type: ignore[arg-type]


def wrapped(build: Builder, x: int) -> int:
    """A whole number of f64, below 2^53, as the integer of 32 bits that it wraps to."""
    half, whole = 2.0**31, 2.0**32
    turns = build.apply("mul", build.apply("add", x, build.constant(half)), build.constant(1 / whole))
    return build.apply("sub", x, build.apply("mul", build.apply("floor", turns), build.constant(whole)))


def clipped(element: str) -> Callable[[Builder, int], int]:
    """A number of f64 as the whole number of an integer type: towards 0, to the limits, NaN to 0."""
    low, high = LIMITS[element]

    def write(build: Builder, x: int) -> int:
        near = build.apply("min", build.apply("max", x, build.constant(low)), build.constant(high))
        positive = build.apply(">", near, build.constant(0.0))
        whole = build.apply("select", positive, build.apply("floor", near), build.apply("ceil", near))
        return build.apply("select", build.apply("==", x, x), whole, build.constant(0.0))

    return write


def group_inputs(group: Pointwise) -> list[Value]:
    """The values from outside that its ops read, each once, in order."""
    made = {op.result for op in group.ops}
    return list(dict.fromkeys(value for op in group.ops for value in op.operands if value not in made))


def _access(view: View, buffers: dict[int, tuple[int, View]]) -> Access:
    """Where a view lies, counted from the beginning of its buffer."""
    number, _ = buffers.setdefault(
        id(view.buffer), (len(buffers), View(view.buffer, (), (), 0, view.element))
    )
    return Access(number, view.strides, view.offset)
