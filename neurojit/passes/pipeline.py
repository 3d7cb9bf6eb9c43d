"""The passes in their order, and the function that runs them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

from neurojit.config import CONFIG
from neurojit.ir.printer import print_module
from neurojit.ir.structure import Function, Module
from neurojit.ir.verifier import verify
from neurojit.passes.absorb_transposes import ABSORB_TRANSPOSES
from neurojit.passes.canonicalize import CANONICALIZE
from neurojit.passes.eliminate_common_subexpressions import ELIMINATE_COMMON_SUBEXPRESSIONS
from neurojit.passes.eliminate_dead_code import ELIMINATE_DEAD_CODE
from neurojit.passes.fold_constants import FOLD_CONSTANTS
from neurojit.passes.infer_shapes import INFER_SHAPES
from neurojit.passes.rewrite import Pass
from neurojit.passes.simplify import SIMPLIFY

PIPELINE: tuple[Pass, ...] = (
    INFER_SHAPES,
    CANONICALIZE,
    FOLD_CONSTANTS,
    SIMPLIFY,
    ABSORB_TRANSPOSES,
    ELIMINATE_COMMON_SUBEXPRESSIONS,
    ELIMINATE_DEAD_CODE,
)
MOST_ROUNDS = 8
"""Of the pipeline; every round but the last has changed something, and there is only so much to change."""


def run(
    module: Module, pipeline: tuple[Pass, ...] = PIPELINE, dump: Callable[[str], object] | None = None
) -> Module:
    """The module after the passes. dump: takes the text at the start and after each pass that changed it;
    None: the standard error if NEUROJIT_DUMP has `ir`, else nowhere.

    TensorLangError: the module is not valid, or a pass made it so, which is a fault of neurojit."""
    if dump is None and "ir" in CONFIG.dump:
        dump = sys.stderr.write
    verify(module)
    if dump is not None:
        dump(f"// {module.name}: before the passes\n{print_module(module)}")
    unchanged = 0
    for one in pipeline * MOST_ROUNDS:
        changed = _run_pass(module, one, dump)
        unchanged = unchanged + 1 if changed is module else 0
        if unchanged == len(pipeline):
            break
        module = changed
    return module


def _run_pass(module: Module, one: Pass, dump: Callable[[str], object] | None) -> Module:
    functions = tuple(
        function if module.schedule(function.name).steps else one.run(function)
        for function in module.functions
    )
    if _same(functions, module.functions):
        return module
    module = replace(module, functions=functions)
    verify(module)
    if dump is not None:
        dump(f"// {module.name}: after {one.name}\n{print_module(module)}")
    return module


def _same(one: tuple[Function, ...], other: tuple[Function, ...]) -> bool:
    return all(a is b for a, b in zip(one, other, strict=True))
