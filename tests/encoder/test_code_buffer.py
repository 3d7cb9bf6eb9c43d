"""The code buffer: labels, fixups, padding, data, memory; and every operand that does not fit its field."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from neurojit.encoder import X86Buffer, fail_allocation_after, forms, new_buffer
from neurojit.encoder._buffer import ADDRESS_BASE, ADDRESS_BRANCH, ADDRESS_NONE, PADDING
from neurojit.encoder.listing import Record
from neurojit.errors import EncodeError

FMA = forms["vfmadd231ps ymm, ymm, ymm"]
FMA_EVEX = forms["vfmadd231ps ymm, ymm, ymm {evex}"]
LOAD = forms["vmovups zmm{k}{z}, m512"]
LEA = forms["lea r64, m"]
ADD8, ADD32 = forms["add r64, imm8"], forms["add r64, imm32"]
MOV64, MOV32 = forms["mov r64, imm64"], forms["mov r32, imm32"]
SHIFT = forms["vpslld ymm, ymm, imm8"]
CMP = forms["vcmpps k, zmm, m512, imm8"]
JMP, JNE, RET = forms["jmp rel32"], forms["jne rel32"], forms["ret"]


@pytest.fixture
def buffer() -> X86Buffer:
    return new_buffer("table")


@pytest.fixture
def allocations() -> Iterator[Callable[[int], None]]:
    yield fail_allocation_after
    fail_allocation_after(-1)


def test_empty() -> None:
    assert new_buffer().finish() == b""


def test_branches_in_both_directions(buffer: X86Buffer) -> None:
    top, end = buffer.new_label(), buffer.new_label()
    buffer.bind(top)
    buffer.jump(JMP, end)
    buffer.jump(JNE, top)
    buffer.bind(end)
    assert buffer.finish().hex(" ") == "e9 06 00 00 00 0f 85 f5 ff ff ff"
    assert buffer.labels == [0, 11]


def test_rip_relative_data(buffer: X86Buffer) -> None:
    data = buffer.new_label()
    buffer.rip(forms["vbroadcastss zmm, m32"], data, 1)
    buffer.regs(RET)
    buffer.align(16)
    buffer.bind(data)
    buffer.raw(b"\0\0\x80\x3f")
    code = buffer.finish()
    assert code[6:10] == (6).to_bytes(4, "little")
    assert code[16:] == b"\0\0\x80\x3f"


def test_rip_before_an_immediate() -> None:
    """The distance counts from the end of the instruction, beyond the immediate."""
    buffer = new_buffer()
    label = buffer.new_label()
    head = bytes.fromhex("62f17c48c205 00000000 07")
    buffer.append_encoded(CMP, head, (0, 0), 3, label=label, value=7)
    buffer.bind(label)
    assert buffer.finish() == head


def test_label_offsets(buffer: X86Buffer) -> None:
    label = buffer.new_label()
    assert buffer.label_offset(label) is None
    buffer.regs(RET)
    buffer.bind(label)
    assert buffer.label_offset(label) == 1
    with pytest.raises(EncodeError, match="label 7 is none of this buffer's 1"):
        buffer.label_offset(7)


def test_growth() -> None:
    buffer, labels = new_buffer(), []
    for n in range(5000):
        labels.append(buffer.new_label())
        buffer.bind(labels[-1])
        buffer.jump(JMP, labels[n // 2])
    assert buffer.size == len(buffer.finish()) == 5 * 5000
    assert len(buffer.records()) == 5000
    assert buffer.labels == [5 * n for n in range(5000)]


def test_records(buffer: X86Buffer) -> None:
    buffer.regs(FMA, 1, 2, 3)
    buffer.mem(LOAD, 7, -64, 9, 1)
    buffer.imm(ADD8, -5, 4)
    buffer.align(8)
    records = [Record(*fields) for fields in buffer.records()]
    assert records[0] == Record(0, 5, FMA, ADDRESS_NONE, (1, 2, 3), -1, -1, 1, 0, None)
    assert records[1] == Record(5, 7, LOAD, ADDRESS_BASE, (9, 1), 7, -1, 1, -64, None)
    assert records[2] == Record(12, 4, ADD8, ADDRESS_NONE, (4,), -1, -1, 1, 0, -5)
    assert len(records) == 3  # 16 is a multiple of 8 already
    buffer.align(32)
    assert buffer.records()[3][:4] == (16, 16, 0, PADDING)


@pytest.mark.parametrize("value", [2**64 - 1, -1, 2**63, -(2**63), 0xBFF0000000000000])
def test_64_bit_constants_of_either_sign(buffer: X86Buffer, value: int) -> None:
    buffer.imm(MOV64, value, 0)
    assert buffer.finish() == b"\x48\xb8" + (value % 2**64).to_bytes(8, "little")


REFUSED: list[tuple[Callable[[X86Buffer], object], str]] = [
    (lambda b: b.regs(FMA, 16, 0, 0), r"ymm, ymm, ymm: register operand 0 \(ymm\)=16, expected 0 to 15"),
    (lambda b: b.regs(FMA, 0, -2, 0), r"register operand 1 \(ymm\)=-2, expected 0 to 15"),
    (lambda b: b.regs(FMA, 0, 0), r"register operand 2 \(ymm\)=-1, expected 0 to 15"),
    (lambda b: b.regs(FMA_EVEX, 0, 0, 32), r"register operand 2 \(ymm\)=32, expected 0 to 31"),
    (lambda b: b.mem(LOAD, 0, 0, 1, 0), r"register operand 1 \(mask\)=0, expected 1 to 7"),
    (lambda b: b.mem(LOAD, 0, 0, 1, 8), r"register operand 1 \(mask\)=8, expected 1 to 7"),
    (lambda b: b.regs(FMA, 0, 0, 0, 0), "4 registers given"),
    (lambda b: b.regs(LOAD, 0, 1), "2 registers given"),
    (lambda b: b.mem(FMA, 0, 0, 0, 0, 0), "3 registers and memory given"),
    (lambda b: b.imm(FMA, 1, 0, 0, 0), "3 registers and an immediate given"),
    (lambda b: b.regs(ADD8, 0), "1 registers given"),
    (lambda b: b.regs(JMP), "0 registers given"),
    (lambda b: b.jump(FMA, b.new_label()), "0 registers and a branch label given"),
    (lambda b: b.mem(CMP, 0, 0, 0, 0), "2 registers and memory given"),
    (lambda b: b.mem_imm(CMP, 0, 0, 256, 0, 0), "immediate=256, expected 0 to 255"),
    (lambda b: b.mem(LEA, 16, 0, 0), "lea r64, m: base=16, expected 0 to 15"),
    (lambda b: b.mem(LEA, -1, 0, 0), "base=-1, expected 0 to 15"),
    (lambda b: b.mem(LEA, 0, 2**31, 0), "displacement=2147483648, expected -2147483648 to 2147483647"),
    (lambda b: b.mem(LEA, 0, -(2**31) - 1, 0), "displacement=-2147483649"),
    (
        lambda b: b.mem_indexed(LEA, 0, 4, 1, 0, 0),
        "index=4, expected 0 to 15 except 4: rsp cannot be an index",
    ),
    (lambda b: b.mem_indexed(LEA, 0, 16, 1, 0, 0), "index=16"),
    (lambda b: b.mem_indexed(LEA, 0, -1, 1, 0, 0), "index=-1"),
    (lambda b: b.mem_indexed(LEA, 0, 1, 3, 0, 0), "scale=3, expected 1, 2, 4 or 8"),
    (lambda b: b.mem_indexed(LEA, 0, 1, 0, 0, 0), "scale=0"),
    (lambda b: b.mem_indexed(LEA, 0, 1, 1, 2**40, 0), f"displacement={2**40}"),
    (lambda b: b.imm(ADD8, 128, 0), "add r64, imm8: immediate=128, expected -128 to 127"),
    (lambda b: b.imm(ADD8, -129, 0), "immediate=-129"),
    (lambda b: b.imm(ADD32, 2**31, 0), "immediate=2147483648, expected -2147483648 to 2147483647"),
    (lambda b: b.imm(MOV32, -1, 0), "immediate=-1, expected 0 to 4294967295"),
    (lambda b: b.imm(MOV32, 2**32, 0), "immediate=4294967296"),
    (lambda b: b.imm(SHIFT, 256, 0, 0), "immediate=256, expected 0 to 255"),
    (lambda b: b.imm(SHIFT, -1, 0, 0), "immediate=-1, expected 0 to 255"),
    (lambda b: b.imm(MOV64, 2**64, 0), "does not fit in 64 bits"),
    (lambda b: b.imm(MOV64, -(2**63) - 1, 0), "does not fit in 64 bits"),
    (lambda b: b.imm(ADD32, 2**63, 0), "does not fit in 64 bits"),
    (lambda b: b.imm(-1, 2**63, 0), "form -1: immediate=9223372036854775808"),
    (lambda b: b.regs(-1), "form -1: expected an id from 0"),
    (lambda b: b.regs(4095), "form 4095: expected an id from 0"),
    (lambda b: b.jump(JMP, 0), "jmp rel32: label 0 is none of this buffer's 0"),
    (lambda b: b.jump(JMP, -1), "label -1 is none"),
    (lambda b: b.rip(LEA, 3, 0), "lea r64, m: label 3 is none"),
    (lambda b: b.bind(0), "code buffer: label 0 is none"),
    (lambda b: b.align(3), "align=3: expected a power of two from 1 to 4096"),
    (lambda b: b.align(0), "align=0"),
    (lambda b: b.align(8192), "align=8192"),
    (lambda b: b.append_encoded(RET, b"", ()), "ret: encoding of 0 bytes, expected 1 to 15"),
    (lambda b: b.append_encoded(RET, bytes(16), ()), "encoding of 16 bytes"),
    (
        lambda b: b.append_encoded(JMP, b"\xe9", (), ADDRESS_BRANCH, label=b.new_label()),
        "1 bytes, expected 5 to 15",
    ),
    (lambda b: b.append_encoded(RET, b"\xc3", (), PADDING), "address=5 is none of the ADDRESS_ constants"),
    (lambda b: b.append_encoded(-1, b"\xc3", ()), "form -1"),
    (lambda b: b.check(ADD8, (0,), value=300), "immediate=300"),
    (lambda b: b.raw(bytes(2**30 + 1)), "0 bytes so far: expected at most"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_what_does_not_fit_is_refused_and_leaves_nothing(
    buffer: X86Buffer, call: Callable[[X86Buffer], object], message: str
) -> None:
    with pytest.raises(EncodeError, match=message):
        call(buffer)
    assert (buffer.size, buffer.records(), buffer.finish()) == (0, [], b"")


def test_label_bound_twice(buffer: X86Buffer) -> None:
    label = buffer.new_label()
    buffer.bind(label)
    with pytest.raises(EncodeError, match="label L0 is bound already, at 0"):
        buffer.bind(label)


def test_unbound_label(buffer: X86Buffer) -> None:
    buffer.new_label()  # never referred to: no error
    label = buffer.new_label()
    buffer.jump(JMP, label)
    with pytest.raises(EncodeError, match="label L1 is referred to and was never bound"):
        buffer.finish()
    buffer.bind(label)
    assert buffer.finish() == b"\xe9\0\0\0\0"


@pytest.mark.parametrize(
    "call",
    [
        lambda b: b.regs(RET),
        lambda b: b.new_label(),
        lambda b: b.bind(0),
        lambda b: b.raw(b"x"),
        lambda b: b.align(16),
        lambda b: b.copy(0, 1),
        lambda b: b.append_encoded(RET, b"\xc3", ()),
    ],
)
def test_finished_buffer_takes_nothing_more(buffer: X86Buffer, call: Callable[[X86Buffer], object]) -> None:
    buffer.new_label()
    buffer.regs(RET)
    code = buffer.finish()
    with pytest.raises(EncodeError, match="the buffer is finished; emit into a new one"):
        call(buffer)
    assert buffer.finish() == buffer.code() == code


def test_out_of_memory_at_every_allocation(allocations: Callable[[int], None]) -> None:
    """Whichever allocation fails: MemoryError, nothing half done, and the same call then succeeds."""

    def emit(buffer: X86Buffer, step: int) -> None:
        if step % 3 == 0:
            buffer.jump(JMP, 0)
        elif step % 3 == 1:
            buffer.mem(LOAD, 1, 64 * step, 2, 1)
        else:
            buffer.new_label()

    def program(failing: int) -> tuple[bytes, int]:
        allocations(-1)
        buffer, failures = new_buffer(), 0
        buffer.bind(buffer.new_label())
        allocations(failing)
        for step in range(1500):
            before = (buffer.size, len(buffer.records()), len(buffer.labels)) if step < 30 else None
            try:
                emit(buffer, step)
            except MemoryError:
                failures += 1
                assert before in (None, (buffer.size, len(buffer.records()), len(buffer.labels)))
                allocations(-1)
                emit(buffer, step)
        return buffer.finish(), failures

    whole, _ = program(-1)
    outcomes = [program(failing) for failing in range(16)]
    assert all(code == whole for code, _ in outcomes)
    assert sum(failures for _, failures in outcomes) >= 10


def test_out_of_memory_for_data_and_padding(buffer: X86Buffer, allocations: Callable[[int], None]) -> None:
    buffer.regs(RET)
    allocations(0)
    with pytest.raises(MemoryError, match="code buffer of 1 bytes cannot grow"):
        buffer.raw(bytes(8192))
    with pytest.raises(MemoryError):
        buffer.align(4096) or buffer.raw(b"1")
    allocations(-1)
    buffer.raw(bytes(8192))
    assert buffer.size > 8192


def emit_loop_with_constant(buffer: X86Buffer, data: int) -> tuple[int, int]:
    """A loop with a jump out of it and a constant, 32-byte aligned: its first mark and the one behind it."""
    first = buffer.mark
    top, end = buffer.new_label(), buffer.new_label()
    buffer.regs(FMA, 1, 2, 3)
    buffer.align(32)
    buffer.bind(top)
    buffer.rip(forms["vbroadcastss zmm, m32"], data, 1)
    buffer.jump(JNE, end)
    buffer.jump(JMP, top)
    buffer.bind(end)
    return first, buffer.mark


def test_a_copy_has_the_code_of_the_original(buffer: X86Buffer) -> None:
    data = buffer.new_label()
    marks = emit_loop_with_constant(buffer, data)
    records = len(buffer.records())
    buffer.regs(RET)
    buffer.copy(*marks)
    buffer.align(64)
    buffer.bind(data)
    buffer.raw(bytes(4))
    code, labels = buffer.finish(), buffer.labels
    copied = buffer.records()[-records - 2 : -2]
    begin = copied[0][0]
    assert begin % 32 == 0
    originals = buffer.records()[:records]
    assert [(r[0] - begin, *r[1:7], *r[9:]) for r in copied] == [(*r[:7], *r[9:]) for r in originals]
    end = copied[-1][0] + copied[-1][1]
    # all but where the constant lies, which is as much nearer
    at, size = 38, end - begin
    assert code[begin : begin + at] == code[:at]
    assert code[begin + at + 4 : end] == code[at + 4 : size]
    distances = (int.from_bytes(code[o + at : o + at + 4], "little") for o in (0, begin))
    assert [o + at + 4 + d for o, d in zip((0, begin), distances, strict=True)] == [labels[data]] * 2


def test_nothing_is_copied_between_equal_marks(buffer: X86Buffer) -> None:
    buffer.regs(RET)
    buffer.copy(1, 1)
    assert buffer.code().hex() == "c3"


@pytest.mark.parametrize(("first", "last", "wrong"), [(0, 2, 2), (2, 1, 2)])
def test_copies_of_nothing_known(buffer: X86Buffer, first: int, last: int, wrong: int) -> None:
    buffer.regs(RET)
    with pytest.raises(EncodeError, match=f"copy: mark {wrong}, expected at most 1"):
        buffer.copy(first, last)
    assert buffer.size == 1


def test_out_of_memory_for_a_copy(allocations: Callable[[int], None]) -> None:
    """Every allocation of a copy fails once; the buffer stays as it was, and the copy is made after all."""
    for successes in range(8):
        buffer = new_buffer("table")
        data = buffer.new_label()
        for _ in range(14):  # so that labels and fixups are full too
            first, last = emit_loop_with_constant(buffer, data)
        before = buffer.code(), len(buffer.labels), buffer.mark
        allocations(successes)
        try:
            for _ in range(12):
                buffer.copy(0, last)
        except MemoryError:
            pass
        else:
            break
        finally:
            allocations(-1)
        kept = buffer.code(), len(buffer.labels), buffer.mark
        assert [
            a[: len(b)] == b if isinstance(a, bytes) else a >= b for a, b in zip(kept, before, strict=True)
        ]
        buffer.copy(first, last)
        buffer.bind(data)
        buffer.finish()
    assert successes > 3
