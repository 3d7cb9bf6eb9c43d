"""Listings against goldens; `pytest --bless` writes them anew."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

import pytest

from neurojit.encoder import X86Buffer, forms, new_buffer
from neurojit.encoder.listing import listing

GOLDEN = Path(__file__).with_name("golden")
RDI, RSI, RAX, R13 = 7, 6, 0, 13


def dot_product(b: X86Buffer) -> None:
    """A loop with a tail in a masked load, and its constant after the code."""
    loop, one = b.new_label(), b.new_label()
    b.regs(forms["endbr64"])
    b.mem(forms["mov r64, m64"], RDI, 8, RSI)
    b.rip(forms["vbroadcastss zmm, m32"], one, 0)
    b.imm(forms["mov r64, imm32"], -16, RAX)
    b.align(16)
    b.bind(loop)
    b.mem_indexed(forms["vmovups zmm, m512"], RSI, RAX, 4, 64, 17)
    b.mem(forms["vfmadd231ps zmm, zmm, m32{1to16}"], R13, -8, 0, 17)
    b.imm(forms["add r64, imm8"], 16, RAX)
    b.jump(forms["jne rel32"], loop)
    b.mem(forms["vmovups zmm{k}{z}, m512"], RSI, 0, 17, 1)
    b.mem(forms["vmovups m512{k}, zmm"], RSI, 4096, 1, 17)
    b.regs(forms["vzeroupper"])
    b.regs(forms["ret"])
    b.align(16)
    b.bind(one)
    b.raw(b"\x00\x00\x80\x3f" * 4)


def operands(b: X86Buffer) -> None:
    """One of every way to write an operand."""
    end = b.new_label()
    b.regs(forms["kmovw k, r32"], 3, 10)
    b.imm(forms["vcmpps k{k}, zmm, zmm, imm8"], 13, 2, 3, 30, 31)
    b.regs(forms["vmulps ymm{k}{z}, ymm, ymm"], 1, 2, 16, 17)
    b.mem(forms["lea r64, m"], 4, -5, 12)
    b.mem_indexed(forms["lea r64, m"], 5, 9, 1, 0, 0)
    b.mem_imm(forms["vinsertf128 ymm, ymm, m128, imm8"], 12, 16, 1, 1, 2)
    b.mem(forms["prefetcht0 m8"], 12, 2**31 - 1)
    b.imm(forms["mov r64, imm64"], -(2**63), 15)
    b.mem(forms["vmovsd xmm, m64"], 13, 0, 8)
    b.jump(forms["jmp rel32"], end)
    b.bind(end)


@pytest.mark.parametrize("program", [dot_product, operands], ids=lambda p: p.__name__)
def test_golden(program: Callable[[X86Buffer], None], request: pytest.FixtureRequest) -> None:
    buffer, golden = new_buffer(), GOLDEN / f"{program.__name__}.lst"
    program(buffer)
    buffer.finish()
    text = listing(buffer)
    if request.config.getoption("--bless"):
        golden.write_text(text)
    expected = golden.read_text().splitlines()
    difference = "\n".join(difflib.unified_diff(expected, text.splitlines(), lineterm=""))
    assert not difference, f"{difference}\nif this is meant: pytest --bless {Path(__file__).name}"


def test_unfinished_and_empty_buffers_can_be_listed() -> None:
    buffer = new_buffer()
    assert listing(buffer) == ""
    label = buffer.new_label()
    buffer.jump(forms["je rel32"], label)
    assert listing(buffer).split() == ["0000", "0f", "84", "00", "00", "00", "00", "je", "L0"]
