"""Code generation for products: what `codegen` does, without importing the templates of other kernels.

Also which vector machine an ISA has. A machine is imported when it is first asked for: a process emits for
one ISA, and its first product should wait for nothing else.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any, cast

from neurojit.asm_templates import gemm as gemm_template
from neurojit.asm_templates import gemv as gemv_template
from neurojit.asm_templates.machine import ELEMENTS, Element, Machine
from neurojit.config import CONFIG
from neurojit.encoder import CodeBuffer
from neurojit.errors import UnknownIsaError
from neurojit.plan.gemm import Gemm, GemmSchedule
from neurojit.plan.gemv import Gemv, GemvSchedule
from neurojit.target import Isa

MACHINES = {
    "x86_64-avx2": ("neurojit.asm_templates.x86_64.avx2", "Avx2Machine"),
    "x86_64-avx512": ("neurojit.asm_templates.x86_64.avx512", "Avx512Machine"),
    "aarch64-neon": ("neurojit.asm_templates.aarch64.neon", "NeonMachine"),
    "riscv64-rvv": ("neurojit.asm_templates.riscv64.machine", "RvvMachine"),
}
"""ISA -> where its vector machine stands: module and class."""


def emit_gemm(g: Gemm, schedule: GemmSchedule, isa: Isa, encoder: str = CONFIG.encoder) -> bytes:
    """The kernel's machine code."""
    return gemm_buffer(g, schedule, isa, encoder).finish()


def list_gemm(g: Gemm, schedule: GemmSchedule, isa: Isa) -> str:
    """The kernel's listing: offsets, bytes, mnemonics. Emitted anew, so nothing is kept for it."""
    from neurojit.encoder.listing import listing

    buffer = gemm_buffer(g, schedule, isa)
    buffer.finish()
    return listing(buffer)


def dump(g: object, buffer: Callable[[], CodeBuffer]) -> None:
    """Print a kernel, emitted anew, where NEUROJIT_DUMP asks for it."""
    if "asm" in CONFIG.dump:
        from neurojit.encoder.listing import listing

        emitted = buffer()
        emitted.finish()
        sys.stderr.write(f"; {g}\n{listing(emitted)}")


def emit_gemv(g: Gemv, schedule: GemvSchedule, isa: Isa, encoder: str = CONFIG.encoder) -> bytes:
    """The kernel's machine code."""
    return gemv_buffer(g, schedule, isa, encoder).finish()


def gemv_buffer(g: Gemv, schedule: GemvSchedule, isa: Isa, encoder: str = CONFIG.encoder) -> CodeBuffer:
    """The kernel in a buffer that still knows its instructions, to be finished."""
    buffer = machine_class(isa).new_buffer(encoder)
    gemv_template.emit(machine_for(isa, buffer, ELEMENTS[g.dtype], "gemv"), g, schedule)
    return buffer


def emit_ceiling(dtype: str, lanes: int, chains: int, isa: Isa) -> bytes:
    """Machine code that does `chains` x n multiply-adds of `lanes` elements, n being its extent."""
    from neurojit.asm_templates import ceiling as ceiling_template

    buffer = machine_class(isa).new_buffer(CONFIG.encoder)
    machine = machine_for(isa, buffer, ELEMENTS[dtype], "ceiling")
    ceiling_template.emit(machine, lanes, chains)
    return buffer.finish()


def gemm_buffer(g: Gemm, schedule: GemmSchedule, isa: Isa, encoder: str = CONFIG.encoder) -> CodeBuffer:
    """The kernel in a buffer that still knows its instructions, to be finished."""
    buffer = machine_class(isa).new_buffer(encoder)
    machine = machine_for(isa, buffer, ELEMENTS[g.dtype], "gemm", micro=g.is_micro_kernel)
    gemm_template.emit(machine, g, schedule)
    return buffer


def machine_for(
    isa: Isa, buffer: CodeBuffer, element: Element, template: str, *, micro: bool = False
) -> Machine:
    machine: Any = machine_class(isa)
    if isa.scalable:
        return cast(Machine, machine(buffer, element, template, micro=micro, vector_bits=isa.widest))
    return cast(Machine, machine(buffer, element, template, micro=micro))


def machine_class(isa: Isa) -> type[Machine]:
    """The vector machine of an ISA. Raises UnknownIsaError where there is none."""
    if isa.name not in MACHINES:
        raise UnknownIsaError(
            f"ISA {isa.name!r} has no vector machine: expected one of {', '.join(MACHINES)}"
        )
    module, name = MACHINES[isa.name]
    return cast(type[Machine], getattr(importlib.import_module(module), name))
