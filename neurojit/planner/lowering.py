"""Groups to kernels: what each group of ops becomes, where its operands lie, and what must be copied first.

A kernel takes operands as they lie as far as its strides allow; else a copy with adjacent elements comes
before it. A value with several destinations is stored to all of them, or to the first and copied.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from neurojit.ir.schedule import product_extents
from neurojit.ir.structure import Dense, Function, Op, ScheduleText, Value
from neurojit.ir.types import ELEMENTS
from neurojit.plan.cumsum import Cumsum, schedule_cumsum
from neurojit.plan.epilogue import Epilogue
from neurojit.plan.expression import Builder
from neurojit.plan.gemm import Gemm, Matrix, Output
from neurojit.plan.gemv import Gemv, schedule_gemv
from neurojit.plan.map import Access, Map, schedule_map
from neurojit.plan.panels import Panels, panel_width, suits_panels
from neurojit.plan.program import Kernel, Place, Schedule, Weight
from neurojit.plan.reduce import Reduce, schedule_reduce
from neurojit.plan.tiling import schedule_gemm
from neurojit.plan.transpose import Transpose, plan_copy, schedule_transpose
from neurojit.planner.directives import NOTHING, Directives
from neurojit.planner.drafts import Block, DraftLoop, Drafts, Operand, at
from neurojit.planner.fusion import Group, Pointwise, Product, group
from neurojit.planner.pointwise import Expressions, group_inputs
from neurojit.planner.reductions import RULES, reduce_of
from neurojit.planner.tensors import UnplannedError, View
from neurojit.target import Target

VIEWS = ("reshape", "transpose", "broadcast", "slice")


class Lowering:
    """One function in the course of being planned: its steps so far, and where values lie."""

    def __init__(
        self, function: Function, target: Target, most: int, schedule: ScheduleText = NOTHING
    ) -> None:
        self.function, self.target = function, target
        self.most = most
        self.directives = Directives(function, target, schedule)
        self.groups = group(function.block, most, self.directives.fusing)
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
        self.weights: dict[tuple[str, bool, int], Weight] = {}
        self.weight_block = Block()
        self.extent = 0
        self.scheduled: dict[tuple[Kernel, Schedule], tuple[Kernel, Schedule]] = {}

    def _external(self, value: Value, place: Place) -> View:
        return View.of(self._shape(value), value.type.element, place)

    def _shape(self, value: Value) -> tuple[int, ...]:
        shape = value.type.static_shape(self.extent)
        if 0 in shape:
            raise UnplannedError(f"{value}: an empty tensor has no kernel")
        return shape

    def _destine(self, value: Value, view: View) -> None:
        self.destinations.setdefault(value, []).append(view)

    def view(self, value: Value) -> View:
        """Where a value lies. Weights are laid out when they are first asked for."""
        known = self.views.get(value)
        if known is None:
            op = self.sources[value]
            known = self.views[value] = self._weight(op, transposed=False)
        return known

    def _weight(self, op: Op, transposed: bool, panels: Panels | None = None) -> View:
        """A weight or constant in the block of weights, as it is or transposed, row after row or in
        panels."""
        name = str(op.attributes["name"]) if op.name == "weight" else f"%{op.result.name}"
        type_ = op.result.type
        shape = self._shape(op.result)
        if type_.element not in ("f32", "f64"):
            raise UnplannedError(f"{op}: weights of {type_.element} have no kernel")
        size = ELEMENTS[type_.element].size
        key = (name, transposed, panels.width if panels else 0)
        if key not in self.weights:
            rows, columns = math.prod(shape[:-1]), shape[-1] if shape else 1
            if transposed:
                rows, columns = columns, rows
            taken = panels.panels(columns) * panels.panel_bytes if panels else rows * columns * size
            self.weights[key] = Weight(
                name, self.weight_block.reserve(taken), rows, columns,
                panels.width * size if panels else columns * size, type_.element,
                transposed=transposed, panel=panels.width if panels else 0,
            )  # fmt: skip
        place = Place("weights", 0, self.weights[key].offset)
        return View.of(shape[::-1] if transposed else shape, type_.element, place)

    def _fresh(self, value: Value, element: str = "") -> View:
        return View.of(self._shape(value), element or value.type.element)

    def _add(
        self,
        kernel: Kernel,
        operands: tuple[Operand, ...],
        name: str,
        ops: Sequence[Op] = (),
        inputs: Sequence[Value] = (),
    ) -> None:
        """A step, by a schedule of the planner's own where nobody asked for another. Equal kernels of one
        schedule are one object, by which they are known to be equal.

        ops: those that it computes; the first is what a schedule calls it by. inputs: what a map reads."""
        asked = self.directives.schedule(ops[0], kernel, inputs, self.extent) if ops else None
        known = self.scheduled.get((kernel, asked))
        if known is None:
            known = kernel, asked or schedule_of(kernel, self.target)
            self.scheduled[kernel, asked] = known
        op, *fused = [op.result.name for op in ops] or [""]
        self.drafts.add(*known, operands, name, op, tuple(fused))

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
            self.views[op.result] = self._view_of(op)
        elif op.name == "scan":
            self._scan(op)
        elif op.name in RULES:
            self._reduce(op)
        elif op.name == "concat":
            self._concat(op)
        elif op.name == "pad":
            self._pad(op)
        elif op.name == "cumsum":
            self._cumsum(op)
        elif op.name != "state_write":  # those are written at the end
            raise UnplannedError(f"{op}: {op.name} has no kernel")

    def _view_of(self, op: Op) -> View:
        x, attributes = self.view(op.operands[0]), op.attributes
        if op.name == "reshape":
            shape = self._shape(op.result)
            reshaped = x.reshaped(shape) or self._copied(x, str(op.operands[0])).reshaped(shape)
            assert reshaped is not None
            return reshaped
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
            value: self._adjacent(made.ops[0], self.view(value), spread=True)
            for value in group_inputs(made)
            if value not in self.constants or self.constants[value].array.size != 1
        }
        payload, views = self.expressions.map_of(made, shape, inputs, outputs)
        name = ", ".join(map(str, made.outputs))
        self._add(payload, tuple(map(at, views)), name, made.ops, list(inputs))

    def _add_map(self, payload: Map, views: tuple[View, ...], name: str) -> None:
        self._add(payload, tuple(map(at, views)), name)

    def _product(self, made: Product) -> None:
        op = made.op
        left, right = op.operands
        a = self.view(left)
        panels = self._panels(op)
        b = self._packed(op, panels) if panels else self._right(op, right)
        if op.attributes["transpose_a"]:
            a = a.transposed((*range(len(a.shape) - 2), len(a.shape) - 1, len(a.shape) - 2))
        if len(b.shape) != 2:
            self._batch(op, a, b)
            return
        k, n = b.shape
        rows = a.reshaped((math.prod(a.shape[:-1]), k))
        if rows is None:
            rows = self._copied(a, str(left)).reshaped((math.prod(a.shape[:-1]), k))
        assert rows is not None
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
            spread = self.view(made.residual).spread((*a.shape[:-1], n))
            residual = spread.reshaped((m, n)) or self._copied(spread, "residual").reshaped((m, n))
            assert residual is not None
            epilogue = replace(epilogue, residual=self._adjacent(op, residual).strides[0] if m > 1 else n)
            operands.append(at(residual))
        payload = Gemm(
            left.type.element, m, n, k,
            Matrix(rows.strides[0] if m > 1 else k, rows.strides[1]), panels or Matrix(b.strides[0]),
            Output(c.strides[0] if m > 1 else n), epilogue=epilogue,
        )  # fmt: skip
        self._add(payload, tuple(operands), str(made.result), made.ops)
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

    def _pad(self, op: Op) -> None:
        """All of the result filled, then the operand copied into its middle."""
        x, low = self.view(op.operands[0]), op.attributes["low"]
        assert isinstance(low, tuple)
        targets = self.destinations.get(op.result) or [self._fresh(op.result)]
        self.views[op.result] = targets[0]
        build = Builder()
        filled = build.done(build.constant(float(op.attributes["value"])))  # type: ignore[arg-type]
        for target in targets:
            shape = target.shape or (1,)
            access = Access(0, target.strides or (1,), target.offset)
            self._add_map(
                Map(target.element, shape, (), (access,), filled),
                (replace(target, offset=0),),
                str(op.result),
            )
            inside = target
            for axis, (before, extent) in enumerate(zip(low, x.shape, strict=True)):
                inside = inside.sliced(axis, before, before + extent, 1)
            self._copy(x, inside, f"{op.operands[0]} in {op.result}")

    def _cumsum(self, op: Op) -> None:
        """Along the last axis, or the last but one of rows of adjacent elements."""
        axis = int(op.attributes["axis"])  # type: ignore[arg-type]
        x = self._adjacent(op, self.view(op.operands[0]))
        targets = self.destinations.get(op.result) or [self._fresh(op.result)]
        self.views[op.result] = target = targets[0]
        last = len(x.shape) - 1
        if axis not in (last, last - 1) or op.result.type.element not in ("f32", "f64"):
            raise UnplannedError(f"{op}: no kernel sums {op.result.type} along axis {axis}")
        shape, strides, onto = x.shape, x.strides, target.strides
        if last == 0:
            shape, strides, onto = (1, *shape), (0, *strides), (0, *onto)
        accesses = Access(0, strides, x.offset), Access(1, onto, target.offset)
        payload = Cumsum(x.element, shape, *accesses, down=axis == last - 1)
        views = replace(x, offset=0), replace(target, offset=0)
        self._add(payload, tuple(map(at, views)), str(op.result), [op])
        for other in targets[1:]:
            self._copy(target, other, str(op.result))

    def _reduce(self, op: Op) -> None:
        if op.result.type.element not in ("f32", "f64"):
            raise UnplannedError(f"{op}: no kernel reduces {op.result.type.element}")
        targets = self.destinations.get(op.result) or [self._fresh(op.result)]
        self.views[op.result] = targets[0]
        operands = [self._adjacent(op, self.view(value), spread=True) for value in op.operands]
        payload, views = reduce_of(op, operands, targets[0])
        self._add(payload, tuple(map(at, views)), str(op.result), [op])
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
            loop.op, loop.unroll = op.results[0].name, self.directives.scan(op, trips)
            self.views.update(zip(block.parameters, slots, strict=False))
            backward = bool(op.attributes["reverse"])
            for parameter, view in zip(block.parameters[carried:], sequences, strict=True):
                self.views[parameter] = self._stepped(loop, view, backward)
            for value, view in zip(handed[carried:], stacks, strict=True):
                self._destine(value, self._stepped(loop, view, backward))
            groups = group(block, self.most, self.directives.fusing)
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
        made = {value for g in groups if not is_view(g) for op in g.ops for value in op.results}
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

    def _batch(self, op: Op, a: View, b: View) -> None:
        """Products of many pairs of matrices: a loop over the leading axes."""
        m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
        destinations = self.destinations.get(op.result) or [self._fresh(op.result)]
        c = self.views[op.result] = destinations[0]
        outer = c.shape[:-2]
        operands = []
        for view in (a, b):
            wide = view.spread((*outer, *view.shape[-2:]))
            steps = _one_stride(outer, wide.strides)
            if steps is None:
                wide = self._copied(wide, f"operand of {op.name}")
                steps = _one_stride(outer, wide.strides)
            assert steps is not None
            operands.append((wide, steps))
        operands.append((c, _one_stride(outer, c.strides) or 0))
        payload = Gemm(
            a.element, m, n, k, Matrix(operands[0][0].strides[-2], operands[0][0].strides[-1]),
            Matrix(operands[1][0].strides[-2]), Output(n),
        )  # fmt: skip
        with self.drafts.loop(math.prod(outer)) as loop:
            size = ELEMENTS[a.element].size
            moving = [self.drafts.cursor(loop, at(view), step * size) for view, step in operands]
            self._add(payload, tuple((buffer, 0) for buffer in moving), str(op.result), [op])
        for other in destinations[1:]:
            self._copy(c, other, str(op.result))

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

    def _panels(self, op: Op) -> Panels | None:
        """The panels that a product's weights lie in, None where they lie row after row."""
        value = op.operands[1]
        source = self.sources.get(value)
        may = source is not None and value.type.rank == 2 and value.type.element in ("f32", "f64")
        width = self.directives.panel(op, may)
        if width is None:
            width = self._panel_width(op) if may else 0
        if not width:
            return None
        k = value.type.static_shape(0)[-1 if op.attributes["transpose_b"] else 0]
        return Panels.of(value.type.element, k, width)

    def _panel_width(self, op: Op) -> int:
        """Columns of panels where those are quicker, else 0. The same in every part of a dynamic extent."""
        value = op.operands[1]
        k, n = value.type.static_shape(0)[:: -1 if op.attributes["transpose_b"] else 1]
        one_row = product_extents(op)[0] == 1
        suits = suits_panels(value.type.element, k, n, one_row, self.target)
        return panel_width(value.type.element, self.target.isa) if suits else 0

    def _packed(self, op: Op, panels: Panels) -> View:
        """The weights of a product, in panels; as a view, the place where the first one begins."""
        return self._weight(self.sources[op.operands[1]], bool(op.attributes["transpose_b"]), panels)

    def _adjacent(self, op: Op, view: View, spread: bool = False) -> View:
        """The view, or a copy whose last axis is adjacent elements; with `spread`, it may stand still."""
        allowed = (0, 1) if spread else (1,)
        fits = view.shape == () or view.shape[-1] == 1 or view.strides[-1] in allowed
        return view if fits else self._copied(view, f"operand of {op.name}")

    def _copy(self, source: View, target: View, name: str) -> None:
        """Every element of the source, spread, to the target."""
        shape = target.shape or (1,)
        source = source.spread(shape)
        reads, writes = Access(0, source.strides), Access(1, target.strides or (1,))
        payload = plan_copy(target.element, shape, reads, writes)
        views = (source, target)  # offsets belong to the operands: so equal copies are one kernel
        if isinstance(payload, Map):
            self._add_map(payload, views, f"copy of {name}")
        else:
            self._add(payload, tuple(map(at, views)), f"copy of {name}")

    def _copied(self, view: View, name: str) -> View:
        """The same tensor, contiguous."""
        fresh = View.of(view.shape, view.element)
        self._copy(view, fresh, name)
        return fresh


def schedule_of(kernel: Kernel, target: Target) -> Schedule:
    """What the planner of its kind chooses."""
    if isinstance(kernel, Gemm):
        return schedule_gemm(kernel, target)
    if isinstance(kernel, Gemv):
        return schedule_gemv(kernel, target)
    if isinstance(kernel, Map):
        return schedule_map(kernel, target.isa)
    if isinstance(kernel, Reduce):
        return schedule_reduce(kernel, target.isa)
    if isinstance(kernel, Transpose):
        return schedule_transpose(kernel, target.isa)
    return schedule_cumsum(kernel, target.isa)


def _one_stride(outer: tuple[int, ...], strides: tuple[int, ...]) -> int | None:
    """The stride from one index of the outer axes to the next, None where there is no single one."""
    kept = [(extent, stride) for extent, stride in zip(outer, strides, strict=False) if extent != 1]
    if not kept:
        return 0
    for (_, stride), (inner, next_stride) in pairwise(kept):
        if stride != inner * next_stride:
            return None
    return kept[-1][1]


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
        if used and is_view(made):
            seen |= {v for op in made.ops for v in op.results}
        elif used and (place > producer or (place == producer and not used <= old)):
            return False
    return not seen & handed


def _all_operands(op: Op) -> list[Value]:
    """Those of nested blocks too."""
    return [*op.operands, *(v for region in op.regions for nested in region.walk() for v in nested.operands)]


def is_view(made: Group) -> bool:
    return not isinstance(made, (Product, Pointwise)) and made.ops[0].name in VIEWS
