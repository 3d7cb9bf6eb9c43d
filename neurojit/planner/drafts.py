"""Steps in the making: operands are buffers that may have no place yet; then all get one, and steps freeze.

Steps are numbered in the order of the code. A temporary lives from the first step that names it to the last;
one that was there before a loop lives until the loop ends, for the next trip needs it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from neurojit.plan.arena import Life, lay_out
from neurojit.plan.program import Cursor, Kernel, Loop, Node, Part, Place, Rows, Schedule, Step, ceil_line
from neurojit.planner.tensors import Buffer, View

Operand = tuple[Buffer, int]
"""A buffer, and bytes from its beginning."""


@dataclass
class DraftStep:
    kernel: Kernel
    schedule: Schedule
    operands: tuple[Operand, ...]
    name: str
    op: str = ""
    fused: tuple[str, ...] = ()


@dataclass
class DraftCursor:
    """start: what it steps through, `step` bytes a trip or a row."""

    start: Operand
    step: int


@dataclass
class DraftLoop:
    """trips: None for the rows of the dynamic extent, of which each body takes `heights`."""

    trips: int | None
    bodies: list[list[DraftNode]] = field(default_factory=list)
    heights: list[int] = field(default_factory=list)
    cursors: list[DraftCursor] = field(default_factory=list)
    first_cursor: int = 0
    first_step: int = 0
    unroll: int = 1
    op: str = ""


DraftNode = DraftStep | DraftLoop


class Drafts:
    """A program's steps, and every buffer that they name."""

    def __init__(self) -> None:
        self.root: list[DraftNode] = []
        self.last: list[DraftNode] = []
        self._bodies = [self.root]
        self._loops: list[DraftLoop] = []
        self._buffers: dict[int, Buffer] = {}
        self._count = 0
        self._cursors = 0
        self._outer: list[tuple[int, Buffer]] = []  # (end of a loop to come, a buffer from before it)

    def add(
        self,
        kernel: Kernel,
        schedule: Schedule,
        operands: tuple[Operand, ...],
        name: str,
        op: str = "",
        fused: tuple[str, ...] = (),
    ) -> None:
        """op, fused: as in `Step`."""
        self._bodies[-1].append(DraftStep(kernel, schedule, operands, name, op, fused))
        for buffer, _ in operands:
            self._use(buffer)
        self._count += 1

    def _use(self, buffer: Buffer) -> None:
        if buffer.place is None:
            self._buffers[id(buffer)] = buffer
            buffer.used(self._count)

    def begin_last(self) -> None:
        """What is added from now on is done only if no assert failed."""
        assert not self._loops, "asserts are looked at once, at the end"
        self._bodies = [self.last]

    @contextmanager
    def loop(self, trips: int | None) -> Iterator[DraftLoop]:
        """What is added meanwhile belongs to its body; `body` begins another one of a loop over rows."""
        loop = DraftLoop(trips, first_step=self._count)
        self._bodies[-1].append(loop)
        self._loops.append(loop)
        if trips is not None:
            self.body(loop, 0)
        yield loop
        self._loops.pop()
        self._bodies = self._bodies[: -1 if loop.bodies else None]
        self._count += 1
        for cursor in loop.cursors:
            self._stretch(cursor.start[0], loop.first_step)
        for buffer in self._buffers.values():
            if buffer.first < loop.first_step <= buffer.last:
                buffer.used(self._count - 1)

    def _stretch(self, buffer: Buffer, first: int) -> None:
        """What a cursor steps through is needed from the first trip to the last."""
        if buffer.place is None:
            self._buffers[id(buffer)] = buffer
            buffer.first = first if buffer.first < 0 else min(buffer.first, first)
            buffer.used(self._count - 1)

    def body(self, loop: DraftLoop, height: int) -> None:
        if loop.bodies:
            self._bodies.pop()
        loop.bodies.append([])
        loop.heights.append(height)
        self._bodies.append(loop.bodies[-1])

    def cursor(self, loop: DraftLoop, start: Operand, step: int) -> Buffer:
        """A buffer that moves `step` bytes through another one with each trip, or row."""
        if not loop.cursors:
            loop.first_cursor = self._cursors
        assert loop.first_cursor + len(loop.cursors) == self._cursors, (
            "cursors of a loop come one after another"
        )
        loop.cursors.append(DraftCursor(start, step))
        self._cursors += 1
        return Buffer(0, Place("cursor", self._cursors - 1))

    def freeze(self) -> tuple[tuple[Node, ...], tuple[Node, ...], int]:
        """(the steps with their places, those that come last, the bytes of the arena)."""
        temporaries = list(self._buffers.values())
        offsets, total = lay_out([Life(b.bytes, b.first, b.last) for b in temporaries])
        for buffer, offset in zip(temporaries, offsets, strict=True):
            buffer.place = Place("arena", 0, offset)
        return _frozen(self.root), _frozen(self.last), total


def _frozen(nodes: list[DraftNode]) -> tuple[Node, ...]:
    return tuple(_freeze(node) for node in nodes)


def _freeze(node: DraftNode) -> Node:
    if isinstance(node, DraftStep):
        operands = tuple(map(_place, node.operands))
        return Step(node.kernel, node.schedule, operands, node.name, op=node.op, fused=node.fused)
    cursors = tuple(Cursor(_place(cursor.start), cursor.step) for cursor in node.cursors)
    bodies = [_frozen(body) for body in node.bodies]
    if node.trips is not None:
        return Loop(node.trips, bodies[0], cursors, node.first_cursor, node.unroll, node.op)
    parts = tuple(Part(height, body) for height, body in zip(node.heights, bodies, strict=True))
    return Rows(parts, cursors, node.first_cursor)


def _place(operand: Operand) -> Place:
    buffer, offset = operand
    assert buffer.place is not None
    return buffer.place.moved(offset)


def at(view: View) -> Operand:
    """The operand of a kernel that reads or writes a view."""
    return view.buffer, view.byte_offset


class Block:
    """Weights or state: things with a fixed offset, one after another, each at a multiple of 64."""

    def __init__(self) -> None:
        self.bytes = 0

    def reserve(self, size: int) -> int:
        offset = self.bytes
        self.bytes += ceil_line(size)
        return offset
