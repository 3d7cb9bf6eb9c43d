"""A program in a file: safetensors, its TensorLang text and a checksum in the metadata. Never code.

    metadata   neurojit: the format's number; ir: the text; checksum: SHA-256 of text and tensors
    tensors    weight.NAME, state.NAME

safetensors checks that the header is JSON of a sane size and that the tensors fill the file; the checksum
notices what JSON cannot, a bit that flipped. A file is written beside its place and renamed, so that whoever
reads finds the old one or the new one, whole.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import stat
import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from neurojit.errors import ProgramFileError

Array = np.ndarray[Any, Any]
Path = str | os.PathLike[str]
FORMAT = "1"


class Saved(NamedTuple):
    """What a file holds: the text of the program, its weights and its state by name."""

    text: str
    weights: dict[str, Array]
    states: dict[str, Array]


def write_program(path: Path, saved: Saved) -> None:
    """Write it, atomically. ImportError: safetensors is not installed. OSError: no room, no such folder;
    what was at `path` is then still there."""
    tensors = {f"weight.{name}": array for name, array in saved.weights.items()}
    tensors |= {f"state.{name}": array for name, array in saved.states.items()}
    tensors = {name: np.array(array, order="C") for name, array in tensors.items()}
    metadata = {"neurojit": FORMAT, "ir": saved.text, "checksum": _checksum(saved.text, tensors)}
    content = _safetensors("safetensors.numpy").save(tensors, metadata)
    path = os.path.abspath(path)
    handle, beside = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=os.path.dirname(path))
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, 0o666 & ~_umask())  # as any new file
            file.write(content)
            file.flush()
            os.fsync(handle)
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


def read_program(path: Path) -> Saved:
    """Read what `write_program` wrote. ProgramFileError: no program, or damaged. OSError: not readable."""
    safetensors = _safetensors("safetensors")
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ProgramFileError(f"{path}: expected a regular file")
    damaged = (safetensors.SafetensorError, ValueError, TypeError, KeyError, AttributeError, OverflowError)
    try:
        with safetensors.safe_open(os.fspath(path), "numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
    except damaged as error:
        raise ProgramFileError(f"{path}: no safetensors file, or damaged: {error}; save it again") from None
    if metadata.get("neurojit") != FORMAT or not {"ir", "checksum"} <= metadata.keys():
        found = metadata.get("neurojit", "none")
        raise ProgramFileError(
            f"{path}: format of a neurojit program: expected {FORMAT}, got {found}; save it with this version"
        )
    if metadata["checksum"] != _checksum(metadata["ir"], tensors):
        raise ProgramFileError(f"{path}: damaged: its checksum is not that of its content; save it again")
    return Saved(metadata["ir"], _those(tensors, "weight."), _those(tensors, "state."))


def _those(tensors: Mapping[str, Array], kind: str) -> dict[str, Array]:
    return {name[len(kind) :]: array for name, array in tensors.items() if name.startswith(kind)}


def _checksum(text: str, tensors: Mapping[str, Array]) -> str:
    digest = hashlib.sha256(
        repr((text, [(n, a.dtype.str, a.shape) for n, a in sorted(tensors.items())])).encode()
    )
    for _, array in sorted(tensors.items()):
        digest.update(array.tobytes())
    return digest.hexdigest()


def _umask() -> int:
    """The process's mask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _safetensors(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"program files need the package safetensors ({error}); install it: pip install safetensors"
        ) from error
