"""From a module to its text, the inverse of the parser: MLIR's generic form, one op a line.

Attributes stand in the order of the row, without those that have their default. Values keep their names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from neurojit.ir.literals import spell, spell_string
from neurojit.ir.parser import DIALECT, VERSION
from neurojit.ir.schedule import STEPS
from neurojit.ir.structure import Attribute, Block, Function, Module, Op, ScheduleText, Value
from neurojit.ir.table import OPS, Attr
from neurojit.ir.types import TensorType


def print_module(module: Module) -> str:
    """The text of a module, with a newline at its end."""
    lines = [f"module @{module.name} attributes {{nj.version = {VERSION}}} {{"]
    for function in module.functions:
        lines.extend(_function(function))
    for schedule in module.schedules:
        lines.extend(_schedule(schedule))
    return "\n".join([*lines, "}", ""])


def _function(function: Function) -> Iterable[str]:
    results = _types([value.type for value in function.outputs])
    yield f"  func.func @{function.name}({_parameters(function.parameters)}) -> {results} {{"
    yield from _ops(function.block, "    ")
    yield "  }"


def _ops(block: Block, indent: str) -> Iterable[str]:
    for op in block.ops:
        if op.name == "return":
            types = ", ".join(str(value.type) for value in op.operands)
            yield f"{indent}func.return" + (f" {_values(op.operands)} : {types}" if op.operands else "")
            continue
        results = f"{_values(op.results)} = " if op.results else ""
        head = f'{indent}{results}"{DIALECT}{op.name}"({_values(op.operands)})'
        tail = _attributes(op.attributes, OPS[op.name].attributes) + _signature(op)
        if not op.regions:
            yield head + tail
            continue
        (region,) = op.regions
        yield f"{head} ({{"
        yield f"{indent}^bb0({_parameters(region.parameters)}):"
        yield from _ops(region, indent + "  ")
        yield f"{indent}}}){tail}"


def print_schedule(schedule: ScheduleText) -> str:
    """The text of a schedule alone, with a newline at its end."""
    return "\n".join(line[2:] for line in _schedule(schedule)) + "\n"


def _schedule(schedule: ScheduleText) -> Iterable[str]:
    yield f'  "{DIALECT}schedule"() ({{'
    for step in schedule.steps:
        attributes = _attributes(
            {"op": step.op, **step.parameters}, (Attr("op", "string"), *STEPS[step.kind].parameters)
        )
        yield f'    "{DIALECT}{step.kind}"(){attributes} : () -> ()'
    yield f"  }}) {{function = {spell_string(schedule.function)}}} : () -> ()"


def _attributes(given: Mapping[str, Attribute], known: tuple[Attr, ...]) -> str:
    spelled = [f"{a.name} = {spell(given[a.name])}" for a in known if not _same(given[a.name], a.default)]
    return f" {{{', '.join(spelled)}}}" if spelled else ""


def _same(value: Attribute, default: Attribute) -> bool:
    """Equal to the last bit: of zeros the sign counts."""
    return value == default and str(value) == str(default)


def _signature(op: Op) -> str:
    operands = ", ".join(str(value.type) for value in op.operands)
    return f" : ({operands}) -> {_types([value.type for value in op.results])}"


def _types(types: list[TensorType]) -> str:
    return str(types[0]) if len(types) == 1 else f"({', '.join(map(str, types))})"


def _values(values: Iterable[Value]) -> str:
    return ", ".join(map(str, values))


def _parameters(parameters: Iterable[Value]) -> str:
    return ", ".join(f"{value}: {value.type}" for value in parameters)
