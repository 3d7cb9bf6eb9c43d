"""A code buffer that encodes every instruction through PeachPy, to hold the table against.

Same methods, same bytes, a thousand times slower. Labels, fixups, padding and records are X86Buffer's;
only the bytes of an instruction come from PeachPy. Forms of supplement.txt, which PeachPy does not know,
come from their rows.
"""

from __future__ import annotations

from neurojit.encoder import peachpy_encoder
from neurojit.encoder._buffer import (
    ADDRESS_BASE,
    ADDRESS_BRANCH,
    ADDRESS_INDEXED,
    ADDRESS_LABEL,
    ADDRESS_NONE,
    SAME_REGISTERS,
    X86Buffer,
)
from neurojit.encoder.listing import Record
from neurojit.encoder.peachpy_encoder import Memory
from neurojit.encoder.table import FormTable
from neurojit.errors import EncodeError, UnknownFormError

RIP = Memory(-1)
VECTORS = ("xmm", "ymm", "zmm")


class PeachPyBuffer(X86Buffer):
    """X86Buffer's contract. UnknownFormError at construction if PeachPy is not importable."""

    forms: FormTable

    def __init__(self, forms: FormTable) -> None:
        if peachpy_encoder.load() is None:
            raise UnknownFormError(f"NEUROJIT_ENCODER=peachpy: {peachpy_encoder.HOW_TO_GET_IT}")
        super().__init__(forms)

    def _encode(
        self,
        form: int,
        registers: tuple[int, ...],
        address: int = ADDRESS_NONE,
        memory: Memory | None = None,
        label: int = -1,
        value: int | None = None,
    ) -> None:
        row = self.forms.row(form)
        at = memory or Memory(-1)
        self.check(form, registers, address, at.base, at.index, at.scale, at.displacement, label, value)
        numbers = [n for n in registers if n >= 0]
        encoding = peachpy_encoder.encode(row.form, numbers, memory, value or 0)
        self.append_encoded(
            form, encoding, registers, address, at.base, at.index, at.scale, at.displacement, label, value
        )

    def regs(self, form: int, a: int = -1, b: int = -1, c: int = -1, d: int = -1) -> None:
        if self.forms.is_supplementary(form):
            super().regs(form, a, b, c, d)
        else:
            self._encode(form, (a, b, c, d))

    def imm(self, form: int, value: int, a: int = -1, b: int = -1, c: int = -1, d: int = -1) -> None:
        if self.forms.is_supplementary(form):
            super().imm(form, value, a, b, c, d)
        else:
            self._encode(form, (a, b, c, d), value=value)

    def mem(self, form: int, base: int, disp: int, a: int = -1, b: int = -1, c: int = -1) -> None:
        if self.forms.is_supplementary(form):
            super().mem(form, base, disp, a, b, c)
        else:
            self._encode(form, (a, b, c), ADDRESS_BASE, Memory(base, displacement=disp))

    def mem_imm(
        self, form: int, base: int, disp: int, value: int, a: int = -1, b: int = -1, c: int = -1
    ) -> None:
        if self.forms.is_supplementary(form):
            super().mem_imm(form, base, disp, value, a, b, c)
        else:
            self._encode(form, (a, b, c), ADDRESS_BASE, Memory(base, displacement=disp), value=value)

    def mem_indexed(
        self, form: int, base: int, index: int, scale: int, disp: int, a: int = -1, b: int = -1, c: int = -1
    ) -> None:
        if self.forms.is_supplementary(form):
            super().mem_indexed(form, base, index, scale, disp, a, b, c)
        else:
            self._encode(form, (a, b, c), ADDRESS_INDEXED, Memory(base, index, scale, disp))

    def rip(self, form: int, label: int, a: int = -1, b: int = -1, c: int = -1) -> None:
        if self.forms.is_supplementary(form):
            super().rip(form, label, a, b, c)
        else:
            self._encode(form, (a, b, c), ADDRESS_LABEL, RIP, label)

    def jump(self, form: int, label: int) -> None:
        self._encode(form, (), ADDRESS_BRANCH, None, label)

    def repeat(
        self,
        first: int,
        times: int,
        shifts: dict[int, int],
        following: bytes = SAME_REGISTERS,
        form: int = -1,
        immediate: int = 0,
    ) -> None:
        for _ in range(times):
            body = [Record(*record) for record in self.records()[first:]]
            first = self.mark
            for record in body:
                kinds = self.forms.row(record.form).registers if record.registers else ()
                numbers = tuple(
                    following[number] if kind in VECTORS else number
                    for number, (kind, _) in zip(record.registers, kinds, strict=True)
                )
                grown = immediate if record.form == form else 0
                self._emit_again(record, numbers, shifts.get(record.base, 0), grown)

    def _emit_again(self, record: Record, registers: tuple[int, ...], shift: int, grown: int) -> None:
        form = record.form
        value = None if record.immediate is None else record.immediate + grown
        displacement = record.displacement + shift
        if record.address == ADDRESS_NONE:
            if value is None:
                self.regs(form, *registers)
            else:
                self.imm(form, value, *registers)
        elif record.address == ADDRESS_BASE:
            if value is None:
                self.mem(form, record.base, displacement, *registers)
            else:
                self.mem_imm(form, record.base, displacement, value, *registers)
        elif record.address == ADDRESS_INDEXED:
            self.mem_indexed(form, record.base, record.index, record.scale, displacement, *registers)
        elif record.address == ADDRESS_LABEL and value is None:
            self.rip(form, record.displacement, *registers)
        else:
            raise EncodeError("repeat: branches, padding and data cannot be repeated")
