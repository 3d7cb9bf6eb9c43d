"""Code generation: a planned kernel and a target become machine code.

The templates emit; this module gives the vector machine of the ISA a code buffer, and hands the bytes over.
It needs no CPU of that ISA: code for any target can be made and listed on any host. What products need
stands in `product_codegen`, so that whoever multiplies imports no other template; its names are here too.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from neurojit.asm_templates import cast as cast_template
from neurojit.asm_templates import cumsum as cumsum_template
from neurojit.asm_templates import gather as gather_template
from neurojit.asm_templates import map as map_template
from neurojit.asm_templates import program as program_template
from neurojit.asm_templates import random as random_template
from neurojit.asm_templates import reduce as reduce_template
from neurojit.asm_templates import transpose as transpose_template
from neurojit.asm_templates.machine import ELEMENTS
from neurojit.config import CONFIG
from neurojit.encoder import CodeBuffer
from neurojit.encoder.listing import listing
from neurojit.plan.cast import Cast
from neurojit.plan.cumsum import Cumsum, CumsumSchedule, schedule_cumsum
from neurojit.plan.gather import Gather
from neurojit.plan.map import Map, MapSchedule, schedule_map
from neurojit.plan.program import ProgramPlan, Step
from neurojit.plan.random import Random
from neurojit.plan.reduce import Reduce, ReduceSchedule, schedule_reduce
from neurojit.plan.transpose import Transpose, TransposeSchedule, schedule_transpose
from neurojit.product_codegen import (
    MACHINES,
    emit_ceiling,
    emit_gemm,
    emit_gemv,
    gemm_buffer,
    gemv_buffer,
    list_gemm,
    machine_class,
    machine_for,
)
from neurojit.target import Isa

__all__ = [
    "MACHINES",
    "TEMPLATES",
    "Note",
    "TensorKernel",
    "emit_cast",
    "emit_ceiling",
    "emit_cumsum",
    "emit_gather",
    "emit_gemm",
    "emit_gemv",
    "emit_map",
    "emit_program",
    "emit_random",
    "emit_reduce",
    "emit_tensor_kernel",
    "emit_transpose",
    "gemm_buffer",
    "gemv_buffer",
    "list_gemm",
    "list_program",
    "machine_class",
    "machine_for",
    "program_buffer",
    "tensor_buffer",
]  # fmt: skip


def emit_map(g: Map, isa: Isa, encoder: str = CONFIG.encoder, schedule: MapSchedule | None = None) -> bytes:
    """The machine code of a fused elementwise kernel, in the widest vectors of the ISA."""
    return tensor_buffer(g, isa, encoder, schedule).finish()


def emit_reduce(
    g: Reduce, isa: Isa, encoder: str = CONFIG.encoder, schedule: ReduceSchedule | None = None
) -> bytes:
    """The machine code of an expression with reductions."""
    return tensor_buffer(g, isa, encoder, schedule).finish()


def emit_transpose(
    g: Transpose, isa: Isa, encoder: str = CONFIG.encoder, schedule: TransposeSchedule | None = None
) -> bytes:
    """The machine code of a copy between dimensions."""
    return tensor_buffer(g, isa, encoder, schedule).finish()


def emit_cumsum(
    g: Cumsum, isa: Isa, encoder: str = CONFIG.encoder, schedule: CumsumSchedule | None = None
) -> bytes:
    """The machine code of running sums."""
    return tensor_buffer(g, isa, encoder, schedule).finish()


def emit_gather(g: Gather, isa: Isa, encoder: str = CONFIG.encoder) -> bytes:
    """The machine code that picks rows."""
    return tensor_buffer(g, isa, encoder).finish()


def emit_random(g: Random, isa: Isa, encoder: str = CONFIG.encoder) -> bytes:
    """The machine code of random numbers."""
    return tensor_buffer(g, isa, encoder).finish()


def emit_cast(g: Cast, isa: Isa, encoder: str = CONFIG.encoder) -> bytes:
    """The machine code that changes how numbers lie in memory."""
    return tensor_buffer(g, isa, encoder).finish()


TensorKernel = Map | Reduce | Transpose | Cumsum | Gather | Random | Cast
"""Payloads of kernels that go over tensors."""

TEMPLATES: dict[type, tuple[ModuleType, Callable[..., Any] | None]] = {
    Map: (map_template, schedule_map),
    Reduce: (reduce_template, schedule_reduce),
    Transpose: (transpose_template, schedule_transpose),
    Cumsum: (cumsum_template, schedule_cumsum),
    Gather: (gather_template, None),
    Random: (random_template, None),
    Cast: (cast_template, None),
}
"""Payload -> its template, and what chooses the schedule where there is a choice."""


def tensor_buffer(
    g: TensorKernel, isa: Isa, encoder: str = CONFIG.encoder, schedule: object = None
) -> CodeBuffer:
    """The kernel in a buffer that still knows its instructions, to be finished. schedule: the plan's choice,
    if not given."""
    buffer = machine_class(isa).new_buffer(encoder)
    machine = machine_for(isa, buffer, ELEMENTS[g.dtype], type(g).__name__.lower())
    template, choose = TEMPLATES[type(g)]
    template.emit(machine, g, *([schedule or choose(g, isa)] if choose else []))
    return buffer


def emit_tensor_kernel(g: TensorKernel, isa: Isa) -> bytes:
    """The machine code of whichever it is, with the schedule that the plan chooses."""
    return tensor_buffer(g, isa).finish()


def emit_program(plan: ProgramPlan, isa: Isa, encoder: str = CONFIG.encoder) -> bytes:
    """The machine code of a whole network: one function."""
    return program_buffer(plan, isa, encoder)[0].finish()


Note = tuple[int, str]
"""An offset in the code, and what to say of what begins there."""


def program_buffer(
    plan: ProgramPlan, isa: Isa, encoder: str = CONFIG.encoder
) -> tuple[CodeBuffer, list[Note]]:
    """The program in a buffer to be finished, with a note on the code of each step: what it computes."""
    buffer = machine_class(isa).new_buffer(encoder)
    notes: list[Note] = []

    def begin(step: Step) -> None:
        operands = ", ".join(map(str, step.operands))
        notes.append((buffer.size, f"{step.name}: {type(step.kernel).__name__.lower()} of {operands}"))

    program_template.emit(machine_for(isa, buffer, ELEMENTS["f32"], "program"), plan, begin)
    return buffer, notes


def list_program(plan: ProgramPlan, isa: Isa) -> str:
    """The program's listing, with a line before the code of each step that says what it computes."""
    buffer, notes = program_buffer(plan, isa)
    buffer.finish()
    return listing(buffer, notes)
