"""Emission: instruction forms, code buffers, listings.

buffer, add = new_buffer("table"), forms["add r64, r64"]
buffer.regs(add, 0, 1)
code = buffer.finish()
"""

from __future__ import annotations

from neurojit.emit._buffer import CodeBuffer, fail_allocation_after
from neurojit.emit.listing import listing
from neurojit.emit.table import FormTable

forms = FormTable()


def new_buffer(encoder: str = "table") -> CodeBuffer:
    """An empty x86-64 code buffer. encoder: `table` (C, from the encoder table) or `peachpy` (every
    instruction through PeachPy, to the same bytes)."""
    if encoder == "peachpy":
        from neurojit.emit.peachpy_buffer import PeachPyBuffer  # only those who ask need PeachPy

        return PeachPyBuffer(forms)
    return CodeBuffer(forms)


__all__ = ["CodeBuffer", "FormTable", "fail_allocation_after", "forms", "listing", "new_buffer"]
