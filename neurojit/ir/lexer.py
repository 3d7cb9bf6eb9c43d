"""From text to tokens, in one pass whose time grows with the text and nothing else.

One regular expression, no two alternatives of which begin alike, so nothing is tried twice; what fits none is
an error of its own up to the end of the line, an open quote among it. Lines and columns are looked up only
when somebody asks for a span.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import NamedTuple

from neurojit.errors import Diagnostic, Span

MOST_CHARACTERS = 1 << 26
MOST_IDENTIFIER = 256
MOST_DIGITS = 64
MOST_RECORDED = 100
"""Diagnostics after which the rest of a text is not looked at."""

_TOKENS = re.compile(
    r"""
    (?P<space>  [ \t\r\n]+ | //[^\n]* )
  | (?P<value>  %(?:[A-Za-z_][A-Za-z0-9_.$]*|[0-9]+)(?:\#[0-9]+)? )
  | (?P<symbol> @[A-Za-z_][A-Za-z0-9_.$]* )
  | (?P<label>  \^[A-Za-z0-9_.$]+ )
  | (?P<string> "(?:[^"\\\n]|\\[^\n])*" )
  | (?P<type>   tensor<[^<>\s,(){}="\[\]]*>? )
  | (?P<word>   [A-Za-z_][A-Za-z0-9_.$]* )
  | (?P<number> -?(?:0[xX][0-9A-Fa-f]+|[0-9]+(?:\.[0-9]*(?:[eE][+-]?[0-9]+)?)?) )
  | (?P<punct>  ->|[()\[\]{}<>,:=] )
    """,
    re.VERBOSE,
)


class Token(NamedTuple):
    """kind: a group of the expression, "end", or "error" for what is reported. Offsets into the text."""

    kind: str
    text: str
    start: int
    end: int


class Tokens:
    """The tokens of a text, with an `end` after the last. `diagnostics`: what was no token."""

    def __init__(self, text: str, source: str) -> None:
        self.text, self.source = text, source
        self.diagnostics: list[Diagnostic] = []
        self._lines: list[int] | None = None
        self.tokens: list[Token] = []
        if len(text) > MOST_CHARACTERS:
            got = f"{len(text)}"
            self.diagnostics.append(
                Diagnostic(self.span(0, 1), "text", f"at most {MOST_CHARACTERS} characters", got)
            )
            text = ""
        self._scan(text)
        self.tokens.append(Token("end", "", len(text), len(text)))

    def span(self, start: int, end: int) -> Span:
        """Offsets as lines and columns, counting characters from 1."""
        if self._lines is None:
            self._lines = [0, *(match.end() for match in re.finditer("\n", self.text))]
        first, last = bisect_right(self._lines, start), bisect_right(self._lines, end)
        return Span(
            self.source, first, start - self._lines[first - 1] + 1, last, end - self._lines[last - 1] + 1
        )

    def _scan(self, text: str) -> None:
        position, match_at, append = 0, _TOKENS.match, self.tokens.append
        while position < len(text) and len(self.diagnostics) < MOST_RECORDED:
            match = match_at(text, position)
            if match is None:
                position = self._no_token(text, position)
                continue
            start, position = position, match.end()
            kind = match.lastgroup or ""
            if kind != "space":
                append(Token(kind, match.group(), start, position))
                if position - start > MOST_DIGITS and kind in ("number", "value", "symbol", "word", "label"):
                    self._check_length(kind, start, position)

    def _no_token(self, text: str, start: int) -> int:
        """Records what stands at `start`, and gives where to go on: the next line."""
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        if text[start] == '"':
            span = self.span(start, end)
            found = Diagnostic(span, "string", 'a closing " on the same line', "the end of the line")
        else:
            span = self.span(start, start + 1)
            found = Diagnostic(span, "character", "a token of TensorLang", repr(text[start]))
        self._report(found, start, end)
        return end

    def _check_length(self, kind: str, start: int, end: int) -> None:
        most = MOST_DIGITS if kind == "number" else MOST_IDENTIFIER
        if end - start > most:
            found = Diagnostic(self.span(start, end), kind, f"at most {most} characters", str(end - start))
            self.tokens.pop()
            self._report(found, start, end)

    def _report(self, found: Diagnostic, start: int, end: int) -> None:
        self.diagnostics.append(found)
        self.tokens.append(Token("error", "", start, end))
