"""The plan of a whole function: groups become kernels with schedules, values get places, loops their cursors.

    group     ops that become one kernel                 fusion
    lower     groups to kernels, in order                lowering, pointwise, reductions
    ask       what a schedule says of each kernel        directives, fusing
    lay out   temporaries share the arena                drafts, plan/arena

A function with a dynamic extent whose every row can be computed alone is planned several times, for parts of
falling height, into one loop over rows. What does not depend on the extent is computed once, before it.

Destinations: a value that is returned is computed where the output lies, and one that a state takes over in
the state, if nobody reads the old state later. What cannot be so is copied.
"""

from __future__ import annotations

import math
from dataclasses import replace

from neurojit.errors import TensorLangError
from neurojit.ir.structure import Function, Op, ScheduleText, Value
from neurojit.ir.types import ELEMENTS, TensorType
from neurojit.plan.program import Operand, Place, ProgramPlan, State
from neurojit.planner.across import AcrossRows
from neurojit.planner.directives import NOTHING
from neurojit.planner.drafts import Block
from neurojit.planner.fusion import MOST_FUSED, Group
from neurojit.planner.lowering import may_overwrite
from neurojit.planner.rows import across_rows, heights_for, operands_of
from neurojit.planner.tensors import NARROW, Buffer, UnplannedError, View
from neurojit.target import Target


def plan_program(
    function: Function, target: Target, most: int = MOST_FUSED, schedule: ScheduleText = NOTHING
) -> ProgramPlan:
    """The plan of one native function. UnplannedError: an op, or a combination, that no kernel computes.
    TensorLangError: a step of the schedule that the machine, or a kernel, does not allow.

    most: elementwise ops in one kernel, where the schedule says nothing."""
    try:
        return _Network(function, target, most, schedule).plan()
    except TensorLangError:
        raise
    except ValueError as error:  # a payload, or a program, that is larger than kernels reach
        raise UnplannedError(f"{function.name}: {error}") from error


class _Network(AcrossRows):
    """The function as a whole: its inputs and outputs, states, and rows of a dynamic extent."""

    def __init__(
        self, function: Function, target: Target, most: int, schedule: ScheduleText = NOTHING
    ) -> None:
        super().__init__(function, target, most, schedule)
        self.phase = _phases(self.groups)

    def plan(self) -> ProgramPlan:
        f = self.function
        states, state_bytes = self._states()
        outputs = self._operands(f.outputs)
        dynamic = any(value.type.is_dynamic for value in (*f.parameters, *f.outputs))
        for number, value in enumerate(f.parameters):
            if not value.type.is_dynamic:
                self.views[value] = self._widened(value, self._external(value, Place("input", number)))
        self._static_destinations(states)
        phases: tuple[list[Group], ...] = ([], [], [])
        for made in self.groups:
            phases[self.phase[id(made)]].append(made)
        late = {value for made in phases[2] for op in made.ops for value in op.results}
        carrying = across_rows(phases[1], late)
        self._lower(phases[0])
        if dynamic:
            self._lower_rows(phases[1], carrying)
        self._lower(phases[2])
        self._copy_rest()
        if f.asserts:
            self.drafts.begin_last()
        self._write_states(states)
        body, last, arena_bytes = self.drafts.freeze()
        plan = ProgramPlan(
            f.name,
            self._operands(f.parameters),
            outputs,
            body,
            arena_bytes,
            tuple(self.weights.values()),
            self.weight_block.bytes,
            tuple(states.values()),
            state_bytes,
            len(f.asserts),
            last,
            bool(carrying or self.numbered),
        )
        ways = self.directives.ways(plan.shared_rows is not None)
        self.directives.check_obeyed()
        return replace(plan, ways=ways) if ways else plan

    # Places ---------------------------------------------------------------------------------------

    def _operands(self, values: tuple[Value, ...]) -> tuple[Operand, ...]:
        return tuple(Operand(value.name, value.type.shape, value.type.element) for value in values)

    def _states(self) -> tuple[dict[str, State], int]:
        """The state block, and a view of it for each state_read."""
        block, states = Block(), {}
        initial = {
            str(op.attributes["name"]): float(op.attributes["initial"])  # type: ignore[arg-type]
            for op in self.function.block.walk()
            if op.name == "state_read"
        }
        for name, type_ in self.function.states.items():
            shape = type_.static_shape(0)
            if 0 in shape:
                raise UnplannedError(f"state {name!r}: {type_} has no kernel")
            offset = block.reserve(math.prod(shape) * ELEMENTS[type_.element].size)
            states[name] = State(name, shape, type_.element, offset, initial.get(name, 0.0))
        for op in self.function.block.walk():
            if op.name == "state_read":
                state = states[str(op.attributes["name"])]
                place = Place("state", 0, state.offset)
                self.views[op.result] = self._widened(op.result, self._external(op.result, place))
        return states, block.bytes

    def _static_destinations(self, states: dict[str, State]) -> None:
        """Static outputs, and states that may be written where their next value is computed."""
        for number, value in enumerate(self.function.outputs):
            if not value.type.is_dynamic:
                self._destine(value, self._external(value, Place("output", number)))
        for op in self._state_writes():
            if self._overwrites(op):
                state = states[str(op.attributes["name"])]
                self._destine(op.operands[0], self._external(op.operands[0], Place("state", 0, state.offset)))

    def _state_writes(self) -> list[Op]:
        return [op for op in self.function.block.body if op.name == "state_write"]

    def _overwrites(self, write: Op) -> bool:
        """Whether a state's next value may be stored as soon as it is known. Not before an assert that could
        fail."""
        reads = {
            op.result
            for op in self.function.block.walk()
            if op.name == "state_read" and op.attributes["name"] == write.attributes["name"]
        }
        ordered = sorted(self.groups, key=lambda made: self.phase[id(made)])  # as they are lowered
        handed = set(self.function.outputs)
        held_so = write.operands[0].type.element not in NARROW
        return (
            held_so and not self.function.asserts and may_overwrite(ordered, write.operands[0], reads, handed)
        )

    # Rows, outputs, state -------------------------------------------------------------------------

    def _lower_rows(self, dynamic: list[Group], carrying: list[Op]) -> None:
        """The dynamic groups, once for each part's height."""
        for op in carrying:
            self._first_values(op)
        ends = {value for op in carrying for value in op.results if not value.type.is_dynamic}
        static_views, around = dict(self.views), self.destinations
        static_destinations = {value: of for value, of in around.items() if value not in ends}
        with self.drafts.loop(None) as rows:
            moving: dict[Value, Buffer] = {}
            for number, value in enumerate(self.function.parameters):
                if value.type.is_dynamic:
                    start = Buffer(0, Place("input", number))
                    moving[value] = self.drafts.cursor(rows, (start, 0), row_bytes(value.type))
            outputs: list[tuple[Value, Buffer]] = []
            for number, value in enumerate(self.function.outputs):
                if value.type.is_dynamic:
                    start = Buffer(0, Place("output", number))
                    outputs.append((value, self.drafts.cursor(rows, (start, 0), row_bytes(value.type))))
            for op in (op for made in dynamic for op in made.ops):
                self._number(rows, op)
            for height in self.directives.heights(heights_for(dynamic, self.target)):
                self.extent = height
                self.views, self.destinations = dict(static_views), dict(static_destinations)
                self.drafts.body(rows, height)
                for value, buffer in moving.items():
                    place = buffer.place or Place("cursor")
                    self.views[value] = self._widened(value, self._external(value, place))
                for value, buffer in outputs:
                    self._destine(value, self._external(value, buffer.place or Place("cursor")))
                self._lower(dynamic)
                self._copy_rest(dynamic=True)
        self.extent = 0
        self.views, self.destinations = static_views, around
        for op in carrying:
            self._last_values(op)

    def _copy_rest(self, dynamic: bool = False) -> None:
        """Outputs that no kernel wrote: inputs, weights, views, and what the caller takes as another type."""
        values = tuple(value for value in self.destinations if value.type.is_dynamic == dynamic)
        self._copy_rest_of(self.groups, values)

    def _write_states(self, states: dict[str, State]) -> None:
        """Those that were not overwritten when their next value became known."""
        pairs = []
        for op in self._state_writes():
            if not self._overwrites(op):
                state = states[str(op.attributes["name"])]
                place = Place("state", 0, state.offset)
                pairs.append((op.operands[0], View.of(state.shape, state.dtype, place)))
        self._copy_together(pairs)


def row_bytes(type_: TensorType) -> int:
    """Of one step of a dynamic extent."""
    return type_.count(1) * ELEMENTS[type_.element].size


def _phases(groups: list[Group]) -> dict[int, int]:
    """0: what is computed once, before the rows of the dynamic extent; 1: for each part of them; 2: once,
    from what the rows gave."""
    phases: dict[int, int] = {}
    of_rows: set[Value] = set()
    for made in groups:
        late = any(value in of_rows for op in made.ops for value in operands_of(op))
        phases[id(made)] = phase = 1 if _is_dynamic(made) else 2 if late else 0
        if phase:
            of_rows.update(value for op in made.ops for value in op.results)
    return phases


def _is_dynamic(made: Group) -> bool:
    return any(value.type.is_dynamic for op in made.ops for value in (*op.operands, *op.results))
