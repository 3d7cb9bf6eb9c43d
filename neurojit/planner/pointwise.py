"""A group of elementwise ops as one `Map`: its expression, where its inputs and outputs lie."""

from __future__ import annotations

from neurojit.ir.structure import Dense, Op, Value
from neurojit.plan.epilogue import FUNCTIONS
from neurojit.plan.expression import Builder
from neurojit.plan.map import Access, Map
from neurojit.planner.fusion import Pointwise, activation_of
from neurojit.planner.tensors import UnplannedError, View

OPERATIONS = {
    "add": "add", "sub": "sub", "mul": "mul", "div": "div", "maximum": "max", "minimum": "min",
    "neg": "negate", "abs": "abs", "sqrt": "sqrt", "rsqrt": "rsqrt", "and": "and", "or": "or", "not": "not",
    "select": "select",
}  # fmt: skip
"""Op -> operation of an expression; functions have the same names in both."""
RELATIONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
COMPUTED = ("f32", "f64")


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
        element = group.element
        if element not in COMPUTED:
            raise UnplannedError(f"{group.ops[0]}: elementwise ops on {element} have no kernel")
        shape = shape or (1,)
        buffers: dict[int, tuple[int, View]] = {}
        reads: dict[Value, int] = {}
        accesses: list[Access] = []
        build = Builder()
        nodes: dict[Value, int] = {}
        for value in group_inputs(group):
            constant = self.constants.get(value)
            if constant is not None and constant.array.size == 1:
                nodes[value] = build.constant(float(constant.array.reshape(())))
                continue
            view = inputs[value].spread(shape)
            _check_readable(group.ops[0], view, element)
            reads[value] = len(accesses)
            accesses.append(_access(view, buffers))
            nodes[value] = build.input(reads[value])
        for op in group.ops:
            nodes[op.result] = self._node(build, op, nodes)
        written = []
        for _, view in outputs:
            _check_readable(group.ops[0], view, element)
            written.append(
                _access(View(view.buffer, shape, view.strides or (1,), view.offset, element), buffers)
            )
        expression = build.done(*(nodes[value] for value, _ in outputs))
        payload = Map(element, shape, tuple(accesses), tuple(written), expression)
        return payload, tuple(view for _, view in buffers.values())

    def _node(self, build: Builder, op: Op, nodes: dict[Value, int]) -> int:
        operands = [nodes[value] for value in op.operands]
        if op.name == "compare":
            return build.apply(RELATIONS[str(op.attributes["predicate"])], *operands)
        if op.name == "convert":
            if op.result.type.element != op.operands[0].type.element:
                raise UnplannedError(
                    f"{op}: no kernel converts {op.operands[0].type.element} to {op.result.type.element}"
                )
            return operands[0]
        if op.name in FUNCTIONS:
            return build.apply(op.name, *operands, parameters=activation_of(op).parameters)
        return build.apply(OPERATIONS[op.name], *operands)


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


def _check_readable(op: Op, view: View, element: str) -> None:
    if view.element != element:
        raise UnplannedError(f"{op}: an operand of {view.element} beside {element} has no kernel")
