"""A place in a list of tokens: what stands there, what must, and where to go on when it does not.

`report` records a diagnostic; `fail` also ends the piece of text being read, by raising SkipError, which
`recovering` catches. At a token that the lexer has reported already, nothing is said twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, TypeVar

from neurojit.errors import Diagnostic, Span
from neurojit.ir.lexer import MOST_RECORDED, Token, Tokens
from neurojit.ir.types import ELEMENTS, TensorType, parse_type

T = TypeVar("T")
StatedType = tuple[TensorType | None, Token]
"""A type as it stands in the text; None where it is none, which has been reported."""


class SkipError(Exception):
    """The diagnostic is recorded; go on behind the piece of text that has it."""


class Cursor:
    """See the module's head."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.position = 0
        self.diagnostics: list[Diagnostic] = []

    @property
    def found(self) -> list[Diagnostic]:
        """What the lexer and the reading have recorded."""
        return self.tokens.diagnostics + self.diagnostics

    def peek(self) -> Token:
        return self.tokens.tokens[self.position]

    def before(self) -> Token:
        return self.tokens.tokens[max(self.position - 1, 0)]

    def at_end(self) -> bool:
        return self.peek().kind == "end"

    def at(self, text: str) -> bool:
        return self.peek().text == text

    def advance(self) -> Token:
        token = self.peek()
        self.position += token.kind != "end"
        return token

    def accept(self, text: str) -> bool:
        found = self.at(text)
        self.position += found
        return found

    def expect(self, text: str, hint: str = "") -> Token:
        if not self.at(text):
            self.fail(self.peek(), "syntax", f"{text!r}", self.seen(), hint)
        return self.advance()

    def take(self, kind: str, what: str) -> Token:
        if self.peek().kind != kind:
            self.fail(self.peek(), "syntax", what, self.seen())
        return self.advance()

    def seen(self) -> str:
        """What stands here, for an error."""
        text = self.peek().text
        return repr(text if len(text) <= 40 else text[:37] + "...") if text else "the end of the text"

    def listed(self, closing: str, item: Callable[[], T]) -> list[T]:
        """Items between commas up to `closing`, which is consumed. The opening one has been."""
        items: list[T] = []
        if not self.at(closing):
            items.append(item())
            while self.accept(","):
                items.append(item())
        self.expect(closing)
        return items

    def type(self) -> StatedType:
        if self.peek().kind != "type":
            hint = f"a scalar is tensor<{self.peek().text}>" if self.peek().text in ELEMENTS else ""
            self.fail(self.peek(), "syntax", "a type such as tensor<64x32xf32>", self.seen(), hint)
        token = self.advance()
        try:
            return parse_type(token.text), token
        except ValueError as error:
            self.report(token, str(error))
            if not token.text.endswith(">"):
                raise SkipError from None
            return None, token

    def types(self) -> list[StatedType]:
        """One type, or a list of them in parentheses."""
        return self.listed(")", self.type) if self.accept("(") else [self.type()]

    def span(self, token: Token) -> Span:
        return self.tokens.span(token.start, max(token.end, token.start + 1))

    def report(self, token: Token, message: str, expected: str = "", got: str = "", hint: str = "") -> None:
        if token.kind != "error":
            self.diagnostics.append(Diagnostic(self.span(token), message, expected, got, hint))
        if len(self.diagnostics) >= MOST_RECORDED:
            self.position = len(self.tokens.tokens) - 1

    def fail(self, token: Token, message: str, expected: str = "", got: str = "", hint: str = "") -> NoReturn:
        self.report(token, message, expected, got, hint)
        raise SkipError

    def recovering(self, part: Callable[[], None], resumes: Callable[[Token], bool]) -> None:
        """Runs `part`. Behind an error goes on with the next line that begins with a token that `resumes`, or
        with the brace that closes what is around. Lines between braces that `part` opened are skipped: a
        brace that ends a line opens, one that begins a line closes."""
        start = self.position
        try:
            part()
            return
        except SkipError:
            depth = sum(self._opens(i) - (i > start and self._closes(i)) for i in range(start, self.position))
        while not self.at_end():
            at, token = self.position, self.peek()
            if (
                depth <= 0
                and self._begins_a_line(at)
                and (token.text == "}" or (at > start and resumes(token)))
            ):
                return
            depth += self._opens(at) - self._closes(at)
            self.position += 1

    def _begins_a_line(self, at: int) -> bool:
        tokens = self.tokens.tokens
        return at == 0 or "\n" in self.tokens.text[tokens[at - 1].end : tokens[at].start]

    def _opens(self, at: int) -> bool:
        tokens = self.tokens.tokens
        return tokens[at].text == "{" and at + 1 < len(tokens) and self._begins_a_line(at + 1)

    def _closes(self, at: int) -> bool:
        return self.tokens.tokens[at].text == "}" and self._begins_a_line(at)
