"""The interpreter: what a function computes, op by op, in NumPy. The oracle for everything emitted.

An op's result is rounded to its element type, and what comes before the rounding is computed in the next
higher precision where the row says `wide`. With `exact`, all float types count as f64: the result nothing was
rounded in, or nearly, which error bounds are measured from.

A state_read gives what the buffer held when the call began, wherever it stands; state_writes take effect
together at the end, and not at all if an assert fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from neurojit.errors import AssertFailedError, Diagnostic, Span, TensorLangError
from neurojit.ir.numbers import to_element
from neurojit.ir.structure import Block, Dense, Function, Op, Value
from neurojit.ir.table import OPS
from neurojit.ir.types import ELEMENTS, FLOATS, Array, TensorType


class Evaluation(NamedTuple):
    """outputs: in the order of the function's return. states: every buffer after the call."""

    outputs: tuple[Array, ...]
    states: dict[str, Array]


def evaluate(
    function: Function,
    inputs: Iterable[Any],
    weights: Mapping[str, Any] | None = None,
    states: Mapping[str, Any] | None = None,
    exact: bool = False,
) -> Evaluation:
    """The function on `inputs`, one array for each parameter.

    weights, states: arrays by name; a state that is not given has its initial value. Arrays have the dtype of
    their element type; bf16 comes as uint16 bits, as ml_dtypes.bfloat16 or as float32, and goes as float32.
    Results have the dtype of their element type, float64 for all floats with `exact`.
    TensorLangError: a weight is missing, a shape or dtype is wrong. AssertFailedError: an assert failed.
    """
    given = list(inputs)
    if len(given) != len(function.parameters):
        raise _error(None, f"inputs of @{function.name}", str(len(function.parameters)), str(len(given)))
    extent = _dynamic_extent(function, given)
    run = _Run(exact, extent, function, weights or {}, states or {})
    for parameter, array in zip(function.parameters, given, strict=True):
        run.values[parameter] = run.hold(array, parameter.type, f"input {parameter}", None)
    with np.errstate(all="ignore"):
        outputs = run.block(function.block)
    if run.failed:
        number = min(run.failed)
        op = function.asserts[number - 1]
        raise AssertFailedError(number, str(op.attributes["text"]), op.span)
    return Evaluation(tuple(outputs), {**run.states, **run.written})


def _dynamic_extent(function: Function, inputs: list[Any]) -> int:
    extents = {
        np.shape(array)[0]: parameter
        for parameter, array in zip(function.parameters, inputs, strict=True)
        if parameter.type.is_dynamic and np.ndim(array)
    }
    if len(extents) > 1:
        (first, one), (second, other) = list(extents.items())[:2]
        message = f"dynamic extents of {one} and {other} differ"
        raise _error(None, message, str(first), str(second), "all ? of a function are one extent")
    return next(iter(extents), 0)


def evaluate_op(op: Op, arrays: list[Array], extent: int = 0, exact: bool = False) -> Array:
    """The result of one op that has a meaning in its row, from its operands as the interpreter holds them."""
    row, element = OPS[op.name], op.result.type.element
    assert row.meaning is not None, op.name
    if row.wide:
        arrays = [
            array.astype(ELEMENTS[_held(value.type.element, exact)].wide)
            if value.type.element in FLOATS
            else array
            for array, value in zip(arrays, op.operands, strict=True)
        ]
    with np.errstate(all="ignore"):
        computed = row.meaning(*arrays, **_plain_attributes(op, arrays, extent))
    return to_element(np.asarray(computed), _held(element, exact))


def _held(element: str, exact: bool) -> str:
    return "f64" if exact and element in FLOATS else element


def _plain_attributes(op: Op, arrays: list[Array], extent: int) -> dict[str, Any]:
    """Floats rounded to the element type and then as precise as the operands, shapes as they are."""
    attributes: dict[str, Any] = dict(op.attributes)
    for name, value in attributes.items():
        if isinstance(value, float):
            rounded = to_element(np.asarray(value), op.operands[0].type.element)
            attributes[name] = arrays[0].dtype.type(rounded)
    if "shape" in attributes:
        attributes["shape"] = op.result.type.static_shape(extent)
    return attributes


def held_as_float32(array: Array) -> Array:
    """bf16 numbers, from their bits or from ml_dtypes."""
    if array.dtype == np.uint16:
        array = (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return array.astype(np.float32)


class _Run:
    """One call: the values known so far."""

    def __init__(
        self,
        exact: bool,
        extent: int,
        function: Function,
        weights: Mapping[str, Any],
        states: Mapping[str, Any],
    ) -> None:
        self.exact, self.extent, self.weights = exact, extent, weights
        self.values: dict[Value, Array] = {}
        self.failed: set[int] = set()
        self.numbers = {id(op): number for number, op in enumerate(function.asserts, 1)}
        initial = {
            str(op.attributes["name"]): op.attributes["initial"]
            for op in function.block.walk()
            if op.name == "state_read"
        }
        self.states: dict[str, Array] = {}
        self.written: dict[str, Array] = {}
        for name, type_ in function.states.items():
            start = states.get(name)
            if start is None:
                filled = np.full(type_.static_shape(0), initial.get(name, 0.0))
                self.states[name] = self.round(filled, type_.element)
            else:
                self.states[name] = self.hold(start, type_, f"state {name!r}", None)

    def held(self, element: str) -> str:
        return _held(element, self.exact)

    def round(self, array: Any, element: str) -> Array:
        return to_element(np.asarray(array), self.held(element))

    def hold(self, array: Any, type_: TensorType, what: str, span: Span | None) -> Array:
        """An array from outside, checked, as this run computes with it."""
        array = np.asarray(array)
        expected = type_.static_shape(self.extent)
        if array.shape != expected:
            raise _error(span, f"{what} has another shape", f"{type_}, {expected} here", str(array.shape))
        dtypes: tuple[str, ...] = (ELEMENTS[type_.element].dtype,)
        if type_.element == "bf16":
            dtypes = ("float32", "uint16", "bfloat16")
            array = held_as_float32(array) if array.dtype.name in dtypes[1:] else array
        if array.dtype.name not in dtypes:
            raise _error(span, f"{what} has another dtype", " or ".join(dtypes), array.dtype.name)
        return self.round(array, type_.element)

    def block(self, block: Block) -> list[Array]:
        for op in block.body:
            results = self.op(op)
            for value, array in zip(op.results, results, strict=True):
                self.values[value] = array
        return [self.values[value] for value in block.terminator.operands]

    def op(self, op: Op) -> list[Array]:
        special = _SPECIAL.get(op.name)
        if special is not None:
            return special(self, op)
        computed = evaluate_op(op, [self.values[operand] for operand in op.operands], self.extent, self.exact)
        return [computed]

    def _constant(self, op: Op) -> list[Array]:
        value = op.attributes["value"]
        assert isinstance(value, Dense)
        return [self.round(value.array, value.type.element)]

    def _weight(self, op: Op) -> list[Array]:
        name = str(op.attributes["name"])
        if name not in self.weights:
            known = ", ".join(self.weights) or "none"
            raise _error(op.span, f"weight {name!r} is not among those given", got=known)
        return [self.hold(self.weights[name], op.result.type, f"weight {name!r}", op.span)]

    def _state_read(self, op: Op) -> list[Array]:
        return [self.states[str(op.attributes["name"])]]

    def _state_write(self, op: Op) -> list[Array]:
        self.written[str(op.attributes["name"])] = self.values[op.operands[0]]
        return []

    def _assert(self, op: Op) -> list[Array]:
        if not self.values[op.operands[0]].all():
            self.failed.add(self.numbers[id(op)])
        return []

    def _scan(self, op: Op) -> list[Array]:
        (block,) = op.regions
        carried = int(op.attributes["carried"])  # type: ignore[arg-type]
        state = [self.values[operand] for operand in op.operands[:carried]]
        sequences = [self.values[operand] for operand in op.operands[carried:]]
        length = len(sequences[0]) if sequences else int(op.attributes["length"])  # type: ignore[arg-type]
        outputs = [
            np.zeros(value.type.static_shape(self.extent), ELEMENTS[self.held(value.type.element)].dtype)
            for value in op.results[carried:]
        ]
        for step in range(length)[:: -1 if op.attributes["reverse"] else 1]:
            arrays = [*state, *(sequence[step] for sequence in sequences)]
            self.values.update(zip(block.parameters, map(np.asarray, arrays), strict=True))
            handed = self.block(block)
            state = handed[:carried]
            for output, row in zip(outputs, handed[carried:], strict=True):
                output[step] = row
        return [*state, *outputs]


_SPECIAL: dict[str, Callable[[_Run, Op], list[Array]]] = {
    "constant": _Run._constant,
    "weight": _Run._weight,
    "state_read": _Run._state_read,
    "state_write": _Run._state_write,
    "assert": _Run._assert,
    "scan": _Run._scan,
}


def _error(
    span: Span | None, message: str, expected: str = "", got: str = "", hint: str = ""
) -> TensorLangError:
    return TensorLangError([Diagnostic(span, message, expected, got, hint)])
