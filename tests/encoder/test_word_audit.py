"""Every row of the word tables against independent assemblers: what a row encodes and reads back as text,
GNU as and llvm-mc assemble to the same word; all registers, lanes and shifts, the edges of constants."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from word_cases import cases

from neurojit.encoder import WordTable, aarch64_forms, riscv64_forms
from neurojit.encoder.listing import Record, listing, word_text
from neurojit.errors import EncodeError

ASM = Callable[[list[str], Path], bytes]


def gnu(prefix: str, *options: str) -> ASM:
    def assemble(lines: list[str], folder: Path) -> bytes:
        (folder / "a.s").write_text("\n".join([".text", *lines, ""]))
        command = [f"{prefix}as", *options, "-o", "a.o", "a.s"]
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr[:4000]
        objcopy = [f"{prefix}objcopy", "-O", "binary", "-j", ".text", "a.o", "a.bin"]
        subprocess.run(objcopy, cwd=folder, check=True)
        return (folder / "a.bin").read_bytes()

    return assemble


def llvm(program: str, *options: str) -> ASM:
    def assemble(lines: list[str], folder: Path) -> bytes:
        text = "\n".join([".text", *lines, ""])
        command = [program, "--assemble", "--filetype=obj", *options, "-o", "b.o"]
        run = subprocess.run(command, cwd=folder, input=text, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr[:4000]
        return elf_text((folder / "b.o").read_bytes())

    return assemble


def elf_text(elf: bytes) -> bytes:
    """The section .text of a little-endian 64-bit object file."""
    table = int.from_bytes(elf[40:48], "little")
    count, names_at = (int.from_bytes(elf[at : at + 2], "little") for at in (60, 62))
    sections = [elf[table + 64 * n : table + 64 * (n + 1)] for n in range(count)]

    def number(section: bytes, at: int, size: int = 8) -> int:
        return int.from_bytes(section[at : at + size], "little")

    names = number(sections[names_at], 24)
    for section in sections:
        start = names + number(section, 0, 4)
        if elf[start : elf.index(b"\0", start)] == b".text":
            return elf[number(section, 24) :][: number(section, 32)]
    raise AssertionError("no .text")


@dataclass(frozen=True)
class Audit:
    """A table, and how each assembler is to read it."""

    forms: WordTable
    assemblers: dict[str, ASM]


AUDITS = {
    "aarch64": Audit(
        aarch64_forms,
        {
            "aarch64-linux-gnu-as": gnu("aarch64-linux-gnu-", "-march=armv8.6-a+dotprod+i8mm+bf16"),
            "llvm-mc-19": llvm("llvm-mc-19", "-triple=aarch64", "-mattr=+v8.6a,+dotprod,+i8mm,+bf16"),
        },
    ),
    "riscv64": Audit(
        riscv64_forms,
        {
            "riscv64-linux-gnu-as": gnu("riscv64-linux-gnu-", "-march=rv64imfdv", "-mno-relax"),
            "llvm-mc-19": llvm("llvm-mc-19", "-triple=riscv64", "-mattr=+m,+f,+d,+v"),
        },
    ),
}
tables = pytest.mark.parametrize("audit", AUDITS.values(), ids=AUDITS)
both = pytest.mark.parametrize(
    ("audit", "assembler"),
    [
        pytest.param(audit, name, id=f"{isa}-{name}")
        for isa, audit in AUDITS.items()
        for name in audit.assemblers
    ],
)


def assembler_of(audit: Audit, name: str) -> ASM:
    if shutil.which(name) is None:
        pytest.skip(f"no {name}: the rows are not held against it (.ci/run says what to install)")
    return audit.assemblers[name]


@both
def test_assemblers_agree(audit: Audit, assembler: str, tmp_path: Path) -> None:
    assemble, forms = assembler_of(audit, assembler), audit.forms
    buffer = forms.buffer()
    for name in forms.names():
        row = forms.row(forms[name])
        for values in cases(row) if row.label < 0 else ():
            buffer.emit(forms[name], *values)
    code = buffer.finish()
    records = [Record(*fields) for fields in buffer.records()]
    words = [int.from_bytes(code[at : at + 4], "little") for at in range(0, len(code), 4)]
    texts = [word_text(buffer, record, word) for record, word in zip(records, words, strict=True)]
    assembled = assemble(texts, tmp_path)
    theirs = [int.from_bytes(assembled[at : at + 4], "little") for at in range(0, len(assembled), 4)]
    wrong = [
        f"{forms.row(record.form).name}: {text}: table {word:08x}, {assembler} {other:08x}"
        for record, word, text, other in zip(records, words, texts, theirs, strict=True)
        if word != other
    ]
    assert not wrong, f"{len(wrong)} of {len(words)} differ:\n" + "\n".join(wrong[:20])


@both
def test_assemblers_agree_on_labels(audit: Audit, assembler: str, tmp_path: Path) -> None:
    """Every form that names a label, backwards and forwards, over some distance."""
    assemble, forms = assembler_of(audit, assembler), audit.forms
    buffer, lines = forms.buffer(), ["L0:"]
    back, ahead = buffer.new_label(), buffer.new_label()
    buffer.bind(back)
    for name in forms.names():
        row = forms.row(forms[name])
        if row.label >= 0:
            for label in (back, ahead):
                values = [label if n == row.label else field.highest for n, field in enumerate(row.fields)]
                buffer.emit(forms[name], *values)
                lines.append(row.instruction_text(values, forms.kinds))
    buffer.bind(ahead)
    assert len(lines) > 10
    assert buffer.finish() == assemble([*lines, "L1:"], tmp_path)


@tables
def test_decoding_is_the_inverse_of_encoding(audit: Audit) -> None:
    forms = audit.forms
    for name in forms.names():
        form, buffer = forms[name], forms.buffer()
        row = forms.row(form)
        if row.label >= 0:
            continue
        tried = list(cases(row))
        for values in tried:
            buffer.emit(form, *values)
        code = buffer.finish()
        words = [int.from_bytes(code[at : at + 4], "little") for at in range(0, len(code), 4)]
        assert [forms.decode(form, word) for word in words] == tried, name


@tables
def test_every_limit_is_held(audit: Audit) -> None:
    """One beyond each end of each field, and beside its unit, is refused by name, and emits nothing."""
    forms = audit.forms
    for name in forms.names():
        form, buffer = forms[name], forms.buffer()
        row = forms.row(form)
        fitting = [buffer.new_label() if n == row.label else f.highest for n, f in enumerate(row.fields)]
        for n, field in enumerate(row.fields):
            unit = 1 << field.shift
            beyond = [field.lowest - unit, field.highest + unit]
            for value in [] if n == row.label else beyond + [field.highest - 1] * (unit > 1):
                with pytest.raises(EncodeError) as caught:
                    buffer.emit(form, *fitting[:n], value, *fitting[n + 1 :])
                assert str(caught.value).startswith(f"{name}: operand {n} ({field.name})={value}, expected ")
        assert buffer.size == 0


@tables
def test_every_form_can_be_listed(audit: Audit) -> None:
    forms = audit.forms
    buffer = forms.buffer()
    label = buffer.new_label()
    for name in forms.names():
        row = forms.row(forms[name])
        buffer.emit(forms[name], *(label if n == row.label else f.lowest for n, f in enumerate(row.fields)))
    lines = listing(buffer).splitlines()
    assert len(lines) == len(forms.names())
    assert all(
        line.split()[2] == forms.row(forms[name]).mnemonic
        for line, name in zip(lines, forms.names(), strict=True)
    )
