"""What passes share: a walk over a function that replaces ops and values.

A pass looks at one op after another, in order, with its operands already replaced, and gives the ops that
stand in its place, or None. Ops are frozen and keep the values they define, so replacing a value is an entry
in a map. A block that stays as it was is handed out as the same object, and so is a function: that is how the
pipeline knows that nothing changed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

from neurojit.errors import Span
from neurojit.ir.structure import Attribute, Block, Dense, Function, Op, Value
from neurojit.ir.table import OPS, complete, infer


class Pass(Protocol):
    """A small frozen value: valid IR in, valid IR out. `name` is how dumps call it."""

    @property
    def name(self) -> str: ...

    def run(self, function: Function) -> Function:
        """The function after the pass; the same object if it found nothing to do."""
        ...


class Rewriter(ABC):
    """One walk. `visit` is what a pass says about one op: the ops in its place, or None to keep it."""

    looks_at: ClassVar[frozenset[str] | None] = None
    """Names of the ops that are visited; None for all. Most passes have nothing to say about most ops."""

    def __init__(self, function: Function) -> None:
        self.original = function
        self.made: dict[Value, Op] = {}
        """The op that defines a value, as it is after the rewriting so far."""
        self._replaced: dict[Value, Value] = {}
        self._names: set[str] | None = None

    @abstractmethod
    def visit(self, op: Op) -> Sequence[Op] | None: ...

    def run(self) -> Function:
        block = self.block(self.original.block)
        return self.original if block is self.original.block else replace(self.original, block=block)

    def block(self, block: Block) -> Block:
        ops: list[Op] = []
        made, looks_at = self.made, self.looks_at
        for op in block.ops:
            if self._replaced or op.regions:
                op = self._updated(op)
            instead_of_it = self.visit(op) if looks_at is None or op.name in looks_at else None
            for new in (op,) if instead_of_it is None else instead_of_it:
                ops.append(new)
                for value in new.results:
                    made[value] = new
        same = len(ops) == len(block.ops) and all(a is b for a, b in zip(ops, block.ops, strict=True))
        return block if same else Block(block.parameters, tuple(ops))

    def _updated(self, op: Op) -> Op:
        """The op with replaced operands and rewritten regions; itself if neither changes it."""
        if self._replaced and any(operand in self._replaced for operand in op.operands):
            op = replace(op, operands=tuple(self._replaced.get(operand, operand) for operand in op.operands))
        if op.regions:
            regions = tuple(self.block(region) for region in op.regions)
            if any(new is not old for new, old in zip(regions, op.regions, strict=True)):
                op = replace(op, regions=regions)
        return op

    def use(self, op: Op, value: Value) -> Sequence[Op]:
        """No op: what `op` defines is `value`."""
        self._replaced[op.result] = value
        return ()

    def maker(self, value: Value, name: str = "") -> Op | None:
        """The op that defines a value, if it is one of that name."""
        made = self.made.get(value)
        return made if made is not None and (not name or made.name == name) else None

    def constant(self, value: Value) -> Dense | None:
        made = self.maker(value, "constant")
        if made is None:
            return None
        dense = made.attributes["value"]
        assert isinstance(dense, Dense)
        return dense

    def new(
        self, name: str, operands: Iterable[Value], like: Value, span: Span | None, **attributes: Attribute
    ) -> Op:
        """A new op of one result, called as `like` is, with a number after it."""
        row, operands = OPS[name], tuple(operands)
        kept = complete(row, attributes)
        (type_,) = infer(row, tuple(value.type for value in operands), kept)
        return Op(name, operands, kept, (Value(self._fresh(like.name), type_),), (), span)

    def _fresh(self, like: str) -> str:
        if self._names is None:
            block = self.original.block
            self._names = {value.name for value in block.parameters}
            for op in block.walk():
                self._names.update(value.name for value in op.results)
                self._names.update(value.name for region in op.regions for value in region.parameters)
        stem = f"v{like}" if like.isdigit() else like
        number = 1
        while f"{stem}_{number}" in self._names:
            number += 1
        self._names.add(f"{stem}_{number}")
        return f"{stem}_{number}"


def instead(op: Op, name: str, operands: Iterable[Value], **attributes: Any) -> tuple[Op]:
    """An op of another name or operands that defines the same value, of the same type."""
    return (replace(op, name=name, operands=tuple(operands), attributes=complete(OPS[name], attributes)),)


def uses_of(function: Function) -> dict[Value, int]:
    """How often each value is used, nested blocks included."""
    uses: dict[Value, int] = {}
    for op in function.block.walk():
        for operand in op.operands:
            uses[operand] = uses.get(operand, 0) + 1
    return uses


@dataclass(frozen=True)
class RewritePass:
    """A pass that is one walk of a Rewriter."""

    name: str
    rewriter: type[Rewriter]

    def run(self, function: Function) -> Function:
        return self.rewriter(function).run()
