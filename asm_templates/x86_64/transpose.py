"""Squares of lanes with rows and columns exchanged: log2(lanes) rounds of shuffles of pairs of registers.

First within quarters of 128 bits, pairs of floats and then pairs of doubles; then the quarters themselves.
A round exchanges what lies beside a diagonal of blocks, and each pair of registers becomes another pair.
"""

from __future__ import annotations

from neurojit.asm_templates.machine import Machine, Vector
from neurojit.encoder import X86Buffer, forms

EVEN_QUARTERS, ODD_QUARTERS = 0x88, 0xDD  # of a zmm: 0 and 2 of each operand; 1 and 3
LOW_HALVES, HIGH_HALVES = 0x20, 0x31  # vperm2f128
FIRST_HALVES, SECOND_HALVES = 0x0, 0x3  # vshuff32x4 of ymm


class Transposition:
    """The rounds, on registers of one width. `mark`: ` {evex}` where narrow forms must be told from VEX."""

    def __init__(self, machine: Machine, buffer: X86Buffer, register: str, mark: str) -> None:
        self.machine, self.buffer, self.register, self.mark = machine, buffer, register, mark

    def __call__(self, rows: list[Vector]) -> list[Vector]:
        lanes, size = rows[0].lanes, self.machine.element.size
        if len(rows) != lanes or lanes * size not in (16, 32, 64):
            raise ValueError(
                f"transposed: {len(rows)} rows of {lanes} lanes, expected a square of whole registers"
            )
        within = 16 // size
        groups = [self._quarters(rows[first : first + within]) for first in range(0, lanes, within)]
        columns: dict[int, Vector] = {}
        for k in range(within):
            for quarter, vector in enumerate(self._across([group[k] for group in groups])):
                columns[k + within * quarter] = vector
        return [columns[column] for column in range(lanes)]

    def _quarters(self, rows: list[Vector]) -> list[Vector]:
        """Each quarter of 128 bits transposed: row k then holds column k of every quarter."""
        if len(rows) == 2:
            return self._interleaved("d", *rows)
        a = self._interleaved("s", rows[0], rows[1])
        b = self._interleaved("s", rows[2], rows[3])
        return [*self._interleaved("d", a[0], b[0]), *self._interleaved("d", a[1], b[1])]

    def _interleaved(self, kind: str, a: Vector, b: Vector) -> list[Vector]:
        mark = self.mark if self.register != "zmm" else ""
        low, high = (f"vunpck{half}p{kind} {', '.join([self.register] * 3)}{mark}" for half in "lh")
        return self._pair(a, b, forms[low], forms[high])

    def _across(self, rows: list[Vector]) -> list[Vector]:
        """Row g holds quarter q of column group q: vector q of the result, all rows' quarters q in order."""
        if len(rows) == 1:
            return rows
        if len(rows) == 2:
            if self.mark:
                form = forms["vshuff32x4 ymm, ymm, ymm, imm8"]
                return self._pair(rows[0], rows[1], form, form, (FIRST_HALVES, SECOND_HALVES))
            form = forms["vperm2f128 ymm, ymm, ymm, imm8"]
            return self._pair(rows[0], rows[1], form, form, (LOW_HALVES, HIGH_HALVES))
        form = forms["vshuff32x4 zmm, zmm, zmm, imm8"]
        selectors = EVEN_QUARTERS, ODD_QUARTERS
        a = self._pair(rows[0], rows[1], form, form, selectors)
        b = self._pair(rows[2], rows[3], form, form, selectors)
        even, odd = (
            self._pair(a[0], b[0], form, form, selectors),
            self._pair(a[1], b[1], form, form, selectors),
        )
        return [even[0], odd[0], even[1], odd[1]]

    def _pair(
        self, a: Vector, b: Vector, low: int, high: int, selectors: tuple[int, int] | None = None
    ) -> list[Vector]:
        """Two vectors from two, which are given back."""
        made = [Vector(self.machine.vectors.take(), a.lanes, a.width) for _ in range(2)]
        for target, form, selector in zip(made, (low, high), selectors or (None, None), strict=True):
            if selector is None:
                self.buffer.regs(form, target.register, a.register, b.register)
            else:
                self.buffer.imm(form, selector, target.register, a.register, b.register)
        self.machine.drop(a, b)
        return made
