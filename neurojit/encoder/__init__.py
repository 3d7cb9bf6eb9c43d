"""Emission: instruction forms, code buffers, listings.

buffer, add = new_buffer("table"), forms["add r64, r64"]
buffer.regs(add, 0, 1)
code = buffer.finish()

The same for ISAs with instructions of one word: aarch64_forms["add x, x, x"], aarch64_forms.buffer(),
buffer.emit(add, 0, 0, 1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from neurojit.encoder._buffer import SAME_REGISTERS, CodeBuffer, WordBuffer, X86Buffer, fail_allocation_after
from neurojit.encoder.table import FormTable

if TYPE_CHECKING:
    from neurojit.encoder.word_table import WordTable

    aarch64_forms: WordTable
    riscv64_forms: WordTable

forms = FormTable()
_WORD_TABLES = {"aarch64_forms": "aarch64", "riscv64_forms": "riscv64"}


def __getattr__(name: str) -> Any:
    """The tables of other ISAs, made when they are first asked for: most processes emit for one."""
    if name not in _WORD_TABLES and name != "WordTable":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from neurojit.encoder.word_table import WordTable

    made: Any = WordTable
    if name in _WORD_TABLES:
        made = WordTable(f"neurojit.asm_templates.{_WORD_TABLES[name]}")
    return globals().setdefault(name, made)


def new_buffer(encoder: str = "table") -> X86Buffer:
    """An empty x86-64 code buffer. encoder: `table` (C, from the encoder table) or `peachpy` (every
    instruction through PeachPy, to the same bytes)."""
    if encoder == "peachpy":
        from neurojit.encoder.peachpy_buffer import PeachPyBuffer  # only those who ask need PeachPy

        return PeachPyBuffer(forms)
    return X86Buffer(forms)


__all__ = [
    "SAME_REGISTERS", "CodeBuffer", "FormTable", "WordBuffer", "WordTable", "X86Buffer", "aarch64_forms",
    "fail_allocation_after", "forms", "new_buffer", "riscv64_forms",
]  # fmt: skip
