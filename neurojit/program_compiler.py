"""From the plan of a program to published code: emit, map, validate, publish.

A program's slot is named by the hash of its machine code. Weights are not in the code, so two programs of the
same network share one mapping, and the second is validated already. Code that was evicted is made again under
the same name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from neurojit._program import call_code
from neurojit.codegen import emit_program
from neurojit.errors import ExecutableMemoryError, NeurojitError, RegisterPressureError
from neurojit.ir.structure import Function
from neurojit.plan.program import STATE_WORD, WEIGHTS_WORD, ProgramPlan
from neurojit.program_validation import validate_program
from neurojit.runtime import SLOTS, Code, Slot, clock_ns, executable_memory, keep_within_cache
from neurojit.target import Target
from neurojit.weight_block import Array, aligned, constants_of, packed

counts = {"programs": 0, "nanoseconds": 0}
"""What was compiled in this process, and the time it took, validation included."""


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
