"""Code generation: a planned kernel and a target become machine code.

The templates emit; this module picks the vector machine of the ISA, gives it a code buffer, and hands
the bytes over. It needs no CPU of that ISA: code for any target can be made and listed on any host.
"""

from __future__ import annotations

from neurojit.asm_templates import gemm as gemm_template
from neurojit.asm_templates import map as map_template
from neurojit.asm_templates.machine import ELEMENTS, Element
from neurojit.asm_templates.x86_64.avx2 import Avx2Machine
from neurojit.asm_templates.x86_64.avx512 import Avx512Machine
from neurojit.asm_templates.x86_64.core import X86Machine
from neurojit.config import CONFIG
from neurojit.emit import CodeBuffer, listing, new_buffer
from neurojit.plan.gemm import Gemm, GemmSchedule
from neurojit.plan.map import Map
from neurojit.target import Isa

MACHINES: dict[str, type[X86Machine]] = {
    "x86_64-avx2": Avx2Machine,
    "x86_64-avx512": Avx512Machine,
}


def emit_gemm(g: Gemm, schedule: GemmSchedule, isa: Isa, encoder: str = CONFIG.encoder) -> bytes:
    """The kernel's machine code."""
    return _gemm_buffer(g, schedule, isa, encoder).finish()


def list_gemm(g: Gemm, schedule: GemmSchedule, isa: Isa) -> str:
    """The kernel's listing: offsets, bytes, mnemonics. Emitted anew, so nothing is kept for it."""
    buffer = _gemm_buffer(g, schedule, isa, CONFIG.encoder)
    buffer.finish()
    return listing(buffer)


def _gemm_buffer(g: Gemm, schedule: GemmSchedule, isa: Isa, encoder: str) -> CodeBuffer:
    buffer = new_buffer(encoder)
    machine = machine_for(isa, buffer, ELEMENTS[g.dtype], "gemm", micro=g.is_micro_kernel)
    gemm_template.emit(machine, g, schedule)
    return buffer


def emit_map(g: Map, isa: Isa, encoder: str = CONFIG.encoder) -> bytes:
    """The machine code of a fused elementwise kernel, in the widest vectors of the ISA."""
    buffer = new_buffer(encoder)
    element = ELEMENTS[g.dtype]
    map_template.emit(machine_for(isa, buffer, element, "map"), g, isa.widest // 8 // element.size)
    return buffer.finish()


def machine_for(isa: Isa, buffer: CodeBuffer, element: Element, template: str, *, micro: bool = False) -> X86Machine:
    return MACHINES[isa.name](buffer, element, template, micro=micro)
