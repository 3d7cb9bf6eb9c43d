"""From text to a module: `parse`. The errors of a text are found in one go.

    module    ::= "module" @name ("attributes" attributes)? "{" (function | schedule)* "}"
    function  ::= "func.func" @name "(" parameters ")" ("->" types)? "{" op* return "}"
    return    ::= "func.return" (values ":" type, ...)?
    op        ::= (values "=")? "nj.name" "(" values ")" region? attributes? signature
    region    ::= "(" "{" ("^bb0" "(" parameters ")" ":")? op* "}" ")"
    schedule  ::= "nj.schedule" "(" ")" "(" "{" step* "}" ")" attributes? signature
    step      ::= "nj.kind" "(" ")" attributes? signature
    signature ::= ":" "(" types ")" "->" types

A recursive descent over the tokens; regions nest to a limit, so the recursion does. An error inside an op
ends that op, and the parser goes on with the next line. What such an op defines, or one that does not fit its
row, stands from then on for anything, so that the cause is reported and not what follows from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from neurojit.errors import Diagnostic, TensorLangError
from neurojit.ir.attributes import AttributeCursor, Given, plain
from neurojit.ir.cursor import SkipError, StatedType
from neurojit.ir.lexer import Token, Tokens
from neurojit.ir.rules import MisfitError
from neurojit.ir.schedule import STEPS, check_schedule, check_schedules, complete_step
from neurojit.ir.structure import (
    MOST_NESTING,
    NAME,
    Attribute,
    Block,
    Function,
    Module,
    Op,
    ScheduleText,
    Step,
    Value,
)
from neurojit.ir.table import OPS, complete, did_you_mean, infer
from neurojit.ir.types import TensorType
from neurojit.ir.verifier import check_data

MOST_DIAGNOSTICS = 20
MOST_RESULTS = 1024
DIALECT = "nj."
VERSION = 1
"""Of the text's form; a module states it."""

T = TypeVar("T")


def parse(text: str, source: str = "<text>") -> Module:
    """The module that a text describes. source: what errors call the text, such as a file's name.

    TensorLangError: its `diagnostics` are the errors of the text, in its order, at most 20."""
    module, diagnostics = parse_with_diagnostics(text, source)
    if module is None:
        raise TensorLangError(diagnostics)
    return module


def parse_with_diagnostics(text: str, source: str = "<text>") -> tuple[Module | None, tuple[Diagnostic, ...]]:
    """(the module, ()), or (None, what is wrong with the text). No text makes it raise."""
    tokens = Tokens(text, source)
    parser = _Parser(tokens)
    module = parser.module()
    found = parser.found
    if not found and module is not None:
        found = [*check_data(module), *check_schedules(module)]
    found.sort(key=lambda d: (d.span.line, d.span.column) if d.span else (0, 0))
    return (None if found else module), tuple(found[:MOST_DIAGNOSTICS])


def parse_schedule(text: str, function: Function, source: str = "<schedule>") -> ScheduleText:
    """The schedule of a function that a text describes: `"nj.schedule"() ({ ... }) : () -> ()`, or no steps
    for a text of none but comments.

    TensorLangError: what is wrong with the text, or not legal for the function."""
    parser = _Parser(Tokens(text, source))
    schedule = parser.schedule_alone(function.name)
    found = parser.found or check_schedule(function, schedule)
    if not found and schedule.function != function.name:
        found = [Diagnostic(schedule.span, "function of a schedule", function.name, repr(schedule.function))]
    if found:
        raise TensorLangError(found[:MOST_DIAGNOSTICS])
    return schedule


class _Use(NamedTuple):
    """value: None where it is not known, which has been or will be reported."""

    token: Token
    value: Value | None


class _Parser(AttributeCursor):
    # ---- module and function ------------------------------------------------------------------------

    def module(self) -> Module | None:
        functions: list[Function] = []
        schedules: list[ScheduleText] = []
        try:
            self.expect("module", "a text is module @name { ... }")
            name = self.take("symbol", "the module's name, such as @policy").text[1:]
            if self.accept("attributes"):
                self._module_attributes()
            self.expect("{")
            while not self.at("}") and not self.at_end():
                self.recovering(lambda: self._member(functions, schedules), _begins_a_member)
            self.expect("}")
            if not self.at_end():
                self.fail(self.peek(), "syntax", "the end of the text", self.seen())
        except SkipError:
            return None
        return Module(name, tuple(functions), tuple(schedules))

    def schedule_alone(self, function: str) -> ScheduleText:
        """The whole text as one schedule."""
        schedule = ScheduleText(function, ())
        try:
            if not self.at_end():
                if not self.at('"nj.schedule"'):
                    self.fail(self.peek(), "syntax", '"nj.schedule"', self.seen())
                schedule = self._schedule()
            if not self.at_end():
                self.fail(self.peek(), "syntax", "the end of the text", self.seen())
        except SkipError:
            pass
        return schedule

    def _module_attributes(self) -> None:
        version = self.attributes().pop("nj.version", None)
        if version is not None and version[0] != VERSION:
            hint = "another neurojit wrote this text"
            self.report(version[1], "nj.version", str(VERSION), str(version[0])[:40], hint)

    def _member(self, functions: list[Function], schedules: list[ScheduleText]) -> None:
        if self.at("func.func"):
            self._function(functions)
        elif self.at('"nj.schedule"'):
            schedules.append(self._schedule())
        else:
            self.fail(self.peek(), "syntax", 'func.func or "nj.schedule"', self.seen())

    def _function(self, functions: list[Function]) -> None:
        self.advance()
        name = self.take("symbol", "the function's name, such as @main")
        if any(function.name == name.text[1:] for function in functions):
            self.report(name, f"a second function {name.text}")
        scope = _Scope(self)
        self.expect("(")
        parameters = self.listed(")", lambda: self._parameter(scope))
        stated = self.types() if self.accept("->") else []
        self.expect("{")
        block = self._block(scope, tuple(parameters), "return", 0)
        self.expect("}")
        scope.report_undefined()
        if block is None:
            return
        handed = [value.type for value in block.terminator.operands]
        if not self.found and [type_ for type_, _ in stated] != handed:
            listed = ", ".join(str(type_) for type_, _ in stated) or "none"
            place = stated[0][1] if stated else name
            self.report(place, f"results of {name.text}", _listed(handed), listed)
        functions.append(Function(name.text[1:], block))

    def _parameter(self, scope: _Scope) -> Value:
        token = self.take("value", "a parameter such as %x")
        self.expect(":")
        return scope.define(token, self.type()[0])

    # ---- blocks and ops -----------------------------------------------------------------------------

    def _block(
        self, scope: _Scope, parameters: tuple[Value, ...], terminator: str, depth: int
    ) -> Block | None:
        """Ops up to the brace that closes; None where they do not end as they must."""
        ops: list[Op] = []
        before = len(self.found)
        while not self.at("}") and not self.at_end():
            self.recovering(lambda: self._statement(ops, scope, depth), _begins_a_statement)
        for op in ops[:-1]:
            if op.name in ("return", "yield"):
                self.diagnostics.append(Diagnostic(op.span, f"{op.name} before the end of its block"))
        if len(self.found) == before and (not ops or ops[-1].name != terminator):
            spelled = "func.return" if terminator == "return" else '"nj.yield"'
            self.report(self.peek(), "the end of a block", spelled, self.seen())
        return Block(parameters, tuple(ops)) if ops and ops[-1].name == terminator else None

    def _statement(self, ops: list[Op], scope: _Scope, depth: int) -> None:
        if self.peek().text in ("func.return", "return"):
            ops.append(self._return(scope))
            return
        results: list[Token] = []
        op = None
        try:
            self._results(results)
            op = self._op(results, scope, depth)
        finally:
            if op is None:
                for token in results:
                    scope.define(token, None)
        if op is not None:
            ops.append(op)

    def _results(self, results: list[Token]) -> None:
        """The values an op defines; `%r:2` stands for %r#0 and %r#1."""
        if self.peek().kind != "value":
            return
        while True:
            token = self.take("value", "a value such as %y")
            results.append(token)
            if self.accept(":"):
                count = self.take("number", "a count of results")
                if (
                    not count.text.isdigit()
                    or len(count.text) > 4
                    or not 1 <= int(count.text) <= MOST_RESULTS
                ):
                    self.fail(count, "count of results", f"1 to {MOST_RESULTS}", count.text)
                results[-1:] = [token._replace(text=f"{token.text}#{i}") for i in range(int(count.text))]
            if not self.accept(","):
                break
        self.expect("=")

    def _return(self, scope: _Scope) -> Op:
        head = self.advance()
        uses: list[_Use] = []
        stated: list[StatedType] = []
        if self.peek().kind == "value":
            uses = self._uses(scope)
            self.expect(":")
            stated.append(self.type())
            while self.accept(","):
                stated.append(self.type())
        self._check_operand_types(uses, stated, head)
        return Op("return", tuple(use.value or _ANYTHING for use in uses), span=self.span(head))

    def _uses(self, scope: _Scope) -> list[_Use]:
        uses = [scope.use(self.take("value", "a value such as %x"))]
        while self.accept(","):
            uses.append(scope.use(self.take("value", "a value such as %x")))
        return uses

    def _op(self, results: list[Token], scope: _Scope, depth: int) -> Op | None:
        """The op, its results defined; None, and nothing defined, if something about it is wrong."""
        head = self.take("string", 'an op such as "nj.matmul"')
        self.expect("(")
        uses = [] if self.at(")") else self._uses(scope)
        self.expect(")")
        regions: list[Block | None] = []
        if self.accept("("):
            if depth >= MOST_NESTING:
                self.fail(head, "nesting of regions", f"at most {MOST_NESTING}")
            regions.append(self._region(scope, depth + 1))
            self.expect(")")
        given = self.attributes() if self.at("{") else {}
        operand_types, declared = self._signature()
        known = self._check_operand_types(uses, operand_types, head)
        if len(declared) != len(results):
            self.report(
                head, "values that the op defines", f"{len(declared)}, as its type says", str(len(results))
            )
            known = False
        types = [type_ for type_, _ in declared if type_ is not None]
        name = self._name(head)
        blocks = tuple(block for block in regions if block is not None)
        if not known or name is None or len(types) != len(declared) or len(blocks) != len(regions):
            return None
        operands = tuple(use.value for use in uses if use.value is not None)
        places = {number: use.token for number, use in enumerate(uses)}
        try:
            attributes = self._fitting(
                head, places, given, lambda: self._fitted(name, operands, given, blocks, declared, head)
            )
        except SkipError:
            return None
        values = tuple(scope.define(token, type_) for token, type_ in zip(results, types, strict=True))
        return Op(name, operands, attributes, values, blocks, self.span(head)).found_to_fit()

    def _name(self, head: Token) -> str | None:
        """The op's name without "nj."; None if it is none, which is reported."""
        name = head.text[1:-1]
        own = name.removeprefix(DIALECT)
        if own != name and own in OPS and own != "return":
            return own
        hint = did_you_mean(own, OPS, DIALECT)
        self.report(head, "name of an op", 'an op of the table, such as "nj.add"', repr(name[:64]), hint)
        return None

    def _fitted(
        self,
        name: str,
        operands: tuple[Value, ...],
        given: Given,
        blocks: tuple[Block, ...],
        declared: list[StatedType],
        head: Token,
    ) -> dict[str, Attribute]:
        """The attributes, complete, of an op that fits its row and has the types that the text states."""
        row = OPS[name]
        attributes = complete(row, plain(given))
        stated = tuple(type_ for type_, _ in declared if type_ is not None)
        types = infer(row, tuple(value.type for value in operands), attributes, blocks, stated)
        if types != stated:
            wrong = [place for type_, (other, place) in zip(types, declared, strict=False) if type_ != other]
            place = wrong[0] if wrong else head
            self.fail(place, f"{name}: type of the result", _listed(types), _listed(stated))
        return attributes

    def _region(self, scope: _Scope, depth: int) -> Block | None:
        self.expect("{")
        parameters: list[Value] = []
        with scope.inner():
            if self.peek().kind == "label":
                self.advance()
                if self.accept("("):
                    parameters = self.listed(")", lambda: self._parameter(scope))
                self.expect(":")
            block = self._block(scope, tuple(parameters), "yield", depth)
        self.expect("}")
        return block

    def _signature(self) -> tuple[list[StatedType], list[StatedType]]:
        self.expect(":")
        self.expect("(")
        operands = self.listed(")", self.type)
        self.expect("->")
        return operands, self.types()

    def _check_operand_types(self, uses: list[_Use], stated: list[StatedType], head: Token) -> bool:
        """Whether every operand is known and has the type that the text states."""
        if len(uses) != len(stated):
            self.report(head, "types of the operands", str(len(uses)), str(len(stated)))
            return False
        known = True
        for use, (type_, place) in zip(uses, stated, strict=True):
            if use.value is None or type_ is None:
                known = False
            elif use.value.type != type_:
                self.report(place, f"type of {use.token.text}", f"{use.value.type}, as defined", str(type_))
                known = False
        return known

    # ---- schedules ----------------------------------------------------------------------------------

    def _schedule(self) -> ScheduleText:
        head = self.advance()
        steps: list[Step] = []
        for text in "()({":
            self.expect(text)
        while not self.at("}") and not self.at_end():
            self.recovering(lambda: steps.append(self._step()), _begins_a_statement)
        self.expect("}")
        self.expect(")")
        given = self.attributes() if self.at("{") else {}
        self._signature_of_nothing()
        name, place = given.pop("function", ("main", head))
        if not isinstance(name, str):
            self.report(place, "function of a schedule", "a name in quotes")
        for key, (_, place) in given.items():
            self.report(place, f"attribute {key!r} of a schedule", "function")
        return ScheduleText(str(name), tuple(steps), self.span(head))

    def _step(self) -> Step:
        head = self.take("string", 'a step such as "nj.tile"')
        self.expect("(")
        self.expect(")")
        given = self.attributes() if self.at("{") else {}
        self._signature_of_nothing()
        places = {name: self.span(token) for name, (_, token) in given.items()}
        if not head.text.startswith(f'"{DIALECT}'):
            hint = did_you_mean(head.text[1:-1], STEPS, DIALECT)
            self.fail(head, "name of a step", 'one such as "nj.tile"', repr(head.text[1:-1][:64]), hint)
        kind, span = head.text[1 + len(DIALECT) : -1], self.span(head)
        return self._fitting(head, {}, given, lambda: complete_step(kind, plain(given), span, places))

    def _signature_of_nothing(self) -> None:
        for text in (":", "(", ")", "->", "(", ")"):
            self.expect(text)

    # ---- what ops and steps share -------------------------------------------------------------------

    def _fitting(self, head: Token, places: Mapping[int, Token], given: Given, make: Callable[[], T]) -> T:
        """What `make` makes; its MisfitError becomes a diagnostic at the operand or attribute it names."""
        try:
            return make()
        except MisfitError as misfit:
            place = head
            if isinstance(misfit.at, int):
                place = places.get(misfit.at, head)
            elif misfit.at is not None and misfit.at in given:
                place = given[misfit.at][1]
            name = head.text[1 + len(DIALECT) : -1][:64]
            self.fail(place, f"{name}: {misfit.message}", misfit.expected, misfit.got, misfit.hint)


_ANYTHING = Value("anything", TensorType(()))
"""Stands in a `return` for what is not known."""


class _Scope:
    """The values of one function by name. A name means one value in all of the function; it can be used from
    its definition to the end of the block that has it."""

    def __init__(self, parser: _Parser) -> None:
        self.parser = parser
        self.frames: list[dict[str, Value | None]] = [{}]
        self.first: dict[str, Token] = {}
        self.unknown: list[Token] = []

    @contextmanager
    def inner(self) -> Iterator[None]:
        self.frames.append({})
        try:
            yield
        finally:
            self.frames.pop()

    def define(self, token: Token, type_: TensorType | None) -> Value:
        """type_ None: the value stands for anything."""
        name = _name_of(token)
        first = self.first.setdefault(f"%{name}", token)
        if first is not token:
            before = self.parser.span(first)
            where = f"{before.line}:{before.column}"
            self.parser.report(token, f"{token.text} is defined twice", hint=f"the first stands at {where}")
        if NAME.fullmatch(name) is None:
            self.parser.report(token, "name of a value", "at most 255 characters, 20 digits", name[:40])
        value = Value(name, type_ or TensorType(()))
        self.frames[-1].setdefault(token.text, value if type_ is not None else None)
        return value

    def use(self, token: Token) -> _Use:
        for frame in reversed(self.frames):
            if token.text in frame:
                return _Use(token, frame[token.text])
        self.unknown.append(token)
        return _Use(token, None)

    def report_undefined(self) -> None:
        """At the end of the function, when it is known what stands further down."""
        for token in self.unknown[:MOST_DIAGNOSTICS]:
            later = self.first.get(f"%{_name_of(token)}")
            if later is None:
                hint = did_you_mean(token.text, self.first)
            elif later.start > token.start:
                hint = f"it is defined further down, on line {self.parser.span(later).line}"
            else:
                hint = "it belongs to another block"
            self.parser.report(token, f"{token.text} is not defined here", hint=hint)


def _name_of(token: Token) -> str:
    """%r#1 is called r_1, and %8#1 v8_1: a name that begins with a digit has nothing else."""
    name, pack, number = token.text[1:].partition("#")
    if not pack:
        return name
    return f"v{name}_{number}" if name.isdigit() else f"{name}_{number}"


def _listed(types: Iterable[TensorType]) -> str:
    return ", ".join(map(str, types)) or "none"


def _begins_a_statement(token: Token) -> bool:
    return token.kind in ("value", "string", "label") or token.text in ("func.return", "return", "func.func")


def _begins_a_member(token: Token) -> bool:
    return token.text in ("func.func", '"nj.schedule"')
