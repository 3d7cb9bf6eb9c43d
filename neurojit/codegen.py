"""Code generation: a planned kernel and a target become machine code.

The templates emit; this module gives the vector machine of the ISA a code buffer, and hands the bytes over.
It needs no CPU of that ISA: code for any target can be made and listed on any host. What products need
stands in `product_codegen`, so that whoever multiplies imports no other template; its names are here too.
"""

from __future__ import annotations

from collections.abc import Callable

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
    "MACHINES", "TensorKernel", "emit_cast", "emit_ceiling", "emit_cumsum", "emit_gather", "emit_gemm",
    "emit_gemv", "emit_map", "emit_program", "emit_random", "emit_reduce", "emit_tensor_kernel",
    "emit_transpose", "gemm_buffer", "gemv_buffer", "list_gemm", "list_program", "machine_class",
    "machine_for",
]  # fmt: skip


def emit_map(g: Map, isa: Isa, encoder: str = CONFIG.encoder, schedule: MapSchedule | None = None) -> bytes:
    """The machine code of a fused elementwise kernel, in the widest vectors of the ISA."""
    buffer = machine_class(isa).new_buffer(encoder)
    machine = machine_for(isa, buffer, ELEMENTS[g.dtype], "map")
    map_template.emit(machine, g, schedule or schedule_map(g, isa))
    return buffer.finish()


def emit_reduce(
    g: Reduce, isa: Isa, encoder: str = CONFIG.encoder, schedule: ReduceSchedule | None = None
) -> bytes:
    """The machine code of an expression with reductions."""
    buffer = machine_class(isa).new_buffer(encoder)
    machine = machine_for(isa, buffer, ELEMENTS[g.dtype], "reduce")
    reduce_template.emit(machine, g, schedule or schedule_reduce(g, isa))
    return buffer.finish()


def emit_transpose(
    g: Transpose, isa: Isa, encoder: str = CONFIG.encoder, schedule: TransposeSchedule | None = None
) -> bytes:
    """The machine code of a copy between dimensions."""
    buffer = machine_class(isa).new_buffer(encoder)
    machine = machine_for(isa, buffer, ELEMENTS[g.dtype], "transpose")
    transpose_template.emit(machine, g, schedule or schedule_transpose(g, isa))
    return buffer.finish()


def emit_cumsum(
    g: Cumsum, isa: Isa, encoder: str = CONFIG.encoder, schedule: CumsumSchedule | None = None
) -> bytes:
    """The machine code of running sums."""
    buffer = machine_class(isa).new_buffer(encoder)
    machine = machine_for(isa, buffer, ELEMENTS[g.dtype], "cumsum")
    cumsum_template.emit(machine, g, schedule or schedule_cumsum(g, isa))
    return buffer.finish()


def emit_gather(g: Gather, isa: Isa, encoder: str = CONFIG.encoder) -> bytes:
    """The machine code that picks rows."""
    buffer = machine_class(isa).new_buffer(encoder)
    gather_template.emit(machine_for(isa, buffer, ELEMENTS[g.dtype], "gather"), g)
    return buffer.finish()


def emit_random(g: Random, isa: Isa, encoder: str = CONFIG.encoder) -> bytes:
    """The machine code of random numbers."""
    buffer = machine_class(isa).new_buffer(encoder)
    random_template.emit(machine_for(isa, buffer, ELEMENTS[g.dtype], "random"), g)
    return buffer.finish()


def emit_cast(g: Cast, isa: Isa, encoder: str = CONFIG.encoder) -> bytes:
    """The machine code that changes how numbers lie in memory."""
    buffer = machine_class(isa).new_buffer(encoder)
    cast_template.emit(machine_for(isa, buffer, ELEMENTS[g.dtype], "cast"), g)
    return buffer.finish()


TensorKernel = Map | Reduce | Transpose | Cumsum | Gather | Random | Cast
"""Payloads of kernels that go over tensors."""


def emit_tensor_kernel(g: TensorKernel, isa: Isa) -> bytes:
    """The machine code of whichever it is, with the schedule that the plan chooses."""
    emitters: dict[type, Callable[..., bytes]] = {
        Map: emit_map, Reduce: emit_reduce, Transpose: emit_transpose,
        Cumsum: emit_cumsum, Gather: emit_gather, Random: emit_random, Cast: emit_cast,
    }  # fmt: skip
    return emitters[type(g)](g, isa)


def emit_program(plan: ProgramPlan, isa: Isa, encoder: str = CONFIG.encoder) -> bytes:
    """The machine code of a whole network: one function."""
    buffer = machine_class(isa).new_buffer(encoder)
    program_template.emit(machine_for(isa, buffer, ELEMENTS["f32"], "program"), plan)
    return buffer.finish()


def list_program(plan: ProgramPlan, isa: Isa) -> str:
    """The program's listing, with a line before the code of each step that says what it computes."""
    buffer = machine_class(isa).new_buffer(CONFIG.encoder)
    notes: list[tuple[int, str]] = []

    def begin(step: Step) -> None:
        operands = ", ".join(map(str, step.operands))
        notes.append((buffer.size, f"{step.name}: {type(step.kernel).__name__.lower()} of {operands}"))

    program_template.emit(machine_for(isa, buffer, ELEMENTS["f32"], "program"), plan, begin)
    buffer.finish()
    return listing(buffer, notes)
