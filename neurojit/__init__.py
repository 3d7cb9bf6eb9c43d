"""neurojit: a just-in-time compiler for small neural networks on CPUs.

    import neurojit as nj
    c = nj.matmul(a, b)          # numpy.matmul, by machine code compiled for the shape
    y = nj.linear(x, w, bias, activation="gelu")     # a dense layer, as one kernel
    print(nj.explain_matmul(a, b))                   # which kernel, why, and how near the ceiling
    nj.info()                    # ISA, executable memory, kernels, and what NumPy answered and why

The public names are loaded when first asked for, so that importing the package costs next to nothing
and the command line works without NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from neurojit import errors

if TYPE_CHECKING:
    from neurojit.dense import linear as linear
    from neurojit.frontends.jit import jit as jit
    from neurojit.ir.parser import parse as parse
    from neurojit.numpy_matmul import matmul as matmul
    from neurojit.packed import PackedWeights as PackedWeights
    from neurojit.packed import pack as pack
    from neurojit.program import Program as Program
    from neurojit.program import compile as compile
    from neurojit.program import load as load
    from neurojit.report.emit import emit as emit
    from neurojit.report.explain import explain_matmul as explain_matmul
    from neurojit.state import Info as Info
    from neurojit.state import info as info
    from neurojit.threads import get_num_threads as get_num_threads
    from neurojit.threads import num_threads as num_threads
    from neurojit.threads import set_num_threads as set_num_threads

__version__ = "0.1.0"

_PUBLIC = {
    "Program": "neurojit.program",
    "compile": "neurojit.program",
    "jit": "neurojit.frontends.jit",
    "linear": "neurojit.dense",
    "load": "neurojit.program",
    "matmul": "neurojit.numpy_matmul",
    "pack": "neurojit.packed",
    "PackedWeights": "neurojit.packed",
    "parse": "neurojit.ir.parser",
    "Info": "neurojit.state",
    "info": "neurojit.state",
    "emit": "neurojit.report.emit",
    "explain_matmul": "neurojit.report.explain",
    "get_num_threads": "neurojit.threads",
    "num_threads": "neurojit.threads",
    "set_num_threads": "neurojit.threads",
}
"""Where each public name lives."""

__all__ = [
    "Info",
    "PackedWeights",
    "Program",
    "__version__",
    "compile",
    "emit",
    "errors",
    "explain_matmul",
    "get_num_threads",
    "info",
    "jit",
    "linear",
    "load",
    "matmul",
    "num_threads",
    "pack",
    "parse",
    "set_num_threads",
]


def __getattr__(name: str) -> Any:
    module = _PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module 'neurojit' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(module), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
