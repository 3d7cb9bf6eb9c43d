"""Groups to kernels: what each group of ops becomes, and scans, which are loops around others."""

from __future__ import annotations

from neurojit.ir.structure import Op, Value
from neurojit.ir.types import ELEMENTS
from neurojit.planner.drafts import DraftLoop, at
from neurojit.planner.fusion import Group, Pointwise, Product, group
from neurojit.planner.moves import Moves
from neurojit.planner.pointwise import group_inputs
from neurojit.planner.products import Products
from neurojit.planner.reductions import RULES, Reductions
from neurojit.planner.tensors import HELD, UnplannedError, View, lanes_of

VIEWS = ("reshape", "transpose", "broadcast", "slice")


class Lowering(Products, Reductions, Moves):
    """One function in the course of being planned."""

    def _lower(self, groups: list[Group]) -> None:
        for made in groups:
            if isinstance(made, Product):
                self._product(made)
            elif isinstance(made, Pointwise):
                self._pointwise(made)
            else:
                self._single(made.op)
            op = made.ops[0]
            if id(op) in self.places and op.name != "scan":
                self._combine(op, self.views[op.result])

    def _combine(self, op: Op, part: View) -> None:
        """What a reduction over rows gave for those at hand is taken in: see `across`."""

    def _single(self, op: Op) -> None:
        if op.name in VIEWS:
            self.views[op.result] = self._view_of(op)
        elif op.name in RULES:
            self._reduce(op)
        elif op.name != "state_write":  # those are written at the end
            lower = {
                "scan": self._scan, "concat": self._concat, "pad": self._pad, "cumsum": self._cumsum,
                "gather": self._gather, "random_uniform": self._random, "random_normal": self._random,
                "convert": self._convert, "outer": self._outer, "assert": self._assert,
            }.get(op.name)  # fmt: skip
            if lower is None:
                raise UnplannedError(f"{op}: {op.name} has no kernel")
            lower(op)

    def _pointwise(self, made: Pointwise) -> None:
        shape = self._shape(made.ops[0].result)
        outputs: list[tuple[Value, View]] = []
        for value in made.outputs:
            targets = self._targets(value, made.element if value.type.element == "i1" else "")
            self.views[value] = targets[0]
            outputs += [(value, target) for target in targets]
        inputs = {
            value: self._adjacent(made.ops[0], self._in_lanes(self.view(value), made.element), spread=True)
            for value in group_inputs(made)
            if value not in self.constants or self.constants[value].array.size != 1
        }
        payload, views = self.expressions.map_of(made, shape, inputs, outputs)
        name = ", ".join(map(str, made.outputs))
        self._add(payload, tuple(map(at, views)), name, made.ops, list(inputs))

    def _in_lanes(self, view: View, lanes: str) -> View:
        """Truth, as these lanes have it; all else is in them already."""
        return view if lanes_of(view.element) == lanes else self._as(view, lanes)

    def _scan(self, op: Op) -> None:
        """A loop. Carried values have a place each, where a step finds the old one and leaves the new one."""
        (block,) = op.regions
        carried = int(op.attributes["carried"])  # type: ignore[arg-type]
        sequences = [self.view(value) for value in op.operands[carried:]]
        trips = sequences[0].shape[0] if sequences else int(op.attributes["length"])  # type: ignore[arg-type]
        if trips == 0:
            for value, result in zip(op.operands[:carried], op.results, strict=True):
                self._hand(result, self._as(self.view(value), HELD[result.type.element]))
            return
        slots: list[View] = []
        stacks: list[View] = []
        kept = self.places.get(id(op))
        for number, result in enumerate(op.results):
            if kept is not None and number < carried:
                slots.append(kept[number])
                continue
            places = self._targets(result)
            self.views[result] = places[0]
            (slots if number < carried else stacks).append(places[0])
        if kept is None:
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
            late: list[tuple[Value, View]] = []
            early: list[tuple[Value, View]] = []
            for number, (value, slot) in enumerate(zip(handed, slots, strict=False)):
                others = {v for place, v in enumerate(handed) if place != number}
                if may_overwrite(groups, value, {block.parameters[number]}, others):
                    self._destine(value, slot)
                    early.append((value, slot))
                elif value is not block.parameters[number]:
                    late.append((value, slot))
            self._lower(groups)
            self._copy_rest_of(groups, handed[carried:])
            late += [(v, slot) for v, slot in early if self.views[v].element != slot.element]
            self._copy_together(late)
        self.destinations = around
        for result in op.results[carried if kept is not None else 0 :]:
            self._made(result, self.views[result], self._targets(result)[1:])

    def _stepped(self, loop: DraftLoop, view: View, backward: bool) -> View:
        """What a step of a loop sees of a tensor: one slice of its leading axis."""
        step = view.strides[0] * ELEMENTS[view.element].size
        first = (view.shape[0] - 1) * step if backward else 0
        buffer = self.drafts.cursor(
            loop, (view.buffer, view.byte_offset + first), -step if backward else step
        )
        return View(buffer, view.shape[1:], view.strides[1:], 0, view.element)

    def _copy_rest_of(self, groups: list[Group], values: tuple[Value, ...]) -> None:
        """To where values are handed on: what no kernel of the groups made, and what it left held
        otherwise."""
        made = {value for g in groups if not is_view(g) for op in g.ops for value in op.results}
        for value in dict.fromkeys(values):
            source = self.view(value)
            for target in self.destinations.get(value, []):
                if value not in made or target.element != source.element:
                    self._copy(source, target, str(value))

    def _copy_together(self, pairs: list[tuple[Value, View]]) -> None:
        """As if all at once: what one copy reads may lie where another one writes, so it is taken aside."""
        targets = {id(view.buffer) for _, view in pairs}
        sources = []
        for value, target in pairs:
            source = self.view(value)
            if source.element == target.element and (id(source.buffer) in targets or self._in_state(source)):
                aside = View.of(source.shape, source.element)
                self._copy(source, aside, str(value))
                source = aside
            sources.append(source)
        for (value, target), source in zip(pairs, sources, strict=True):
            self._copy(source, target, f"{value}, carried on")

    @staticmethod
    def _in_state(view: View) -> bool:
        return view.buffer.place is not None and view.buffer.place.space == "state"


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
