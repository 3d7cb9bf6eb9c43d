"""What a program is made of: values, ops, blocks, functions, modules. All frozen.

    Module     named functions, and schedules beside them
    Function   a name and a block; the block's parameters are the inputs, its `return` has the outputs
    Block      parameters, and ops of which the last (return, yield) hands values out
    Op         a row of the table (ir/table.py) applied to values
    Value      what an op or a block defines, once; it is its identity that counts

A pass makes new ops and keeps the values: an op with other operands defines the same values. So replacing a
value is a substitution, and nothing needs a list of uses. Names are unique in a function, nested blocks
included; the text and its schedule refer to values by them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from neurojit.errors import Span
from neurojit.ir.numbers import to_element
from neurojit.ir.types import Array, TensorType

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.$]{0,254}|[0-9]{1,20}")
"""What a value may be called, without the leading %. Modules and functions begin with no digit."""
MOST_NESTING = 16
"""Blocks inside one another, the function's not counted."""


@dataclass(frozen=True, eq=False)
class Dense:
    """The value of a constant: a read-only array in the interpreter's dtype, of exactly the type's shape.
    bf16 is held as float32 numbers."""

    type: TensorType
    array: Array

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dense) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def key(self) -> tuple[TensorType, bytes]:
        return self.type, self.array.tobytes()

    @classmethod
    def of(cls, array: Any, element: str) -> Dense:
        """`array` rounded to an element type. ValueError: a shape no tensor has."""
        kept: Array = np.array(to_element(np.asarray(array), element), order="C")
        kept.flags.writeable = False
        return cls(TensorType(kept.shape, element), kept)


Attribute = bool | int | float | str | tuple[int, ...] | Dense


@dataclass(frozen=True, eq=False)
class Value:
    name: str
    type: TensorType

    def __str__(self) -> str:
        return f"%{self.name}"


@dataclass(frozen=True, eq=False)
class Op:
    """name: a row of the table. attributes: complete, defaults included. span: where it was written."""

    name: str
    operands: tuple[Value, ...] = ()
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    results: tuple[Value, ...] = ()
    regions: tuple[Block, ...] = ()
    span: Span | None = None
    fits: bool = field(default=False, init=False, repr=False)
    """Whether it is known to fit its row. An op never changes, so nobody need ask twice."""

    def found_to_fit(self) -> Op:
        """The op, which has been held against its row: results are what the row makes of the operands."""
        object.__setattr__(self, "fits", True)
        return self

    @property
    def result(self) -> Value:
        """The one result of an op that has one."""
        (result,) = self.results
        return result

    def __str__(self) -> str:
        results = ", ".join(map(str, self.results))
        operands = ", ".join(map(str, self.operands))
        return f"{results} = {self.name}({operands})" if results else f"{self.name}({operands})"


@dataclass(frozen=True, eq=False)
class Block:
    parameters: tuple[Value, ...]
    ops: tuple[Op, ...]

    @property
    def terminator(self) -> Op:
        return self.ops[-1]

    @property
    def body(self) -> tuple[Op, ...]:
        """The ops without the terminator."""
        return self.ops[:-1]

    def walk(self) -> Iterator[Op]:
        """Every op, those of nested blocks after the op that holds them."""
        for op in self.ops:
            yield op
            for region in op.regions:
                yield from region.walk()


@dataclass(frozen=True, eq=False)
class Function:
    name: str
    block: Block

    @property
    def parameters(self) -> tuple[Value, ...]:
        return self.block.parameters

    @property
    def outputs(self) -> tuple[Value, ...]:
        return self.block.terminator.operands

    @cached_property
    def weights(self) -> dict[str, TensorType]:
        """name -> type of each weight, in the order of first use."""
        return self._named("weight")

    @cached_property
    def states(self) -> dict[str, TensorType]:
        """name -> type of each buffer that persists between calls."""
        reads = self._named("state_read")
        writes = {
            str(op.attributes["name"]): op.operands[0].type
            for op in self.block.walk()
            if op.name == "state_write"
        }
        return {**reads, **writes}

    @cached_property
    def asserts(self) -> tuple[Op, ...]:
        """The asserts in the order of the text; a call that fails number i returns i + 1."""
        return tuple(op for op in self.block.walk() if op.name == "assert")

    def _named(self, kind: str) -> dict[str, TensorType]:
        found: dict[str, TensorType] = {}
        for op in self.block.walk():
            if op.name == kind:
                found.setdefault(str(op.attributes["name"]), op.result.type)
        return found


@dataclass(frozen=True)
class Step:
    """One step of a schedule: how an op is computed. kind: a row of STEPS (ir/schedule.py). op: the name of
    what the op defines. places: where each parameter was written."""

    kind: str
    op: str
    parameters: Mapping[str, Attribute]
    span: Span | None = field(default=None, compare=False)
    places: Mapping[str, Span] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class ScheduleText:
    """The schedule region of one function. It says how, and can change nothing of what is computed."""

    function: str
    steps: tuple[Step, ...]
    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True, eq=False)
class Module:
    """functions: at least one; the first is the entry. schedules: at most one for each function."""

    name: str
    functions: tuple[Function, ...]
    schedules: tuple[ScheduleText, ...] = ()

    @property
    def main(self) -> Function:
        return self.functions[0]

    def function(self, name: str) -> Function:
        """KeyError: no function of that name."""
        for function in self.functions:
            if function.name == name:
                return function
        raise KeyError(f"function {name!r}: expected one of {', '.join(f.name for f in self.functions)}")

    def schedule(self, function: str) -> ScheduleText:
        """The schedule of a function, without steps if the module has none."""
        return next((s for s in self.schedules if s.function == function), ScheduleText(function, ()))

    @property
    def text(self) -> str:
        """The module as text; `parse` gives the same module back."""
        from neurojit.ir.printer import print_module

        return print_module(self)

    def with_function(self, changed: Function) -> Module:
        """The same module with the function of that name exchanged."""
        functions = tuple(changed if f.name == changed.name else f for f in self.functions)
        return replace(self, functions=functions)
