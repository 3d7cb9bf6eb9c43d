"""The operands that audits try on every word form: all numbers of small fields, the edges of large ones."""

from __future__ import annotations

import re
from collections.abc import Iterator

from neurojit.encoder.word_row import Field, WordRow

SMALL = 64


def choices(field: Field) -> list[int]:
    """Every number of a field of up to 6 bits; of a wider one the edges and each bit alone."""
    unit = 1 << field.shift
    if (field.highest - field.lowest) // unit < SMALL:
        return list(range(field.lowest, field.highest + 1, unit))
    bits = [1 << bit for bit in range(field.shift, field.highest.bit_length())]
    edges = [field.lowest, field.lowest + unit, 0, field.highest - unit, field.highest]
    return sorted({*edges, *bits, *([-bit for bit in bits] if field.lowest < 0 else [])})


def cases(row: WordRow) -> Iterator[tuple[int, ...]]:
    """Values for every field: each choice of one, while the others take some of theirs."""
    every = [choices(field) for field in row.fields]
    if not every:
        yield ()
    for operand, values in enumerate(every):
        for n, value in enumerate(values):
            others = [options[(7 * n + 5 * at + 3) % len(options)] for at, options in enumerate(every)]
            others[operand] = value
            if _is_an_instruction(row, others):
                yield tuple(others)


def _is_an_instruction(row: WordRow, values: list[int]) -> bool:
    """Not what the architecture leaves undefined: a pair loaded twice into one register, a base that is
    written back and is the loaded register too; RISC-V vectors where they may not overlap."""
    if row.mnemonic.startswith("v"):
        return _is_a_vector_instruction(row, values)
    if not row.mnemonic.startswith(("ldp", "ldr", "str", "stp")):
        return True
    registers = [value for value, field in zip(values, row.fields, strict=True) if field.kind in ("x", "w")]
    base = values[row.base] if row.base >= 0 else -1
    twice = row.mnemonic == "ldp" and len(set(values[:2])) == 1
    writes_back = row.name.endswith("!") or "], #" in row.name
    return not twice and not (writes_back and base in registers and base != 31)


def _is_a_vector_instruction(row: WordRow, values: list[int]) -> bool:
    """RISC-V V 1.0: a masked result is not the mask, a permuted one not its source (section 16), groups are
    aligned (16.6); and of vsetvli's types those that are not reserved (3.4)."""
    vectors = [value for value, field in zip(values, row.fields, strict=True) if field.kind == "v"]
    if row.mnemonic.startswith("vset"):
        vtype = values[-1]
        return vtype < 256 and vtype & 7 != 4 and vtype >> 3 & 7 < 4
    if row.text.endswith((", v0", ", v0.t")) and not row.mnemonic.startswith("vs"):
        return vectors[0] != 0
    if row.mnemonic.startswith(("vslideup", "vrgather", "vfslide1up", "vzext", "vsext", "vfw", "vfn", "vid")):
        return vectors[0] not in vectors[1:]
    whole = re.fullmatch(r"vmv(\d)r\.v", row.mnemonic)
    return whole is None or all(vector % int(whole[1]) == 0 for vector in vectors)
