"""TensorLang: tensor SSA as frozen values, its op table, its text, its verifier and its interpreter."""

from neurojit.ir.builder import Builder
from neurojit.ir.interpreter import Evaluation, evaluate
from neurojit.ir.parser import parse, parse_schedule, parse_with_diagnostics
from neurojit.ir.printer import print_schedule
from neurojit.ir.schedule import STEPS, check_schedule, step
from neurojit.ir.structure import Block, Dense, Function, Module, Op, ScheduleText, Step, Value
from neurojit.ir.table import LOWERINGS, OPS, Row
from neurojit.ir.types import ELEMENTS, TensorType, parse_type
from neurojit.ir.verifier import check_module, verify

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
