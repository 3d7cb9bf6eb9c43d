"""Segments of 128 bits on x86-64: two to a ymm register, four to a zmm.

On Zen 5 all four vector pipes shuffle within 128 bits: `spread_in_segments` takes nothing from multiply-adds.
What crosses segments, repeated loads included, takes a pipe that they need; it is done once for several rows.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from neurojit.asm_templates.arithmetic import Pointer, Vector
from neurojit.asm_templates.machine import ONCE
from neurojit.asm_templates.segments import SEGMENT
from neurojit.asm_templates.x86_64.arithmetic import X86Arithmetic
from neurojit.asm_templates.x86_64.core import Repetition

SPREAD_SINGLE = (0x00, 0x55, 0xAA, 0xFF)  # vpermilps: two bits for each of four elements
SPREAD_DOUBLE = (0x00, 0xFF)  # vpermilpd: a bit for each element


class SegmentForms(Protocol):
    """Form ids for the widest registers."""

    repeat: int
    """Of 128 bits in memory."""
    repeat_register: int
    """Of the first segment of a register; its immediate is `repeat_where`."""
    repeat_where: int
    spread: int
    extract: int
    extract_store: int
    insert: int
    broadcast_pair: int
    """Of 64 bits in memory."""


class X86Segments(X86Arithmetic):
    """See the module's head."""

    p: SegmentForms

    @property
    def segments(self) -> int:  # type: ignore[override]
        return self.widths[-1] // 128

    def _wide(self, into: Vector | None) -> Vector:
        return Vector(self.vectors.take(), self.widest_lanes, self.widths[-1]) if into is None else into

    def repeat_segment(self, lanes: int, pointer: Pointer, offset: int, into: Vector | None = None) -> Vector:
        size, target = lanes * self.element.size, self._wide(into)
        if size == SEGMENT:
            self.buffer.mem(self.p.repeat, pointer, offset, target.register)
        elif lanes == 1:
            self.buffer.mem(self.moves.broadcast[target.width], pointer, offset, target.register)
        elif size == SEGMENT // 2:
            self.buffer.mem(self.p.broadcast_pair, pointer, offset, target.register)
        else:
            part = self.load(lanes, pointer, offset)
            form, where = self.p.repeat_register, self.p.repeat_where
            self.buffer.imm(form, where, target.register, part.register, part.register)
            self.drop(part)
        return target

    def steps_of_segments(self, times: int, steps: dict[Pointer, int]) -> AbstractContextManager[None]:
        first, second, *_ = SPREAD_SINGLE if self.element.size == 4 else SPREAD_DOUBLE
        return ONCE if times == 1 else Repetition(self, times, steps, self.p.spread, second - first)

    def spread_in_segments(self, a: Vector, lane: int) -> Vector:
        target = self._wide(None)
        spread = SPREAD_SINGLE if self.element.size == 4 else SPREAD_DOUBLE
        self.buffer.imm(self.p.spread, spread[lane], target.register, a.register)
        return target

    def segment(self, a: Vector, index: int, lanes: int) -> Vector:
        target = Vector(self.vectors.take(), lanes, 128)
        self.buffer.imm(self.p.extract, index, target.register, a.register)
        return target

    def insert_segment(self, into: Vector, index: int, segment: Vector) -> None:
        self.buffer.imm(self.p.insert, index, into.register, into.register, segment.register)

    def store_segment(self, a: Vector, index: int, lanes: int, pointer: Pointer, offset: int) -> None:
        if index == 0:
            self.store(Vector(a.register, lanes, 128), pointer, offset)
        elif lanes * self.element.size == SEGMENT:
            self.buffer.mem_imm(self.p.extract_store, pointer, offset, index, a.register)
        else:
            part = self.segment(a, index, lanes)
            self.store(part, pointer, offset)
            self.drop(part)
