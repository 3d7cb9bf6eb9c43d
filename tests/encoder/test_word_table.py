"""Word tables and word buffers: rows that are refused, operands that do not fit, unrolling, listings."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from neurojit.encoder import WordTable, aarch64_forms, fail_allocation_after, riscv64_forms
from neurojit.encoder._buffer import WordBuffer, WordRows
from neurojit.encoder.listing import listing
from neurojit.encoder.word_row import WordRow, name_of
from neurojit.errors import EncodeError, UnknownFormError

KINDS = {"v": [f"v{n}" for n in range(32)], "x": [f"x{n}" for n in range(32)], "few": ["a", "b", "c"]}
LANE = "fmla {d:v}.4s, {n:v}.4s, {m:v}.s[{i}] | 0100 1111 10im mmmm 0001 i0nn nnnd dddd | i=[0,1] isa=fp"

ADD, FMA = aarch64_forms["add x, x, x"], aarch64_forms["fmla v.4s, v.4s, v.s[i]"]
LOAD, POST = aarch64_forms["ldr q, [xsp, #i]"], aarch64_forms["ldr q, [xsp], #i"]
BRANCH, RET = aarch64_forms["b.gt label"], aarch64_forms["ret"]


def test_a_row() -> None:
    row = WordRow.parse(LANE, KINDS, ["v"])
    assert [(field.is_vector, field.lane_of) for field in row.fields] == [*[(True, -1)] * 3, (False, 2)]
    assert (row.name, row.mnemonic, row.isa) == ("fmla v.4s, v.4s, v.s[i]", "fmla", ("fp",))
    assert row.name == name_of(LANE)
    assert (row.pattern, row.mask) == (0x4F801000, 0xFFC0F400)
    lane = row.fields[3]
    assert (lane.lowest, lane.highest, lane.pieces) == (0, 3, ((21, 0, 1), (11, 1, 1)))
    assert row.instruction_text((1, 2, 3, 3), KINDS) == "fmla v1.4s, v2.4s, v3.s[3]"


def test_fields_in_several_pieces() -> None:
    """RISC-V's branches: 12|10:5 and 4:1|11, even numbers of 13 bits."""
    line = "bne {s:x}, {t:x}, {i:label} | iiiiiii ttttt sssss 001 iiiii 1100011 | i=s[12,10:5,4:1,11]"
    row = WordRow.parse(line, KINDS)
    offset = row.fields[2]
    assert row.label == 2
    assert (offset.lowest, offset.highest, offset.shift, offset.bits) == (-4096, 4094, 1, 12)
    assert offset.pieces == ((31, 12, 1), (25, 5, 6), (8, 1, 4), (7, 11, 1))


@pytest.mark.parametrize(
    ("text", "base", "displacement"),
    [
        ("ld {t:v}, [{n:x}, #{i}]", 1, 2),
        ("ld {t:v}, [{n:x}], #{i}", 1, -1),
        ("ld {t:v}, [{n:x}, #{i}]!", 1, -1),
        ("ld {t:v}, {i}({n:x})", 2, 1),
        ("ld {t:v}, ({n:x}), {i}", 1, -1),
        ("ld {t:v}, {n:x}, {i}", -1, -1),
    ],
)
def test_addresses(text: str, base: int, displacement: int) -> None:
    row = WordRow.parse(f"{text} | {'0' * 10}iiiiiiiiiiiitttttnnnnn", KINDS)
    assert (row.base, row.displacement) == (base, displacement)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (" | i=", " , i=", "32 bits"),
        (" isa", " | isa", "expected `instruction | word | bits of fields`"),
        ("0100 1111", "0100 111", "32 bits"),
        ("nnnd dddd", "nnnD DDDD", "bits and small letters alone"),
        ("{n:v}.4s", "{d:v}.4s", "each operand once"),
        ("{n:v}.4s", "n.4s", "every letter of the word to be an operand"),
        ("{n:v}", "{n:z}", "kinds among few, label, v, x"),
        ("i=[0,1]", "j=[0,1]", "bits of operands alone on the right"),
        ("i=[0,1]", "i=[0,1] i=[0,1]", "expected letter=bits once"),
        ("i=[0,1]", "i", "expected letter=bits once"),
        ("i=[0,1]", "i=(0,1)", "expected bits like"),
        ("i=[0,1]", "i=[0,1,2]", "3 bits, expected 2 as in the word"),
        ("i=[0,1]", "i=[0,2]", "pieces that leave no bit out"),
        ("i=[0,1]", "i=5-[0,1]", "N one more than they hold"),
        ("i=[0,1]", "m=[0,1,2,3,4]", "expected up to 4 pieces"),
    ],
)
def test_rows_that_contradict_themselves_are_refused(old: str, new: str, message: str) -> None:
    with pytest.raises(EncodeError, match=re.escape(message)):
        WordRow.parse(LANE.replace(old, new, 1), KINDS)


def test_too_many_operands_are_refused() -> None:
    with pytest.raises(EncodeError, match="at most 6 operands"):
        WordRow.parse("many {a}{b}{c}{d}{e}{f}{g} | abcdefg" + "0" * 25, KINDS)


def test_a_kind_limits_its_field() -> None:
    row = WordRow.parse(f"pick {{a:few}} | aa{'0' * 30}", KINDS)
    assert row.fields[0].highest == 2


def table_of(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> WordTable:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text("")
    (folder / name / "encodings.txt").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    return WordTable(name)


def test_a_form_that_stands_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = f"one {{n}} | {'n' * 32}\n"
    with pytest.raises(EncodeError, match="'one n' stands twice"):
        table_of(tmp_path, "twice", row + row, monkeypatch)["one n"]


def test_an_unknown_form() -> None:
    with pytest.raises(
        UnknownFormError, match=r"'vaddps': no such row in encodings.txt of neurojit.asm_temp"
    ):
        aarch64_forms["vaddps"]
    with pytest.raises(EncodeError, match="form 99999: expected an id"):
        aarch64_forms.row(99999)


def test_the_table_is_not_read_at_import() -> None:
    probe = "import neurojit.encoder as e; print(e.aarch64_forms.count, e.aarch64_forms._lines)"
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["0", "None"]


def test_ids_are_stable_across_threads() -> None:
    table, found = WordTable("neurojit.asm_templates.aarch64"), []
    names = aarch64_forms.names()[:200]
    threads = [
        threading.Thread(target=lambda: found.append([table[name] for name in names])) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [found[0]] * 8
    assert table.count == len(names)


def test_rows_run_out() -> None:
    rows, row = WordRows(), WordRow.parse(f"nop | {'0' * 32}", KINDS)
    for _ in range(2048):
        rows.add_row(row)
    with pytest.raises(EncodeError, match="all 2048 form rows are in use"):
        rows.add_row(row)


def test_a_word_of_another_form_is_not_decoded() -> None:
    with pytest.raises(EncodeError, match="add x, x, x: d65f03c0 is no such instruction: expected 8b000000"):
        aarch64_forms.decode(ADD, 0xD65F03C0)


# Buffers ------------------------------------------------------------------------------------------------


@pytest.fixture
def buffer() -> WordBuffer:
    return aarch64_forms.buffer()


@pytest.mark.parametrize(
    ("form", "values", "message"),
    [
        (ADD, (1, 2, 32), r"add x, x, x: operand 2 \(x\)=32, expected 0 to 31, 5 bits"),
        (ADD, (1, 2), "add x, x, x: 2 operands given, expected 3"),
        (ADD, (1, 2, 3, 4), "add x, x, x: 4 operands given, expected 3"),
        (RET, (1,), "ret: 1 operands given, expected 0"),
        (FMA, (1, 2, 3, 4), r"operand 3 \(i\)=4, expected 0 to 3, 2 bits"),
        (LOAD, (1, 2, 65536), r"operand 2 \(i\)=65536, expected 0 to 65520, 12 bits"),
        (LOAD, (1, 2, 24), r"operand 2 \(i\)=24, expected a multiple of 16"),
        (POST, (1, 2, -257), r"operand 2 \(i\)=-257, expected -256 to 255, 9 bits"),
        (BRANCH, (0,), "b.gt label: label 0 is none of this buffer's 0; use new_label"),
        (BRANCH, (1 << 32,), "b.gt label: label -1 is none of this buffer's 0"),
        (99999, (), "form 99999: expected an id from 0 to"),
        (-1, (), "form -1: expected an id"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(
    buffer: WordBuffer, form: int, values: tuple[int, ...], message: str
) -> None:
    with pytest.raises(EncodeError, match=message):
        buffer.emit(form, *values)
    assert (buffer.size, buffer.records(), buffer.finish()) == (0, [], b"")


def test_branches_in_both_directions(buffer: WordBuffer) -> None:
    top, end = buffer.new_label(), buffer.new_label()
    buffer.bind(top)
    buffer.emit(aarch64_forms["b label"], end)
    buffer.emit(BRANCH, top)
    buffer.emit(aarch64_forms["tbz x, #i, label"], 3, 40, end)
    buffer.emit(aarch64_forms["adr x, label"], 1, end)
    buffer.bind(end)
    assert buffer.finish().hex(" ", 4) == "04000014 ecffff54 430040b6 21000010"
    with pytest.raises(EncodeError, match="the buffer is finished; emit into a new one"):
        buffer.emit(RET)


def test_a_branch_too_far(buffer: WordBuffer) -> None:
    label = buffer.new_label()
    buffer.emit(BRANCH, label)
    buffer.raw(bytes((1 << 20) - 4))
    buffer.bind(label)
    with pytest.raises(EncodeError, match="label L0: distance=1048576, expected -1048576 to 1048572"):
        buffer.finish()


def test_padding_is_nops_and_instructions_are_aligned(buffer: WordBuffer) -> None:
    buffer.emit(RET)
    buffer.align(16)
    assert buffer.code()[4:] == bytes.fromhex("1f2003d5") * 3
    buffer.raw(b"abc")
    with pytest.raises(EncodeError, match="ret: at 19, expected a multiple of 4; align"):
        buffer.emit(RET)
    buffer.align(8)
    assert buffer.code()[19:] == bytes(1) + bytes.fromhex("1f2003d5")
    with pytest.raises(EncodeError, match="align=3: expected a power of two"):
        buffer.align(3)


def body(buffer: WordBuffer, n: int) -> None:
    buffer.emit(LOAD, 1, 31, 32 + 16 * n)
    buffer.emit(aarch64_forms["ldur s, [xsp, #i]"], 2, 4, -12 * n)
    buffer.emit(FMA, 3, 1, 2, 1)
    buffer.emit(ADD, 5, 5, 6)


def test_repeating_is_emitting_again(buffer: WordBuffer) -> None:
    expected = aarch64_forms.buffer()
    buffer.emit(RET)
    expected.emit(RET)
    first = buffer.mark
    body(buffer, 0)
    buffer.repeat(first, 5, {31: 16, 4: -12, 7: 1})
    for n in range(6):
        body(expected, n)
    assert listing(buffer) == listing(expected)
    assert buffer.finish() == expected.finish()


def test_rows_and_lanes_are_repeated(buffer: WordBuffer) -> None:
    """Registers of a column become the next in any order, under all their names; the lanes that are taken of
    one grow, wherever an instruction names them. General registers of these numbers stay."""
    expected = aarch64_forms.buffer()
    chain = [1, 9, 4, 30]

    def row(buffer: WordBuffer, n: int) -> None:
        buffer.emit(LOAD, chain[n], 1, 16 * n)
        buffer.emit(FMA, 3, chain[n], 2, n)
        buffer.emit(aarch64_forms["ins v.s[i], v.s[k]"], chain[n], 1, 2, n)
        buffer.emit(aarch64_forms["ins v.s[i], v.s[k]"], 2, n, chain[n], 1)
        buffer.emit(aarch64_forms["st1 {v.s}[i], [xsp]"], 2, n, 9)
        buffer.emit(aarch64_forms["ldr s, [xsp, #i]"], chain[n], 4, 0)
        buffer.emit(ADD, 9, 1, 4)

    row(buffer, 0)
    following = bytes.maketrans(bytes(chain[:-1]), bytes(chain[1:]))
    buffer.repeat(0, 3, {1: 16}, following, {2: 1})
    for n in range(4):
        row(expected, n)
    assert listing(buffer) == listing(expected)


def test_rows_of_riscv_are_repeated() -> None:
    buffer, expected = riscv64_forms.buffer(), riscv64_forms.buffer()
    for made, times in ((buffer, 1), (expected, 3)):
        for n in range(times):
            made.emit(riscv64_forms["vfmacc.vf v, f, v"], 8 + 4 * n, 8, 1)
            made.emit(riscv64_forms["flw f, i(x)"], 8, 4 * n, 8)
    buffer.repeat(0, 2, {8: 4}, bytes.maketrans(bytes([8, 12]), bytes([12, 16])))
    assert listing(buffer) == listing(expected)


def test_a_copy_has_loops_and_constants_of_its_own_place(buffer: WordBuffer) -> None:
    """Its branch goes to its own head; what is outside, a constant, is as much nearer. Padding is NOPs."""
    data = buffer.new_label()
    head = buffer.new_label()
    buffer.align(32)
    buffer.bind(head)
    buffer.emit(aarch64_forms["ldr q, label"], 1, data)
    buffer.emit(BRANCH, head)
    last = buffer.mark
    buffer.emit(RET)
    buffer.copy(0, last)
    buffer.emit(RET)
    buffer.align(16)
    buffer.bind(data)
    buffer.raw(bytes(16))
    buffer.finish()
    literal, branch = aarch64_forms.row(aarch64_forms["ldr q, label"]), aarch64_forms["b.gt label"]
    assert buffer.label_offset(data) == 48
    for begin in (0, 32):
        assert buffer.word_at(begin) & literal.mask == literal.pattern
        assert aarch64_forms.decode(aarch64_forms["ldr q, label"], buffer.word_at(begin)) == (1, 48 - begin)
        assert aarch64_forms.decode(branch, buffer.word_at(begin + 4)) == (-4,)
    assert [buffer.word_at(at) for at in range(12, 32, 4)] == [0xD503201F] * 5
    with pytest.raises(EncodeError, match="the buffer is finished"):
        buffer.copy(0, 1)


def test_lanes_and_registers_beyond_the_last_emit_nothing(buffer: WordBuffer) -> None:
    buffer.emit(FMA, 3, 1, 2, 1)
    before = buffer.size, buffer.mark
    with pytest.raises(EncodeError, match=r"fmla v\.4s.*operand 3 \(i\)=4, expected 0 to 3"):
        buffer.repeat(0, 3, {}, lanes={2: 1})
    with pytest.raises(EncodeError, match=r"fmla v\.4s.*operand 1 \(v\)=32, expected 0 to 31"):
        buffer.repeat(0, 2, {}, bytes.maketrans(bytes([1, 7]), bytes([7, 32])))
    with pytest.raises(EncodeError, match="register=32, expected 0 to 31"):
        buffer.repeat(0, 1, {}, lanes={32: 1})
    with pytest.raises(EncodeError, match="following=0 bytes, expected the 256"):
        buffer.repeat(0, 1, {}, b"")
    assert before == (buffer.size, buffer.mark)


def test_what_cannot_be_repeated_emits_nothing(buffer: WordBuffer) -> None:
    body(buffer, 0)
    before = buffer.size, buffer.mark
    with pytest.raises(EncodeError, match=r"ldur s.*operand 2 \(i\)=-258, expected -256 to 255"):
        buffer.repeat(0, 3, {4: -129})
    with pytest.raises(EncodeError, match=r"ldr q.*operand 2 \(i\)=40, expected a multiple of 16"):
        buffer.repeat(0, 1, {31: 8})
    with pytest.raises(EncodeError, match="first=5, expected a mark up to 4"):
        buffer.repeat(5, 1, {})
    with pytest.raises(EncodeError, match="base=32, expected 0 to 31"):
        buffer.repeat(0, 1, {32: 4})
    buffer.emit(POST, 1, 2, 16)
    with pytest.raises(EncodeError, match="bases without displacement cannot be repeated"):
        buffer.repeat(4, 1, {2: 16})
    assert (before[0] + 4, before[1] + 1) == (buffer.size, buffer.mark)
    label = buffer.new_label()
    buffer.emit(BRANCH, label)
    with pytest.raises(EncodeError, match="labels, padding, data and bases without displacement"):
        buffer.repeat(5, 1, {})


def test_the_words_of_a_buffer(buffer: WordBuffer) -> None:
    buffer.emit(RET)
    assert buffer.word_at(0) == 0xD65F03C0
    with pytest.raises(EncodeError, match="offset=4, expected at most 0"):
        buffer.word_at(4)


def test_a_gap_is_filled_later(buffer: WordBuffer) -> None:
    end = buffer.new_label()
    gap = buffer.mark
    buffer.emit(aarch64_forms["nop"])
    buffer.emit(RET)
    buffer.replace(gap, aarch64_forms["b label"], end)
    with pytest.raises(EncodeError, match="record 0 is no instruction that can be replaced"):
        buffer.replace(gap, RET)
    with pytest.raises(EncodeError, match="record 2 is no instruction"):
        buffer.replace(2, RET)
    buffer.replace(1, ADD, 1, 2, 3)
    with pytest.raises(EncodeError, match="operand 0"):
        buffer.replace(1, ADD, 32, 2, 3)
    buffer.bind(end)
    assert buffer.finish().hex(" ", 4) == "02000014 4100038b"
    assert listing(buffer).splitlines()[0] == "0000  14000002    b L0"


def test_out_of_memory_leaves_nothing_half_done() -> None:
    for failing in range(3):
        buffer = aarch64_forms.buffer()
        fail_allocation_after(failing)
        try:
            with pytest.raises(MemoryError, match="ret: code buffer of 0 bytes cannot grow"):
                buffer.emit(RET)
        finally:
            fail_allocation_after(-1)
        assert (buffer.size, buffer.mark) == (0, 0)
        buffer.emit(RET)
        assert buffer.size == 4
