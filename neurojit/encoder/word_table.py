"""A table of word forms: from the name of a form to the id that emission takes.

The file names its kinds first (`kind x  x0-x30 xzr`; `vectors v q` are those that are vector registers), then
has a row a line (see word_row). It is read on first use, one dictionary entry a line; a row is parsed and
checked when its form is first asked for.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator

from neurojit.encoder._buffer import WordBuffer, WordRows
from neurojit.encoder.data_file import read_data_file
from neurojit.encoder.word_row import WordRow, name_of
from neurojit.errors import EncodeError, UnknownFormError


class WordTable(WordRows):
    """`forms[name]` is the id of a form; `forms.row(id)` its row. Any thread may ask.

    UnknownFormError: the file has no such row. EncodeError: the row is malformed."""

    def __init__(self, package: str, file: str = "encodings.txt") -> None:
        self._package, self._file = package, file
        self._ids: dict[str, int] = {}
        self._lines: dict[str, str] | None = None
        self._vectors: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> int:
        known = self._ids.get(name)
        return self._add(name) if known is None else known

    def names(self) -> list[str]:
        """The forms of the file, in its order."""
        return list(self._read())

    def buffer(self) -> WordBuffer:
        """An empty code buffer of this ISA."""
        return WordBuffer(self, self["nop"])

    def _add(self, name: str) -> int:
        with self._lock:
            if name not in self._ids:  # else another thread was faster
                line = self._read().get(name)
                if line is None:
                    raise UnknownFormError(
                        f"{name!r}: no such row in {self._file} of {self._package}; add it there, "
                        "or look for its spelling"
                    )
                self._ids[name] = self.add_row(WordRow.parse(line, self.kinds, self._vectors))
            return self._ids[name]

    def _read(self) -> dict[str, str]:
        if self._lines is None:
            lines: dict[str, str] = {}
            text = read_data_file(self._package, self._file)
            for line in text.splitlines():
                if line.startswith("kind "):
                    _, kind, *names = line.split()
                    self.kinds[kind] = tuple(name for part in names for name in _expanded(part))
                elif line.startswith("vectors "):
                    self._vectors = frozenset(line.split()[1:])
                elif line and not line.startswith("#"):
                    name = name_of(line)
                    if name in lines:
                        raise EncodeError(f"word table {self._package}: {name!r} stands twice")
                    lines[name] = line
            self._lines = lines
        return self._lines


def _expanded(part: str) -> Iterator[str]:
    """`v0-v31` as all of them."""
    span = re.fullmatch(r"([a-z]+)(\d+)-\1(\d+)", part)
    if span is None:
        yield part
    else:
        for number in range(int(span[2]), int(span[3]) + 1):
            yield f"{span[1]}{number}"
