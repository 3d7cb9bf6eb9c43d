"""From the plan of a program to published code: emit, map, validate, publish.

A program's slot is named by the hash of its machine code. Weights are not in the code, so two programs of the
same network share one mapping, and the second is validated already. Code that was evicted is made again under
the same name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from neurojit._program import call_code
from neurojit.codegen import Note, emit_program, machine_class, program_buffer
from neurojit.encoder import CodeBuffer
from neurojit.encoder.listing import listing
from neurojit.errors import ExecutableMemoryError, NeurojitError, RegisterPressureError
from neurojit.ir.structure import Function, ScheduleText
from neurojit.plan.program import STATE_WORD, WEIGHTS_WORD, ProgramPlan
from neurojit.planner import plan_program
from neurojit.planner.decompose import decompose
from neurojit.planner.directives import NOTHING
from neurojit.planner.fusion import MOST_FUSED
from neurojit.planner.hoist import hoist
from neurojit.program_validation import validate_program
from neurojit.runtime import SLOTS, Code, Slot, clock_ns, executable_memory, keep_within_cache
from neurojit.target import Target
from neurojit.weight_block import Array, aligned, constants_of, packed

counts = {"programs": 0, "nanoseconds": 0}
"""What was compiled in this process, and the time it took, validation included."""


FUSED = (MOST_FUSED, 16, 6, 2, 1)
"""Elementwise ops in one kernel, at most: the first that finds registers enough."""


class PlannedProgram(NamedTuple):
    """A program on paper, for a machine that need not be here. code: what is emitted for it."""

    plan: ProgramPlan
    code: bytes
    buffer: CodeBuffer
    notes: list[Note]

    def listing(self) -> str:
        return listing(self.buffer, self.notes)


def planned_program(function: Function, target: Target, schedule: ScheduleText = NOTHING) -> PlannedProgram:
    """A function as it would be compiled for the target. UnplannedError: no kernel computes some of it;
    UnknownIsaError: nothing is emitted for the target; TensorLangError: it cannot obey the schedule."""
    machine_class(target.isa)  # there is one, or this raises
    planned = function if schedule.steps else hoist(decompose(function), target)
    for most in FUSED:
        plan = plan_program(planned, target, most, schedule)
        try:
            buffer, notes = program_buffer(plan, target.isa)
        except RegisterPressureError:
            if most == FUSED[-1]:
                raise
        else:
            return PlannedProgram(plan, buffer.finish(), buffer, notes)
    raise AssertionError("FUSED has a last number")


def publish_program(plan: ProgramPlan, function: Function, target: Target) -> tuple[Slot | None, str]:
    """(the slot that runs the program, why there is none). RegisterPressureError: a kernel fuses too much; no
    other code that cannot be made raises."""
    memory = executable_memory()
    if memory.closed:
        return None, "no executable memory: " + "; ".join(memory.reasons)
    start = clock_ns()
    try:
        code = emit_program(plan, target.isa)
        slot = SLOTS.insert(_key(code))
        if not slot.published:
            SLOTS.publish(slot, _validated(code, plan, function))
            counts["programs"] += 1
            keep_within_cache()
    except RegisterPressureError:
        raise
    except (NeurojitError, MemoryError) as error:
        kind = "ExecutableMemoryError" if isinstance(error, ExecutableMemoryError) else type(error).__name__
        return None, f"{kind}: {error}"
    finally:
        counts["nanoseconds"] += clock_ns() - start
    return slot, ""


def _key(code: bytes) -> tuple[int, int, int, int]:
    digest = hashlib.blake2b(code, digest_size=32).digest()
    a, b, c, d = (int.from_bytes(digest[at : at + 8], "little") for at in range(0, 32, 8))
    return a, b, c, d


def _validated(code: bytes, plan: ProgramPlan, function: Function) -> Code:
    """The code, mapped, once it agreed with the interpreter. ValidationError otherwise."""
    mapped = Code.map(code)
    constants = constants_of(function)
    blocks: dict[str, Array] = {}

    def run(
        inputs: list[Array],
        outputs: list[Array],
        weights: Mapping[str, Array],
        states: dict[str, Array],
        extent: int,
    ) -> int:
        if not blocks:
            blocks["weights"] = packed(plan, {**weights, **constants})
            blocks["arena"] = aligned(plan.block_bytes)
            blocks["arena"].fill(0xFF)  # NaN in whatever is read before it is written
        state = aligned(plan.state_bytes)
        views = {
            s.name: state[s.offset : s.offset + states[s.name].nbytes]
            .view(states[s.name].dtype)
            .reshape(s.shape)
            for s in plan.states
        }
        for name, view in views.items():
            view[...] = states[name]
        words = blocks["arena"][:16].view(np.uint64)
        words[WEIGHTS_WORD], words[STATE_WORD] = blocks["weights"].ctypes.data, state.ctypes.data
        addresses = tuple(array.ctypes.data for array in (*inputs, *outputs))
        result = call_code(mapped, blocks["arena"].ctypes.data, addresses, extent)
        for name, view in views.items():
            states[name][...] = view
        return result

    validate_program(plan, function, run)
    return mapped
