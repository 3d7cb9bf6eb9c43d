"""TensorLang: tensor SSA as frozen values, its op table, its text and its interpreter."""

from neurojit.ir.builder import Builder
from neurojit.ir.interpreter import Evaluation, evaluate
from neurojit.ir.structure import Block, Dense, Function, Module, Op, Value
from neurojit.ir.table import LOWERINGS, OPS, Row
from neurojit.ir.types import ELEMENTS, TensorType, parse_type

__all__ = [
    "ELEMENTS",
    "LOWERINGS",
    "OPS",
    "Block",
    "Builder",
    "Dense",
    "Evaluation",
    "Function",
    "Module",
    "Op",
    "Row",
    "TensorType",
    "Value",
    "evaluate",
    "parse_type",
]
