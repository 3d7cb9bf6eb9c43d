"""What must hold of every module, whoever made it: the text, a builder, a pass.

Names are unique and spelt as names are; every value is defined once, before its uses, in the same block or
one around it; every op fits its row; blocks end with what hands values out; the names of weights and states
mean one thing each.
"""

from __future__ import annotations

from neurojit.errors import Diagnostic, Span, TensorLangError
from neurojit.ir.rules import MisfitError
from neurojit.ir.schedule import check_schedules
from neurojit.ir.structure import MOST_NESTING, NAME, Block, Function, Module, Op, Value
from neurojit.ir.table import complete, infer, row_named


def verify(module: Module) -> None:
    """TensorLangError: what does not hold. Ops that were found to fit their rows are not asked again."""
    found = check_module(module)
    if found:
        raise TensorLangError(found)


def check_module(module: Module) -> list[Diagnostic]:
    """What does not hold, the schedules included."""
    found = [diagnostic for function in module.functions for diagnostic in _check_structure(function)]
    return found or [*check_data(module), *check_schedules(module)]


def check_data(module: Module) -> list[Diagnostic]:
    """What cannot be seen op by op: functions, weights, states, dynamic extents."""
    found = []
    found += _check_name("module", module.name)
    names = [function.name for function in module.functions]
    if not names:
        found.append(Diagnostic(None, f"module @{module.name}", "at least one function"))
    found += [
        Diagnostic(None, f"two functions are called @{n}")
        for n in sorted({n for n in names if names.count(n) > 1})
    ]
    for function in module.functions:
        found += _check_names_of_data(function)
        found += _check_extents(function)
    return found


def _check_names_of_data(function: Function) -> list[Diagnostic]:
    """A weight or state has one type and one initial value; a state is written once, outside scans."""
    found = []
    first: dict[tuple[str, str], Op] = {}
    outermost = set(map(id, function.block.ops))
    written: set[str] = set()
    for op in function.block.walk():
        if op.name not in ("weight", "state_read", "state_write"):
            continue
        kind, name = op.name.partition("_")[0], str(op.attributes["name"])
        before = first.setdefault((kind, name), op)
        type_, expected = _type_of(op), _type_of(before)
        if type_ != expected:
            found.append(
                Diagnostic(op.span, f"type of {kind} {name!r}", f"{expected}, as before", str(type_))
            )
        initial = op.attributes.get("initial")
        if op.name == "state_read" and initial != before.attributes.get("initial", initial):
            expected_value = f"{before.attributes['initial']}, as before"
            found.append(Diagnostic(op.span, f"initial value of {name!r}", expected_value, str(initial)))
        if kind == "state" and id(op) not in outermost:
            hint = "read it before the scan, carry it, and write it after"
            found.append(Diagnostic(op.span, f"{op.name} in a scan", hint=hint))
        if op.name == "state_write":
            if name in written:
                found.append(Diagnostic(op.span, f"state {name!r} is written twice", "one state_write"))
            written.add(name)
    return found


def _type_of(op: Op) -> object:
    return op.operands[0].type if op.name == "state_write" else op.result.type


def _check_extents(function: Function) -> list[Diagnostic]:
    """A dynamic extent comes from a parameter."""
    if any(value.type.is_dynamic for value in function.parameters):
        return []
    for op in function.block.walk():
        if any(value.type.is_dynamic for value in op.results):
            message = "a dynamic extent that no parameter of the function has"
            return [Diagnostic(op.span, message, hint="state it, or give a parameter a leading ?")]
    return []


def _check_structure(function: Function) -> list[Diagnostic]:
    check = _Structure()
    check.found += _check_name("function", function.name)
    check.block(function.block, "return", set(), 0)
    return check.found


def _check_name(what: str, name: str) -> list[Diagnostic]:
    if NAME.fullmatch(name) is not None and not name.isdigit():
        return []
    return [Diagnostic(None, f"name of a {what}", "letters, digits, _ . $", repr(name[:64]))]


class _Structure:
    def __init__(self) -> None:
        self.found: list[Diagnostic] = []
        self.names: set[str] = set()
        self.defined: set[Value] = set()

    def block(self, block: Block, terminator: str, visible: set[Value], depth: int) -> None:
        """`visible`: what can be used; the block's own values are taken out again at its end."""
        own = [*block.parameters, *(value for op in block.ops for value in op.results)]
        for value in block.parameters:
            self.define(value, visible, None)
        if not block.ops or block.ops[-1].name != terminator:
            span = block.ops[-1].span if block.ops else None
            self.found.append(Diagnostic(span, "the end of a block", terminator))
        for number, op in enumerate(block.ops):
            if op.name in ("return", "yield") and number + 1 < len(block.ops):
                self.found.append(Diagnostic(op.span, f"{op.name} before the end of its block"))
            self.op(op, visible, depth)
        visible.difference_update(own)

    def define(self, value: Value, visible: set[Value], span: Span | None) -> None:
        if NAME.fullmatch(value.name) is None:
            self.found.append(Diagnostic(span, "name of a value", "letters, digits, _ . $", repr(value.name)))
        if value in self.defined:
            self.found.append(Diagnostic(span, f"{value} is defined twice"))
        elif value.name in self.names:
            self.found.append(
                Diagnostic(span, f"two values are called {value}", "names unique in a function")
            )
        self.defined.add(value)
        self.names.add(value.name)
        visible.add(value)

    def op(self, op: Op, visible: set[Value], depth: int) -> None:
        if op.regions and depth >= MOST_NESTING:
            self.found.append(Diagnostic(op.span, "nesting of regions", f"at most {MOST_NESTING}"))
            return
        for operand in op.operands:
            if operand not in visible:
                where = "is not visible here" if operand in self.defined else "is used before it is defined"
                self.found.append(Diagnostic(op.span, f"{op.name}: {operand} {where}"))
        for region in op.regions:
            self.block(region, "yield", visible, depth + 1)
        ended = all(region.ops and region.ops[-1].name == "yield" for region in op.regions)
        if ended and not op.fits:
            self.types(op)
        for value in op.results:
            self.define(value, visible, op.span)

    def types(self, op: Op) -> None:
        stated = tuple(value.type for value in op.results)
        try:
            row = row_named(op.name)
            if dict(op.attributes) != complete(row, op.attributes):
                raise MisfitError(
                    "attributes", "complete, in kind and with defaults", str(dict(op.attributes))
                )
            types = infer(row, tuple(value.type for value in op.operands), op.attributes, op.regions, stated)
        except MisfitError as misfit:
            message = f"{op.name}: {misfit.message}"
            self.found.append(Diagnostic(op.span, message, misfit.expected, misfit.got, misfit.hint))
            return
        if types == stated:
            op.found_to_fit()
            return
        expected, got = (", ".join(map(str, listed)) or "none" for listed in (types, stated))
        self.found.append(Diagnostic(op.span, f"{op.name}: type of the result", expected, got))
