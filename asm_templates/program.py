"""program: a whole network as one function. The body of one kernel follows the body of another.

    2 general registers for the arena and the caller's buffers; all others belong to the step at hand
    bound: that of its kernels; between two of them a load and an addition for each operand

What lives longer than a step stands in memory, in the frame at the head of the arena, which stays in L1:
the addresses of weights and state, the extent, the counter of each level of loops, and the cursors. So every
kernel finds the registers that it would have alone. There is no call and no stack beyond saved registers.
"""

from __future__ import annotations

from collections.abc import Callable

from neurojit.asm_templates import cast, cumsum, gather, gemm, gemv, random, reduce, transpose
from neurojit.asm_templates import map as map_template
from neurojit.asm_templates.machine import ELEMENTS, Machine, Pointer
from neurojit.errors import RegisterPressureError
from neurojit.plan.cast import Cast
from neurojit.plan.cumsum import Cumsum, CumsumSchedule
from neurojit.plan.gather import Gather
from neurojit.plan.gemm import Gemm, GemmSchedule
from neurojit.plan.gemv import Gemv, GemvSchedule
from neurojit.plan.map import Map, MapSchedule
from neurojit.plan.program import (
    EXTENT_WORD,
    FAILED_WORD,
    FRAME_WORDS,
    STATE_WORD,
    WEIGHTS_WORD,
    Check,
    Cursor,
    Loop,
    Node,
    Place,
    ProgramPlan,
    Rows,
    Step,
)
from neurojit.plan.random import Random
from neurojit.plan.reduce import Reduce, ReduceSchedule
from neurojit.plan.transpose import Transpose, TransposeSchedule

WORD = 8
HELD = 2
"""General registers that no step may use."""


def emit(m: Machine, plan: ProgramPlan, begin: Callable[[Step], None] = lambda step: None) -> None:
    """Emit the whole function, from its arguments to its return. `begin` is called before each step."""
    neediest = max(plan.steps(), key=_pointers, default=None)
    try:
        m.save_pointers(max(0, HELD + (_pointers(neediest) if neediest else 0) - m.pointers.budget))
    except RegisterPressureError as error:
        error.op = neediest.op if neediest else ""
        raise
    extent = m.extent()
    buffers = m.buffers()
    arena = m.load_pointer(buffers, 0)
    m.store_pointer(extent, arena, WORD * EXTENT_WORD)
    m.release(extent)
    emission = _Emission(m, plan, arena, buffers, begin)
    if plan.asserts:
        emission.note(plan.asserts + 1)
    emission.body(plan.body, 0)
    m.leave(emission.finish() if plan.asserts else None)


def _pointers(step: Step) -> int:
    """How many general registers a step needs at most, its operands' among them."""
    if isinstance(step.kernel, Gemm):
        assert isinstance(step.schedule, GemmSchedule)
        return gemm.pointers_needed(step.kernel, step.schedule)
    if isinstance(step.kernel, Map):
        return map_template.pointers_needed(step.kernel)
    if isinstance(step.kernel, Reduce):
        return reduce.pointers_needed(step.kernel)
    if isinstance(step.kernel, Transpose):
        return transpose.pointers_needed(step.kernel)
    if isinstance(step.kernel, Cumsum):
        return cumsum.pointers_needed(step.kernel)
    if isinstance(step.kernel, Gather):
        return gather.pointers_needed()
    if isinstance(step.kernel, Random):
        return random.pointers_needed()
    return len(step.operands) + 3


class _Emission:
    """One function in the making: the machine, and what it holds all along."""

    def __init__(
        self, m: Machine, plan: ProgramPlan, arena: Pointer, buffers: Pointer, begin: Callable[[Step], None]
    ) -> None:
        self.m, self.plan, self.arena, self.buffers, self.begin = m, plan, arena, buffers, begin
        self.made: dict[tuple[int, ...], tuple[int, int]] = {}
        """Which instructions are the body of a kernel, on operands in these registers."""

    def body(self, nodes: tuple[Node, ...], depth: int) -> None:
        for node in nodes:
            if isinstance(node, Step):
                self.step(node)
            elif isinstance(node, Loop):
                self.loop(node, depth)
            else:
                self.rows(node, depth)

    def step(self, step: Step) -> None:
        m, kernel = self.m, step.kernel
        self.begin(step)
        m.element = ELEMENTS[kernel.dtype]
        operands = tuple(map(self.address, step.operands))
        same = (id(kernel), id(step.schedule), step.count, *operands)
        made = self.made.get(same)
        m.begin_body()
        if made is not None:
            m.copy_code(*made)
        else:
            begin = m.buffer.mark
            try:
                self.kernel(step, operands)
            except RegisterPressureError as error:
                error.op = step.op
                raise
            self.made[same] = begin, m.buffer.mark
        for operand in reversed(operands):  # so that the next step finds the registers in the same order
            m.release(operand)

    def kernel(self, step: Step, operands: tuple[Pointer, ...]) -> None:
        """The step's body: all other registers are free before it and after it."""
        m, kernel, schedule = self.m, step.kernel, step.schedule
        if isinstance(kernel, Gemm):
            assert isinstance(schedule, GemmSchedule)
            gemm.body(m, kernel, schedule, operands)
        elif isinstance(kernel, Gemv):
            assert isinstance(schedule, GemvSchedule)
            gemv.body(m, kernel, schedule, operands)
        elif isinstance(kernel, Transpose):
            assert isinstance(schedule, TransposeSchedule)
            transpose.body(m, kernel, schedule, operands)
        elif isinstance(kernel, Cumsum):
            assert isinstance(schedule, CumsumSchedule)
            cumsum.body(m, kernel, schedule, operands)
        elif isinstance(kernel, Reduce):
            assert isinstance(schedule, ReduceSchedule)
            reduce.body(m, kernel, schedule, operands)
        elif isinstance(kernel, Gather):
            gather.body(m, kernel, operands)
        elif isinstance(kernel, Random):
            random.body(m, kernel, operands)
        elif isinstance(kernel, Cast):
            cast.body(m, kernel, operands)
        elif isinstance(kernel, Check):
            self.check(kernel.number, operands[0])
        else:
            assert isinstance(schedule, MapSchedule)
            count = m.constant(step.count) if kernel.shape[0] is None else None
            map_template.body(m, kernel, schedule, operands, count)
            if count is not None:
                m.release(count)

    # Asserts: failures are noted where they happen, and looked at once, before state is written ------------

    def note(self, number: int) -> None:
        """The assert that failed, for now."""
        value = self.m.constant(number)
        self.m.store_pointer(value, self.arena, WORD * FAILED_WORD)
        self.m.release(value)

    def check(self, number: int, condition: Pointer) -> None:
        """Note the assert if its condition, whose bits are 0 where it fails, does; not after an earlier one
        of the text."""
        m = self.m
        truth = m.load_index(condition, 0)
        m.multiply(truth, -1)
        with m.skip_unless_at_least(truth, 0):
            failed = m.load_pointer(self.arena, WORD * FAILED_WORD)
            m.advance(failed, -number)
            with m.skip_unless_at_least(failed, 1):
                self.note(number)
            m.release(failed)
        m.release(truth)

    def finish(self) -> Pointer:
        """What comes last, if no assert failed. Returns the number of the one that did, or 0."""
        m = self.m
        failed = m.load_pointer(self.arena, WORD * FAILED_WORD)
        m.advance(failed, -self.plan.asserts)
        with m.skip_unless_at_least(failed, 1):
            m.release(failed)
            self.note(0)
            self.body(self.plan.last, 0)
        return m.load_pointer(self.arena, WORD * FAILED_WORD)

    def loop(self, loop: Loop, depth: int) -> None:
        m, counter = self.m, self._counter(depth)
        turns, rest = divmod(loop.trips, loop.unroll)
        self._enter(loop.cursors, loop.first_cursor)
        if turns:
            trips = m.constant(turns)
            m.store_pointer(trips, self.arena, counter)
            m.release(trips)
            with m.while_positive_in_memory(self.arena, counter, 1):
                self._trips(loop, loop.unroll, depth)
        self._trips(loop, rest, depth)

    def _trips(self, loop: Loop, count: int, depth: int) -> None:
        for _ in range(count):
            self.body(loop.body, depth + 1)
            self._move(loop.cursors, loop.first_cursor, 1)

    def rows(self, rows: Rows, depth: int) -> None:
        m, counter = self.m, self._counter(depth)
        self._enter(rows.cursors, rows.first_cursor)
        left = m.load_pointer(self.arena, WORD * EXTENT_WORD)
        m.store_pointer(left, self.arena, counter)
        m.release(left)
        for height, body in rows.parts:
            left = m.load_pointer(self.arena, counter)
            with m.skip_unless_at_least(left, height):
                m.advance(left, 1 - height)  # now it is positive exactly while a whole part remains
                m.store_pointer(left, self.arena, counter)
                m.release(left)
                with m.while_positive_in_memory(self.arena, counter, height):
                    self.body(body, depth + 1)
                    self._move(rows.cursors, rows.first_cursor, height)
                left = m.load_pointer(self.arena, counter)
                m.advance(left, height - 1)
                m.store_pointer(left, self.arena, counter)
                m.release(left)

    def address(self, place: Place) -> Pointer:
        """A fresh register with the address of an operand."""
        m, offset = self.m, place.offset
        if place.space == "arena":
            pointer, offset = m.copy(self.arena), offset + self.plan.frame_bytes
        elif place.space == "weights":
            pointer = m.load_pointer(self.arena, WORD * WEIGHTS_WORD)
        elif place.space == "state":
            pointer = m.load_pointer(self.arena, WORD * STATE_WORD)
        elif place.space == "cursor":
            pointer = m.load_pointer(self.arena, self._cursor(place.number))
        elif place.space in ("counter", "frame"):
            counts = place.space == "counter"
            pointer, offset = m.copy(self.arena), offset + (self._cursor(place.number) if counts else 0)
        elif place.space == "zero":
            pointer = m.constant(0)
        else:
            first = 1 if place.space == "input" else 1 + len(self.plan.inputs)
            pointer = m.load_pointer(self.buffers, WORD * (first + place.number))
        m.advance(pointer, offset)
        return pointer

    def _enter(self, cursors: tuple[Cursor, ...], first: int) -> None:
        for index, cursor in enumerate(cursors, start=first):
            start = self.address(cursor.start)
            self.m.store_pointer(start, self.arena, self._cursor(index))
            self.m.release(start)

    def _move(self, cursors: tuple[Cursor, ...], first: int, steps: int) -> None:
        for index, cursor in enumerate(cursors, start=first):
            pointer = self.m.load_pointer(self.arena, self._cursor(index))
            self.m.advance(pointer, cursor.step * steps)
            self.m.store_pointer(pointer, self.arena, self._cursor(index))
            self.m.release(pointer)

    def _counter(self, depth: int) -> int:
        return WORD * (FRAME_WORDS + depth)

    def _cursor(self, index: int) -> int:
        return WORD * (FRAME_WORDS + self.plan.depth + index)
