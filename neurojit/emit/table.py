"""The encoder table: from the name of an instruction form to the id that emission takes.

The file is read on first use, one dictionary entry per line; a row is parsed and checked when its form is
first asked for. A form that neither encodings.txt nor supplement.txt has is learned from PeachPy where that
is importable.
"""

from __future__ import annotations

import threading
from importlib import resources

from neurojit.emit._buffer import FormRows
from neurojit.emit.learn import learn
from neurojit.emit.row import Row

FILES = ("encodings.txt", "supplement.txt")


class FormTable(FormRows):
    """`forms[name]` is the id of a form; `forms.row(id)` its row. Any thread may ask.

    UnknownFormError: no row, and PeachPy is missing or does not know the form either."""

    def __init__(self, package: str = "neurojit.asm_templates.x86_64") -> None:
        self._package = package
        self._ids: dict[str, int] = {}
        self._lines: dict[str, str] | None = None
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
                row = learn(name) if line is None else Row.parse(line)
                self._ids[name] = self.add_row(row)
                if line is None:
                    self.learned.append(name)
            return self._ids[name]

    def _read(self) -> dict[str, str]:
        if self._lines is None:
            lines: dict[str, str] = {}
            for file in FILES:
                for line in resources.files(self._package).joinpath(file).read_text().splitlines():
                    if line and line[0] != "#":
                        lines[line[: line.index(" : ")]] = line.split("  # ")[0]
            self._lines = lines
        return self._lines
