"""The operands that the audits try on every form: all values of each register, all addressing modes."""

from __future__ import annotations

from collections.abc import Iterator

from neurojit.encoder import X86Buffer
from neurojit.encoder._buffer import ADDRESS_BASE, ADDRESS_INDEXED, ADDRESS_NONE
from neurojit.encoder.listing import Record
from neurojit.encoder.row import Row

RAX, RCX, RSP, RBP, R9, R12, R13, R14, R15 = 0, 1, 4, 5, 9, 12, 13, 14, 15
BASES = (RAX, RSP, RBP, R12, R13, R15)  # those that ModRM and SIB treat specially, and two that are plain
INDEXES = (RCX, R9, R12, RBP, R14, R13)
IMMEDIATES = {
    "u8": (0, 1, 127, 128, 255),
    "s8": (0, 1, -1, 127, -128),
    "s32": (0, 1000, -1000, 2**31 - 1, -(2**31)),
    "u32": (0, 1000, 2**31, 2**32 - 1),
    "s64": (2**40, -(2**63), 2**63 - 1, 0x3FF0000000000000),
}


def displacements(unit: int) -> tuple[int, ...]:
    """Around every boundary between no, 8-bit and 32-bit displacements, compressed or not."""
    return (
        *(0, 1, -1, 64, 127, 128, -128, -129, 2**31 - 1, -(2**31)),
        *(unit, -unit, unit * 127, unit * 128, unit * -128, unit * -129, unit * 127 + 1),
    )


def register_choices(row: Row) -> Iterator[tuple[int, ...]]:
    """Every value of every register, the others at their lowest, some middle, and their highest."""
    ranges = [range(kind == "mask", 1 << len(flips)) for kind, flips in row.registers]
    if not ranges:
        yield ()
    for operand, values in enumerate(ranges):
        for n, value in enumerate(values):
            others = [(r[0], r[len(r) // 2 + 1], r[-1])[n % 3] for r in ranges]
            yield (*others[:operand], value, *others[operand + 1 :])


def cases(row: Row, form: int) -> Iterator[Record]:
    """What to emit of one form; offset and length are left 0. Branches have tests of their own."""
    immediates: tuple[int | None, ...] = IMMEDIATES[row.immediate] if row.immediate else (None,)
    every_choice = list(register_choices(row))
    last = every_choice[-1]
    if row.modrm < 0:
        for n, registers in enumerate(every_choice):
            yield Record(0, 0, form, ADDRESS_NONE, registers, -1, -1, 1, 0, immediates[n % len(immediates)])
        for immediate in immediates:
            yield Record(0, 0, form, ADDRESS_NONE, last, -1, -1, 1, 0, immediate)
        return
    steps = displacements(row.disp8)
    for n, registers in enumerate(every_choice):
        base = BASES[n % len(BASES)]
        yield Record(
            0, 0, form, ADDRESS_BASE, registers, base, -1, 1, row.disp8, immediates[n % len(immediates)]
        )
    for base in range(16):
        yield Record(0, 0, form, ADDRESS_BASE, last, base, -1, 1, 0, immediates[0])
    for n, displacement in enumerate(steps):
        for base in (BASES[n % len(BASES)], BASES[(n + 1) % len(BASES)]):
            yield Record(0, 0, form, ADDRESS_BASE, last, base, -1, 1, displacement, immediates[-1])
    if row.immediate:  # no method has both an index and a constant
        return
    for n, index in enumerate(i for i in range(16) if i != RSP):
        yield Record(0, 0, form, ADDRESS_INDEXED, last, n % 16, index, 1 << n % 4, 0, None)
    for n, displacement in enumerate(steps):
        base, index = BASES[n % len(BASES)], INDEXES[(n // 2) % len(INDEXES)]
        yield Record(0, 0, form, ADDRESS_INDEXED, last, base, index, 1 << n % 4, displacement, None)


def emit(buffer: X86Buffer, case: Record) -> None:
    """Emits `case` through the method that a template would call."""
    if case.address == ADDRESS_INDEXED:
        buffer.mem_indexed(case.form, case.base, case.index, case.scale, case.displacement, *case.registers)
    elif case.address == ADDRESS_BASE and case.immediate is not None:
        buffer.mem_imm(case.form, case.base, case.displacement, case.immediate, *case.registers)
    elif case.address == ADDRESS_BASE:
        buffer.mem(case.form, case.base, case.displacement, *case.registers)
    elif case.immediate is not None:
        buffer.imm(case.form, case.immediate, *case.registers)
    else:
        buffer.regs(case.form, *case.registers)
