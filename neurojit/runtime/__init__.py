"""Everything between emitted bytes and a kernel that can be called: mapping, slots, the reference, clocks."""

from neurojit.runtime._reference import error_function, reference_has_fma_instruction, reference_matmul
from neurojit.runtime._runtime import SLOTS, Code, Slot, SlotTable, clock_ns, ticks, ticks_per_ns
from neurojit.runtime.memory import ExecutableMemory, executable_memory, keep_within_cache

__all__ = [
    "SLOTS",
    "Code",
    "ExecutableMemory",
    "Slot",
    "SlotTable",
    "clock_ns",
    "error_function",
    "executable_memory",
    "keep_within_cache",
    "reference_has_fma_instruction",
    "reference_matmul",
    "ticks",
    "ticks_per_ns",
]
