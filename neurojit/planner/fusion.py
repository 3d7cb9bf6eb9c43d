"""Fusion: which ops become one kernel.

A `Product` is a matmul with what follows it while that is used once: a bias of one row, a residual, and an
activation, all applied to the tile of accumulators. A `Pointwise` is as many elementwise ops of one shape as
can be computed together: values that only they use stay in registers. Every other op is a kernel, or a view,
by itself (`Single`).

Ops join the group of an operand unless a path from that group leads to them through another group: then the
two groups could not follow each other. Such paths are found with sets of groups, as bits of integers.

A schedule may say which ops one kernel computes, and which ops a kernel begins with (`fusing`). Where it says
nothing, ops are grouped as without it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from neurojit.ir.rules import spell
from neurojit.ir.structure import Block, Op, Value
from neurojit.ir.table import OPS
from neurojit.plan.epilogue import FUNCTIONS, IDENTITY, Activation
from neurojit.planner.fusing import FREELY, Fusing, Together, refuse
from neurojit.planner.tensors import lanes_of


@dataclass(eq=False)
class Product:
    """result: the value of the last op. bias, residual: the values added. activation: applied at the end."""

    op: Op
    result: Value
    bias: Value | None = None
    residual: Value | None = None
    activation: Activation = IDENTITY
    ops: list[Op] = field(default_factory=list)


@dataclass(eq=False)
class Pointwise:
    """Elementwise ops of one result shape, in order. outputs: their values that are needed outside."""

    ops: list[Op]
    outputs: list[Value] = field(default_factory=list)

    @property
    def element(self) -> str:
        """The lanes that its ops compute in, f32 or f64: of f32 too for bf16, integers, and where there is
        nothing but truth, which is 1 or 0 of either."""
        return next(iter({lanes for op in self.ops for lanes in lanes_of_op(op)}), "f32")

    def takes(self, op: Op) -> bool:
        """Whether another op has its shape and lanes."""
        alike = {lanes for inside in (*self.ops, op) for lanes in lanes_of_op(inside)}
        return len(alike) <= 1 and self.ops[0].result.type.shape == op.result.type.shape


@dataclass(eq=False)
class Single:
    op: Op

    @property
    def ops(self) -> list[Op]:
        return [self.op]


Group = Product | Pointwise | Single

SOURCES = ("constant", "weight", "state_read")
"""Ops whose results lie in memory before the call."""
MOST_FUSED = 64


def group(block: Block, most: int = MOST_FUSED, fusing: Fusing = FREELY) -> list[Group]:
    """The block's ops as groups, each after those it depends on; sources and the terminator are in none.

    most: elementwise ops in one group; of 0, nothing is fused but what a schedule says. TensorLangError: a
    step of the schedule that no kernel obeys."""
    uses = count_uses(block)
    users: dict[Value, list[Op]] = {}
    for op in block.ops:
        for operand in op.operands:
            users.setdefault(operand, []).append(op)
    made_here = {value for op in block.body if op.name not in SOURCES for value in op.results}
    given = {value for op in block.ops for value in op.operands} - made_here
    groups = _Groups(given, {id(op): place for place, op in enumerate(block.ops)})
    scheduled = fusing.in_block(block)
    for op in block.body:
        if op.name in SOURCES or groups.has(op):
            continue
        together = scheduled.get(id(op))
        if together is not None and together.is_product:
            if op is together.ops[-1]:  # all that the epilogue reads is there
                groups.open(_scheduled_product(together, uses, users, groups, fusing))
        elif together is not None:
            groups.join_scheduled(op, together)
        elif op.name == "matmul":
            fused = most and _product(op, uses, users, groups, fusing)
            groups.open(fused or Product(op, op.result, ops=[op]))
        elif OPS[op.name].lowering != "map" or len(lanes_of_op(op)) > 1:
            groups.open(Single(op))
        elif not fusing.is_free(op):
            groups.open_alone(op)
        elif not groups.join(op, most):
            groups.open(Pointwise([op]))
    for made in groups.made:
        if isinstance(made, Pointwise) and made.ops:
            inside = Counter(operand for op in made.ops for operand in op.operands)
            made.outputs = [op.result for op in made.ops if uses[op.result] > inside[op.result]]
    return groups.in_order()


def count_uses(block: Block) -> Counter[Value]:
    """How often each value is used, in nested blocks too."""
    return Counter(operand for op in block.walk() for operand in op.operands)


def _product(
    op: Op,
    uses: Counter[Value],
    users: dict[Value, list[Op]],
    groups: _Groups,
    fusing: Fusing,
    together: Sequence[Op] = (),
) -> Product:
    """The matmul, and what follows it as far as its epilogue goes and nobody says otherwise."""
    product = Product(op, op.result, ops=[op])
    if op.operands[1].type.rank != 2 or op.result.type.element not in ("f32", "f64"):
        return product  # many products, or sums that are rounded first: what follows is no epilogue of one
    if op.operands[0].type.is_dynamic and not op.result.type.is_dynamic:
        return product  # of which each part of the rows is a summand
    while uses[product.result] == 1 and product.activation == IDENTITY and users.get(product.result):
        (user,) = users[product.result]
        if user not in together and not fusing.is_free(user):
            break
        if user.name == "add":
            left, right = user.operands
            other = right if left is product.result else left
            if not groups.is_known(other) or not _add(product, other):
                break
        elif user.name in FUNCTIONS and not is_degenerate(user):
            product.activation = activation_of(user)
        else:
            break
        product.ops.append(user)
        product.result = user.result
    return product


def is_degenerate(op: Op) -> bool:
    """Whether it is a clamp whose low limit is above the high one, or a leaky_relu of 0, which is NaN where
    its argument is infinite: functions that kernels have not, and that are selections instead."""
    if op.name == "leaky_relu":
        return not op.attributes["alpha"]
    return op.name == "clamp" and bool(op.attributes["low"] > op.attributes["high"])  # type: ignore[operator]


def _scheduled_product(
    together: Together, uses: Counter[Value], users: dict[Value, list[Op]], groups: _Groups, fusing: Fusing
) -> Product:
    """The matmul with all that a schedule fuses into it."""
    product = _product(together.ops[0], uses, users, groups, fusing, together.ops)
    for op in together.ops:
        if op not in product.ops:
            refuse(
                together.steps[op.result.name],
                f"no epilogue of {product.op.result} has {op}",
                "sums with a row and with a tensor of the product's shape, then one function of one element, "
                "each the only use of the one before",
            )
    return product


def activation_of(op: Op) -> Activation:
    """The function of one element that an op applies."""
    names = (attribute.name for attribute in OPS[op.name].attributes)
    return Activation(op.name, tuple(float(op.attributes[name]) for name in names))  # type: ignore[arg-type]


def _add(product: Product, other: Value) -> bool:
    """Whether the sum fits the epilogue, in which the bias comes before the residual."""
    shape, added = product.result.type.shape, other.type.shape
    one_row = shape[:-1] == (1,) * (len(shape) - 1)
    if len(added) > len(shape):
        return False
    is_row = added[-1:] == shape[-1:] and added[:-1] == (1,) * (len(added) - 1)
    if is_row and product.bias is None:
        product.bias = other
    elif product.residual is None and (added == shape or (is_row and one_row)):
        product.residual = other
    else:
        return False
    return True


class _Groups:
    """Groups in the making, and what each depends on."""

    def __init__(self, given: set[Value], order: dict[int, int]) -> None:
        self.given = given
        self.order = order  # id of an op -> its place in the text
        self.made: list[Group] = []
        self.producer: dict[Value, int] = {}
        self.needs: list[int] = []  # of each group: the bits of those it depends on, directly or not
        self.ops: set[int] = set()  # ids of those that are in a group
        self.fixed: set[int] = set()  # groups that begin as a schedule says: they go into no other
        self.scheduled: dict[int, int] = {}  # ids of ops that a schedule has together -> their group

    def has(self, op: Op) -> bool:
        return id(op) in self.ops

    def is_known(self, value: Value) -> bool:
        """Whether the value is there already: made by an earlier op, or in memory before the call."""
        return value in self.producer or value in self.given

    def open(self, made: Group) -> None:
        number = len(self.made)
        self.made.append(made)
        self.needs.append(0)
        for op in made.ops:
            self._put(op, number)

    def open_alone(self, op: Op) -> None:
        """An elementwise op that a kernel begins with."""
        self.fixed.add(len(self.made))
        self.open(Pointwise([op]))

    def join_scheduled(self, op: Op, together: Together) -> None:
        """Put an elementwise op where a schedule says."""
        number = self.scheduled.get(id(together))
        if number is None:
            self.scheduled[id(together)] = len(self.made)
            self.open_alone(op)
            return
        made, step = self.made[number], together.steps[op.result.name]
        assert isinstance(made, Pointwise)
        if not made.takes(op):
            expected = f"the shape {spell(made.ops[0].result.type.shape)} and elements of one type"
            refuse(step, f"no kernel computes {made.ops[0]} and {op} at once", expected)
        if not self._may_be_one(1 << number, self._needed(op)):
            needs = "another kernel has to run between them; unfuse what that one computes"
            refuse(step, f"no kernel computes {made.ops[0]} and {op} at once", hint=needs)
        made.ops.append(op)
        self._put(op, number)

    def join(self, op: Op, most: int) -> bool:
        """Put an elementwise op into the group of an operand, and make its operands' groups one where they
        fit. False: there is none."""
        candidates = sorted({self.producer[v] for v in op.operands if v in self.producer}, reverse=True)
        home = None
        for number in candidates:
            made = self.made[number]
            if not isinstance(made, Pointwise) or not made.takes(op) or len(made.ops) >= most:
                continue
            if home is None:
                if self._may_be_one(1 << number, self._needed(op)):
                    made.ops.append(op)
                    self._put(op, number)
                    home = number
            elif not {number, home} & self.fixed and self._may_be_one(1 << number | 1 << home, 0):
                into = self.made[home]
                assert isinstance(into, Pointwise)
                if len(into.ops) + len(made.ops) <= most and into.takes(made.ops[0]):
                    self._merge(number, home)
        return home is not None

    def _may_be_one(self, groups: int, needed: int) -> bool:
        """Whether no other group that these would need needs one of them."""
        for number in _bits(groups):
            needed |= self.needs[number]
        return not any(self.needs[other] & groups for other in _bits(needed & ~groups))

    def _merge(self, number: int, into: int) -> None:
        """The ops of one group go to another; the first is empty from then on."""
        one, other = self.made[number], self.made[into]
        assert isinstance(one, Pointwise)
        assert isinstance(other, Pointwise)
        other.ops = sorted(one.ops + other.ops, key=lambda op: self.order[id(op)])
        one.ops = []
        for value, producer in self.producer.items():
            if producer == number:
                self.producer[value] = into
        self.needs[into] = (self.needs[into] | self.needs[number]) & ~(1 << number | 1 << into)
        self.needs[number] = 0
        for later, needs in enumerate(self.needs):
            if needs >> number & 1:
                self.needs[later] = needs & ~(1 << number) | 1 << into
        for later, needs in enumerate(self.needs):
            if needs >> into & 1:
                self.needs[later] |= self.needs[into]

    def _put(self, op: Op, number: int) -> None:
        self.ops.add(id(op))
        added = self._needed(op) & ~(1 << number)
        for other in _bits(added):
            added |= self.needs[other]
        self.needs[number] |= added & ~(1 << number)
        for later in range(len(self.needs)):
            if self.needs[later] >> number & 1:
                self.needs[later] |= self.needs[number]
        for value in op.results:
            self.producer[value] = number

    def _needed(self, op: Op) -> int:
        bits = 0
        for value in _reads(op):
            if value in self.producer:
                bits |= 1 << self.producer[value]
        return bits

    def in_order(self) -> list[Group]:
        """Each group after all that it needs, else in the order of their first ops in the text: so the same
        groups stand in the same order, whoever made them."""
        done, ordered = 0, []
        left = [n for n, made in enumerate(self.made) if made.ops]
        left.sort(key=lambda n: self.order[id(self.made[n].ops[0])])
        while left:
            number = next(n for n in left if not self.needs[n] & ~done)
            left.remove(number)
            done |= 1 << number
            ordered.append(self.made[number])
        return ordered


def lanes_of_op(op: Op) -> set[str]:
    """The lanes that an elementwise op has to do with: none for logic, two for a conversion between them."""
    elements = {value.type.element for value in (*op.operands, op.result)} - {"i1"}
    return {lanes_of(element) for element in elements}


def _reads(op: Op) -> list[Value]:
    """The op's operands, and what its nested blocks use from outside."""
    values = list(op.operands)
    for region in op.regions:
        values += [value for nested in region.walk() for value in nested.operands]
    return values


def _bits(bits: int) -> list[int]:
    found = []
    while bits:
        low = bits & -bits
        found.append(low.bit_length() - 1)
        bits ^= low
    return found
