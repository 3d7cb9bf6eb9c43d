"""The schedule region: steps that say how ops are computed, and which of them are legal.

A step is a row, as an op is: parameters, the kinds of op it applies to, and a check against the op's shape.
Legality here is about meaning and limits, for any machine: covers that leave elements out, threads along an
axis whose elements depend on each other, packing of what is not known before the call, fusing of what is not
there yet. Whether a CPU has the registers for a tile, and a kernel takes the step at all, is the planner's to
say (planner/directives.py). The numbers are those of the schedules in neurojit.plan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neurojit.errors import Diagnostic, Span
from neurojit.ir.rules import MisfitError, spell
from neurojit.ir.structure import Attribute, Function, Module, Op, ScheduleText, Step, Value
from neurojit.ir.table import OPS, Attr, complete_attributes, did_you_mean
from neurojit.ir.types import Extent

LOWERED = ("gemm", "map", "reduce", "move", "random", "scan")
"""The kinds of op that there is code for."""
MOST_UNROLL = 64
MOST_HEIGHT = 64
MOST_LANES = 64
MOST_ACCUMULATORS = 256
"""Rows of a tile times its vectors side by side."""
MOST_WAYS = 1024
MOST_ROWS = 4096
"""Rows of a dynamic extent that are computed at once."""
MOST_PANEL = 1024
"""Columns of a panel."""
MOST_DISTANCE = 64


@dataclass(frozen=True)
class Site:
    """An op and what is around it, as far as a check may look. `members`: name of an op -> names of the ops
    that other steps fuse into it."""

    op: Op
    block: int
    position: int
    sites: Mapping[str, Site]
    members: Mapping[str, frozenset[str]]

    @property
    def lowering(self) -> str:
        return OPS[self.op.name].lowering


@dataclass(frozen=True)
class StepRow:
    """name: the kind of step. lowerings: the kinds of op it applies to. check: raises MisfitError."""

    name: str
    parameters: tuple[Attr, ...]
    lowerings: tuple[str, ...]
    check: Callable[[Site, Mapping[str, Any]], None]
    repeats: tuple[str, ...] | None = None
    """Parameters that tell several such steps of one op apart; None: there may be one."""


def _between(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise MisfitError(name, f"{least} to {most}", str(value), at=name)


def product_extents(op: Op) -> tuple[Extent, Extent, Extent]:
    """(m, n, k) of the kernel of a matmul or outer. Where all rows of `a` meet one matrix, leading axes are
    rows like others; else they are a batch of products, and left out here. m None: a dynamic extent."""
    shape = op.result.type.shape
    n = shape[-1]
    if op.name == "outer":
        return shape[-2], n, 1
    a = op.operands[0].type.shape
    rows = shape[:-1] if op.operands[1].type.rank == 2 else shape[-2:-1]
    m = None if None in rows else math.prod(extent or 0 for extent in rows)
    return m, n, a[-2 if op.attributes["transpose_a"] else -1]


def is_in_rows(op: Op) -> bool:
    """Whether an op is computed in the loop over the rows of a dynamic extent."""
    return any(value.type.is_dynamic for value in (*op.operands, *op.results))


def rows_in_part(op: Op, part: int) -> int:
    """Rows of a product's kernel in the part that takes so many rows of the dynamic extent."""
    m = product_extents(op)[0]
    return m if m is not None else part * math.prod(extent or 1 for extent in op.result.type.shape[1:-1])


def _part(site: Site, p: Mapping[str, Any]) -> int:
    _between("part", p["part"], 0, MOST_ROWS)
    if p["part"] and not is_in_rows(site.op):
        raise MisfitError("part", f"0, for {site.op.result} has no dynamic extent", str(p["part"]), at="part")
    return int(p["part"])


def _tile(site: Site, p: Mapping[str, Any]) -> None:
    m, n, _ = product_extents(site.op)
    rows, columns = p["rows"], p["columns"]
    part = _part(site, p)
    if part:
        m = rows_in_part(site.op, part)
    if not rows or len(rows) % 2:
        raise MisfitError("rows", "pairs of a height and a count of tiles", str(list(rows)), at="rows")
    for height, tiles in zip(rows[::2], rows[1::2], strict=True):
        _between("rows", height, 1, MOST_HEIGHT)
        if (tiles != -1) if m is None else (tiles < 1):
            expected = "-1, as many as fit, for a dynamic extent" if m is None else "at least 1"
            raise MisfitError("rows: count of tiles", expected, str(tiles), at="rows")
    heights = rows[::2]
    if m is None:
        _check_falling("rows", heights)
    covered = sum(height * tiles for height, tiles in zip(heights, rows[1::2], strict=True))
    if m is not None and covered != m:
        raise MisfitError("rows", f"tiles that cover {m}", str(covered), at="rows")
    if m is not None and len(heights) > MOST_HEIGHTS:
        raise MisfitError("rows", f"at most {MOST_HEIGHTS} heights of tiles", str(len(heights)), at="rows")
    _between("folded", p["folded"], 0, MOST_LANES)
    _between("by_lanes", p["by_lanes"], 0, MOST_HEIGHT)
    if not columns and (not p["folded"] or p["by_lanes"] or p["shared"]):
        raise MisfitError("columns", "lanes of at least one vector", "[]", at="columns")
    for lanes in columns:
        _between("columns", lanes, 1, MOST_LANES)
    _between("count", p["count"], 1, n or 0)
    _between("depth", p["depth"], 0, 1 << 20)
    accumulators = max(heights) * len(columns)
    if accumulators > MOST_ACCUMULATORS:
        raise MisfitError(
            "tile", f"at most {MOST_ACCUMULATORS} accumulators", str(accumulators), at="columns"
        )


MOST_HEIGHTS = 2
"""Of the tiles below each other in one column of them."""


def _check_falling(name: str, heights: Sequence[int]) -> None:
    if list(heights) != sorted(set(heights), reverse=True) or heights[-1] != 1:
        raise MisfitError(name, "falling heights, the last of them 1, so that any extent is met", at=name)


def _rows(site: Site, p: Mapping[str, Any]) -> None:
    if not is_in_rows(site.op):
        raise MisfitError("op", "one of dynamic extent", str(site.op), at="op")
    if not p["heights"]:
        raise MisfitError("heights", "rows that are computed at once", "[]", at="heights")
    for height in p["heights"]:
        _between("heights", height, 1, MOST_ROWS)
    _check_falling("heights", p["heights"])


def _unroll(site: Site, p: Mapping[str, Any]) -> None:
    _part(site, p)
    _between("steps", p["steps"], 1, MOST_UNROLL)
    trips: Extent = None
    if site.lowering == "gemm":
        trips = product_extents(site.op)[2]
    elif site.lowering == "scan":
        trips = scan_trips(site.op)
    if trips is not None and p["steps"] > max(trips, 1):
        raise MisfitError(
            "steps", f"at most {max(trips, 1)}, the trips of the loop", str(p["steps"]), at="steps"
        )


def scan_trips(op: Op) -> Extent:
    """How often a scan runs its body; None: the dynamic extent."""
    carried, length = op.attributes["carried"], op.attributes["length"]
    assert isinstance(carried, int) and isinstance(length, int)
    return op.operands[carried].type.shape[0] if len(op.operands) > carried else length


def _keep(site: Site, p: Mapping[str, Any]) -> None:
    _part(site, p)


def _unfuse(site: Site, p: Mapping[str, Any]) -> None:
    pass  # any elementwise op may begin a kernel of its own


def _vectorize(site: Site, p: Mapping[str, Any]) -> None:
    _part(site, p)
    lanes = p["lanes"]
    _between("lanes", lanes, 1, MOST_LANES)
    if lanes & (lanes - 1):
        raise MisfitError("lanes", "a power of two", str(lanes), at="lanes")


def _operand(site: Site, number: int) -> Value:
    _between("operand", number, 0, len(site.op.operands) - 1)
    return site.op.operands[number]


def _pack(site: Site, p: Mapping[str, Any]) -> None:
    _between("width", p["width"], -1, MOST_PANEL)
    operand = _operand(site, p["operand"])
    made = site.sites.get(operand.name)
    if made is None or made.op.name not in ("weight", "constant"):
        got = "an input" if made is None else f"the result of {made.op.name}"
        raise MisfitError(f"{operand} is packed before the call", "a weight or a constant", got, at="operand")


def _fuse(site: Site, p: Mapping[str, Any]) -> None:
    into = site.sites.get(p["into"])
    if into is None:
        raise MisfitError(
            "into", "what an op defines", repr(p["into"]), did_you_mean(p["into"], site.sites), "into"
        )
    if into.op is site.op:
        raise MisfitError("an op is not fused into itself", at="into")
    if into.lowering not in ("gemm", "map", "reduce"):
        raise MisfitError("into", "an op that lowers to gemm, map or reduce", into.op.name, at="into")
    if into.block != site.block:
        raise MisfitError("into", "an op of the same block", str(into.op), at="into")
    others = [into, *(site.sites[name] for name in site.members.get(p["into"], ()) if name != p["op"])]
    group = {other.op.result for other in others}
    uses = any(operand in group for operand in site.op.operands)
    if not uses and not any(site.op.result in other.op.operands for other in others):
        if into.position > site.position:
            raise MisfitError(f"{into.op.result} does not use %{p['op']}", at="into")
        raise MisfitError(f"%{p['op']} does not use {into.op.result}", at="into")
    if into.position < site.position and site.op.result.type.shape != into.op.result.type.shape:
        expected, got = spell(into.op.result.type.shape), spell(site.op.result.type.shape)
        raise MisfitError(f"shape of %{p['op']}", f"{expected}, that of {into.op.result}", got, at="into")


def _prefetch(site: Site, p: Mapping[str, Any]) -> None:
    _part(site, p)
    _operand(site, p["operand"])
    _between("distance", p["distance"], 1, MOST_DISTANCE)


def _parallel(site: Site, p: Mapping[str, Any]) -> None:
    op, axis, rank = site.op, p["axis"], site.op.result.type.rank
    if not rank:
        raise MisfitError("axis", "an op whose result has axes", str(op.result.type), at="axis")
    _between("axis", axis, 0, rank - 1)
    _between("ways", p["ways"], 1, MOST_WAYS)
    along = rank - 1 if op.name in ("layer_norm", "rms_norm") else op.attributes.get("axis")
    if op.name in ("softmax", "cumsum", "layer_norm", "rms_norm") and axis == along:
        raise MisfitError("axis", "one whose elements do not depend on each other", str(axis), at="axis")


_OPERAND = Attr("operand", "int", 1)
_PART = Attr("part", "int", 0)
_PER_PART = ("part",)
STEPS = {
    row.name: row
    for row in (
        StepRow(
            "tile",
            (
                Attr("rows", "ints"),
                Attr("columns", "ints"),
                Attr("count", "int", 1),
                Attr("depth", "int", 0),
                Attr("folded", "int", 0),
                Attr("shared", "bool", False),
                Attr("by_lanes", "int", 0),
                _PART,
            ),
            ("gemm",),
            _tile,
            ("columns", "folded", "part"),
        ),
        StepRow(
            "unroll", (Attr("steps", "int"), _PART), ("gemm", "map", "reduce", "scan"), _unroll, _PER_PART
        ),
        StepRow("vectorize", (Attr("lanes", "int"), _PART), ("gemm", "map", "reduce"), _vectorize, _PER_PART),
        StepRow("pack", (_OPERAND, Attr("width", "int", -1)), ("gemm",), _pack, ("operand",)),
        StepRow("fuse", (Attr("into", "string"),), ("map",), _fuse),
        StepRow("unfuse", (), ("map",), _unfuse),
        StepRow("keep", (Attr("registers", "bool"), _PART), ("reduce",), _keep, _PER_PART),
        StepRow(
            "prefetch",
            (_OPERAND, Attr("distance", "int"), _PART),
            ("gemm", "map"),
            _prefetch,
            ("operand", "part"),
        ),
        StepRow("rows", (Attr("heights", "ints"),), LOWERED, _rows),
        StepRow(
            "parallel",
            (Attr("axis", "int"), Attr("ways", "int")),
            ("gemm", "map", "reduce", "move"),
            _parallel,
        ),
    )
}
"""name -> row.

tile        rows: pairs of a height and a count, -1 for as many as fit; columns: lanes of the vectors side by
            side; count: how many such tiles; depth: steps of k in one pass, 0 for all; folded: columns behind
            the vectors, several rows of which share a register; shared: a load of an element of the left
            operand for all vectors of its row; by_lanes: rows that load those elements for several steps at
            once
unroll      steps of a loop in one trip
vectorize   elements in a vector
pack        an operand's panels are laid out before the first call; width: their columns, -1 for as many as
suit
            the CPU, 0 for no panels
fuse        computed where `into` is computed
unfuse      not computed where an operand is: a kernel begins with it
keep        whether what one pass along a row computes is kept in registers for the next
prefetch    an operand is loaded so many trips ahead
rows        how many rows of the dynamic extent are computed at once, as long as so many are left: of all ops
in
            the loop over them
parallel    an axis of the result is shared between at most so many threads

part: the step is for the kernel that computes so many rows of a dynamic extent at once; 0: for all of them.
"""
_OP = Attr("op", "string")


def complete_step(kind: str, given: Mapping[str, Any], span: Span | None, places: Mapping[str, Span]) -> Step:
    """A step with its defaults filled in. MisfitError: no such step, or parameters that are not its own."""
    row = STEPS.get(kind)
    if row is None:
        raise MisfitError("no such step", ", ".join(STEPS), repr(kind[:64]), did_you_mean(kind, STEPS))
    parameters = complete_attributes((_OP, *row.parameters), given)
    return Step(kind, str(parameters.pop("op")), parameters, span, places)


def step(kind: str, op: str, **parameters: Attribute | list[int]) -> Step:
    """A step from Python: step("unroll", "y", steps=4). ValueError: not one."""
    try:
        return complete_step(kind, {"op": op, **parameters}, None, {})
    except MisfitError as misfit:
        raise ValueError(str(diagnostic_of(Step(kind, op, {}), misfit))) from None


def check_schedules(module: Module) -> list[Diagnostic]:
    """What is illegal in the schedules of a module."""
    found: list[Diagnostic] = []
    seen: set[str] = set()
    functions = {function.name: function for function in module.functions}
    for schedule in module.schedules:
        function = functions.get(schedule.function)
        if function is None:
            expected, got = ", ".join(functions), repr(schedule.function)
            found.append(Diagnostic(schedule.span, "function of a schedule", expected, got))
        elif schedule.function in seen:
            found.append(Diagnostic(schedule.span, f"second schedule of @{schedule.function}", "one"))
        else:
            seen.add(schedule.function)
            found.extend(check_schedule(function, schedule))
    return found


def check_schedule(function: Function, schedule: ScheduleText) -> list[Diagnostic]:
    """What is illegal in one schedule: every step on its own, then steps beside each other."""
    fused: dict[str, set[str]] = {}
    for one in schedule.steps:
        if one.kind == "fuse":
            fused.setdefault(str(one.parameters["into"]), set()).add(one.op)
    sites: dict[str, Site] = {}
    members = {name: frozenset(names) for name, names in fused.items()}
    _add_sites(function, sites, members)
    members = {name: frozenset(n for n in names if n in sites) for name, names in members.items()}
    found = []
    first: dict[tuple[object, ...], Step] = {}
    for one in schedule.steps:
        try:
            _check_step(one, sites, first)
        except MisfitError as misfit:
            found.append(diagnostic_of(one, misfit))
    return found or [*_check_columns(schedule.steps, sites), *_check_order(function, schedule.steps)]


def _add_sites(function: Function, sites: dict[str, Site], members: Mapping[str, frozenset[str]]) -> None:
    blocks = [function.block]
    for number, block in enumerate(blocks):
        for position, op in enumerate(block.ops):
            blocks.extend(op.regions)
            for result in op.results:
                sites[result.name] = Site(op, number, position, sites, members)


def _check_step(one: Step, sites: Mapping[str, Site], first: dict[tuple[object, ...], Step]) -> None:
    row, site = STEPS[one.kind], sites.get(one.op)
    if site is None:
        raise MisfitError(
            "op", "the name of what an op defines", repr(one.op), did_you_mean(one.op, sites), "op"
        )
    if site.lowering not in row.lowerings:
        expected = f"an op that lowers to {' or '.join(row.lowerings)}"
        raise MisfitError("op", expected, f"{site.op.name}, which lowers to {site.lowering}", at="op")
    row.check(site, {"op": one.op, **one.parameters})
    key = (one.kind, one.op, *(one.parameters[name] for name in row.repeats or ()))
    if first.setdefault(key, one) is not one:
        raise MisfitError(f"%{one.op} has such a step already", "one")


def _check_columns(steps: Iterable[Step], sites: Mapping[str, Site]) -> list[Diagnostic]:
    """The tiles of an op together cover its columns, with the same depth."""
    tiles: dict[tuple[str, Attribute], list[Step]] = {}
    for one in steps:
        if one.kind == "tile":
            tiles.setdefault((one.op, one.parameters["part"]), []).append(one)
    found = []
    for (name, _), group in tiles.items():
        n = product_extents(sites[name].op)[1]
        covered = sum(_width(one) for one in group)
        if covered != n:
            misfit = MisfitError("columns", f"tiles that cover {n}", str(covered), at="columns")
            found.append(diagnostic_of(group[-1], misfit))
        for other in group[1:]:
            if other.parameters["depth"] != group[0].parameters["depth"]:
                misfit = MisfitError("depth", f"as in the other tiles of %{name}", at="depth")
                found.append(diagnostic_of(other, misfit))
    return found


def fused_together(steps: Iterable[Step]) -> list[dict[str, Step]]:
    """Names of ops that one kernel computes, each with the step that says so (of one that others are fused
    into, one of theirs)."""
    groups: dict[str, dict[str, Step]] = {}
    for one in steps:
        if one.kind != "fuse":
            continue
        into = str(one.parameters["into"])
        mine, other = groups.get(one.op, {one.op: one}), groups.get(into, {into: one})
        together = {**other, **mine, one.op: one}
        for name in together:
            groups[name] = together
    return list({id(group): group for group in groups.values()}.values())


def _check_order(function: Function, steps: Iterable[Step]) -> list[Diagnostic]:
    """No path leads out of ops that are fused and back into them: those between would have to be computed in
    the middle of one kernel."""
    found = []
    blocks = [function.block, *(region for op in function.block.walk() for region in op.regions)]
    for group in fused_together(steps):
        for block in blocks:
            inside: set[Value] = set()
            late: set[Value] = set()
            for op in block.ops:
                read = [*op.operands, *(v for r in op.regions for o in r.walk() for v in o.operands)]
                step = next((group[value.name] for value in op.results if value.name in group), None)
                between = [value for value in read if value in late]
                if step is None:
                    if between or any(value in inside for value in read):
                        late.update(op.results)
                    continue
                if between:
                    message = f"{between[0]} is not there yet when %{step.parameters['into']} is computed"
                    found.append(diagnostic_of(step, MisfitError(message, at="into")))
                inside.update(op.results)
    return found


def _width(tile: Step) -> int:
    parameters: Mapping[str, Any] = tile.parameters
    return int((sum(parameters["columns"]) + parameters["folded"]) * parameters["count"])


def diagnostic_of(one: Step, misfit: MisfitError) -> Diagnostic:
    """A misfit at the place of the parameter that it names, else of the step."""
    span = one.places.get(str(misfit.at), one.span)
    return Diagnostic(span, f"{one.kind}: {misfit.message}", misfit.expected, misfit.got, misfit.hint)
