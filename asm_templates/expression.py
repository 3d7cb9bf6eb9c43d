"""An expression on one vector of elements: loads, operations, stores, and the registers of a graph.

    alive values + the temporaries of one function; see `plan.expression` for the order and the count

The plan says in which order nodes are computed; here each becomes steps of the machine. An operand that is
used for the last time gives its register to the result. An input that is used once is read by the
instruction that uses it, constants come from the pool behind the code, and a relation used by one select is
a mask and never a vector. Outputs are stored only after the last input was read, so that they may lie on
inputs, element on element.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from neurojit.asm_templates.integers import BINARY, FROM_NUMBERS, compare_integers
from neurojit.asm_templates.machine import Machine, Mask, Operand, Source, Vector
from neurojit.asm_templates.math import FUNCTIONS
from neurojit.asm_templates.streams import Place, Streams
from neurojit.plan.expression import (
    INTEGER_RELATIONS,
    RELATIONS,
    Apply,
    Constant,
    Evaluation,
    Expression,
    Input,
    rounded,
)


class Sink(NamedTuple):
    """Who wants a node: `take` gets its vector, and leaves it as it is."""

    node: int
    take: Callable[[Vector], None]
    stores: bool


class Evaluator:
    """Emits one evaluation of the expression, at one place. `known`: nodes in registers that stay theirs."""

    def __init__(
        self,
        m: Machine,
        e: Expression,
        plan: Evaluation,
        streams: Streams,
        place: Place,
        known: Mapping[int, Vector],
    ) -> None:
        self.m, self.e, self.plan, self.streams, self.place, self.known = m, e, plan, streams, place, known
        self.left = dict(plan.uses)
        self.values: dict[int, Vector] = {}
        self.unread = {x for x in plan.uses if isinstance(e.nodes[x], Input) and x not in known}

    def run(self, sinks: Sequence[Sink]) -> None:
        """Compute what the plan says. A sink takes its node as soon as it is there; one that stores, as soon
        as all inputs were read."""
        waiting = list(sinks)
        for at in self.plan.order:
            self.values[at] = self._compute(at)
            ready = [s for s in waiting if s.node in self.values and not (s.stores and self.unread)]
            waiting = [s for s in waiting if s not in ready]
            self._serve(ready)
        self._serve(waiting)

    def results(self, wanted: Sequence[int], sinks: Sequence[Sink] = ()) -> dict[int, Vector]:
        """Run, and hand over the nodes wanted in registers, the caller's to drop."""
        self.run(sinks)
        return {node: self.values.get(node) or self._vector(node)[0] for node in wanted}

    def _serve(self, sinks: Sequence[Sink]) -> None:
        fetched = [self._vector(sink.node) for sink in sinks]
        for sink, (vector, _) in zip(sinks, fetched, strict=True):
            sink.take(vector)
        self.m.drop(*(vector for vector, dies in fetched if dies))

    # Operands: a source, and whether it is a register whose last use this is ---------------------------

    def _source(self, node: int) -> tuple[Source, bool]:
        """An operand as an instruction may take it: a constant, an element in memory, a vector."""
        of = self.e.nodes[node]
        if isinstance(of, Constant) and of.is_integer:
            return self._vector(node)
        if isinstance(of, Constant):
            return rounded(of.value, self.m.element.name), False
        if node in self.known or node in self.values:
            return self._held(node)
        assert isinstance(of, Input)
        operand = self._read(node, of.index, self.m.vector)
        return operand, isinstance(operand, Vector)

    def _vector(self, node: int) -> tuple[Vector, bool]:
        """An operand in a register."""
        of = self.e.nodes[node]
        if isinstance(of, Constant) and of.is_integer:
            return self.m.spread_integer(self.place.lanes, of.integer), True
        if isinstance(of, Constant):
            return self.m.spread(self.place.lanes, rounded(of.value, self.m.element.name)), True
        if node in self.known or node in self.values:
            return self._held(node)
        assert isinstance(of, Input)
        vector = self._read(node, of.index, lambda *where, uses: self.m.load(*where))
        assert isinstance(vector, Vector)
        return vector, True

    def _held(self, node: int) -> tuple[Vector, bool]:
        if node in self.known:
            return self.m.view(self.known[node], self.place.lanes), False
        self.left[node] -= 1
        return (self.values[node], False) if self.left[node] else (self.values.pop(node), True)

    def _read(self, node: int, index: int, load: Callable[..., Operand]) -> Operand:
        self.unread.discard(node)
        lanes, column, mask, row = self.place
        pointer, offset = self.streams.at(index, column, row)
        if self.streams.accesses[index].strides[-1] == 0:
            return self.m.broadcast(lanes, pointer, offset)
        if mask is not None:
            return self.m.load_where(mask, lanes, pointer, offset)
        return load(lanes, pointer, offset, uses=1)

    # Operations -----------------------------------------------------------------------------------------

    def _compute(self, at: int) -> Vector:
        """A node's value, in a register that is ours."""
        node = self.e.nodes[at]
        if isinstance(node, Input):
            vector = self._read(at, node.index, lambda *where, uses: self.m.load(*where))
            assert isinstance(vector, Vector)
            return vector
        assert isinstance(node, Apply)
        m, op = self.m, node.op
        if op in FUNCTIONS:
            x, dies = self._vector(node.operands[0])
            x = x if dies else m.duplicate(x)
            FUNCTIONS[op](m, x, *node.parameters)
            return x
        if op == "select":
            return self._select(*node.operands)
        if op in RELATIONS or op in INTEGER_RELATIONS:
            return self._truth(op, *node.operands)
        if len(node.operands) == 1:
            x, dies = self._vector(node.operands[0])
            y = UNARY[op](m, x, x if dies else None)
            self._drop_unless(y, (x, dies))
            return y
        return self._binary(op, *node.operands)

    def _binary(self, op: str, first: int, second: int) -> Vector:
        m = self.m
        if op in BINARY:
            return self._integers(BINARY[op], first, second)
        if op in ("max", "min", "and", "or"):
            a = self._source(first) if self._is_number(first) else self._vector(first)
            b: tuple[Source, bool] = self._vector(second)
        else:
            a = self._source(first)
            b = self._vector(second) if not isinstance(a[0], Vector) else self._source(second)
        into = next((x for x, dies in (a, b) if dies and isinstance(x, Vector)), None)
        if op in ("max", "min"):
            assert isinstance(b[0], Vector)
            result = self._extreme(op, a[0], b[0], b[1])
        else:
            result = getattr(m, {"and": "min", "or": "max"}.get(op, op))(a[0], b[0], into=into)
        self._drop_unless(result, a, b)
        return result

    def _integers(self, step: str, first: int, second: int) -> Vector:
        a, b = self._vector(first), self._vector(second)
        into = next((x for x, dies in (a, b) if dies), None)
        result: Vector = getattr(self.m, step)(a[0], b[0], into=into)
        self._drop_unless(result, a, b)
        return result

    def _is_number(self, node: int) -> bool:
        """Whether it is a constant that is not NaN."""
        of = self.e.nodes[node]
        return isinstance(of, Constant) and not math.isnan(of.value)

    def _extreme(self, op: str, a: Source, b: Vector, b_dies: bool) -> Vector:
        """max or min that is NaN where either operand is: the machine's is b there."""
        m = self.m
        into = b if b_dies and b is not a else None
        result = m.max(a, b, into=into) if op == "max" else m.min(a, b, into=into)
        if isinstance(a, Vector) and a is not b:
            number = m.compare(a, "==", a)
            m.select(number, result, a, into=result)
            m.drop_mask(number)
        return result

    def _compare(self, relation: str, first: int, second: int) -> tuple[Mask, bool]:
        """A mask of the lanes where the relation holds; or, the second result being True, of the others."""
        m = self.m
        if relation in INTEGER_RELATIONS:
            x, y = self._vector(first), self._vector(second)
            compared = compare_integers(m, relation, x[0], y[0])
            self._drop_unless(None, x, y)
            return compared
        if isinstance(self.e.nodes[first], Constant) and not isinstance(self.e.nodes[second], Constant):
            first, second, relation = second, first, MIRRORED[relation]
        a, b = self._vector(first), self._source(second)
        mask = m.compare(a[0], "==" if relation == "!=" else relation, b[0])  # type: ignore[arg-type]
        self._drop_unless(None, a, b)
        return mask, relation == "!="

    def _truth(self, relation: str, first: int, second: int) -> Vector:
        m, lanes = self.m, self.place.lanes
        mask, inverted = self._compare(relation, first, second)
        one, zero = m.spread(lanes, 1.0), m.spread(lanes, 0.0)
        m.select(mask, *((zero, one) if inverted else (one, zero)), into=one)
        m.drop_mask(mask)
        m.drop(zero)
        return one

    def _select(self, condition: int, first: int, second: int) -> Vector:
        m = self.m
        if condition in self.plan.fused:
            of = self.e.nodes[condition]
            assert isinstance(of, Apply)
            mask, inverted = self._compare(of.op, *of.operands)
        else:
            truth = self._vector(condition)
            mask, inverted = m.compare(truth[0], "==", 0.0), True
            self._drop_unless(None, truth)
        a, b = self._vector(first), self._vector(second)
        into = next((x for x, dies in (a, b) if dies), None)
        result = m.select(mask, *((b[0], a[0]) if inverted else (a[0], b[0])), into=into)
        m.drop_mask(mask)
        self._drop_unless(result, a, b)
        return result

    def _drop_unless(self, result: Vector | None, *operands: tuple[Source, bool]) -> None:
        """Give back the registers of operands whose last use this was, but not the result's."""
        seen: list[Source] = [] if result is None else [result]
        for operand, dies in operands:
            if dies and isinstance(operand, Vector) and not any(operand is other for other in seen):
                self.m.drop(operand)
                seen.append(operand)


MIRRORED = {"<": ">", "<=": ">=", "==": "==", "!=": "!=", ">=": "<=", ">": "<"}


def _floor(m: Machine, x: Vector, into: Vector | None) -> Vector:
    nearest = m.round(x)
    above = m.compare(nearest, ">", x)
    below = m.sub(nearest, 1.0)
    m.select(above, below, nearest, into=nearest)
    m.drop_mask(above)
    m.drop(below)
    return nearest


def _ceil(m: Machine, x: Vector, into: Vector | None) -> Vector:
    opposite = m.negate(x)
    down = _floor(m, opposite, None)
    m.drop(opposite)
    return m.negate(down, into=down)


def _rsqrt(m: Machine, x: Vector, into: Vector | None) -> Vector:
    root = m.sqrt(x, into=into)
    return m.div(1.0, root, into=root)


UNARY: dict[str, Callable[[Machine, Vector, Vector | None], Vector]] = {
    "negate": lambda m, x, into: m.negate(x, into=into),
    "abs": lambda m, x, into: m.abs(x, into=into),
    "sqrt": lambda m, x, into: m.sqrt(x, into=into),
    "round": lambda m, x, into: m.round(x, into=into),
    "reciprocal": lambda m, x, into: m.div(1.0, x, into=into),
    "not": lambda m, x, into: m.sub(1.0, x, into=into),
    "rsqrt": _rsqrt,
    "floor": _floor,
    "ceil": _ceil,
    **FROM_NUMBERS,
}
"""name -> f(machine, x, where the result may go)."""
