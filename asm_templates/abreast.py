"""Several vectors abreast: a machine whose vectors are groups, so that all of them are computed at once.

Functions are long chains of steps, each waiting for the one before; a core that looks ahead overlaps what
comes next, but not far enough to fill its pipes. So each step is emitted for every vector of a group, one
after the other, before the next step: as many chains run side by side, and a constant that they share is
loaded once. Whoever emits (`expression`, `math`) need not know: it is given this in the place of the machine,
and groups in the place of vectors. Bits are the same, since each vector goes through the same steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neurojit.asm_templates.arithmetic import Mask, Pointer, Vector
from neurojit.asm_templates.machine import Machine

SHARED = frozenset(
    {"add", "sub", "mul", "div", "max", "min", "add_product", "sub_product", "mul_add", "negated_mul_add"}
)
"""Steps whose constant may come from a register."""


class Group(Vector):  # type: ignore[misc]  # final for machines, which never see a group
    """Vectors of equal lanes. Its register is those of all, to be exchanged with another group's."""

    __slots__ = ("members",)

    def __init__(self, members: Sequence[Vector]) -> None:
        self.members = members
        self.lanes, self.width = members[0].lanes, members[0].width

    @property
    def register(self) -> Any:
        return [member.register for member in self.members]

    @register.setter
    def register(self, registers: Any) -> None:
        for member, register in zip(self.members, registers, strict=True):
            member.register = register


class Masks(Mask):
    """A mask for each vector of a group."""

    __slots__ = ("members",)

    def __init__(self, members: Sequence[Mask]) -> None:
        self.members = members


class Abreast:
    """The machine `m` for groups of `count` vectors, whose elements lie one vector behind the other.

    A vector that is the same for all of a group stands for itself, and is never written."""

    def __init__(self, m: Machine, count: int) -> None:
        self.m, self.count = m, count

    def _places(self, lanes: int, offset: int) -> list[int]:
        return [offset + number * lanes * self.m.element.size for number in range(self.count)]

    def load(self, lanes: int, pointer: Pointer, offset: int) -> Group:
        return Group([self.m.load(lanes, pointer, at) for at in self._places(lanes, offset)])

    def vector(self, lanes: int, pointer: Pointer, offset: int, uses: int) -> Group:
        return self.load(lanes, pointer, offset)

    def store(self, vector: Vector, pointer: Pointer, offset: int) -> None:
        for number, at in enumerate(self._places(vector.lanes, offset)):
            self.m.store(vector.members[number] if isinstance(vector, Group) else vector, pointer, at)

    def view(self, vector: Vector, lanes: int) -> Vector:
        if not isinstance(vector, Group):
            return self.m.view(vector, lanes)
        return Group([self.m.view(member, lanes) for member in vector.members])

    def drop(self, *operands: Any) -> None:
        for operand in operands:
            if isinstance(operand, Group):
                self.m.drop(*operand.members)

    def drop_mask(self, masks: Masks) -> None:
        for mask in masks.members:
            self.m.drop_mask(mask)

    def __getattr__(self, name: str) -> Any:
        """Any other step, once for each vector; or what else the machine has."""
        step = getattr(self.m, name)
        if not callable(step):
            return step

        def of_all(*operands: Any, into: Group | None = None) -> Any:
            shared = self._shared(name, operands)
            made = []
            for number in range(self.count):
                of_one = [x.members[number] if isinstance(x, Group | Masks) else x for x in shared]
                made.append(step(*of_one, **({} if into is None else {"into": into.members[number]})))
            for given, taken in zip(operands, shared, strict=True):
                if taken is not given:
                    self.m.drop(taken)
            return _whole(made, (into, *operands))

        return of_all

    def _shared(self, name: str, operands: Sequence[Any]) -> Sequence[Any]:
        """The operands; a constant that each instruction would load is in a register, for all of them."""
        if name not in SHARED or not self.m.loads_constants:
            return operands
        lanes = next(x.lanes for x in operands if isinstance(x, Vector))
        return [self.m.spread(lanes, x) if isinstance(x, float) else x for x in operands]


def _whole(made: list[Any], operands: Sequence[Any]) -> Any:
    """What a step gave for each vector as a group: that operand, if these are its vectors."""
    if made[0] is None:
        return None
    if isinstance(made[0], Mask):
        return Masks(made)
    for operand in operands:
        if isinstance(operand, Group) and all(map(lambda x, y: x is y, made, operand.members)):
            return operand
    return Group(made)
