"""The two encoders, the table and PeachPy at run time, make the same bytes of the same program."""

from __future__ import annotations

import random

import pytest
from audit_cases import cases, emit

from neurojit.encoder import FormTable, X86Buffer, forms, new_buffer, peachpy_encoder
from neurojit.encoder.row import Row
from neurojit.errors import EncodeError, UnknownFormError

needs_peachpy = pytest.mark.skipif(
    peachpy_encoder.load() is None,
    reason="no PeachPy (run `make encodings`, or set PEACHPY_PATH): NEUROJIT_ENCODER=peachpy stays untested",
)


def random_instruction(
    buffer: X86Buffer, row: Row, form: int, choose: random.Random, labels: list[int]
) -> None:
    registers = [choose.randrange(kind == "mask", 1 << len(flips)) for kind, flips in row.registers]
    base, index = choose.randrange(16), choose.choice([i for i in range(16) if i != 4])
    exponent = choose.randrange(32)
    displacement = choose.randrange(-(2**exponent), 2**exponent) * choose.choice([1, row.disp8 or 1])
    displacement = max(-(2**31), min(2**31 - 1, displacement))
    bits = 8 * row.immediate_bytes
    value = choose.randrange(2**bits) - (2**bits >> 1) * row.immediate.startswith("s")
    if row.branch:
        buffer.jump(form, choose.choice(labels))
    elif row.modrm < 0:
        buffer.imm(form, value, *registers) if bits else buffer.regs(form, *registers)
    elif bits:
        buffer.mem_imm(form, base, displacement, value, *registers)
    elif choose.random() < 0.2:
        buffer.rip(form, choose.choice(labels), *registers)
    elif choose.random() < 0.5:
        buffer.mem(form, base, displacement, *registers)
    else:
        buffer.mem_indexed(form, base, index, choose.choice([1, 2, 4, 8]), displacement, *registers)


def random_program(buffer: X86Buffer, seed: int, length: int) -> bytes:
    """`length` instructions of any form, with labels, alignment and data between them."""
    choose = random.Random(seed)
    labels = [buffer.new_label() for _ in range(8)]
    unbound = list(labels)
    for _ in range(length):
        form = forms[choose.choice(forms.names())]
        random_instruction(buffer, forms.row(form), form, choose, labels)
        if unbound and choose.random() < 0.02:
            buffer.bind(unbound.pop())
        if choose.random() < 0.02:
            buffer.align(choose.choice([8, 16, 64]))
            buffer.raw(bytes(choose.randrange(20)))
    for label in unbound:
        buffer.bind(label)
    return buffer.finish()


@pytest.mark.not_emulated("x86-64 encodings are the same from any host, and all of them take minutes")
@needs_peachpy
@pytest.mark.parametrize("seed", range(6))
def test_random_programs_have_the_same_bytes(seed: int) -> None:
    table, peachpy = new_buffer("table"), new_buffer("peachpy")
    assert random_program(table, seed, 1000).hex() == random_program(peachpy, seed, 1000).hex()
    assert table.records() == peachpy.records()


@pytest.mark.not_emulated("x86-64 encodings are the same from any host, and all of them take minutes")
@needs_peachpy
def test_audit_cases_have_the_same_bytes() -> None:
    """Every seventh of the audit's 126,000 cases, over every form."""
    table, peachpy, n = new_buffer("table"), new_buffer("peachpy"), 0
    for name in forms.names():
        row = forms.row(forms[name])
        for case in [] if row.branch else cases(row, forms[name]):
            n += 1
            if n % 7 == 0:
                emit(table, case)
                emit(peachpy, case)
                assert table.size == peachpy.size, (name, case)
    assert table.finish() == peachpy.finish()


@needs_peachpy
def test_broadcast_displacements_are_in_elements() -> None:
    """PeachPy alone divides 64 by the vector's size here and means 4."""
    buffer = new_buffer("peachpy")
    buffer.mem(forms["vaddps zmm, zmm, m32{1to16}"], 0, 64, 1, 2)
    assert buffer.finish()[-1] == 64 // 4


@needs_peachpy
def test_compare_into_a_mask_is_unmasked() -> None:
    """PeachPy alone makes vcmpps k3, zmm, zmm into vcmpps k3{k3}, zmm, zmm."""
    buffer = new_buffer("peachpy")
    buffer.imm(forms["vcmpps k, zmm, zmm, imm8"], 1, 3, 0, 0)
    assert buffer.finish()[3] & 7 == 0


@needs_peachpy
def test_the_same_operands_are_refused() -> None:
    buffer = new_buffer("peachpy")
    with pytest.raises(EncodeError, match=r"register operand 0 \(ymm\)=16, expected 0 to 15"):
        buffer.regs(forms["vmulps ymm, ymm, ymm"], 16, 0, 0)
    with pytest.raises(EncodeError, match="index=4"):
        buffer.mem_indexed(forms["lea r64, m"], 0, 4, 1, 0, 0)
    with pytest.raises(EncodeError, match="immediate=300"):
        buffer.imm(forms["add r64, imm8"], 300, 0)
    with pytest.raises(EncodeError, match="label 0 is none"):
        buffer.jump(forms["jmp rel32"], 0)
    assert buffer.finish() == b""


def test_without_peachpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peachpy_encoder, "load", lambda: None)
    with pytest.raises(
        UnknownFormError, match=r"NEUROJIT_ENCODER=peachpy: PeachPy is not .*`make encodings`"
    ):
        new_buffer("peachpy")


def test_peachpy_path_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A path without PeachPy: not importable, and said so rather than raised."""
    monkeypatch.setattr(peachpy_encoder, "_loaded", [])
    table = FormTable()
    table.names()
    monkeypatch.setattr("importlib.import_module", _no_module)
    assert peachpy_encoder.load() is None
    with pytest.raises(UnknownFormError, match="PEACHPY_PATH"):
        table["vpabsd zmm, zmm"]


def _no_module(name: str) -> None:
    raise ModuleNotFoundError(name)
