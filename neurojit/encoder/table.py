"""The encoder table: from the name of an instruction form to the id that emission takes.

The file is read on first use, one dictionary entry per line; a row is parsed and checked when its form is
first asked for. A form that neither encodings.txt nor supplement.txt has is learned from PeachPy where that
is importable.
"""

from __future__ import annotations

import threading

from neurojit.encoder._buffer import FormRows
from neurojit.encoder.data_file import read_data_file
from neurojit.encoder.row import Row

ENCODINGS, SUPPLEMENT = "encodings.txt", "supplement.txt"


class FormTable(FormRows):
    """`forms[name]` is the id of a form; `forms.row(id)` its row. Any thread may ask.

    UnknownFormError: no row, and PeachPy is missing or does not know the form either."""

    def __init__(self, package: str = "neurojit.asm_templates.x86_64") -> None:
        self._package = package
        self._ids: dict[str, int] = {}
        self._lines: dict[str, str] | None = None
        self._supplement: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self.learned: list[str] = []  # names that came from PeachPy at run time

    def __getitem__(self, name: str) -> int:
        known = self._ids.get(name)
        return self._add(name) if known is None else known

    def __contains__(self, name: str) -> bool:
        """Whether the files have the form; PeachPy is not asked."""
        return name in self._ids or name in self._read()

    def names(self) -> list[str]:
        """The forms of the files, in their order."""
        return list(self._read())

    def _add(self, name: str) -> int:
        with self._lock:
            if name not in self._ids:  # else another thread was faster
                line = self._read().get(name)
                row = _learned(name) if line is None else Row.parse(line)
                self._ids[name] = self.add_row(row)
                if line is None:
                    self.learned.append(name)
            return self._ids[name]

    def is_supplementary(self, form: int) -> bool:
        """Whether the row of the id `form` was typed by hand, because PeachPy does not know it."""
        return self.row(form).name in self._supplement

    def _read(self) -> dict[str, str]:
        if self._lines is None:
            encodings, supplement = self._rows(ENCODINGS), self._rows(SUPPLEMENT)
            self._supplement = frozenset(supplement)
            self._lines = {**encodings, **supplement}
        return self._lines

    def _rows(self, file: str) -> dict[str, str]:
        text = read_data_file(self._package, file)
        rows = [line.split("  # ")[0] for line in text.splitlines() if line and line[0] != "#"]
        return {row[: row.index(" : ")]: row for row in rows}


def _learned(name: str) -> Row:
    from neurojit.encoder.learn import learn  # only where PeachPy must be asked

    return learn(name)
