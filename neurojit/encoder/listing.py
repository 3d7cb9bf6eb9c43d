"""Listings: what a code buffer holds, as text, from its own records.

    0000  c4 e2 75 b8 c2         vfmadd231ps ymm0, ymm1, ymm2
    L0:
    0005  0f 84 00 00 00 00      je L1

    0000  4f821020    fmla v0.4s, v1.4s, v2.s[0]

Offset, bytes, Intel syntax; of ISAs with instructions of one word the word, in the syntax of their tables.
No disassembler: a record knows what was asked for, or the row reads the word back, and the audit tests hold
that against one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from neurojit.encoder._buffer import (
    ADDRESS_BASE,
    ADDRESS_INDEXED,
    ADDRESS_LABEL,
    DATA,
    PADDING,
    CodeBuffer,
    WordBuffer,
    X86Buffer,
)
from neurojit.encoder.form_name import FormName, Operand
from neurojit.encoder.row import Row
from neurojit.encoder.word_row import WordRow

R64 = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16)))
R32 = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", *(f"r{n}d" for n in range(8, 16)))
SIZES = {8: "byte", 16: "word", 32: "dword", 64: "qword", 128: "xmmword", 256: "ymmword", 512: "zmmword"}

BYTES_SHOWN = 11  # on the instruction's own line


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of CodeBuffer.records(). address: an ADDRESS_ constant, PADDING or DATA; displacement: the
    label instead where the address is one; immediate: None without one. Absent registers are left out,
    absent base and index -1."""

    offset: int
    length: int
    form: int
    address: int
    registers: tuple[int, ...]
    base: int
    index: int
    scale: int
    displacement: int
    immediate: int | None


def listing(buffer: CodeBuffer, notes: Sequence[tuple[int, str]] = ()) -> str:
    """The whole buffer as text, one instruction a line, labels on lines of their own. notes: offsets of
    instructions, rising, and what to say before each."""
    return "".join(f"{line}\n" for line in _lines(buffer, list(notes)))


def mnemonics(buffer: CodeBuffer) -> Iterator[str]:
    """Of every instruction in the buffer, in order; padding and data are none."""
    for record in (Record(*entry) for entry in buffer.records()):
        if record.address not in (PADDING, DATA):
            yield _row(buffer, record).mnemonic


def _row(buffer: CodeBuffer, record: Record) -> Row | WordRow:
    assert isinstance(buffer, X86Buffer | WordBuffer)
    return buffer.forms.row(record.form)


def instruction_text(form: FormName, record: Record) -> str:
    """Intel syntax of one instruction, e.g. `vmovups zmm3{k1}{z}, zmmword ptr [rax + 0x40]`."""
    numbers = iter(record.registers)
    texts = []
    for operand in form.operands:
        if operand.kind == "memory":
            text = _memory(operand, record)
        elif operand.kind == "immediate":
            text = _number(record.immediate or 0)
        elif operand.kind == "relative":
            text = f"L{record.displacement}"
        else:
            text = register_name(operand.kind, next(numbers))
        if operand.masked:
            text += f"{{k{next(numbers)}}}" + ("{z}" if operand.zeroing else "")
        texts.append(text)
    return f"{form.mnemonic} {', '.join(texts)}".rstrip()


def register_name(kind: str, number: int) -> str:
    if kind == "r64":
        return R64[number]
    return R32[number] if kind == "r32" else f"{kind}{number}"


def _lines(buffer: CodeBuffer, notes: list[tuple[int, str]]) -> Iterator[str]:
    code = buffer.code()
    labels = sorted((at, label) for label, at in enumerate(buffer.labels) if at is not None)
    for record in (Record(*fields) for fields in buffer.records()):
        while notes and notes[0][0] <= record.offset:
            yield f"; {notes.pop(0)[1]}"
        while labels and labels[0][0] <= record.offset:
            yield f"L{labels.pop(0)[1]}:"
        encoding = code[record.offset : record.offset + record.length]
        if record.address == DATA:
            text = f"({record.length} bytes of data)"
        elif record.address == PADDING:
            text = f"({record.length} bytes of padding)"
        elif isinstance(buffer, WordBuffer):
            word = int.from_bytes(encoding, "little")
            yield f"{record.offset:04x}  {word:08x}    {word_text(buffer, record, word)}"
            continue
        else:
            assert isinstance(buffer, X86Buffer)
            text = instruction_text(buffer.forms.row(record.form).form, record)
        shown = encoding[:BYTES_SHOWN].hex(" ") + (".." if len(encoding) > BYTES_SHOWN else "")
        yield f"{record.offset:04x}  {shown:<{3 * BYTES_SHOWN + 1}} {text}"
    for _, label in labels:
        yield f"L{label}:"


def word_text(buffer: WordBuffer, record: Record, word: int) -> str:
    """One instruction word as its row reads it; labels by number."""
    row, values = buffer.forms.row(record.form), list(buffer.forms.decode(record.form, word))
    if row.label >= 0:
        values[row.label] = record.displacement
    return row.instruction_text(values, buffer.forms.kinds)


def _memory(operand: Operand, record: Record) -> str:
    terms = []
    if record.address == ADDRESS_LABEL:
        terms = ["rip", f"L{record.displacement}"]
    elif record.address in (ADDRESS_BASE, ADDRESS_INDEXED):
        terms = [R64[record.base]]
        if record.address == ADDRESS_INDEXED:
            terms.append(R64[record.index] + (f"*{record.scale}" if record.scale > 1 else ""))
        if record.displacement:
            terms.append(_number(record.displacement))
    address = " + ".join(terms).replace("+ -", "- ")
    size = f"{SIZES[operand.bits]} ptr " if operand.bits else ""
    broadcast = f"{{1to{operand.broadcast}}}" if operand.broadcast else ""
    return f"{size}[{address}]{broadcast}"


def _number(value: int) -> str:
    return str(value) if -10 < value < 10 else hex(value)
