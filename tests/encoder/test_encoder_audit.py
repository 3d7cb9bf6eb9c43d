"""Every form, over all registers, addressing modes and displacement sizes, against an independent assembler
(GNU as) and read back by a disassembler (capstone)."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from audit_cases import cases, emit

from neurojit.asm_templates.x86_64.forms import ARITHMETIC, FMA
from neurojit.encoder import X86Buffer, forms
from neurojit.encoder.listing import Record, instruction_text
from neurojit.encoder.row import Row

SLOT = 16  # the assembler aligns every instruction, so that lengths that differ do not shift the rest


@dataclass(frozen=True)
class Audited:
    row: Row
    text: str
    encoding: bytes


@pytest.fixture(scope="module")
def audited() -> list[Audited]:
    buffer, rows, texts = X86Buffer(forms), [], []
    for name in forms.names():
        row = forms.row(forms[name])
        for case in [] if row.branch else cases(row, forms[name]):
            emit(buffer, case)
            rows.append(row)
            texts.append(instruction_text(row.form, case))
    code = buffer.code()
    encodings = [
        code[r.offset : r.offset + r.length] for r in (Record(*fields) for fields in buffer.records())
    ]
    return [Audited(*each) for each in zip(rows, texts, encodings, strict=True)]


def pseudo_prefix(row: Row) -> str:
    """Asks GNU as for the encoding that the table uses."""
    return {0x62: "{evex} ", 0xC4: "{vex3} ", 0x40: "{rex} "}.get(row.pattern[0], "")


def assemble(lines: list[str], folder: Path) -> bytes:
    (folder / "a.s").write_text("".join(f"{line}\n" for line in [".intel_syntax noprefix", ".text", *lines]))
    run = subprocess.run(
        ["as", "--64", "-o", "a.o", "a.s"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[:4000]
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", "a.o", "a.bin"], cwd=folder, check=True)
    return (folder / "a.bin").read_bytes()


needs_as = pytest.mark.skipif(
    not (shutil.which("as") and shutil.which("objcopy")),
    reason="no GNU binutils: encodings are not held against an independent assembler (apt install binutils)",
)

# Where GNU as takes another encoding of the same instruction, and why ours is as good. These are
# compared by meaning: capstone reads both alike.
LEGALLY_DIFFERENT = (
    # An immediate as wide as the form's name says, where GNU as takes the shortest.
    *("add", "sub", "cmp", "and", "or", "xor", "imul", "shl", "shr", "sar"),
    "mov r32, imm32",  # C7 /0 id, as for r64; GNU as: B8+r id
    # EVEX scalar instructions ignore vector length L'L: PeachPy writes 10, GNU as 00.
    *(
        f"{mnemonic}{suffix} xmm, xmm, xmm {{evex}}"
        for suffix in ("ss", "sd")
        for mnemonic in ARITHMETIC + FMA
    ),
)


@pytest.mark.not_emulated("x86-64 encodings are the same from any host, and all of them take minutes")
@needs_as
def test_assembler_agrees(audited: list[Audited], tmp_path: Path) -> None:
    capstone = pytest.importorskip("capstone")
    reader = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    lines = [f"{pseudo_prefix(a.row)}{a.text}\n.p2align 4,0xcc" for a in audited]
    code = assemble(lines, tmp_path)
    slots = [code[at : at + SLOT].ljust(SLOT, b"\xcc") for at in range(0, len(code), SLOT)]
    assert len(slots) == len(audited)
    wrong = []
    for a, theirs in zip(audited, slots, strict=True):
        if a.encoding.ljust(SLOT, b"\xcc") == theirs:
            continue
        if a.row.name.startswith(LEGALLY_DIFFERENT):
            _, length, *_ = ours_read = next(reader.disasm_lite(a.encoding, 0))
            theirs_read = next(reader.disasm_lite(theirs, 0))
            if length == len(a.encoding) and ours_read[2:] == theirs_read[2:]:
                continue
        wrong.append(f"{a.row.name}: {a.text}: table {a.encoding.hex(' ')}, as {theirs.hex(' ')}")
    assert not wrong, f"{len(wrong)} of {len(audited)} differ:\n" + "\n".join(wrong[:20])


# What capstone 5 cannot read.
UNREADABLE = ("vdpbf16ps", "vcvtneps2bf16", "vpdpbusd xmm, xmm, xmm", "vpdpbusd xmm, xmm, m128")
UNREADABLE += ("vpdpbusd ymm, ymm, ymm", "vpdpbusd ymm, ymm, m256")


def normalized(text: str) -> str:
    """One spelling of constants and masks. Compare predicates are left out: capstone names only some of
    them, and the assembler audit holds the byte."""
    text = re.sub(r"0x[0-9a-f]+", lambda number: str(int(number[0], 16)), text)
    text = re.sub(r"-\d+$", lambda number: str(int(number[0]) % 2**64), text)
    if text.startswith("vcmp"):
        text = re.sub(r"^vcmp\w*(p[sd])(.*?)(, \d+)?$", r"vcmp\1\2", text)
    return re.sub(r"(?<=[\]a-z0-9}]) \{", "{", text).replace("movabs", "mov")


@pytest.mark.not_emulated("x86-64 encodings are the same from any host, and all of them take minutes")
def test_disassembler_agrees(audited: list[Audited]) -> None:
    capstone = pytest.importorskip("capstone", reason="no capstone: the encodings are not read back")
    reader = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    wrong = []
    for a in audited:
        if a.row.name.removesuffix(" {evex}").startswith(UNREADABLE):
            continue
        _, length, mnemonic, operands = next(reader.disasm_lite(a.encoding, 0, 1), (0, 0, "unreadable", ""))
        text = f"{mnemonic} {operands}".strip()
        if length != len(a.encoding) or normalized(text) != normalized(a.text):
            wrong.append(f"{a.row.name}: {a.text}: {a.encoding.hex(' ')} reads {text}")
    assert not wrong, f"{len(wrong)} of {len(audited)} differ:\n" + "\n".join(wrong[:20])


@needs_as
def test_assembler_agrees_on_labels(tmp_path: Path) -> None:
    """Every branch forwards and backwards, and every memory form rip-relative."""
    buffer, lines = X86Buffer(forms), ["L0:"]
    back, ahead = buffer.new_label(), buffer.new_label()
    buffer.bind(back)
    for name in forms.names():
        form = forms[name]
        row = forms.row(form)
        for label in (back, ahead):
            if row.branch:
                buffer.jump(form, label)
                lines.append(f"{{disp32}} {row.form.mnemonic} L{label}")
            elif row.modrm >= 0 and not row.immediate:
                registers = tuple((1 << len(flips)) - 1 for _, flips in row.registers)
                buffer.rip(form, label, *registers)
                case = Record(0, 0, form, 3, registers, -1, -1, 1, label, None)
                lines.append(pseudo_prefix(row) + instruction_text(row.form, case))
    buffer.bind(ahead)
    assert buffer.finish() == assemble([*lines, "L1:"], tmp_path)


@pytest.mark.parametrize("alignment", [16, 32])
def test_padding_is_nops(alignment: int) -> None:
    """Between any two offsets the padding decodes to NOPs alone."""
    capstone = pytest.importorskip("capstone")
    reader = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    for start in range(alignment):
        buffer = X86Buffer(forms)
        buffer.raw(b"\xc3" * start)
        buffer.align(alignment)
        padding = buffer.finish()[start:]
        read = list(reader.disasm_lite(padding, 0))
        assert sum(length for _, length, *_ in read) == len(padding) == -start % alignment
        assert {mnemonic for _, _, mnemonic, _ in read} <= {"nop"}
