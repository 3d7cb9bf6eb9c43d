"""Everything about a program that is not its hot path.

A `Contract` knows the function, its plan, its weights and its state. It answers the calls that `_program`
does not take in the common case: other layouts, overlapping outputs, wrong arguments, code that was evicted,
and programs that could not be compiled, which the interpreter runs.
"""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from neurojit._bound_program import BoundProgram
from neurojit._program import Program
from neurojit.codegen import list_program
from neurojit.config import CONFIG
from neurojit.errors import AssertFailedError, Diagnostic, RegisterPressureError, TensorLangError
from neurojit.ir import ELEMENTS, Function, Module, TensorType, evaluate, parse, parse_schedule
from neurojit.ir.numbers import to_element
from neurojit.ir.printer import print_module, print_schedule
from neurojit.ir.types import round_bf16
from neurojit.passes import run
from neurojit.plan.program import ProgramPlan
from neurojit.planner import plan_program
from neurojit.planner.decompose import decompose
from neurojit.planner.hoist import hoist
from neurojit.planner.schedule_text import schedule_text
from neurojit.planner.tensors import UnplannedError
from neurojit.program_compiler import FUSED, planned_program, publish_program
from neurojit.program_file import Path, Saved, write_program
from neurojit.runtime import Slot
from neurojit.target import host, host_choice, host_target, target_for
from neurojit.weight_block import aligned, constants_of, packed

Array = np.ndarray[Any, Any]

GIL_WORTH_RELEASING = 500_000
"""Multiply-adds of about 10 us: below, giving up the GIL costs more than it gives."""
NEVER = 1 << 62


class Contract:
    """One program: types, plan, weights, state, and how a call is answered in general."""

    def __init__(self, module: Module, weights: Mapping[str, Array]) -> None:
        """module: after the passes, or as it was written if it has a schedule. weights: checked; those that
        passes found useless are left out. TensorLangError: a schedule that this machine cannot obey."""
        self.module = module
        self.function: Function = module.main
        self.given = module.schedule(module.main.name)
        self.set_aside = ""
        """Why a schedule that a file had is not obeyed."""
        self.planned = self.function
        """The function as it is planned: in smaller steps where rows are many, and products taken out of
        loops, unless a schedule names what is written."""
        self.arrays = {name: weights[name] for name in self.function.weights}
        self.constants = constants_of(self.function)
        self.plan: ProgramPlan | None = None
        self.reason = ""
        self.slot: Slot | None = None
        self._plan_and_publish()
        self.block: Array | None = None
        if self.plan is not None:
            self.block = packed(self.plan, {**self.arrays, **self.constants})
        self._make_state()

    def _plan_and_publish(self) -> None:
        choice = host_choice()
        if choice.isa.name == "none":
            self.reason = f"no ISA: {choice.reason}"
            return
        if not self.given.steps:
            self.planned = hoist(decompose(self.function), host_target())
        for most in FUSED:
            try:
                self.plan = plan_program(self.planned, host_target(), most, self.given)
                self._publish()
                return
            except UnplannedError as error:
                self.reason = str(error)
                return
            except RegisterPressureError as error:  # smaller kernels need fewer registers
                self.plan, self.reason = None, str(error)
                self._blame_the_schedule(error)

    def _blame_the_schedule(self, error: RegisterPressureError) -> None:
        """TensorLangError at the last step that speaks of the kernel for which registers ran out."""
        steps = [s for s in self.given.steps if error.op and error.op in (s.op, s.parameters.get("into"))]
        if steps:
            raise TensorLangError([Diagnostic(steps[-1].span, f"{steps[-1].kind}: {error}")]) from error

    def _publish(self) -> None:
        assert self.plan is not None
        if "plan" in CONFIG.dump:
            kernels = "".join(f"  {step.name}: {step.what}\n" for step in self.plan.steps())
            sys.stderr.write(f"{self.signature}\n{kernels}{self.schedule}{self.memory_map()}")
        if "asm" in CONFIG.dump:
            sys.stderr.write(self.listing())
        self.slot, self.reason = publish_program(self.plan, self.function, host_target())

    def program(self) -> Program:
        """What the user calls."""
        f = self.function
        operands = [(_dtype(v.type), _shape_or_dynamic(v.type)) for v in (*f.parameters, *f.outputs)]
        program = Program(self, self._general_of, operands, len(f.parameters))
        self._attach(program)
        return program

    def _attach(self, program: Program) -> None:
        if self.slot is not None and self.plan is not None:
            block = self.state_block if self.plan.states else None
            program.use(self.slot, self.plan.block_bytes, self.block, block, self._extent_worth_releasing())
            if self.plan.shared_rows is not None:
                ways = (self.plan.ways,) if self.plan.ways else ()
                program.share_rows(*self.plan.shared_rows, *ways)

    def _extent_worth_releasing(self) -> int:
        assert self.plan is not None
        if not self.plan.is_dynamic:
            return 0 if self.plan.work > GIL_WORTH_RELEASING else NEVER
        return 1 + GIL_WORTH_RELEASING // max(1, self.plan.work)

    # Calls that are not the common case ---------------------------------------------------------------

    def _general_of(self, program: weakref.ref[Program]) -> Callable[..., Any]:
        return partial(self._general, program)

    def _general(self, reference: weakref.ref[Program], /, *arrays: Any, out: Any = None) -> Any:
        """The whole meaning of a call."""
        program = reference()
        assert program is not None, "a program lives while it is called"
        f = self.function
        count = len(f.parameters)
        given: tuple[Any, ...] = arrays[count:]
        if len(arrays) < count or (given and (out is not None or len(given) != len(f.outputs))):
            both = count + len(f.outputs)
            raise TypeError(
                f"{self.signature}: got {len(arrays)} arrays: expected {count}, or {both} with out"
            )
        if out is not None:
            given = tuple(out) if isinstance(out, (tuple, list)) else (out,)
            if len(given) != len(f.outputs):
                raise TypeError(f"{self.signature}: out: {len(given)} arrays, expected {len(f.outputs)}")
        answers = given
        given = tuple(self._imported(i, array) for i, array in enumerate(given))
        inputs = [self._input(i, array) for i, array in enumerate(arrays[:count])]
        extent = self._extent(inputs)
        shapes = [value.type.static_shape(extent) for value in f.outputs]
        for number, (array, shape) in enumerate(zip(given, shapes, strict=False)):
            self._check_output(number, array, shape)
        results = [self._place(number, given, inputs, shape) for number, shape in enumerate(shapes)]
        self._run(program, inputs, results, extent)
        for array, result in zip(given, results, strict=False):
            if array is not result:
                array[...] = result
        answers = answers or tuple(results)
        return answers[0] if len(answers) == 1 else answers

    def _input(self, number: int, array: Any) -> Array:
        value = self.function.parameters[number]
        dtype = _dtype(value.type)
        if hasattr(array, "__dlpack__") and not isinstance(array, np.ndarray):
            array = array_of(array, self._name("input", number))
        made: Array = array if isinstance(array, np.ndarray) else np.asarray(array, dtype)
        if value.type.element == "bf16":
            made = _bf16_bits(made)
        if made.dtype != dtype and made.dtype.newbyteorder("=") != dtype:
            raise TypeError(
                f"{self._name('input', number)}: expected {dtype}, got {made.dtype}; convert with astype"
            )
        shape = value.type.shape
        fits = len(shape) == made.ndim and all(e in (None, n) for e, n in zip(shape, made.shape, strict=True))
        if not fits:
            raise ValueError(f"{self._name('input', number)}: expected {value.type}, got shape {made.shape}")
        if type(made) is np.ndarray and made.dtype == dtype and made.flags.c_contiguous:
            return made
        contiguous: Array = np.ascontiguousarray(made, dtype).reshape(made.shape)
        return contiguous

    def _imported(self, number: int, array: Any) -> Any:
        """An output that another library owns, as an array of the same memory; others as they are."""
        foreign = hasattr(array, "__dlpack__") and not isinstance(array, np.ndarray)
        return array_of(array, self._name("output", number)) if foreign else array

    def _extent(self, inputs: list[Array]) -> int:
        extents: dict[int, int] = {}
        for number, (value, array) in enumerate(zip(self.function.parameters, inputs, strict=True)):
            if value.type.is_dynamic:
                extents.setdefault(len(array), number)
        if len(extents) > 1:
            (first, one), (second, other) = list(extents.items())[:2]
            raise ValueError(
                f"{self._name('input', other)}: leading extent {second}, expected {first} as in "
                f"{self._name('input', one)}; all ? of a program are one extent"
            )
        return next(iter(extents), 1)

    def _check_output(self, number: int, array: Any, shape: tuple[int, ...]) -> None:
        name = self._name("output", number)
        dtype = _dtype(self.function.outputs[number].type)
        if not isinstance(array, np.ndarray) or array.dtype != dtype:
            raise TypeError(
                f"{name}: expected an array of {dtype}, got {getattr(array, 'dtype', type(array))}"
            )
        if array.shape != shape or not array.flags.writeable:
            state = "" if array.flags.writeable else ", read-only"
            raise ValueError(
                f"{name}: shape {array.shape}{state}: expected a writeable array of shape {shape}"
            )

    def _place(
        self, number: int, given: tuple[Any, ...], inputs: list[Array], shape: tuple[int, ...]
    ) -> Array:
        """Where an output is computed: in the array that was given, if nothing stands against it."""
        if given:
            array: Array = given[number]
            beside = (*inputs, *given[:number], *given[number + 1 :])
            if array.flags.c_contiguous and not any(np.may_share_memory(array, other) for other in beside):
                return array
        return np.empty(shape, _dtype(self.function.outputs[number].type))

    def _run(self, program: Program, inputs: list[Array], outputs: list[Array], extent: int) -> None:
        if self.slot is not None:
            addresses = tuple(array.ctypes.data for array in (*inputs, *outputs))
            status = program.run(addresses, extent)
            if status is None and self.plan is not None:  # evicted: compiled again
                self.slot, self.reason = publish_program(self.plan, self.function, host_target())
                status = program.run(addresses, extent)
            if status:
                raise self.failed(status)
            if status == 0:
                return
        done = evaluate(self.function, inputs, self.arrays, self.states)
        for output, result in zip(outputs, done.outputs, strict=True):
            output[...] = _in_memory(result, output.dtype)
        for name, state in done.states.items():
            self.states[name][...] = _in_memory(state, self.states[name].dtype)

    def failed(self, number: int) -> AssertFailedError:
        """What to raise when the assert of this number failed."""
        op = self.function.asserts[number - 1]
        return AssertFailedError(number, str(op.attributes["text"]), op.span)

    def bind(self, program: Program, arrays: tuple[Any, ...]) -> Callable[[], Any]:
        """See Program.bind."""
        count = len(self.function.parameters)
        if len(arrays) not in (count, count + len(self.function.outputs)):
            raise TypeError(f"{self.signature}: bind got {len(arrays)} arrays")
        inputs = [self._input(i, array) for i, array in enumerate(arrays[:count])]
        shapes = [value.type.static_shape(self._extent(inputs)) for value in self.function.outputs]
        outputs = tuple(self._imported(i, array) for i, array in enumerate(arrays[count:])) or tuple(
            np.empty(shape, _dtype(value.type))
            for shape, value in zip(shapes, self.function.outputs, strict=True)
        )
        for number, (array, shape) in enumerate(zip(outputs, shapes, strict=True)):
            self._check_output(number, array, shape)
        answers = arrays[count:] or outputs
        result = answers[0] if len(answers) == 1 else answers
        direct = all(self._place(n, outputs, inputs, shape) is outputs[n] for n, shape in enumerate(shapes))
        if direct and all(given is array for given, array in zip(arrays, inputs, strict=False)):
            try:
                return BoundProgram(program, (*inputs, *outputs), result)
            except ValueError:
                pass  # not the common case after all
        return partial(program, *arrays[:count], *answers)

    # Weights and state --------------------------------------------------------------------------------

    def weights(self, program: Program) -> Weights:
        return Weights(self, program)

    def set_weight(self, program: Program, name: str, array: Any) -> None:
        """Another array for a weight: packed into a new block, which calls that begin from now on read."""
        changed = {**self.arrays, name: _checked_weight(self.function, name, array)}
        if self.plan is not None:
            self.block = packed(self.plan, changed, self.block, name)
            if self.slot is not None:
                program.use_weights(self.block)
        self.arrays = changed

    def _make_state(self) -> None:
        self.states: dict[str, Array] = {}
        offsets = {} if self.plan is None else {state.name: state.offset for state in self.plan.states}
        block = aligned(0 if self.plan is None else self.plan.state_bytes)
        for name, type_ in self.function.states.items():
            shape, dtype = type_.static_shape(0), _dtype(type_)
            begin = offsets.get(name)
            if begin is None:
                self.states[name] = np.empty(shape, dtype)
            else:
                size = math.prod(shape) * dtype.itemsize
                self.states[name] = block[begin : begin + size].view(dtype).reshape(shape)
        self.state_block = block
        self.reset()

    @property
    def state(self) -> Mapping[str, Array]:
        return MappingProxyType(self.states)

    def restore(self, saved: Mapping[str, Any]) -> None:
        """KeyError: names that differ. ValueError: a shape that does. Nothing changes then."""
        if set(saved) != set(self.states):
            raise KeyError(f"{self.signature}: state: expected {sorted(self.states)}, got {sorted(saved)}")
        for name, array in saved.items():
            if np.shape(array) != self.states[name].shape:
                raise ValueError(
                    f"state {name!r}: expected shape {self.states[name].shape}, got {np.shape(array)}"
                )
        for name, array in saved.items():
            self.states[name][...] = array

    def reset(self) -> None:
        start = {
            str(op.attributes["name"]): float(op.attributes["initial"])  # type: ignore[arg-type]
            for op in self.function.block.walk()
            if op.name == "state_read"
        }
        for name, array in self.states.items():
            value = to_element(np.asarray(start.get(name, 0.0)), self.function.states[name].element)
            array[...] = _in_memory(value, array.dtype)

    def clone(self) -> Program:
        made = object.__new__(Contract)
        made.__dict__.update(self.__dict__)
        made._make_state()
        made.restore(self.states)
        return made.program()

    def _saved(self) -> Saved:
        return Saved(
            print_module(self.module),
            dict(self.arrays),
            {name: array.copy() for name, array in self.states.items()},
        )

    def save(self, path: Path) -> None:
        """See Program.save."""
        write_program(path, self._saved())

    def reduced(self) -> tuple[Callable[[Saved], Program], tuple[Saved]]:
        """For pickle: text, weights, state, and what makes a program of them on the receiver's CPU."""
        return restored, (self._saved(),)

    # What it says about itself ------------------------------------------------------------------------

    @property
    def signature(self) -> str:
        f = self.function
        takes = ", ".join(f"{value.name}: {value.type}" for value in f.parameters)
        gives = ", ".join(str(value.type) for value in f.outputs)
        return f"{f.name}({takes}) -> {gives}"

    @property
    def ir(self) -> str:
        return print_module(Module(self.module.name, (self.planned, *self.module.functions[1:])))

    @property
    def schedule(self) -> str:
        if self.plan is None:
            return f"// interpreted: {self.reason}\n"
        return print_schedule(schedule_text(self.plan, self.planned, host_target().isa))

    def rescheduled(self, text: str) -> Program:
        """See Program.rescheduled."""
        schedule = parse_schedule(text, self.planned)
        made = Contract(Module(self.module.name, (self.planned,), (schedule,)), self.arrays)
        made.restore(self.states)
        return made.program()

    def listing(self, target: str | None = None) -> str:
        """target: an ISA's name, of any architecture; None for this machine's."""
        if target is not None:
            return planned_program(self.function, target_for(target, host()), self.given).listing()
        if self.plan is None:
            return f"no machine code: {self.reason}\n"
        return list_program(self.plan, host_target().isa)

    def explain(self, program: Program) -> str:
        lines = [self.signature]
        if program.compiled:
            lines.append(f"one native function for {host_target().isa.name}")
        else:
            lines.append(
                f"interpreted by NumPy: {self.reason or 'its code was evicted, the next call compiles it'}"
            )
        if self.set_aside:
            lines.append(self.set_aside)
        if self.given.steps and self.plan is None:
            lines.append("the schedule beside the text has no effect")
        if self.plan is not None:
            lines += [f"  {step.name}: {step.what}" for step in self.plan.steps()]
        return "\n".join(lines) + "\n"

    def memory_map(self) -> str:
        if self.plan is None:
            return f"no memory of its own: {self.reason}\n"
        p = self.plan
        lines = [f"weights  {p.weight_bytes} bytes"]
        lines += [f"  {w.offset:8d}  {w.name}: {w.rows} x {w.columns} {w.dtype}" for w in p.weights]
        lines.append(f"state    {p.state_bytes} bytes")
        lines += [f"  {s.offset:8d}  {s.name}: {s.shape} {s.dtype}" for s in p.states]
        lines.append(f"arena    {p.block_bytes} bytes, of which {p.frame_bytes} are the frame")
        return "\n".join(lines) + "\n"

    def _name(self, kind: str, number: int) -> str:
        values = self.function.parameters if kind == "input" else self.function.outputs
        return f"{self.function.name}: {kind} {number} ({values[number].name})"


def restored(saved: Saved) -> Program:
    """The program that was saved, compiled for this CPU, in the state it had."""
    module = parse(saved.text)
    weights = checked_weights(module, saved.weights)
    try:
        contract = Contract(run(module), weights)
    except TensorLangError as error:  # legal, as the text is, but not for this machine
        contract = Contract(run(replace(module, schedules=())), weights)
        contract.set_aside = f"its schedule was made for another machine, and the planner chose one: {error}"
    contract.restore(saved.states)
    return contract.program()


def array_of(given: Any, name: str) -> Array:
    """An array of another library, in place. TypeError: it cannot be read from here."""
    try:
        return np.from_dlpack(given)
    except (BufferError, RuntimeError) as error:
        kind = type(given).__name__
        raise TypeError(f"{name}: {kind}: {error}; hand over a plain tensor on the CPU") from None


class Weights(MutableMapping[str, Array]):
    """The weights of a program by name. Reading gives a read-only array; assigning re-packs."""

    def __init__(self, contract: Contract, program: Program) -> None:
        self._contract, self._program = contract, program

    def __getitem__(self, name: str) -> Array:
        return self._contract.arrays[name]

    def __setitem__(self, name: str, array: Any) -> None:
        self._contract.set_weight(self._program, name, array)

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"weight {name!r}: a program keeps all its weights")

    def __iter__(self) -> Iterator[str]:
        return iter(self._contract.function.weights)

    def __len__(self) -> int:
        return len(self._contract.function.weights)


def _dtype(type_: TensorType) -> np.dtype[Any]:
    return np.dtype(np.uint16 if type_.element == "bf16" else ELEMENTS[type_.element].dtype)


def _in_memory(result: Array, dtype: np.dtype[Any]) -> Array:
    """What the interpreter computed as arrays hold it: bf16 as its 16 bits."""
    if dtype != np.uint16:
        return result
    return np.asarray(np.asarray(result, np.float32).view(np.uint32) >> 16, np.uint16)


def _bf16_bits(array: Array) -> Array:
    """The bits of bf16 numbers, also of float32 ones, which are rounded, and of ml_dtypes' type."""
    if array.dtype == np.float32:
        return _in_memory(round_bf16(array), np.dtype(np.uint16))
    return array.view(np.uint16) if array.dtype.name == "bfloat16" else array


def _shape_or_dynamic(type_: TensorType) -> tuple[int, ...]:
    return tuple(-1 if extent is None else extent for extent in type_.shape)


def checked_weights(module: Module, given: Mapping[str, Any]) -> dict[str, Array]:
    """Read-only copies of the weights that a module names. Errors as `nj.compile` says."""
    function = module.main
    unknown = sorted(set(given) - set(function.weights))
    missing = [name for name in function.weights if name not in given]
    if unknown or missing:
        raise KeyError(f"{function.name}: weights: missing {missing or 'none'}, unknown {unknown or 'none'}")
    return {name: _checked_weight(function, name, given[name]) for name in function.weights}


def _checked_weight(function: Function, name: str, given: Any) -> Array:
    """A read-only copy of the right type and shape."""
    if name not in function.weights:
        raise KeyError(f"{function.name}: weight {name!r}: expected one of {list(function.weights)}")
    type_ = function.weights[name]
    array = np.asarray(given)
    if type_.element == "bf16":
        array = _bf16_bits(array)
    if array.dtype.newbyteorder("=") != _dtype(type_):
        raise TypeError(f"weight {name!r}: expected {_dtype(type_)}, got {array.dtype}; convert with astype")
    if array.shape != type_.shape:
        raise ValueError(f"weight {name!r}: expected shape {type_.shape}, got {array.shape}")
    kept: Array = np.array(array, _dtype(type_), order="C")
    kept.flags.writeable = False
    return kept
