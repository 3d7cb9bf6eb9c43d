"""The gate of programs: before a native function is published, it must agree with the interpreter.

Weights, states and inputs are made up: weights so scaled that sums stay of the order of their operands, for
in the flat parts of activations every error would hide. One call has ordinary numbers, a second one tiny
numbers with NaN, infinities, signed zeros and extremes sown among them; a dynamic extent is so long that
every part of the loop over rows runs, the tallest twice. A program with state is called twice in a row.
Results are held against exact values within the bounds of `bounds`; outputs lie between sentinels that must
survive, inputs, weights and the arena's neighbours must be as they were.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np

from neurojit.bounds import Array, Bounded, Bounds, UnboundedError, agrees
from neurojit.errors import ValidationError
from neurojit.ir.structure import Function
from neurojit.plan.program import Operand, ProgramPlan, Rows
from neurojit.validation import DTYPES, FRAME, special_numbers

Run = Callable[[list[Array], list[Array], Mapping[str, Array], dict[str, Array], int], int]
"""Calls the code on inputs, outputs, weights and states (which it changes), and a dynamic extent."""

SENTINEL = -12345.0


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
            before = [array.tobytes() for array in inputs]
            frames, outputs = _outputs(plan, extent)
            try:
                expected, expected_states = meant_by.of(inputs, states)
            except UnboundedError as error:
                raise ValidationError(f"{what}: {error}; it was not published") from error
            code = run(inputs, outputs, weights, states, extent)
            if code != 0:
                raise ValidationError(f"{what}: returned {code}, expected 0; it was not published")
            for operand, array, bytes_before in zip(plan.inputs, inputs, before, strict=True):
                if array.tobytes() != bytes_before:
                    raise ValidationError(f"{what}: wrote to input {operand.name!r}; it was not published")
            for operand, frame, output, meant in zip(plan.outputs, frames, outputs, expected, strict=True):
                if (
                    not (frame[:FRAME] == SENTINEL).all()
                    or not (frame[FRAME + output.size :] == SENTINEL).all()
                ):
                    raise ValidationError(
                        f"{what}: wrote beside output {operand.name!r}; it was not published"
                    )
                _compare(f"{what}: output {operand.name!r}", output, meant)
            for name, state in states.items():
                _compare(f"{what}: state {name!r}", state, expected_states[name])
    if any(array.tobytes() != kept[name] for name, array in weights.items()):
        raise ValidationError(f"{what}: wrote to the weights; it was not published")


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
    frames, outputs = [], []
    for operand in plan.outputs:
        shape = _shape(operand, extent)
        count = math.prod(shape)
        frame = np.full(count + 2 * FRAME, SENTINEL, DTYPES[operand.dtype])
        frames.append(frame)
        outputs.append(frame[FRAME : FRAME + count].reshape(shape))
    return frames, outputs


def _filled(seed: int, shape: tuple[int, ...], dtype: str, special: bool) -> Array:
    count = math.prod(shape)
    return made_up(seed, count, dtype, special).reshape(shape)


@lru_cache(maxsize=8)
def _sequence(dtype: str, special: bool, length: int) -> Array:
    return special_numbers(1, length, DTYPES[dtype], SPARSE if special else 0)


SPARSE = 29
"""One number in so many is special: few enough that most sums meet none."""


def made_up(seed: int, count: int, dtype: str, special: bool) -> Array:
    """So many numbers, the same for the same seed: a part of one long sequence, which is made once."""
    begin = seed * 1009 % 4001
    length = 1 << max(14, (begin + count - 1).bit_length())
    numbers: Array = _sequence(dtype, special, length)[begin : begin + count].copy()
    return numbers


def _weight(seed: int, shape: tuple[int, ...], dtype: str) -> Array:
    """Numbers of both signs, scaled down by the root of how many are added up."""
    count = math.prod(shape)
    scale = DTYPES[dtype].type(0.05 / math.sqrt(max(shape[:1], default=1)))
    numbers: Array = made_up(seed + 90, count, dtype, False).reshape(shape) * scale
    return numbers
