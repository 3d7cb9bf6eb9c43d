"""Every exception neurojit raises on its own account.

An error says where, what was expected, what came, and what to do next. Errors that NumPy would raise
for the same call (shapes, dtypes, read-only outputs) are NumPy's own and are not wrapped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class NeurojitError(Exception):
    """Base of all errors raised by neurojit itself."""


class ConfigurationError(NeurojitError, ValueError):
    """An environment variable or setting has a value neurojit does not know."""


class EncodeError(NeurojitError, ValueError):
    """An operand does not fit its field, a label stays unbound, or a form takes other operands."""


class UnknownFormError(NeurojitError, LookupError):
    """An instruction form that neither the encoder table nor an importable PeachPy can encode."""


class RegisterPressureError(NeurojitError, RuntimeError):
    """A template asked its vector machine for more registers than the ISA has. op: of a program, the name of
    the op whose kernel it was."""

    op: str = ""


class MissingStepError(NeurojitError, NotImplementedError):
    """A template asked its vector machine for a step that this ISA's does not have."""


class ExecutableMemoryError(NeurojitError, RuntimeError):
    """No strategy could map the code executable; what each one answered is in the text."""


class ValidationError(NeurojitError, RuntimeError):
    """An emitted kernel disagreed with the reference and was not published."""


class RecordingError(NeurojitError, ValueError):
    """A file of recorded CPU facts (`neurojit features --raw`) does not have the form of one."""


class UnknownIsaError(NeurojitError, LookupError):
    """A name that is no row of the ISA table, or an ISA that nothing is emitted for."""


class ProgramFileError(NeurojitError, ValueError):
    """A file that holds no program, or one that was damaged."""


class StorageError(NeurojitError):
    """Packed weights that no kernel can read: a storage type that an ISA does not widen, or too large."""


@dataclass(frozen=True)
class Span:
    """A piece of a text: lines and columns count from 1, the end is exclusive. column 0: the whole line,
    as for a line of Python that built an op."""

    source: str
    line: int
    column: int = 0
    end_line: int = 0
    end_column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" + (f":{self.column}" if self.column else "")


@dataclass(frozen=True)
class Diagnostic:
    """What is wrong with a text or an op, as a value that a program can act on.

    span: where, None if the op came from no text. message: what. expected, got: the two that differ, as
    text, "" where the message says it all. hint: what to do next, or ""."""

    span: Span | None
    message: str
    expected: str = ""
    got: str = ""
    hint: str = ""

    def __str__(self) -> str:
        parts = [f"{self.span}: " if self.span else "", self.message]
        if self.expected:
            parts.append(f": expected {self.expected}")
        if self.got:
            parts.append((", got " if self.expected else ": got ") + self.got)
        if self.hint:
            parts.append(f"; {self.hint}")
        return "".join(parts)


class TensorLangError(NeurojitError, ValueError):
    """A text, a module or an op that TensorLang does not allow; `diagnostics` has every finding."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n".join(map(str, self.diagnostics)))

    def __reduce__(self) -> tuple[type[TensorLangError], tuple[tuple[Diagnostic, ...]]]:
        return TensorLangError, (self.diagnostics,)


class AssertFailedError(NeurojitError, AssertionError):
    """An assert of a program does not hold. number: its place among the function's asserts, from 1."""

    def __init__(self, number: int, text: str, span: Span | None = None) -> None:
        self.number, self.text, self.span = number, text, span
        super().__init__(f"{span}: {text}" if span else text)

    def __reduce__(self) -> tuple[type[AssertFailedError], tuple[int, str, Span | None]]:
        return AssertFailedError, (self.number, self.text, self.span)
