"""Rows of the encoder table, learned by differencing encodings that PeachPy made.

The problem: a table of encodings typed by hand is wrong somewhere. The idea: for one form, the encoding is
an affine function over GF(2) of the bits of the operands' numbers. So the encoding with every
register 0 is the pattern, and for each bit of each register number, the encoding with that bit alone set
differs from the pattern in the bits that it flips. Nothing here knows what VEX or EVEX look like.

That the function is affine is then verified, not assumed: every value of every register, with the
others at their highest, must come out as the row says.
"""

from __future__ import annotations

from collections.abc import Sequence

from neurojit.encoder import peachpy_encoder
from neurojit.encoder.form_name import EVEX_REGISTER_BITS, REGISTER_BITS, FormName
from neurojit.encoder.peachpy_encoder import Memory
from neurojit.encoder.row import EVEX_PREFIX, Row
from neurojit.errors import EncodeError

RAX = Memory(0)


def learn(name: str, verify: bool = True) -> Row:
    """The row of the form `name`. verify: hold it against PeachPy for every value of every register.

    UnknownFormError: PeachPy does not know it or is not there. EncodeError: its encodings are not those
    of a form (not affine in a register's number)."""
    form = FormName.parse(name)
    kinds = form.register_kinds
    memory = RAX if form.memory else None
    pattern = _head(form, [0] * len(kinds), memory)
    widths = {**(EVEX_REGISTER_BITS if pattern[0] == EVEX_PREFIX else REGISTER_BITS), "mask": 3}
    fields = []
    for operand, kind in enumerate(kinds):
        flips = []
        for bit in range(widths[kind]):
            numbers = [0] * len(kinds)
            numbers[operand] = 1 << bit
            flips.append(_flipped_bit(name, pattern, _head(form, numbers, memory)))
        fields.append((kind, tuple(flips)))
    modrm = base = index = -1
    if memory:
        zeros = [0] * len(kinds)
        modrm = len(pattern) - 1
        base = _flipped_bit(name, pattern, _head(form, zeros, Memory(8)))
        index = _flipped_bit(name, _head(form, zeros, Memory(0, 1)), _head(form, zeros, Memory(0, 9)))
    row = Row(
        name=name,
        pattern=pattern,
        registers=tuple(fields),
        modrm=modrm,
        base=base,
        index=index,
        disp8=_disp8_unit(form, pattern, len(kinds)) if memory else 0,
        immediate=_immediate(form, kinds),
        branch=form.is_branch,
        isa=peachpy_encoder.extensions(form),
    )
    row.check()
    if verify:
        _verify_affine(row, form, memory)
    return row


def predicted(row: Row, numbers: Sequence[int]) -> bytes:
    """What `row` says about registers `numbers`, with memory at [rax] and no constant."""
    word = int.from_bytes(row.pattern, "little")
    for number, (_, flips) in zip(numbers, row.registers, strict=True):
        for bit, at in enumerate(flips):
            word ^= (number >> bit & 1) << at
    return word.to_bytes(len(row.pattern), "little")


def _head(form: FormName, numbers: Sequence[int], memory: Memory | None) -> bytes:
    """The encoding without its constant."""
    encoding = peachpy_encoder.encode(form, numbers, memory)
    constant = form.immediate.bits // 8 if form.immediate else 4 if form.is_branch else 0
    return encoding[: len(encoding) - constant]


def _flipped_bit(name: str, one: bytes, other: bytes) -> int:
    difference = int.from_bytes(one, "little") ^ int.from_bytes(other, "little")
    if len(one) != len(other) or difference.bit_count() != 1:
        raise EncodeError(
            f"{name!r}: expected encodings one bit apart, got {one.hex(' ')} and {other.hex(' ')}"
        )
    return difference.bit_length() - 1


def _disp8_unit(form: FormName, pattern: bytes, registers: int) -> int:
    """The smallest power of two that is encoded in one byte as 1. PeachPy is wrong about broadcasts."""
    assert form.memory is not None
    if form.memory.broadcast:
        return form.memory.bits // 8
    for unit in (1, 2, 4, 8, 16, 32, 64):
        head = _head(form, [0] * registers, Memory(0, displacement=unit))
        if len(head) == len(pattern) + 1 and head[-1] == 1:
            return unit
    raise EncodeError(f"{form.text!r}: no displacement up to 64 is compressed to one byte")


def _immediate(form: FormName, kinds: Sequence[str]) -> str:
    """Signed where the highest unsigned value of the width needs a wider encoding."""
    if form.immediate is None:
        return ""
    bits = form.immediate.bits
    if bits > 8 and any(o.kind == "r64" for o in form.operands):
        return f"s{bits}"  # no instruction zero-extends to 64 bits, though PeachPy's IMUL allows the values
    pattern = _head(form, [0] * len(kinds), RAX if form.memory else None)
    try:
        highest = peachpy_encoder.encode(
            form, [0] * len(kinds), RAX if form.memory else None, (1 << bits) - 1
        )
    except (EncodeError, LookupError):
        return f"s{bits}"
    return f"u{bits}" if highest == pattern + b"\xff" * (bits // 8) else f"s{bits}"


def _verify_affine(row: Row, form: FormName, memory: Memory | None) -> None:
    highest = [(1 << len(flips)) - 1 for _, flips in row.registers]
    for operand in range(len(highest)):
        for value in range(highest[operand] + 1):
            numbers = [*highest[:operand], value, *highest[operand + 1 :]]
            got, expected = _head(form, numbers, memory), predicted(row, numbers)
            if got != expected:
                raise EncodeError(
                    f"{row.name!r}: registers {numbers}: the row says {expected.hex(' ')}, "
                    f"PeachPy {got.hex(' ')}: not affine in the register numbers"
                )
