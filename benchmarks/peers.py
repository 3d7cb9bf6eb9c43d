"""The matrix products neurojit is measured against, as far as they are installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Peer(NamedTuple):
    """`prepare(a, b, c)` gives the statement to time and the names in it; it must write a @ b to c."""

    name: str
    version: str
    prepare: Callable[[Array, Array, Array], tuple[str, dict[str, Any]]]


def peers() -> list[Peer]:
    """NumPy, and PyTorch and SciPy's BLAS where they can be imported, each held to one thread."""
    found = [Peer("numpy", np.__version__, _numpy)]
    for name, prepare in (("torch", _torch), ("scipy", _scipy)):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        found.append(Peer(name, module.__version__, prepare))
    return found


def _numpy(a: Array, b: Array, c: Array) -> tuple[str, dict[str, Any]]:
    return "f(a, b, c)", {"f": np.matmul, "a": a, "b": b, "c": c}


def _torch(a: Array, b: Array, c: Array) -> tuple[str, dict[str, Any]]:
    import torch

    torch.set_num_threads(1)
    tensors = {name: torch.from_numpy(x) for name, x in (("a", a), ("b", b), ("c", c))}
    return "f(a, b, out=c)", {"f": torch.mm, **tensors}


def _scipy(a: Array, b: Array, c: Array) -> tuple[str, dict[str, Any]]:
    """BLAS itself, without NumPy's dispatch. It is column-major: C' = B' A'."""
    from scipy.linalg import blas

    gemm = blas.sgemm if a.dtype == np.float32 else blas.dgemm
    return "f(1.0, b, a, 0.0, c, 0, 0, 1)", {"f": gemm, "a": a.T, "b": b.T, "c": c.T}
