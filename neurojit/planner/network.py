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
        self.dynamic = {id(made) for made in self.groups if _is_dynamic(made)}
        self.stages, self.known = _stages(self.groups, self.dynamic)
        self.in_order = False

    def plan(self) -> ProgramPlan:
        f = self.function
        states, state_bytes = self._states()
        outputs = self._operands(f.outputs)
        dynamic = any(value.type.is_dynamic for value in (*f.parameters, *f.outputs))
        for number, value in enumerate(f.parameters):
            if not value.type.is_dynamic:
                self.views[value] = self._widened(value, self._external(value, Place("input", number)))
        self._static_destinations(states)
        for stage in range(1 + self._last_stage):
            at = [made for made in self.groups if self.stages[id(made)] == stage]
            self._lower([made for made in at if id(made) not in self.dynamic])
            if dynamic:
                self._lower_rows(stage, [made for made in at if id(made) in self.dynamic])
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
            self.in_order,
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
        fail, nor where rows are gone through again."""
        if self._last_stage:
            return False
        reads = {
            op.result
            for op in self.function.block.walk()
            if op.name == "state_read" and op.attributes["name"] == write.attributes["name"]
        }
        ordered = sorted(self.groups, key=lambda made: id(made) in self.dynamic)  # as they are lowered
        handed = set(self.function.outputs)
        held_so = write.operands[0].type.element not in NARROW
        return (
            held_so and not self.function.asserts and may_overwrite(ordered, write.operands[0], reads, handed)
        )

    # Rows, outputs, state -------------------------------------------------------------------------

    @property
    def _last_stage(self) -> int:
        return max(self.stages.values(), default=0)

    def _lower_rows(self, stage: int, asked: list[Group]) -> None:
        """The dynamic groups of one stage, and those of earlier ones whose rows they need, once for each
        part's height."""
        dynamic = self._with_needed(asked)
        results = [
            (number, value)
            for number, value in enumerate(self.function.outputs)
            if value.type.is_dynamic and self.known.get(value, 0) == stage
        ]
        if not dynamic and not results:
            return
        carrying = across_rows(dynamic)
        own = {id(op) for made in asked for op in made.ops}
        for op in carrying:
            self._first_values(op, again=id(op) not in own)
        ends = {value for op in carrying for value in op.results if not value.type.is_dynamic}
        needed = {value for made in dynamic for op in made.ops for value in operands_of(op)}
        needed.update(value for _, value in results)
        static_views, around = dict(self.views), self.destinations
        static_destinations = {value: of for value, of in around.items() if value not in ends}
        with self.drafts.loop(None) as rows:
            moving: dict[Value, Buffer] = {}
            for number, value in enumerate(self.function.parameters):
                if value in needed and value.type.is_dynamic:
                    start = Buffer(0, Place("input", number))
                    moving[value] = self.drafts.cursor(rows, (start, 0), row_bytes(value.type))
            outputs: list[tuple[Value, Buffer]] = []
            for number, value in results:
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
            if id(op) in own:
                self._last_values(op)
        self.in_order |= bool(carrying or self.numbered)
        self.places, self.numbered = {}, {}

    def _with_needed(self, asked: list[Group]) -> list[Group]:
        """These dynamic groups, and all whose rows they need, in order."""
        makers = {
            v: made for made in self.groups if id(made) in self.dynamic for op in made.ops for v in op.results
        }
        needed, to_do = {id(made) for made in asked}, list(asked)
        while to_do:
            for value in (v for op in to_do.pop().ops for v in operands_of(op) if v.type.is_dynamic):
                made = makers.get(value)
                if made is not None and id(made) not in needed:
                    needed.add(id(made))
                    to_do.append(made)
        return [made for made in self.groups if id(made) in needed]

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


def _stages(groups: list[Group], dynamic: set[int]) -> tuple[dict[int, int], dict[Value, int]]:
    """(of each group by its id, and from which on a value is known). dynamic: ids of those that have rows.

    A stage is what has no rows, then the rows of the dynamic extent; what all rows give in the end is known
    to the next stage."""
    stages: dict[int, int] = {}
    known: dict[Value, int] = {}
    for made in groups:
        stage = max((known.get(value, 0) for op in made.ops for value in operands_of(op)), default=0)
        stages[id(made)] = stage
        for value in (value for op in made.ops for value in op.results):
            known[value] = stage + (id(made) in dynamic and not value.type.is_dynamic)
    return stages, known


def _is_dynamic(made: Group) -> bool:
    return any(value.type.is_dynamic for op in made.ops for value in (*operands_of(op), *op.results))
