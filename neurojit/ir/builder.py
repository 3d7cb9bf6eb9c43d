"""Building a function from Python: every op of the table is a method.

    b = Builder("main")
    x = b.parameter("x", "tensor<?x64xf32>")
    w = b.weight(name="w", type="tensor<64x8xf32>")
    y = b.softmax(b.matmul(x, w), axis=-1, result="y")
    module = Module("policy", (b.build(y),))

Operands may be values or numbers, which become constants of the other operands' element type. Negative axes
count from the end. `result` names what the op defines (several: a tuple of names); names are made unique. An
op that does not fit raises TensorLangError with the line of Python that asked for it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from neurojit import errors as neurojit_errors
from neurojit.errors import Diagnostic, Span, TensorLangError
from neurojit.ir.rules import MisfitError
from neurojit.ir.structure import NAME, Block, Dense, Function, Op, Value
from neurojit.ir.table import OPS, Row, complete, did_you_mean, infer, row_named
from neurojit.ir.types import TensorType, parse_type

_LIBRARIES = tuple(f"{Path(file).parent}{os.sep}" for file in (neurojit_errors.__file__, np.__file__))

Operand = Value | bool | int | float


class Builder:
    """See the module's head. One function; not for several threads at once."""

    def __init__(self, name: str = "main") -> None:
        self.name = name
        self._parameters: list[Value] = []
        self._blocks: list[list[Op]] = [[]]
        self._names: set[str] = set()
        self._next = 0

    def parameter(self, name: str, type: TensorType | str) -> Value:
        """An input of the function, after those before it."""
        value = Value(self._unique(name), _as_type(type))
        self._parameters.append(value)
        return value

    def constant(self, value: Any, dtype: str = "f32", result: str = "") -> Value:
        """Numbers that stand in the text: for small arrays; large ones are weights."""
        return self.op("constant", value=Dense.of(value, dtype), result=result)

    def op(
        self,
        op: str,
        /,
        *operands: Operand,
        type: TensorType | str | None = None,
        result: str = "",
        **attributes: Any,
    ) -> Value:
        """The value that an op of one result defines. type: that of a weight or a state."""
        made = self._append(op, operands, attributes, (), type, (result,))
        return made.results[0] if len(made.results) == 1 else _NOTHING

    def __getattr__(self, name: str) -> Callable[..., Value]:
        name = name.rstrip("_")  # b.and_, b.or_, b.not_, b.assert_
        if name.startswith("_") or name not in OPS:
            raise AttributeError(f"op {name!r}: {did_you_mean(name, OPS) or 'no such op'}")
        return lambda *operands, **attributes: self.op(name, *operands, **attributes)

    def scan(
        self,
        body: Callable[..., tuple[Sequence[Value], Sequence[Value]]],
        carried: Sequence[Value] = (),
        inputs: Sequence[Value] = (),
        length: int = -1,
        reverse: bool = False,
        result: Sequence[str] = (),
    ) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
        """A loop: body(*carried, *one slice of each input) -> (what is carried on, outputs of the step).

        Gives (what was carried last, the outputs stacked behind the step). `body` builds with this Builder
        and may use any value made before. length: steps, where there are no inputs. reverse: from the last
        slice to the first; outputs keep the place of their input."""
        for value in inputs:
            if not value.type.rank:
                message = "an input of a scan"
                raise TensorLangError(
                    [Diagnostic(calling_line(), message, "a leading axis", str(value.type))]
                )
        parameters = [Value(self._unique(value.name), value.type) for value in carried]
        for value in inputs:
            slice_type = TensorType(value.type.shape[1:], value.type.element)
            parameters.append(Value(self._unique(value.name), slice_type))
        with self._block() as ops:
            onward, outputs = body(*parameters)
            self._append("yield", (*onward, *outputs), {}, (), None, ())
        block = Block(tuple(parameters), tuple(ops))
        attributes = {"carried": len(carried), "length": length, "reverse": reverse}
        made = self._append("scan", (*carried, *inputs), attributes, (block,), None, tuple(result))
        return made.results[: len(carried)], made.results[len(carried) :]

    def build(self, *outputs: Value) -> Function:
        """The function that returns `outputs`. The builder is spent after it."""
        self._append("return", outputs, {}, (), None, ())
        return Function(self.name, Block(tuple(self._parameters), tuple(self._blocks.pop())))

    @contextmanager
    def _block(self) -> Iterator[list[Op]]:
        self._blocks.append([])
        try:
            yield self._blocks[-1]
        finally:
            self._blocks.pop()

    def _append(
        self,
        name: str,
        operands: Sequence[Operand],
        attributes: dict[str, Any],
        regions: tuple[Block, ...],
        type: TensorType | str | None,
        names: tuple[str, ...],
    ) -> Op:
        span = calling_line()
        try:
            row = row_named(name)
            values = self._values(row, operands)
            attributes = complete(row, _counted_from_front(attributes, values))
            declared = None if type is None else (_as_type(type),)
            types = infer(row, tuple(value.type for value in values), attributes, regions, declared)
        except MisfitError as misfit:
            message = f"{name}: {misfit.message}"
            raise TensorLangError(
                [Diagnostic(span, message, misfit.expected, misfit.got, misfit.hint)]
            ) from None
        hints = [*names, *[""] * len(types)][: len(types)]
        if name == "weight" and not hints[0]:
            hints[0] = re.sub(r"[^A-Za-z0-9_.$]", "_", str(attributes["name"]))
        results = tuple(Value(self._unique(hint), type_) for hint, type_ in zip(hints, types, strict=True))
        op = Op(name, tuple(values), attributes, results, regions, span).found_to_fit()
        self._blocks[-1].append(op)
        return op

    def _values(self, row: Row, operands: Sequence[Operand]) -> list[Value]:
        """Numbers become constants of the element type that the row or the other operands ask for."""
        if all(isinstance(operand, Value) for operand in operands):
            return list(operands)  # type: ignore[arg-type]
        own = [row.element_of(number) for number in range(len(operands))]
        common = [
            operand.type.element
            for operand, element in zip(operands, own, strict=True)
            if isinstance(operand, Value) and not element
        ]
        return [
            operand
            if isinstance(operand, Value)
            else self.constant(operand, element or (common[0] if common else "f32"))
            for operand, element in zip(operands, own, strict=True)
        ]

    def _unique(self, hint: str) -> str:
        """A name no value of this function has yet: the hint, or with a number after it."""
        if hint and NAME.fullmatch(hint) is None:
            raise ValueError(f"name {hint!r}: expected letters, digits, _ . $, no digit first")
        if not hint or (hint.isdigit() and hint in self._names):
            while str(self._next) in self._names:
                self._next += 1
            hint = str(self._next)
        hint = hint[:200]
        name, number = hint, 0
        while name in self._names:
            number += 1
            name = f"{hint}_{number}"
        self._names.add(name)
        return name


_NOTHING = Value("nothing", TensorType(()))
"""What an op without results gives; using it is found by the verifier."""


def _as_type(type: TensorType | str) -> TensorType:
    return parse_type(type) if isinstance(type, str) else type


def _counted_from_front(attributes: dict[str, Any], operands: list[Value]) -> dict[str, Any]:
    """Negative axes as the ones they mean."""
    if not attributes:
        return attributes
    rank = operands[0].type.rank if operands else 0
    counted = dict(attributes)
    for name in ("axis", "axes", "permutation"):
        given = counted.get(name)
        if isinstance(given, int) and name == "axis":
            counted[name] = given + rank if given < 0 else given
        elif isinstance(given, (int, tuple, list)):
            items = [given] if isinstance(given, int) else list(given)
            items = [item + rank if isinstance(item, int) and item < 0 else item for item in items]
            counted[name] = tuple(sorted(items) if name == "axes" else items)
    return counted


def calling_line() -> Span | None:
    """The line of Python, outside this package and NumPy, that asked for the op."""
    frame = sys._getframe(1)
    while frame is not None:
        if not frame.f_code.co_filename.startswith(_LIBRARIES):
            return Span(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back  # type: ignore[assignment]
    return None
