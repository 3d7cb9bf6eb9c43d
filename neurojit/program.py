"""`nj.compile`: a network becomes one native function.

    plan      kernels, schedules, the arena          planner
    emit      machine code                           codegen
    validate  against the interpreter's meaning      program_validation
    publish   a slot named by the code's own hash    program_compiler

`Program` (in `_program`) is what a user calls; a `Contract` is everything about it that is not its hot path.
What cannot be compiled is interpreted, with the reason in `explain()`; results then are the interpreter's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neurojit._program import Program
from neurojit.contract import Contract
from neurojit.ir import Module, parse, verify

__all__ = ["Program", "compile"]


def compile(thing: Any, weights: Mapping[str, Any] | None = None) -> Program:
    """Compile a network: a `Program`, called with its inputs.

    thing: a TensorLang text, or a module (`neurojit.ir.Module`). weights: an array for each weight that it
    names, of its type and shape; they are copied. Raises TensorLangError for a text or a module that is none,
    KeyError for a weight that is missing or unknown, TypeError and ValueError for one that does not fit. What
    no kernel computes yet is interpreted: `program.compiled` tells, and `program.explain()` says why.
    """
    if isinstance(thing, str):
        thing = parse(thing)
    elif isinstance(thing, Module):
        verify(thing)
    else:
        raise TypeError(
            f"compile: {type(thing).__name__}: expected a TensorLang text or a neurojit.ir.Module"
        )
    return Contract(thing, weights or {}).program()
