"""What is computed from the elements of a row: an expression, a graph of frozen nodes (`Expression`).

    inputs      one element of each input that stands in the element's place, or is spread along the row
    constants   rounded to the element type
    arithmetic  each operation rounded on its own, no fused multiply-adds: the bits of NumPy's
    functions   of one element, by their names in `plan.epilogue`
    truth       relations, logic and `select`; truth is 1 or 0, as in a tensor of them
    integers    of 32 bits, in lanes of f32: an input's bits are one, or a number becomes one
    reductions  over the row, to one value that stands for every element of it (`plan.reduce`)

Nodes stand in a tuple, each after its operands, so an expression is a value: hashable, comparable, without
cycles. `Builder` makes one, and writes equal nodes once. `evaluate_in_order` decides in which order nodes
are computed, so that few registers are alive at a time (Sethi and Ullman, 1970, carried over to graphs):
of two operands the one that needs more comes first, and a value's register is free after its last use.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from neurojit.plan.epilogue import FUNCTIONS

MOST_NODES = 1000
"""Of one expression: far beyond what registers hold."""

ARITHMETIC = {"add": 2, "sub": 2, "mul": 2, "div": 2, "max": 2, "min": 2}
"""max and min: NaN where either is, else the second operand unless the first is greater (less)."""
EXACT_UNARY = {
    "negate": 1,
    "abs": 1,
    "sqrt": 1,
    "rsqrt": 1,
    "reciprocal": 1,
    "round": 1,
    "floor": 1,
    "ceil": 1,
}
"""rsqrt is 1 / sqrt(x), rounded twice. round: to the nearest integer, of two the even one."""
RELATIONS = {"<": 2, "<=": 2, "==": 2, "!=": 2, ">=": 2, ">": 2}
"""Each is false where an operand is NaN, but `!=`, which is true there."""
LOGIC = {"and": 2, "or": 2, "not": 1}
"""Of truth, 1 or 0: the smaller, the greater, 1 - x."""
INTEGER_RELATIONS = {"i<": 2, "i<=": 2, "i==": 2, "i!=": 2, "i>=": 2, "i>": 2}
"""The same of integers; truth is 1.0 or 0.0 here too."""
INTEGERS = {"iadd": 2, "isub": 2, "imul": 2, "imax": 2, "imin": 2, "wrap8": 1, "to_number": 1}
"""Integers of 32 bits, which wrap. wrap8: the lowest 8 bits, with their sign. to_number: as the nearest
f32."""
FROM_NUMBERS = {"to_integer": 1, "round_bf16": 1}
"""Of f32. to_integer: rounded towards 0, out of range to the nearest limit, NaN to 0. round_bf16: the nearest
number that bf16 has, of two the even one."""
SELECT = {"select": 3}
"""select(c, a, b): a where c is not 0, else b."""
REDUCTIONS = {
    "reduce_sum": 1, "reduce_mean": 1, "reduce_max": 1, "reduce_min": 1, "reduce_fmax": 1, "reduce_fmin": 1,
    "reduce_argmax": 1, "reduce_argmin": 1, "reduce_isum": 1, "reduce_imax": 1, "reduce_imin": 1,
}  # fmt: skip
"""See `plan.reduce`. Those with an i are of integers."""
OPERATIONS = {
    **ARITHMETIC, **EXACT_UNARY, **RELATIONS, **LOGIC, **SELECT, **REDUCTIONS, **dict.fromkeys(FUNCTIONS, 1),
    **INTEGERS, **INTEGER_RELATIONS, **FROM_NUMBERS,
}  # fmt: skip
"""name -> count of operands."""
ON_32_BITS = frozenset(
    {*INTEGERS, *INTEGER_RELATIONS, *FROM_NUMBERS, "reduce_isum", "reduce_imax", "reduce_imin"}
)
INTEGER_RESULTS = frozenset(
    {*INTEGERS, *INTEGER_RELATIONS, "to_integer", "reduce_isum", "reduce_imax", "reduce_imin"}
)

TEMPORARIES = {
    "identity": 0, "exp": 3, "log": 5, "tanh": 6, "sigmoid": 3, "erf": 5, "relu": 1, "leaky_relu": 1,
    "clamp": 1, "elu": 4, "silu": 4, "gelu": 7, "gelu_tanh": 7,
    "rsqrt": 1, "reciprocal": 1, "floor": 3, "ceil": 3, "max": 2, "min": 2, "select": 2, "not": 1,
    **dict.fromkeys((*RELATIONS, *INTEGER_RELATIONS), 3), "to_integer": 4, "round_bf16": 4,
    "reduce_max": 3, "reduce_min": 3, "reduce_argmax": 6, "reduce_argmin": 6,
}  # fmt: skip
"""Vector registers that an operation needs besides operands and result, at most over the ISAs; else 0."""

WEIGHT = {
    "exp": 16, "log": 24, "tanh": 20, "sigmoid": 20, "erf": 45, "elu": 20, "silu": 22, "gelu": 20,
    "gelu_tanh": 20, "leaky_relu": 2, "clamp": 2, "sqrt": 8, "rsqrt": 12, "reciprocal": 5, "div": 5,
    "round_bf16": 8, "to_integer": 4, "imul": 2, "wrap8": 2,
}  # fmt: skip
"""About how many additions an operation counts as; else 1. For deciding what to unroll, not for a result."""


@dataclass(frozen=True)
class Input:
    """The element of input number `index`."""

    index: int


@dataclass(frozen=True)
class Constant:
    """The same number for every element. Compared by bits: 0 and -0 differ, and NaN is NaN.

    is_integer: one of 32 bits, not a number of the element type."""

    value: float = field(compare=False)
    is_integer: bool = False
    bits: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", struct.pack("<d", self.value))

    @property
    def integer(self) -> int:
        """The 32 bits of an integer, as an unsigned one."""
        return int(self.value) & 0xFFFF_FFFF


@dataclass(frozen=True)
class Apply:
    """An operation of OPERATIONS on earlier nodes; parameters as in FUNCTIONS."""

    op: str
    operands: tuple[int, ...]
    parameters: tuple[float, ...] = ()


Node = Input | Constant | Apply


@dataclass(frozen=True)
class Expression:
    """Nodes, each after its operands, and which of them are the outputs, in order.

    ValueError: an operand that does not come earlier, an unknown operation, a wrong count of operands or
    parameters, no output, or more than MOST_NODES nodes."""

    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.nodes) > MOST_NODES:
            raise ValueError(f"expression: {len(self.nodes)} nodes, expected at most {MOST_NODES}; split it")
        for at, node in enumerate(self.nodes):
            if isinstance(node, Apply):
                _check(at, node)
            elif isinstance(node, Input) and node.index < 0:
                raise ValueError(f"expression: node {at}: input {node.index}, expected 0 or more")
        if not self.outputs or not all(0 <= output < len(self.nodes) for output in self.outputs):
            raise ValueError(
                f"expression: outputs {self.outputs}, expected one at least, each from 0 to "
                f"{len(self.nodes) - 1}"
            )

    @property
    def inputs(self) -> frozenset[int]:
        """The numbers of the inputs that nodes name."""
        return frozenset(node.index for node in self.nodes if isinstance(node, Input))

    def is_reduction(self, at: int) -> bool:
        node = self.nodes[at]
        return isinstance(node, Apply) and node.op in REDUCTIONS

    @property
    def reduces(self) -> bool:
        return any(map(self.is_reduction, range(len(self.nodes))))

    @property
    def has_integers(self) -> bool:
        """Whether it needs lanes of 32 bits."""
        return any(isinstance(node, Apply) and node.op in ON_32_BITS for node in self.nodes)

    @property
    def gives_integers(self) -> bool:
        """Whether some output is an integer's bits, and none a number that may be NaN."""
        ops = {node.op if isinstance(node := self.nodes[at], Apply) else "" for at in self.outputs}
        return ops <= INTEGER_RESULTS

    def operands(self, node: int) -> tuple[int, ...]:
        of = self.nodes[node]
        return of.operands if isinstance(of, Apply) else ()

    def along_row(self, spread: Collection[int]) -> tuple[bool, ...]:
        """For each node, whether it differs along the row, where the inputs `spread` do not."""
        differs: list[bool] = []
        for node in self.nodes:
            if isinstance(node, Apply):
                differs.append(node.op not in REDUCTIONS and any(differs[x] for x in node.operands))
            else:
                differs.append(isinstance(node, Input) and node.index not in spread)
        return tuple(differs)

    def held_along_row(self, wanted: Collection[int], spread: Collection[int]) -> tuple[int, ...]:
        """The nodes, no constants, that are the same all along a row and used by others, or wanted."""
        differs = self.along_row(spread)
        used = {*wanted}.union(*(self.operands(at) for at in range(len(self.nodes)) if differs[at]))
        return tuple(
            at for at in sorted(used) if not differs[at] and not isinstance(self.nodes[at], Constant)
        )

    def inputs_of(self, wanted: Collection[int]) -> frozenset[int]:
        """The numbers of the inputs that nodes depend on."""
        needed, inputs = {*wanted}, set()
        for at in range(len(self.nodes) - 1, -1, -1):
            node = self.nodes[at]
            if at in needed:
                needed.update(self.operands(at))
                if isinstance(node, Input):
                    inputs.add(node.index)
        return frozenset(inputs)

    def weight(self) -> int:
        """About how many additions all nodes count as."""
        return sum(WEIGHT.get(node.op, 1) for node in self.nodes if isinstance(node, Apply))

    def __str__(self) -> str:
        return (
            "; ".join(f"%{at} = {_text(node)}" for at, node in enumerate(self.nodes))
            + " -> "
            + ", ".join(f"%{output}" for output in self.outputs)
        )


def _check(at: int, node: Apply) -> None:
    if node.op not in OPERATIONS:
        raise ValueError(
            f"expression: node {at}: operation {node.op!r}, expected one of {', '.join(OPERATIONS)}"
        )
    if len(node.operands) != OPERATIONS[node.op]:
        count = len(node.operands)
        raise ValueError(
            f"expression: node {at}: {node.op} of {count} operands, expected {OPERATIONS[node.op]}"
        )
    if not all(0 <= operand < at for operand in node.operands):
        raise ValueError(f"expression: node {at}: operands {node.operands}, expected earlier nodes")
    if len(node.parameters) != FUNCTIONS.get(node.op, 0):
        raise ValueError(
            f"expression: node {at}: {node.op} with {len(node.parameters)} parameters, expected "
            f"{FUNCTIONS.get(node.op, 0)}"
        )


def _text(node: Node) -> str:
    if isinstance(node, Input):
        return f"input {node.index}"
    if isinstance(node, Constant):
        return repr(node.value)
    parameters = f" {node.parameters}" if node.parameters else ""
    return f"{node.op} " + ", ".join(f"%{operand}" for operand in node.operands) + parameters


class Builder:
    """Writes an expression node by node; each method returns a node's number. Equal nodes are one."""

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._known: dict[Node, int] = {}

    def input(self, index: int) -> int:
        return self._add(Input(index))

    def constant(self, value: float) -> int:
        return self._add(Constant(value))

    def integer(self, value: int) -> int:
        """A constant of 32 bits."""
        return self._add(Constant(float(value), is_integer=True))

    def apply(self, op: str, *operands: int, parameters: tuple[float, ...] = ()) -> int:
        """An operation of OPERATIONS. Of `max` and `min` a constant operand comes first, whose NaN need not
        be looked for."""
        if op in ("max", "min") and len(operands) == 2 and isinstance(self._nodes[operands[1]], Constant):
            operands = operands[::-1]
        return self._add(Apply(op, operands, parameters))

    @property
    def nodes(self) -> tuple[Node, ...]:
        """What was written so far."""
        return tuple(self._nodes)

    def done(self, *outputs: int) -> Expression:
        """The expression. Nodes that no output needs are left out."""
        needed = set(outputs)
        for at in range(len(self._nodes) - 1, -1, -1):
            node = self._nodes[at]
            if at in needed and isinstance(node, Apply):
                needed.update(node.operands)
        number = {at: new for new, at in enumerate(sorted(needed))}
        nodes = tuple(
            Apply(node.op, tuple(number[x] for x in node.operands), node.parameters)
            if isinstance(node, Apply)
            else node
            for node in (self._nodes[at] for at in number)
        )
        return Expression(nodes, tuple(number[output] for output in outputs))

    def _add(self, node: Node) -> int:
        at = self._known.get(node)
        if at is None:
            at = self._known[node] = len(self._nodes)
            self._nodes.append(node)
        return at


@dataclass(frozen=True)
class Evaluation:
    """order: the nodes to compute, each after its operands. uses: how often each is used, as an operand or
    by whoever wanted it. fused: relations that exist only as the mask of the one select that uses them.
    registers: the most vectors alive at a time, temporaries included, at most."""

    order: tuple[int, ...]
    uses: dict[int, int]
    fused: frozenset[int]
    registers: int


def evaluate_in_order(e: Expression, wanted: tuple[int, ...], known: Collection[int] = ()) -> Evaluation:
    """How to compute the nodes `wanted`, where those `known` are in registers of their own already.

    Constants are operands and take no register; an input that is used once is read where it is used."""
    uses = _uses(e, wanted, known)
    fused = frozenset(
        node.operands[0]
        for node in e.nodes
        if isinstance(node, Apply)
        and node.op == "select"
        and uses.get(node.operands[0]) == 1
        and node.operands[0] not in known
        and _op(e, node.operands[0]) in FUSED_RELATIONS
    )
    need = _needs(e, uses, known, fused)
    order: list[int] = []
    seen = {*known}
    for node in wanted:
        _visit(e, node, need, seen, fused, order)
    order = [x for x in order if not _read_where_used(e, x, uses)]
    return Evaluation(tuple(order), uses, fused, _most_alive(e, order, uses, known, fused))


def _op(e: Expression, at: int) -> str:
    node = e.nodes[at]
    return node.op if isinstance(node, Apply) else ""


def _uses(e: Expression, wanted: tuple[int, ...], known: Collection[int]) -> dict[int, int]:
    uses: dict[int, int] = {}
    for node in wanted:
        uses[node] = uses.get(node, 0) + 1
    for at in range(len(e.nodes) - 1, -1, -1):
        if at in uses and at not in known:
            for operand in e.operands(at):
                uses[operand] = uses.get(operand, 0) + 1
    return uses


def _needs(e: Expression, uses: dict[int, int], known: Collection[int], fused: frozenset[int]) -> list[int]:
    """Sethi and Ullman's number of each node: the registers its tree needs."""
    needs: list[int] = []
    for at, node in enumerate(e.nodes):
        if at not in uses or at in known or isinstance(node, Constant):
            needs.append(0)
        elif isinstance(node, Input):
            needs.append(1)
        else:
            of = sorted((needs[x] for x in _leaves(e, at, fused)), reverse=True)
            needs.append(
                max([held + need for held, need in enumerate(of)] + [1 + TEMPORARIES.get(node.op, 0)])
            )
    return needs


def _leaves(e: Expression, at: int, fused: frozenset[int]) -> Iterator[int]:
    """A node's operands; in place of a fused relation, that one's."""
    for operand in e.operands(at):
        if operand in fused:
            yield from e.operands(operand)
        else:
            yield operand


def _visit(
    e: Expression, wanted: int, need: list[int], seen: set[int], fused: frozenset[int], order: list[int]
) -> None:
    """Append what `wanted` needs and is not seen yet, operands first, those that need most before others."""
    to_do = [(wanted, False)]
    while to_do:
        node, operands_done = to_do.pop()
        if operands_done:
            order.append(node)
        elif node not in seen and not isinstance(e.nodes[node], Constant):
            seen.add(node)
            to_do.append((node, True))
            operands = sorted(_leaves(e, node, fused), key=lambda x: need[x])
            to_do.extend((operand, False) for operand in operands)


def _read_where_used(e: Expression, node: int, uses: dict[int, int]) -> bool:
    return isinstance(e.nodes[node], Input) and uses[node] == 1


def _most_alive(
    e: Expression, order: list[int], uses: dict[int, int], known: Collection[int], fused: frozenset[int]
) -> int:
    """Follow the registers through the order. Inputs read where they are used count as operands there."""
    left = dict(uses)
    alive = most = 0
    for at in order:
        operands = list(_leaves(e, at, fused))
        read = sum(_read_where_used(e, x, uses) and x not in known for x in set(operands))
        spread = (
            sum(isinstance(e.nodes[x], Constant) for x in operands) if _op(e, at) in _TAKES_VECTORS else 0
        )
        most = max(most, alive + 1 + read + spread + TEMPORARIES.get(_op(e, at), 0))
        for x in operands:
            left[x] -= 1
            own = x not in known and not isinstance(e.nodes[x], Constant)
            if left[x] == 0 and own and not _read_where_used(e, x, uses):
                alive -= 1
        alive += 1
    return most


FUSED_RELATIONS = {**RELATIONS, **INTEGER_RELATIONS}

_TAKES_VECTORS = frozenset({"select", *RELATIONS, *INTEGER_RELATIONS, *INTEGERS, "and", "or"})
"""Operations that may have to put a constant operand into a register."""


def rounded(value: float, dtype: str) -> float:
    """A constant as the element type has it."""
    if dtype == "f32" and math.isfinite(value):
        try:
            return float(struct.unpack("<f", struct.pack("<f", value))[0])
        except OverflowError:
            return math.copysign(math.inf, value)
    return value
