"""Text files that lie beside a package's modules."""

from __future__ import annotations

import importlib
import os


def read_data_file(package: str, file: str) -> str:
    """A file of an installed package. OSError: it cannot be read.

    Not by importlib.resources, whose import takes longer than reading all the tables: it brings archives and
    temporary files along, and a package with extension modules is never run from an archive."""
    (folder, *_) = importlib.import_module(package).__path__
    with open(os.path.join(folder, file), encoding="utf-8") as text:
        return text.read()
