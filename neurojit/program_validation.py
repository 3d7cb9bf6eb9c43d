"""The gate of programs: before a native function is published, it must agree with the interpreter.

Weights, states and inputs are made up: weights so scaled that sums stay of the order of their operands, for
in the flat parts of activations every error would hide. One call has ordinary numbers, a second one tiny
numbers with NaN, infinities, signed zeros and extremes sown among them; a dynamic extent is so long that
every part of the loop over rows runs, the tallest twice. A program with state is called twice in a row.
Where an assert fails, state must stay what it was. Results are held against exact values within the bounds of
`bounds`; outputs lie between sentinels that must survive, inputs, weights and the arena's neighbours must be
as they were.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np

from neurojit.bound_rules import Array, Bounded
from neurojit.bounds import Bounds, Expected, UnboundedError, agrees
from neurojit.errors import ValidationError
from neurojit.ir.interpreter import held_as_float32
from neurojit.ir.numbers import to_element
from neurojit.ir.structure import Function
from neurojit.ir.types import ELEMENTS
from neurojit.plan.program import Operand, ProgramPlan, Rows
from neurojit.validation import DTYPES, FRAME, special_numbers

Run = Callable[[list[Array], list[Array], Mapping[str, Array], dict[str, Array], int], int]
"""Calls the code on inputs, outputs, weights and states (which it changes), and a dynamic extent."""

SENTINEL = 0xA5
"""Of every byte around an output."""
INTEGER_SCALE = 4
MEMORY = {
    name: np.dtype(np.uint16 if name == "bf16" else element.dtype) for name, element in ELEMENTS.items()
}


def validate_program(plan: ProgramPlan, function: Function, run: Run) -> None:
    """ValidationError: the first element that differs, with what was meant and what came."""
    what = f"program {plan.name!r}"
    extent = longest_extent(plan)
    weights = {
        name: _weight(seed, type_.static_shape(0), type_.element)
        for seed, (name, type_) in enumerate(function.weights.items())
    }
    kept = {name: array.tobytes() for name, array in weights.items()}
    meant_by = Bounds(function, weights, extent)
    held = False
    for special in (False, True):
        states = {
            state.name: _filled(number + 40, state.shape, state.dtype, False)
            for number, state in enumerate(plan.states)
        }
        for turn in range(2 if plan.states else 1):
            inputs = [
                _filled(7 * turn + number, _shape(operand, extent), operand.dtype, special)
                for number, operand in enumerate(plan.inputs)
            ]
            try:
                expected = meant_by.of(inputs, states)
            except UnboundedError as error:
                raise ValidationError(f"{what}: {error}; it was not published") from error
            states = _call(plan, run, what, extent, inputs, weights, states, expected)
            held |= expected.codes == {0}
    if not held:
        _call_that_holds(plan, run, what, extent, weights, meant_by)
    if any(array.tobytes() != kept[name] for name, array in weights.items()):
        raise ValidationError(f"{what}: wrote to the weights; it was not published")


def _call_that_holds(
    plan: ProgramPlan, run: Run, what: str, extent: int, weights: Mapping[str, Array], meant_by: Bounds
) -> None:
    """Numbers that are made up may satisfy no assert: then the first of a few plain inputs that does, if any,
    so that state is seen to be written."""
    for fill in FILLS:
        states = {state.name: _full(fill, state.shape, state.dtype) for state in plan.states}
        inputs = [_full(fill, _shape(operand, extent), operand.dtype) for operand in plan.inputs]
        expected = meant_by.of(inputs, states)
        if expected.codes == {0}:
            _call(plan, run, what, extent, inputs, weights, states, expected)
            return


FILLS = (0.0, 1.0, 0.5, 2.0, -1.0, 100.0)


def _full(fill: float, shape: tuple[int, ...], dtype: str) -> Array:
    return to_element(np.full(shape, fill), dtype)


def _call(
    plan: ProgramPlan,
    run: Run,
    what: str,
    extent: int,
    inputs: list[Array],
    weights: Mapping[str, Array],
    states: Mapping[str, Array],
    expected: Expected,
) -> dict[str, Array]:
    """One call, held against what is meant. Returns the states after it. Outputs are computed whether or not
    an assert fails, so they are compared; states stay what they were if one does."""
    given = [_in_memory(array, operand.dtype) for array, operand in zip(inputs, plan.inputs, strict=True)]
    held = {state.name: _in_memory(states[state.name], state.dtype) for state in plan.states}
    before = [array.tobytes() for array in given]
    frames, outputs = _outputs(plan, extent)
    code = run(given, outputs, weights, held, extent)
    if code not in expected.codes:
        wanted = " or ".join(map(str, sorted(expected.codes)))
        raise ValidationError(f"{what}: returned {code}, expected {wanted}; it was not published")
    for operand, array, bytes_before in zip(plan.inputs, given, before, strict=True):
        if array.tobytes() != bytes_before:
            raise ValidationError(f"{what}: wrote to input {operand.name!r}; it was not published")
    for operand, frame, output, meant in zip(plan.outputs, frames, outputs, expected.outputs, strict=True):
        if not (frame[:FRAME] == SENTINEL).all() or not (frame[FRAME + output.nbytes :] == SENTINEL).all():
            raise ValidationError(f"{what}: wrote beside output {operand.name!r}; it was not published")
        _compare(f"{what}: output {operand.name!r}", _as_numbers(output, operand.dtype), meant)
    after = {state.name: _as_numbers(held[state.name], state.dtype) for state in plan.states}
    for name, state in after.items():
        unchanged = Bounded(states[name], np.zeros(state.shape))
        _compare(f"{what}: state {name!r}", state, unchanged if code else expected.states[name])
    return after


def longest_extent(plan: ProgramPlan) -> int:
    """A dynamic extent with which every part runs, the first one twice."""
    rows = [node for node in plan.body if isinstance(node, Rows)]
    return max((sum(p.height for p in r.parts) + r.parts[0].height for r in rows), default=1)


def _compare(what: str, got: Array, meant: Bounded) -> None:
    near = agrees(got, meant)
    if near.all():
        return
    at = tuple(int(i) for i in np.argwhere(~near)[0])
    raise ValidationError(
        f"{what}{list(at)} is {got[at]!r}, expected {meant.value[at]!r} within {float(meant.error[at]):.3g} "
        f"({int((~near).sum())} of {near.size} elements differ); it was not published, please report this"
    )


def _shape(operand: Operand, extent: int) -> tuple[int, ...]:
    return tuple(extent if e is None else e for e in operand.shape)


def _outputs(plan: ProgramPlan, extent: int) -> tuple[list[Array], list[Array]]:
    """(bytes, in the middle of each an output)."""
    frames, outputs = [], []
    for operand in plan.outputs:
        shape, dtype = _shape(operand, extent), MEMORY[operand.dtype]
        size = math.prod(shape) * dtype.itemsize
        frame = np.full(size + 2 * FRAME, SENTINEL, np.uint8)
        frames.append(frame)
        outputs.append(frame[FRAME : FRAME + size].view(dtype).reshape(shape))
    return frames, outputs


def _in_memory(array: Array, element: str) -> Array:
    """As the code finds it: bf16 as 16 bits."""
    if element != "bf16":
        return np.asarray(array.copy())
    return np.asarray(array.view(np.uint32) >> 16, np.uint16)


def _as_numbers(array: Array, element: str) -> Array:
    numbers: Array = held_as_float32(array) if element == "bf16" else array
    return numbers


def _filled(seed: int, shape: tuple[int, ...], dtype: str, special: bool) -> Array:
    """Numbers of this element type; integers small, and with `special` some of the greatest ones."""
    count = math.prod(shape)
    if dtype in DTYPES:
        return made_up(seed, count, dtype, special).reshape(shape)
    if dtype == "bf16":
        return to_element(made_up(seed, count, "f32", special), dtype).reshape(shape)
    numbers = made_up(seed, count, "f32", False)
    if dtype == "i1":
        return np.asarray(numbers > (-1.0 if seed % 2 else 0.0)).reshape(shape)
    integers = to_element(numbers * INTEGER_SCALE, dtype)
    if special:
        limits = np.iinfo(integers.dtype)
        integers[::SPARSE] = np.resize([limits.max, limits.min], len(integers[::SPARSE]))
    return integers.reshape(shape)


@lru_cache(maxsize=4)
def _ring(dtype: str, special: bool) -> Array:
    return special_numbers(1, RING, DTYPES[dtype], SPARSE if special else 0)


RING = 16381
"""Numbers that are made up once: a prime, so that no two rows of a matrix are the same ones."""
SPARSE = 29
"""One number in so many is special: few enough that most sums meet none."""


def made_up(seed: int, count: int, dtype: str, special: bool) -> Array:
    """So many numbers, the same for the same seed: read from a ring of them, which is made once."""
    ring, begin = _ring(dtype, special), seed * 1009 % 4001
    if begin + count <= RING:
        numbers: Array = ring[begin : begin + count].copy()
        return numbers
    return np.resize(np.concatenate((ring[begin:], ring[:begin])), count)


def _weight(seed: int, shape: tuple[int, ...], dtype: str) -> Array:
    """Numbers of both signs, scaled down by the root of how many are added up; integers as they are."""
    if dtype not in ("f32", "f64", "bf16"):
        return _filled(seed + 90, shape, dtype, False)
    if dtype == "bf16":
        return to_element(_weight(seed, shape, "f32"), dtype)
    count = math.prod(shape)
    scale = DTYPES[dtype].type(0.05 / math.sqrt(max(shape[:1], default=1)))
    numbers: Array = made_up(seed + 90, count, dtype, False).reshape(shape) * scale
    return numbers
