"""TensorLang: tensor SSA as frozen values, its op table, its text, its verifier and its interpreter.

The names are loaded when first asked for: whoever needs what a function means needs no parser.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neurojit.ir.builder import Builder
    from neurojit.ir.interpreter import Evaluation, evaluate
    from neurojit.ir.parser import parse, parse_schedule, parse_with_diagnostics
    from neurojit.ir.printer import print_schedule
    from neurojit.ir.schedule import STEPS, check_schedule, step
    from neurojit.ir.structure import Block, Dense, Function, Module, Op, ScheduleText, Step, Value
    from neurojit.ir.table import LOWERINGS, OPS, Row
    from neurojit.ir.types import ELEMENTS, TensorType, parse_type
    from neurojit.ir.verifier import check_module, verify

_NAMES = {
    "builder": ("Builder",),
    "interpreter": ("Evaluation", "evaluate"),
    "parser": ("parse", "parse_schedule", "parse_with_diagnostics"),
    "printer": ("print_schedule",),
    "schedule": ("STEPS", "check_schedule", "step"),
    "structure": ("Block", "Dense", "Function", "Module", "Op", "ScheduleText", "Step", "Value"),
    "table": ("LOWERINGS", "OPS", "Row"),
    "types": ("ELEMENTS", "TensorType", "parse_type"),
    "verifier": ("check_module", "verify"),
}
_WHERE = {name: f"neurojit.ir.{module}" for module, names in _NAMES.items() for name in names}

__all__ = [
    "ELEMENTS",
    "LOWERINGS",
    "OPS",
    "STEPS",
    "Block",
    "Builder",
    "Dense",
    "Evaluation",
    "Function",
    "Module",
    "Op",
    "Row",
    "ScheduleText",
    "Step",
    "TensorType",
    "Value",
    "check_module",
    "check_schedule",
    "evaluate",
    "parse",
    "parse_schedule",
    "parse_type",
    "parse_with_diagnostics",
    "print_schedule",
    "step",
    "verify",
]


def __getattr__(name: str) -> Any:
    module = _WHERE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(module), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
