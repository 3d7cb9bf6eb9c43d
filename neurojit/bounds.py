"""How far what is computed may be from what is meant: for each value, the exact one and a bound.

Each op is evaluated in the next higher precision, and beside it a bound on the absolute error of emitted
code: what the errors of its operands become, plus the op's own roundings, by the rules of `bound_rules`. So
the bound holds for every order of additions, and for every schedule.

Where an error could change a decision (a comparison of nearly equal numbers, the place of a maximum), the
bound is infinite: there nothing is asked of the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from neurojit.bound_rules import RULES, UNIT, Array, Bounded, Call, Rule, exact, unless
from neurojit.ir.numbers import to_element
from neurojit.ir.structure import Block, Dense, Function, Op, Value
from neurojit.ir.table import OPS


class UnboundedError(Exception):
    """An op for which no rule is known."""


def bounds(
    function: Function,
    inputs: Iterable[Array],
    weights: Mapping[str, Array],
    states: Mapping[str, Array],
    extent: int = 0,
) -> tuple[list[Bounded], dict[str, Bounded]]:
    """(each output, each state after the call) with its bound. All arrays are of their element types, bf16 as
    the float32 numbers that it has."""
    expected = Bounds(function, weights, extent).of(inputs, states)
    return expected.outputs, expected.states


class Expected(NamedTuple):
    """outputs, states: what a call gives, if no assert fails. codes: what it may return, 0 or the number of
    the first assert that fails: there are several where an error could change whether one does."""

    outputs: list[Bounded]
    states: dict[str, Bounded]
    codes: frozenset[int]


class Bounds:
    """One function with its weights, asked about several calls: what does not change is widened once."""

    def __init__(self, function: Function, weights: Mapping[str, Array], extent: int = 0) -> None:
        self.function, self.extent = function, extent
        self.steps: dict[Op, _Step] = {}
        self.fixed: dict[Op, Bounded] = {}
        self.sizes: dict[int, Array | None] = {}
        """Magnitudes of weights and constants by the array's id, once they were asked for."""
        for op in function.block.walk():
            if op.name == "weight":
                self.fixed[op] = exact(weights[str(op.attributes["name"])])
            elif op.name == "constant":
                value = op.attributes["value"]
                assert isinstance(value, Dense)
                self.fixed[op] = exact(value.array)
        self.sizes |= {id(fixed.value): None for fixed in self.fixed.values()}

    def of(self, inputs: Iterable[Array], states: Mapping[str, Array]) -> Expected:
        """What a call gives, with bounds."""
        walk = _Walk(self, states)
        for parameter, array in zip(self.function.parameters, inputs, strict=True):
            walk.known[parameter] = exact(array)
        with np.errstate(all="ignore"):
            outputs = walk.block(self.function.block)
        after = {name: exact(array) for name, array in states.items()}
        return Expected(outputs, {**after, **walk.written}, self._codes(walk))

    def _codes(self, walk: _Walk) -> frozenset[int]:
        """Up to the first assert that fails for sure."""
        codes = set()
        for number, op in enumerate(self.function.asserts, 1):
            if op in walk.unsure or op in walk.failed:
                codes.add(number)
            if op in walk.failed:
                return frozenset(codes)
        return frozenset(codes | {0})


def agrees(got: Array, expected: Bounded) -> Array:
    """Elementwise: within the bound, NaN where NaN is meant, infinite or nearly so where that is."""
    value, error = expected
    if got.dtype.kind in "bi":
        same: Array = (got == value) | (error > 0)
        return same
    with np.errstate(all="ignore"):
        near: Array = np.abs(got.astype(value.dtype) - value) <= error
    if near.all():
        return near
    beyond = (
        value.dtype.type(2) ** np.finfo(got.dtype).maxexp
    )  # an infinity counts as the first number too large
    with np.errstate(all="ignore"):
        distance = np.abs(np.clip(got.astype(value.dtype), -beyond, beyond) - np.clip(value, -beyond, beyond))
        near = (distance <= error) | (np.isnan(value) & np.isnan(got)) | np.isinf(error)
    return near


class _Step(NamedTuple):
    """How an op is evaluated, which is the same for every call."""

    rule: Rule
    attributes: dict[str, Any]
    u: float


class _Walk:
    """One evaluation: what is known so far."""

    def __init__(self, asked: Bounds, states: Mapping[str, Array]) -> None:
        self.asked, self.fixed, self.states = asked, asked.fixed, states
        self.known: dict[Value, Bounded] = {}
        self.written: dict[str, Bounded] = {}
        self.failed: set[Op] = set()
        self.unsure: set[Op] = set()  # asserts that may fail

    def block(self, block: Block) -> list[Bounded]:
        for op in block.body:
            for value, bounded in zip(op.results, self.op(op), strict=True):
                self.known[value] = bounded
        return [self.known[value] for value in block.terminator.operands]

    def op(self, op: Op) -> list[Bounded]:
        fixed = self.fixed.get(op)
        if fixed is not None:
            return [fixed]
        special = _SPECIAL.get(op.name)
        if special is not None:
            return special(self, op)
        operands = [self.known[value] for value in op.operands]
        step = self.asked.steps.get(op)
        if step is None:
            step = self.asked.steps[op] = self._step(op, operands)
        value, error = step.rule(Call(op, operands, step.attributes, step.u, self.asked.sizes))
        if not math.isfinite(np.add.reduce(value, axis=None)):  # a sum tells sooner than all elements
            value, error = _unless_unknown(op, operands, value, error)
            error = np.where(np.isfinite(value), error, 0.0)  # infinities and NaN have none
        if math.isnan(np.add.reduce(error, axis=None)):  # what is not known is infinite
            error = np.where(np.isnan(error), np.inf, error)
        return [Bounded(value, error)]

    def _step(self, op: Op, operands: list[Bounded]) -> _Step:
        rule = RULES.get(op.name)
        if rule is None:
            raise UnboundedError(f"{op}: no rule says how far a result may be from the exact one")
        element = next((v.type.element for v in op.operands if v.type.element != "i1"), "i1")
        return _Step(rule, self._attributes(op, operands), UNIT.get(element, 0.0))

    def _state_read(self, op: Op) -> list[Bounded]:
        return [exact(self.states[str(op.attributes["name"])])]

    def _state_write(self, op: Op) -> list[Bounded]:
        self.written[str(op.attributes["name"])] = self.known[op.operands[0]]
        return []

    def _assert(self, op: Op) -> list[Bounded]:
        holds, error = self.known[op.operands[0]]
        if (~holds & (error == 0)).any():
            self.failed.add(op)
        if (error > 0).any():
            self.unsure.add(op)
        return []

    def _attributes(self, op: Op, operands: list[Bounded]) -> dict[str, Any]:
        """As the interpreter passes them: floats rounded to the element type, then wide."""
        attributes: dict[str, Any] = dict(op.attributes)
        for name, value in attributes.items():
            if isinstance(value, float) and operands:
                rounded = to_element(np.asarray(value), op.operands[0].type.element)
                attributes[name] = operands[0].value.dtype.type(rounded)
        if "shape" in attributes:
            attributes["shape"] = op.result.type.static_shape(self.asked.extent)
        return attributes

    def _scan(self, op: Op) -> list[Bounded]:
        (block,) = op.regions
        carried = int(op.attributes["carried"])  # type: ignore[arg-type]
        state = [self.known[value] for value in op.operands[:carried]]
        sequences = [self.known[value] for value in op.operands[carried:]]
        length = len(sequences[0].value) if sequences else int(op.attributes["length"])  # type: ignore[arg-type]
        rows: list[list[Bounded]] = []
        order = range(length)[:: -1 if op.attributes["reverse"] else 1]
        for step in order:
            slices = [Bounded(value[step], error[step]) for value, error in sequences]
            self.known.update(zip(block.parameters, [*state, *slices], strict=True))
            handed = self.block(block)
            state = handed[:carried]
            rows.append(handed[carried:])
        if op.attributes["reverse"]:
            rows.reverse()
        outputs = []
        for number, result in enumerate(op.results[carried:]):
            if rows:
                values, errors = zip(*(row[number] for row in rows), strict=True)
                outputs.append(Bounded(np.stack(values), np.stack(errors)))
            else:
                outputs.append(exact(np.zeros(result.type.static_shape(self.asked.extent))))
        return [*state, *outputs]


_SPECIAL: dict[str, Callable[[_Walk, Op], list[Bounded]]] = {
    "state_read": _Walk._state_read,
    "state_write": _Walk._state_write,
    "assert": _Walk._assert,
    "scan": _Walk._scan,
}


def _unless_unknown(op: Op, operands: list[Bounded], value: Array, error: Array) -> Bounded:
    """An operand of which nothing is known may be NaN, so then nothing is known where the result is infinite
    or NaN, in an elementwise op there where the operand is. What goes elsewhere takes its error along."""
    lowering = OPS[op.name].lowering
    if lowering in ("view", "move"):
        return Bounded(value, error)
    unknown = ~np.isfinite(value)
    doubts = [np.isinf(error) for _, error in operands]
    if lowering == "map":
        for_each = np.zeros(value.shape, bool)
        for doubt in doubts:
            for_each |= doubt
        unknown &= for_each
    elif not any(doubt.any() for doubt in doubts):
        return Bounded(value, error)
    return unless(unknown, value, error)
