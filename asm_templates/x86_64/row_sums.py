"""Sums across vectors: the lanes of each of several vectors added up, the sums side by side in one.

Adding one vector's lanes alone costs two instructions a halving and leaves most lanes idle. Here pairs
of vectors are interleaved while they are halved, so that after log2(lanes) rounds of two shuffles and
one addition the sums of all rows stand in one register, in order.

Lane l is always added to lane l + half: the order of additions depends on the number of lanes alone,
so AVX2 (which folds its two registers first) and AVX-512 give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from neurojit.asm_templates.machine import Element, Machine, Vector
from neurojit.encoder import X86Buffer, forms
from neurojit.plan.gemm import register_bits

# Selectors. Quarters of a zmm: low halves of two vectors, high halves; even quarters, odd quarters.
LOW_HALVES, HIGH_HALVES, EVEN_QUARTERS, ODD_QUARTERS = 0x44, 0xEE, 0x88, 0xDD
LOW_128, HIGH_128 = 0x20, 0x31  # vperm2f128
EVEN_FLOATS, ODD_FLOATS = 0x88, 0xDD  # vshufps
MIDDLE_DOUBLES_SWAPPED = 0xD8  # vpermpd: 0, 2, 1, 3


class _Avx512Forms:
    def __init__(self, element: Element) -> None:
        self.quarters = forms[f"vshuf{'f32x4' if element.size == 4 else 'f64x2'} zmm, zmm, zmm, imm8"]
        self.low_pairs = forms["vunpcklpd zmm, zmm, zmm"]
        self.high_pairs = forms["vunpckhpd zmm, zmm, zmm"]
        self.floats = forms["vshufps zmm, zmm, zmm, imm8"]
        self.add = forms[f"vaddp{'s' if element.size == 4 else 'd'} zmm, zmm, zmm"]


class _Avx2Forms:
    def __init__(self, element: Element) -> None:
        self.halves = forms["vperm2f128 ymm, ymm, ymm, imm8"]
        self.low_pairs = forms["vunpcklpd ymm, ymm, ymm"]
        self.high_pairs = forms["vunpckhpd ymm, ymm, ymm"]
        self.floats = forms["vshufps ymm, ymm, ymm, imm8"]
        self.add = forms[f"vaddp{'s' if element.size == 4 else 'd'} ymm, ymm, ymm"]
        self.upper = forms["vextractf128 xmm, ymm, imm8"]
        self.interleave = forms["vunpcklps xmm, xmm, xmm"]
        self.doubles = forms["vpermpd ymm, ymm, imm8"]


_avx512_forms = lru_cache(maxsize=2)(_Avx512Forms)
_avx2_forms = lru_cache(maxsize=2)(_Avx2Forms)

Shuffle = Callable[[int, int, int], None]
"""Emits target = shuffle(first, second)."""


class _Tree:
    """Rounds of shuffle, shuffle, add. A pair met before is not computed again: rows that are missing
    at the end are stood in for by rows that are there, at no cost."""

    def __init__(self, machine: Machine, buffer: X86Buffer, add: int) -> None:
        self.machine = machine
        self.buffer = buffer
        self.add = add

    def combine(self, pairs: list[tuple[int, int]], low: Shuffle, high: Shuffle) -> list[int]:
        """One round: each pair of registers becomes one; the pairs' registers are given back."""
        made: dict[tuple[int, int], int] = {}
        for first, second in pairs:
            if (first, second) not in made:
                target, other = self.machine.vectors.take(), self.machine.vectors.take()
                low(target, first, second)
                high(other, first, second)
                self.buffer.regs(self.add, target, target, other)
                self.machine.vectors.give(other)
                made[first, second] = target
        for register in {register for pair in pairs for register in pair}:
            self.machine.vectors.give(register)
        return [made[pair] for pair in pairs]


def row_sums_avx512(machine: Machine, buffer: X86Buffer, rows: list[Vector]) -> Vector:
    """Up to 16 rows of 16 floats, or 8 rows of 8 doubles: whole zmm registers."""
    f = _avx512_forms(machine.element)
    tree = _Tree(machine, buffer, f.add)
    per_quarter = 16 // machine.element.size  # rows whose sums share 128 bits of the result
    whole = 4 * per_quarter
    count = len(rows)
    # Rows in the order of the quarters they end in; a missing row is stood in for by one there is.
    at = [rows[row % count if row >= count else row].register for row in range(whole)]
    columns = [at[first::per_quarter] for first in range(per_quarter)]

    def quarters(selector: int) -> Shuffle:
        return lambda target, first, second: buffer.imm(f.quarters, selector, target, first, second)

    pairs = [pair for c in columns for pair in ((c[0], c[1]), (c[2], c[3]))]
    halves = tree.combine(pairs, quarters(LOW_HALVES), quarters(HIGH_HALVES))
    pairs = list(zip(halves[0::2], halves[1::2], strict=True))
    made = tree.combine(pairs, quarters(EVEN_QUARTERS), quarters(ODD_QUARTERS))
    made = _pairs_of_doubles(tree, buffer, made, f.low_pairs, f.high_pairs)
    if machine.element.size == 4:
        made = _pairs_of_floats(tree, buffer, made, f.floats)
    return Vector(made[0], count, register_bits(count * machine.element.size))


def row_sums_avx2(machine: Machine, buffer: X86Buffer, rows: list[Vector]) -> Vector:
    """Up to 4 rows of 8 floats or 4 doubles: whole ymm registers."""
    f = _avx2_forms(machine.element)
    tree = _Tree(machine, buffer, f.add)
    count = len(rows)
    a, b, c, d = (rows[row % count].register for row in range(4))

    def halves(selector: int) -> Shuffle:
        return lambda target, first, second: buffer.imm(f.halves, selector, target, first, second)

    made = tree.combine([(a, b), (c, d)], halves(LOW_128), halves(HIGH_128))
    made = _pairs_of_doubles(tree, buffer, made, f.low_pairs, f.high_pairs)  # sums 0 2 | 1 3
    if machine.element.size == 8:
        buffer.imm(f.doubles, MIDDLE_DOUBLES_SWAPPED, made[0], made[0])
        return Vector(made[0], count, register_bits(count * 8))
    (result,) = _pairs_of_floats(tree, buffer, [made[0], made[0]], f.floats)
    upper = machine.vectors.take()
    buffer.imm(f.upper, 1, upper, result)
    buffer.regs(f.interleave, result, result, upper)
    machine.vectors.give(upper)
    return Vector(result, count, 128)


def _pairs_of_doubles(tree: _Tree, buffer: X86Buffer, registers: list[int], low: int, high: int) -> list[int]:
    """Even and odd 64-bit lanes of pairs of registers, added."""
    pairs = list(zip(registers[0::2], registers[1::2], strict=True))
    return tree.combine(
        pairs,
        lambda target, first, second: buffer.regs(low, target, first, second),
        lambda target, first, second: buffer.regs(high, target, first, second),
    )


def _pairs_of_floats(tree: _Tree, buffer: X86Buffer, registers: list[int], shuffle: int) -> list[int]:
    """Even and odd 32-bit lanes of a pair of registers, added."""
    return tree.combine(
        [(registers[0], registers[1])],
        lambda target, first, second: buffer.imm(shuffle, EVEN_FLOATS, target, first, second),
        lambda target, first, second: buffer.imm(shuffle, ODD_FLOATS, target, first, second),
    )
