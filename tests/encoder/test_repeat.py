"""X86Buffer.repeat: a body emitted once, unrolled by the buffer."""

from __future__ import annotations

import pytest

from neurojit.encoder import X86Buffer, forms, new_buffer
from neurojit.encoder.listing import listing
from neurojit.encoder.peachpy_encoder import load
from neurojit.errors import EncodeError, UnknownFormError

LOAD = forms["vmovups zmm, m512"]
FMA = forms["vfmadd231ps zmm, zmm, m32{1to16}"]
MASKED = forms["vmovups m512{k}, zmm"]
INDEXED = forms["vmovups ymm, m256"]
ADD = forms["add r64, r64"]
SHIFT = forms["shl r64, imm8"]
JUMP = forms["jmp rel32"]
A, B = 6, 12  # rsi, r12: one takes a SIB byte


def body(buffer: X86Buffer, n: int) -> None:
    buffer.mem(LOAD, B, -64 + n * 4096, 31)
    buffer.mem(FMA, A, n * 12, 3, 31)
    buffer.mem_indexed(INDEXED, B, A, 4, 32 + n * 4096, 7)
    buffer.regs(ADD, 1, 2)
    buffer.imm(SHIFT, 3, 8)


def encoders() -> list[str]:
    return ["table", "peachpy"] if load() is not None else ["table"]


@pytest.mark.parametrize("encoder", encoders())
def test_same_as_emitting_each_repetition(encoder: str) -> None:
    unrolled, expected = new_buffer(encoder), new_buffer(encoder)
    unrolled.regs(ADD, 0, 1)
    expected.regs(ADD, 0, 1)
    first = unrolled.mark
    body(unrolled, 0)
    unrolled.repeat(first, 5, {A: 12, B: 4096})
    for n in range(6):
        body(expected, n)
    assert unrolled.records() == expected.records()
    assert listing(unrolled) == listing(expected)
    assert unrolled.finish() == expected.finish()


@pytest.mark.parametrize("encoder", encoders())
def test_the_registers_of_a_row_become_those_of_the_next(encoder: str) -> None:
    """Vector registers 4 and 5 move, in any order; others stay, and so do masks and general registers of
    these numbers."""
    registers = [4, 5, 9, 8, 20, 30, 1, 0, 6, 29, 12, 2]
    rows, expected = new_buffer(encoder), new_buffer(encoder)

    def row(buffer: X86Buffer, n: int) -> None:
        for column in range(2):
            buffer.mem(FMA, 4, n * 12, registers[2 * n + column], 31)
            buffer.mem(MASKED, B, n * 256, 4, registers[2 * n + column])
        buffer.regs(ADD, 4, 5)

    row(rows, 0)
    rows.repeat(0, 5, {4: 12, B: 256}, bytes.maketrans(bytes(registers[:-2]), bytes(registers[2:])))
    for n in range(6):
        row(expected, n)
    assert listing(rows) == listing(expected)
    assert rows.finish() == expected.finish()


@pytest.mark.parametrize("encoder", encoders())
def test_immediates_of_one_form_grow(encoder: str) -> None:
    """Element after element of a register."""
    spread, other = forms["vpermilps zmm, zmm, imm8"], forms["vshuff32x4 zmm, zmm, zmm, imm8"]
    expected, repeated = new_buffer(encoder), new_buffer(encoder)
    for buffer, times in ((repeated, 1), (expected, 4)):
        for n in range(times):
            buffer.imm(spread, 0x55 * n, 1, 2)
            buffer.imm(other, 1, 1, 2, 2)
            buffer.mem(FMA, A, 4 * n, 3, 1)
    repeated.repeat(0, 3, {A: 4}, form=spread, immediate=0x55)
    assert listing(repeated) == listing(expected)
    assert repeated.finish() == expected.finish()


def test_an_immediate_beyond_its_field_emits_nothing() -> None:
    buffer = new_buffer()
    spread = forms["vpermilps zmm, zmm, imm8"]
    buffer.imm(spread, 0, 1, 2)
    size, mark = buffer.size, buffer.mark
    with pytest.raises(EncodeError, match="immediate=340, expected 0 to 255"):
        buffer.repeat(0, 4, {}, form=spread, immediate=0x55)
    assert (buffer.size, buffer.mark) == (size, mark)


def test_a_register_beyond_the_last_emits_nothing() -> None:
    buffer = new_buffer()
    buffer.mem(FMA, A, 0, 4, 31)
    size, mark = buffer.size, buffer.mark
    with pytest.raises(EncodeError, match="repeat: vector register=32, expected 0 to 31"):
        buffer.repeat(0, 2, {}, bytes.maketrans(bytes([4, 18]), bytes([18, 32])))
    assert (buffer.size, buffer.mark) == (size, mark)


def test_no_times_is_nothing() -> None:
    buffer = new_buffer()
    body(buffer, 0)
    size = buffer.size
    buffer.repeat(0, 0, {A: 4})
    assert buffer.size == size


def test_a_displacement_beyond_32_bits_emits_nothing() -> None:
    buffer = new_buffer()
    body(buffer, 0)
    size, mark = buffer.size, buffer.mark
    with pytest.raises(EncodeError, match="displacement"):
        buffer.repeat(0, 3, {B: 1 << 30})
    assert (buffer.size, buffer.mark) == (size, mark)


@pytest.mark.parametrize("encoder", encoders())
def test_branches_cannot_be_repeated(encoder: str) -> None:
    buffer = new_buffer(encoder)
    label = buffer.new_label()
    buffer.bind(label)
    buffer.jump(JUMP, label)
    with pytest.raises(EncodeError, match="cannot be repeated"):
        buffer.repeat(0, 1, {})


@pytest.mark.parametrize("encoder", encoders())
def test_constants_at_labels_are_repeated(encoder: str) -> None:
    """Every repetition reads the same constant; one that is refused leaves no reference behind."""
    buffer = new_buffer(encoder)
    data, load = buffer.new_label(), forms["vbroadcastss ymm, m32"]
    buffer.rip(load, data, 1)
    next_one = bytes.maketrans(bytes(range(1, 32)), bytes(range(2, 33)))
    if encoder == "table":
        with pytest.raises(EncodeError, match="register"):
            buffer.repeat(0, 40, {}, next_one)
    buffer.repeat(0, 2, {}, next_one)
    size = buffer.size // 3
    buffer.bind(data)
    buffer.raw(bytes(4))
    code = buffer.finish()
    distances = [int.from_bytes(code[end - 4 : end], "little") for end in (size, 2 * size, 3 * size)]
    assert distances == [2 * size, size, 0]
    assert [record[4] for record in buffer.records()[:3]] == [(1,), (2,), (3,)]


def test_data_and_padding_cannot_be_repeated() -> None:
    buffer = new_buffer()
    buffer.raw(b"data")
    with pytest.raises(EncodeError, match="cannot be repeated"):
        buffer.repeat(0, 1, {})


def test_refused_marks_and_bases() -> None:
    buffer = new_buffer()
    with pytest.raises(EncodeError, match="first=1, expected a mark up to 0"):
        buffer.repeat(1, 1, {})
    with pytest.raises(EncodeError, match="base=16, expected 0 to 15"):
        buffer.repeat(0, 1, {16: 4})
    with pytest.raises(EncodeError, match=r"following=2 bytes, expected the 256 of bytes\.maketrans"):
        buffer.repeat(0, 1, {}, b"\0\1")


def test_a_finished_buffer_takes_no_repetition() -> None:
    buffer = new_buffer()
    body(buffer, 0)
    buffer.finish()
    with pytest.raises((EncodeError, UnknownFormError), match="finished"):
        buffer.repeat(0, 1, {})
