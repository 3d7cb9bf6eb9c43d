"""The plan of a whole function: groups become kernels with schedules, values get places, loops their cursors.

    group     ops that become one kernel                 fusion
    lower     groups to kernels, in order                this file, pointwise
    lay out   temporaries share the arena                drafts, plan/arena

A function with a dynamic extent whose every row can be computed alone is planned several times, for parts of
falling height, into one loop over rows. What does not depend on the extent is computed once, before it.

Destinations: a value that is returned is computed where the output lies, and one that a state takes over in
the state, if nobody reads the old state later. What cannot be so is copied.
"""

from __future__ import annotations

import math
from dataclasses import replace

from neurojit.ir.structure import Dense, Function, Op, Value
from neurojit.ir.types import ELEMENTS, TensorType
from neurojit.plan.epilogue import Epilogue
from neurojit.plan.expression import Builder
from neurojit.plan.gemm import Gemm, Matrix, Output
from neurojit.plan.map import Access, Map, schedule_map
from neurojit.plan.program import Operand, Place, ProgramPlan, State, Weight
from neurojit.plan.reduce import schedule_reduce
from neurojit.plan.tiling import schedule_gemm
from neurojit.planner.drafts import Block, DraftLoop, Drafts, at
from neurojit.planner.fusion import MOST_FUSED, Group, Pointwise, Product, group
from neurojit.planner.hoist import hoist
from neurojit.planner.pointwise import Expressions, group_inputs
from neurojit.planner.reductions import RULES, reduce_of
from neurojit.planner.rows import check_rows, heights_for
from neurojit.planner.tensors import Buffer, UnplannedError, View
from neurojit.target import Target

VIEWS = ("reshape", "transpose", "broadcast", "slice")


def plan_program(function: Function, target: Target, most: int = MOST_FUSED) -> ProgramPlan:
    """The plan of one native function. UnplannedError: an op, or a combination, that no kernel computes.

    most: elementwise ops in one kernel."""
    return _Network(function, target, most).plan()


class _Network:
    """One function in the course of being planned."""

    def __init__(self, function: Function, target: Target, most: int) -> None:
        function = hoist(function, target)
        self.function, self.target = function, target
        self.most = most
        self.groups = group(function.block, most)
        self.constants = {
            op.result: value
            for op in function.block.walk()
            if op.name == "constant" and isinstance(value := op.attributes["value"], Dense)
        }
        self.sources = {op.result: op for op in function.block.walk() if op.name in ("constant", "weight")}
        self.expressions = Expressions(self.constants)
        self.drafts = Drafts()
        self.views: dict[Value, View] = {}
        self.destinations: dict[Value, list[View]] = {}
        self.weights: dict[tuple[str, bool], Weight] = {}
        self.weight_block = Block()
        self.extent = 0

    def plan(self) -> ProgramPlan:
        f = self.function
        states, state_bytes = self._states()
        outputs = self._operands(f.outputs)
        dynamic = any(value.type.is_dynamic for value in (*f.parameters, *f.outputs))
        for number, value in enumerate(f.parameters):
            if not value.type.is_dynamic:
                self.views[value] = self._external(value, Place("input", number))
        self._static_destinations(states)
        self._lower([g for g in self.groups if not _is_dynamic(g)])
        if dynamic:
            self._lower_rows()
        self._copy_rest()
        self._write_states(states)
        body, arena_bytes = self.drafts.freeze()
        return ProgramPlan(
            f.name,
            self._operands(f.parameters),
            outputs,
            body,
            arena_bytes,
            tuple(self.weights.values()),
            self.weight_block.bytes,
            tuple(states.values()),
            state_bytes,
        )

    # Places ---------------------------------------------------------------------------------------

    def _operands(self, values: tuple[Value, ...]) -> tuple[Operand, ...]:
        for value in values:
            if value.type.element not in ("f32", "f64"):
                raise UnplannedError(f"{value}: inputs and outputs of {value.type.element} have no kernel")
        return tuple(Operand(value.name, value.type.shape, value.type.element) for value in values)

    def _external(self, value: Value, place: Place) -> View:
        return View.of(self._shape(value), value.type.element, place)

    def _shape(self, value: Value) -> tuple[int, ...]:
        shape = value.type.static_shape(self.extent)
        if 0 in shape:
            raise UnplannedError(f"{value}: an empty tensor has no kernel")
        return shape

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
            if type_.element not in ("f32", "f64") or 0 in shape:
                raise UnplannedError(f"state {name!r}: {type_} has no kernel")
            offset = block.reserve(math.prod(shape) * ELEMENTS[type_.element].size)
            states[name] = State(name, shape, type_.element, offset, initial.get(name, 0.0))
        for op in self.function.block.walk():
            if op.name == "state_read":
                state = states[str(op.attributes["name"])]
                self.views[op.result] = self._external(op.result, Place("state", 0, state.offset))
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
        ordered = sorted(self.groups, key=_is_dynamic)  # as they are lowered
        handed = set(self.function.outputs)
        return not self.function.asserts and may_overwrite(ordered, write.operands[0], reads, handed)

    def _destine(self, value: Value, view: View) -> None:
        self.destinations.setdefault(value, []).append(view)

    def view(self, value: Value) -> View:
        """Where a value lies. Weights are laid out when they are first asked for."""
        known = self.views.get(value)
        if known is None:
            op = self.sources[value]
            known = self.views[value] = self._weight(op, transposed=False)
        return known

    def _weight(self, op: Op, transposed: bool) -> View:
        """A weight or constant in the block of weights, as it is or transposed."""
        name = str(op.attributes["name"]) if op.name == "weight" else f"%{op.result.name}"
        type_ = op.result.type
        shape = self._shape(op.result)
        if type_.element not in ("f32", "f64"):
            raise UnplannedError(f"{op}: weights of {type_.element} have no kernel")
        size = ELEMENTS[type_.element].size
        key = (name, transposed)
        if key not in self.weights:
            rows, columns = math.prod(shape[:-1]), shape[-1] if shape else 1
            if transposed:
                rows, columns = columns, rows
            offset = self.weight_block.reserve(rows * columns * size)
            self.weights[key] = Weight(
                name, offset, rows, columns, columns * size, type_.element, transposed=transposed
            )
        place = Place("weights", 0, self.weights[key].offset)
        return View.of(shape[::-1] if transposed else shape, type_.element, place)

    def _fresh(self, value: Value, element: str = "") -> View:
        return View.of(self._shape(value), element or value.type.element)

    # Groups to kernels ----------------------------------------------------------------------------

    def _lower(self, groups: list[Group]) -> None:
        for made in groups:
            if isinstance(made, Product):
                self._product(made)
            elif isinstance(made, Pointwise):
                self._pointwise(made)
            else:
                self._single(made.op)

    def _single(self, op: Op) -> None:
        if op.name in VIEWS:
            view = self._view_of(op)
            if view is None:
                raise UnplannedError(f"{op}: no kernel copies this layout")
            self.views[op.result] = view
        elif op.name == "scan":
            self._scan(op)
        elif op.name in RULES:
            self._reduce(op)
        elif op.name == "concat":
            self._concat(op)
        elif op.name != "state_write":  # those are written at the end
            raise UnplannedError(f"{op}: {op.name} has no kernel")

    def _view_of(self, op: Op) -> View | None:
        x, attributes = self.view(op.operands[0]), op.attributes
        if op.name == "reshape":
            return x.reshaped(self._shape(op.result))
        if op.name == "transpose":
            return x.transposed(attributes["permutation"])  # type: ignore[arg-type]
        if op.name == "broadcast":
            return x.spread(self._shape(op.result))
        axis, start, end, step = (int(attributes[name]) for name in ("axis", "start", "end", "step"))  # type: ignore[arg-type]
        return x.sliced(axis, start, end, step)

    def _pointwise(self, made: Pointwise) -> None:
        shape = self._shape(made.ops[0].result)
        outputs: list[tuple[Value, View]] = []
        for value in made.outputs:
            targets = self.destinations.get(value) or [self._fresh(value, made.element)]
            self.views[value] = targets[0]
            outputs += [(value, target) for target in targets]
        inputs = {
            value: self.view(value)
            for value in group_inputs(made)
            if value not in self.constants or self.constants[value].array.size != 1
        }
        payload, views = self.expressions.map_of(made, shape, inputs, outputs)
        self._add_map(payload, views, ", ".join(str(value) for value in made.outputs))

    def _add_map(self, payload: Map, views: tuple[View, ...], name: str) -> None:
        self.drafts.add(payload, schedule_map(payload, self.target.isa), tuple(map(at, views)), name)

    def _product(self, made: Product) -> None:
        op = made.op
        left, right = op.operands
        a, b = self.view(left), self._right(op, right)
        if op.attributes["transpose_a"]:
            a = a.transposed((*range(len(a.shape) - 2), len(a.shape) - 1, len(a.shape) - 2))
        if len(b.shape) != 2:
            raise UnplannedError(f"{op}: products of many pairs of matrices have no kernel")
        k, n = b.shape
        rows = a.reshaped((math.prod(a.shape[:-1]), k))
        if rows is None:
            raise UnplannedError(f"{op}: no kernel copies the left operand's layout")
        m = rows.shape[0]
        destinations = self.destinations.get(made.result) or [self._fresh(made.result)]
        self.views[made.result] = destinations[0]
        c = destinations[0].reshaped((m, n))
        assert c is not None, "destinations are contiguous"
        operands = [at(rows), at(b), at(c)]
        epilogue = Epilogue(activation=made.activation)
        if made.bias is not None:
            bias = self._adjacent(op, self.view(made.bias).spread((1, n)))
            epilogue = replace(epilogue, bias="row")
            operands.append(at(bias))
        if made.residual is not None:
            residual = self.view(made.residual).spread((*a.shape[:-1], n)).reshaped((m, n))
            if residual is None:
                raise UnplannedError(f"{op}: no kernel copies the residual's layout")
            epilogue = replace(epilogue, residual=self._adjacent(op, residual).strides[0] if m > 1 else n)
            operands.append(at(residual))
        payload = Gemm(
            left.type.element, m, n, k,
            Matrix(rows.strides[0] if m > 1 else k, rows.strides[1]), Matrix(b.strides[0]),
            Output(c.strides[0] if m > 1 else n), epilogue=epilogue,
        )  # fmt: skip
        self.drafts.add(payload, schedule_gemm(payload, self.target), tuple(operands), str(made.result))
        for other in destinations[1:]:
            self._copy(self.views[made.result], other, str(made.result))

    def _concat(self, op: Op) -> None:
        """Each part copied to where it belongs."""
        targets = self.destinations.get(op.result) or [self._fresh(op.result)]
        self.views[op.result] = targets[0]
        axis = int(op.attributes["axis"])  # type: ignore[arg-type]
        for target in targets:
            begin = 0
            for value in op.operands:
                part = self.view(value)
                end = begin + part.shape[axis]
                self._copy(part, target.sliced(axis, begin, end, 1), f"{value} in {op.result}")
                begin = end

    def _reduce(self, op: Op) -> None:
        if op.result.type.element not in ("f32", "f64"):
            raise UnplannedError(f"{op}: no kernel reduces {op.result.type.element}")
        targets = self.destinations.get(op.result) or [self._fresh(op.result)]
        self.views[op.result] = targets[0]
        payload, views = reduce_of(op, [self.view(value) for value in op.operands], targets[0])
        schedule = schedule_reduce(payload, self.target.isa)
        self.drafts.add(payload, schedule, tuple(map(at, views)), str(op.result))
        for other in targets[1:]:
            self._copy(targets[0], other, str(op.result))

    def _scan(self, op: Op) -> None:
        """A loop. Carried values have a place each, where a step finds the old one and leaves the new one."""
        (block,) = op.regions
        carried = int(op.attributes["carried"])  # type: ignore[arg-type]
        sequences = [self.view(value) for value in op.operands[carried:]]
        trips = sequences[0].shape[0] if sequences else int(op.attributes["length"])  # type: ignore[arg-type]
        if trips == 0:
            raise UnplannedError(f"{op}: a scan of no steps has no kernel")
        slots: list[View] = []
        stacks: list[View] = []
        for number, result in enumerate(op.results):
            places = self.destinations.get(result) or [self._fresh(result)]
            self.views[result] = places[0]
            (slots if number < carried else stacks).append(places[0])
        for value, slot in zip(op.operands, slots, strict=False):
            self._copy(self.view(value), slot, f"start of {value}")
        handed, around = block.terminator.operands, self.destinations
        self.destinations = {}
        with self.drafts.loop(trips) as loop:
            self.views.update(zip(block.parameters, slots, strict=False))
            backward = bool(op.attributes["reverse"])
            for parameter, view in zip(block.parameters[carried:], sequences, strict=True):
                self.views[parameter] = self._stepped(loop, view, backward)
            for value, view in zip(handed[carried:], stacks, strict=True):
                self._destine(value, self._stepped(loop, view, backward))
            groups = group(block, self.most)
            late = []
            for number, (value, slot) in enumerate(zip(handed, slots, strict=False)):
                others = {v for place, v in enumerate(handed) if place != number}
                if may_overwrite(groups, value, {block.parameters[number]}, others):
                    self._destine(value, slot)
                elif value is not block.parameters[number]:
                    late.append((value, slot))
            self._lower(groups)
            self._copy_rest_of(groups, handed[carried:])
            self._copy_together(late)
        self.destinations = around
        for result in op.results:
            for other in self.destinations.get(result, [])[1:]:
                self._copy(self.views[result], other, str(result))

    def _stepped(self, loop: DraftLoop, view: View, backward: bool) -> View:
        """What a step of a loop sees of a tensor: one slice of its leading axis."""
        step = view.strides[0] * ELEMENTS[view.element].size
        first = (view.shape[0] - 1) * step if backward else 0
        buffer = self.drafts.cursor(
            loop, (view.buffer, view.byte_offset + first), -step if backward else step
        )
        return View(buffer, view.shape[1:], view.strides[1:], 0, view.element)

    def _copy_rest_of(self, groups: list[Group], values: tuple[Value, ...]) -> None:
        """What no kernel of the groups made, to where it is handed on."""
        made = {value for g in groups if not _is_view(g) for op in g.ops for value in op.results}
        for value in dict.fromkeys(values):
            if value not in made:
                for view in self.destinations[value]:
                    self._copy(self.view(value), view, str(value))

    def _copy_together(self, pairs: list[tuple[Value, View]]) -> None:
        """As if all at once: what one copy reads may lie where another one writes, so it is taken aside."""
        targets = {id(view.buffer) for _, view in pairs}
        sources = []
        for value, _ in pairs:
            source = self.view(value)
            if id(source.buffer) in targets or self._in_state(source):
                aside = View.of(source.shape, source.element)
                self._copy(source, aside, str(value))
                source = aside
            sources.append(source)
        for (value, target), source in zip(pairs, sources, strict=True):
            self._copy(source, target, f"{value}, carried on")

    @staticmethod
    def _in_state(view: View) -> bool:
        return view.buffer.place is not None and view.buffer.place.space == "state"

    def _right(self, op: Op, value: Value) -> View:
        """The right operand with adjacent columns."""
        transposed = bool(op.attributes["transpose_b"])
        source = self.sources.get(value)
        if source is not None and value.type.rank == 2:
            return self._weight(source, transposed)
        b = self.view(value)
        if transposed:
            b = b.transposed((*range(len(b.shape) - 2), len(b.shape) - 1, len(b.shape) - 2))
        return self._adjacent(op, b)

    def _adjacent(self, op: Op, view: View) -> View:
        if view.shape[-1] > 1 and view.strides[-1] != 1:
            raise UnplannedError(f"{op}: an operand whose rows are not adjacent elements has no kernel")
        return view

    # Rows, outputs, state -------------------------------------------------------------------------

    def _lower_rows(self) -> None:
        """The dynamic groups, once for each part's height."""
        dynamic = [g for g in self.groups if _is_dynamic(g)]
        check_rows([op for g in dynamic for op in g.ops])
        static_views, static_destinations = dict(self.views), dict(self.destinations)
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
            for height in heights_for(dynamic, self.target):
                self.extent = height
                self.views, self.destinations = dict(static_views), dict(static_destinations)
                self.drafts.body(rows, height)
                for value, buffer in moving.items():
                    self.views[value] = self._external(value, buffer.place or Place("cursor"))
                for value, buffer in outputs:
                    self._destine(value, self._external(value, buffer.place or Place("cursor")))
                self._lower(dynamic)
                self._copy_rest(dynamic=True)
        self.extent = 0
        self.views, self.destinations = static_views, static_destinations

    def _copy_rest(self, dynamic: bool = False) -> None:
        """Outputs that no kernel wrote: inputs, weights, views."""
        made = {value for g in self.groups if not _is_view(g) for op in g.ops for value in op.results}
        for value, views in self.destinations.items():
            if value not in made and value.type.is_dynamic == dynamic:
                for view in views:
                    self._copy(self.view(value), view, str(value))

    def _copy(self, source: View, target: View, name: str) -> None:
        """A map that changes nothing."""
        shape = target.shape or (1,)
        source = source.spread(shape)
        build = Builder()
        if source.shape[-1] > 1 and source.strides[-1] not in (0, 1):
            raise UnplannedError(f"{name}: no kernel copies this layout")
        reads = Access(0, source.strides, source.offset)
        writes = Access(1, target.strides or (1,), target.offset)
        payload = Map(target.element, shape, (reads,), (writes,), build.done(build.input(0)))
        begins = (replace(source, offset=0), replace(target, offset=0))
        self._add_map(payload, begins, f"copy of {name}")

    def _write_states(self, states: dict[str, State]) -> None:
        """Those that were not overwritten when their next value became known."""
        pairs = []
        for op in self._state_writes():
            if not self._overwrites(op):
                state = states[str(op.attributes["name"])]
                place = Place("state", 0, state.offset)
                pairs.append((op.operands[0], View.of(state.shape, state.dtype, place)))
        self._copy_together(pairs)


def may_overwrite(groups: list[Group], value: Value, old: set[Value], handed: set[Value]) -> bool:
    """Whether `value`, made by one of the groups, may be stored where the `old` values lie: nobody reads
    those later, and who reads them meanwhile does so element by element. handed: what outlives the groups."""
    places = {v: place for place, g in enumerate(groups) for op in g.ops for v in op.results}
    producer = places.get(value)
    if producer is None or not isinstance(groups[producer], Pointwise):
        return False
    seen = set(old)
    for place, made in enumerate(groups):
        used = {v for op in made.ops for v in _all_operands(op)} & seen
        if used and _is_view(made):
            seen |= {v for op in made.ops for v in op.results}
        elif used and (place > producer or (place == producer and not used <= old)):
            return False
    return not seen & handed


def _all_operands(op: Op) -> list[Value]:
    """Those of nested blocks too."""
    return [*op.operands, *(v for region in op.regions for nested in region.walk() for v in nested.operands)]


def row_bytes(type_: TensorType) -> int:
    """Of one step of a dynamic extent."""
    return type_.count(1) * ELEMENTS[type_.element].size


def _is_dynamic(made: Group) -> bool:
    return any(value.type.is_dynamic for op in made.ops for value in (*op.operands, *op.results))


def _is_view(made: Group) -> bool:
    return not isinstance(made, (Product, Pointwise)) and made.ops[0].name in VIEWS
