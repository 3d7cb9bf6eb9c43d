"""The schedule region: steps that say how ops are computed, and which of them are legal.

A step is a row, as an op is: parameters, the kinds of op it applies to, and a check against the op's shape.
Legality here is about meaning and limits, for any machine: covers that leave elements out, threads along an
axis whose elements depend on each other, packing of what is not known before the call, fusing of what is not
there yet. Whether a CPU has the registers for a tile is the planner's to say. The numbers are those of the
schedules in neurojit.plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from neurojit.errors import Diagnostic, Span
from neurojit.ir.rules import MisfitError, spell
from neurojit.ir.structure import Attribute, Function, Module, Op, ScheduleText, Step, Value
from neurojit.ir.table import OPS, Attr, complete_attributes, did_you_mean
from neurojit.ir.types import Extent

MOST_UNROLL = 64
MOST_HEIGHT = 64
MOST_LANES = 64
MOST_ACCUMULATORS = 256
"""Rows of a tile times its vectors side by side."""
MOST_WAYS = 1024
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
    """(m, n, k) of a matmul or outer, without its batch."""
    m, n = op.result.type.shape[-2:]
    if op.name == "outer":
        return m, n, 1
    a = op.operands[0].type.shape
    return m, n, a[-2 if op.attributes["transpose_a"] else -1]


def _tile(site: Site, p: Mapping[str, Any]) -> None:
    m, n, _ = product_extents(site.op)
    rows, columns = p["rows"], p["columns"]
    if not rows or len(rows) % 2:
        raise MisfitError("rows", "pairs of a height and a count of tiles", str(list(rows)), at="rows")
    for height, tiles in zip(rows[::2], rows[1::2], strict=True):
        _between("rows", height, 1, MOST_HEIGHT)
        if (tiles != -1) if m is None else (tiles < 1):
            expected = "-1, as many as fit, for a dynamic extent" if m is None else "at least 1"
            raise MisfitError("rows: count of tiles", expected, str(tiles), at="rows")
    heights = rows[::2]
    if m is None and (list(heights) != sorted(set(heights), reverse=True) or heights[-1] != 1):
        raise MisfitError("rows", "falling heights, the last of them 1, so that any extent is met", at="rows")
    covered = sum(height * tiles for height, tiles in zip(heights, rows[1::2], strict=True))
    if m is not None and covered != m:
        raise MisfitError("rows", f"tiles that cover {m}", str(covered), at="rows")
    if not columns:
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


def _unroll(site: Site, p: Mapping[str, Any]) -> None:
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


def _vectorize(site: Site, p: Mapping[str, Any]) -> None:
    lanes = p["lanes"]
    _between("lanes", lanes, 1, MOST_LANES)
    if lanes & (lanes - 1):
        raise MisfitError("lanes", "a power of two", str(lanes), at="lanes")


def _operand(site: Site, number: int) -> Value:
    _between("operand", number, 0, len(site.op.operands) - 1)
    return site.op.operands[number]


def _pack(site: Site, p: Mapping[str, Any]) -> None:
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
    group = {into.op.result, *(site.sites[name].op.result for name in site.members.get(p["into"], ()))}
    if into.position > site.position:
        if not any(site.op.result in site.sites[value.name].op.operands for value in group):
            raise MisfitError(f"{into.op.result} does not use %{p['op']}", at="into")
        return
    if not any(operand in group for operand in site.op.operands):
        raise MisfitError(f"%{p['op']} does not use {into.op.result}", at="into")
    if site.op.result.type.shape != into.op.result.type.shape:
        expected, got = spell(into.op.result.type.shape), spell(site.op.result.type.shape)
        raise MisfitError(f"shape of %{p['op']}", f"{expected}, that of {into.op.result}", got, at="into")
    for operand in site.op.operands:
        made = site.sites.get(operand.name)
        late = made is not None and made.block == site.block and made.position > into.position
        if late and operand not in group and made is not None and made.lowering != "source":
            raise MisfitError(f"{operand} is not there yet when {into.op.result} is computed", at="into")


def _prefetch(site: Site, p: Mapping[str, Any]) -> None:
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
STEPS = {
    row.name: row
    for row in (
        StepRow(
            "tile",
            (Attr("rows", "ints"), Attr("columns", "ints"), Attr("count", "int", 1), Attr("depth", "int", 0)),
            ("gemm",),
            _tile,
            ("columns",),
        ),
        StepRow("unroll", (Attr("steps", "int"),), ("gemm", "map", "reduce", "scan"), _unroll),
        StepRow(
            "vectorize", (Attr("lanes", "int"),), ("gemm", "map", "reduce", "move", "random"), _vectorize
        ),
        StepRow("pack", (_OPERAND,), ("gemm",), _pack, ("operand",)),
        StepRow("fuse", (Attr("into", "string"),), ("map",), _fuse),
        StepRow(
            "prefetch",
            (_OPERAND, Attr("distance", "int")),
            ("gemm", "map", "reduce", "move"),
            _prefetch,
            ("operand",),
        ),
        StepRow(
            "parallel",
            (Attr("axis", "int"), Attr("ways", "int")),
            ("gemm", "map", "reduce", "move", "random"),
            _parallel,
        ),
    )
}
"""name -> row.

tile        rows: pairs of a height and a count, -1 for as many as fit; columns: lanes of the vectors side by
            side; count: how many such tiles; depth: steps of k in one pass, 0 for all
unroll      steps of a loop in one trip
vectorize   elements in a vector
pack        an operand's panels are laid out before the first call
fuse        computed where `into` is computed
prefetch    an operand is loaded so many trips ahead
parallel    an axis of the result is shared between so many threads
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
        raise ValueError(str(_diagnostic(Step(kind, op, {}), misfit))) from None


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
            found.append(_diagnostic(one, misfit))
    return found or _check_columns(schedule.steps, sites)


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
    """The tiles of an op together cover its columns, with the same rows and depth."""
    tiles: dict[str, list[Step]] = {}
    for one in steps:
        if one.kind == "tile":
            tiles.setdefault(one.op, []).append(one)
    found = []
    for name, group in tiles.items():
        n = product_extents(sites[name].op)[1]
        covered = sum(_width(one) for one in group)
        if covered != n:
            misfit = MisfitError("columns", f"tiles that cover {n}", str(covered), at="columns")
            found.append(_diagnostic(group[-1], misfit))
        for other in group[1:]:
            for parameter in ("rows", "depth"):
                if other.parameters[parameter] != group[0].parameters[parameter]:
                    misfit = MisfitError(parameter, f"as in the other tiles of %{name}", at=parameter)
                    found.append(_diagnostic(other, misfit))
    return found


def _width(tile: Step) -> int:
    parameters: Mapping[str, Any] = tile.parameters
    return int(sum(parameters["columns"]) * parameters["count"])


def _diagnostic(one: Step, misfit: MisfitError) -> Diagnostic:
    span = one.places.get(str(misfit.at), one.span)
    return Diagnostic(span, f"{one.kind}: {misfit.message}", misfit.expected, misfit.got, misfit.hint)
