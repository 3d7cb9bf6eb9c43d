"""`nj.compile`: a network becomes one native function.

    passes    the same results with less to do       passes
    plan      kernels, schedules, the arena          planner
    emit      machine code                           codegen
    validate  against the interpreter's meaning      program_validation
    publish   a slot named by the code's own hash    program_compiler

`Program` (in `_program`) is what a user calls; a `Contract` is everything about it that is not its hot path.
What cannot be compiled is interpreted, with the reason in `explain()`; results then are the interpreter's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from neurojit._program import Program
from neurojit.contract import Contract, checked_weights, restored
from neurojit.ir import Module, TensorType, parse, parse_schedule
from neurojit.ir.layer import Layer, module_of
from neurojit.passes import run
from neurojit.program_file import Path, read_program

__all__ = ["Program", "compile", "load"]


def compile(
    thing: Any,
    weights: Mapping[str, Any] | None = None,
    *,
    input_type: TensorType | str | None = None,
    schedule: str | None = None,
) -> Program:
    """Compile a network: a `Program`, called with its inputs.

    thing: a TensorLang text, a module (`neurojit.ir.Module`), a layer of `neurojit.nn`, or a list of layers
    and names of functions. weights: an array for each weight that it names, of its type and shape, in place
    of those that layers hold; they are copied. input_type: what layers take, such as `tensor<16x64xf32>`,
    where the first does not say, or says less. schedule: the text of one, such as `program.schedule`, in the
    place of any that stands in the text of the program. With a schedule the function is compiled as it is
    written, without passes: `program.ir` names what `program.schedule` names. Raises TensorLangError for a
    text or a module that is none, and for a schedule that is not legal or that this machine cannot obey,
    KeyError for a weight that is missing or unknown, TypeError and ValueError for one that does not fit. What
    no kernel computes yet is interpreted: `program.compiled` tells, and `program.explain()` says why.
    """
    module, own = _module("compile", thing, input_type)
    if schedule is not None and module.functions:
        module = replace(module, schedules=(parse_schedule(schedule, module.main),))
    checked = checked_weights(module, {**own, **(weights or {})}) if module.functions else {}
    return Contract(run(module), checked).program()


def module_to_plan(thing: Any, input_type: TensorType | str | None = None) -> Module:
    """What `compile` would plan for the same: the module that the passes make. Errors as there."""
    return run(_module("emit", thing, input_type)[0])


def _module(caller: str, thing: Any, input_type: TensorType | str | None) -> tuple[Module, Mapping[str, Any]]:
    """The module of a network, and weights that its layers hold."""
    if isinstance(thing, (Layer, list)):
        return module_of(thing if isinstance(thing, list) else [thing], input_type=input_type)
    if isinstance(thing, str):
        return parse(thing), {}
    if not isinstance(thing, Module):
        kind = type(thing).__name__
        raise TypeError(f"{caller}: {kind}: expected a TensorLang text, a Module, a layer or a list of them")
    return thing, {}


def load(path: Path) -> Program:
    """The program that `Program.save` wrote, compiled for this CPU, in the state it had.

    Raises ProgramFileError for a file that is no program or was damaged, OSError for one that cannot be read,
    ImportError without the package safetensors. A file holds text and numbers; none of it is executed.
    """
    return restored(read_program(path))
