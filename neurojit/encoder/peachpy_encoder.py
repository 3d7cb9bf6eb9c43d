"""PeachPy, asked for the bytes of one instruction.

Where the encoder table comes from, and at run time the second opinion on it. PeachPy takes the shortest
encoding; we choose the uniform one: the 3-byte VEX prefix, a REX prefix even where it is 0x40, no
accumulator forms, and the immediate width that the form's name says. Free-standing instruction
objects only: `Function` is superlinear, and `load()` is never called (it maps memory writable and
executable at once).

PeachPy keeps process-global state while it builds instructions, so one lock spans construction and
encoding. Its faults that matter here:
- a displacement beside an embedded broadcast is compressed by the vector's size, not the element's;
- a masked memory operand cannot be rip-relative (AttributeError);
- a vector compare into k3 without a write mask is encoded as one into k3{k3};
- IMUL takes immediates up to 2^32 - 1, which the CPU sign-extends.
The first three are circumvented here, the last in learn.py.
"""

from __future__ import annotations

import importlib
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from neurojit.config import CONFIG
from neurojit.encoder.form_name import FormName, Operand
from neurojit.errors import UnknownFormError

LOCK = threading.Lock()
_loaded: list[Any] = []  # peachpy.x86_64, once it is whole

_ACCUMULATOR, _OPTIONAL_REX, _TWO_BYTE_VEX = 0x03, 0x20, 0x40  # peachpy.x86_64.encoding.Flags
_FORCE_DISP32 = 4  # `min_disp`: at least so many bytes of displacement
_MEMORY_FLAG = 0x10

HOW_TO_GET_IT = (
    "PeachPy is not importable: `make encodings` downloads it, or PEACHPY_PATH names a checkout or "
    "installation (Debian and Ubuntu: python3-peachpy; PyPI's peachpy 0.0.1 is for Python 2)"
)


@dataclass(frozen=True)
class Memory:
    """[base + index * scale + displacement]; index -1 without one. base -1: [rip + displacement]."""

    base: int
    index: int = -1
    scale: int = 1
    displacement: int = 0


def load() -> Any:
    """The module peachpy.x86_64, from PEACHPY_PATH or sys.path; None if there is none."""
    if not _loaded:
        with LOCK, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its sources have invalid escape sequences
            if CONFIG.peachpy_path and CONFIG.peachpy_path not in sys.path:
                sys.path.append(CONFIG.peachpy_path)
            try:
                _loaded.append(importlib.import_module("peachpy.x86_64"))
            except ImportError:  # also without six
                return None
    return _loaded[0]


def version() -> str:
    """PeachPy's own version number."""
    load()
    return str(sys.modules["peachpy"].__version__)


def encode(
    form: FormName, registers: Sequence[int], memory: Memory | None = None, immediate: int = 0
) -> bytes:
    """The bytes of `form` with these operands, registers in textual order with write masks.

    UnknownFormError: PeachPy does not know the form, or is not there."""
    x86 = load()
    if x86 is None:
        raise UnknownFormError(f"{form.text!r} is not in the encoder table, and {HOW_TO_GET_IT}")
    with LOCK:
        return _encode(x86, form, registers, memory, immediate)


def extensions(form: FormName) -> tuple[str, ...]:
    """The ISA extensions that PeachPy says `form` needs, e.g. ("avx512f", "avx512vl")."""
    x86 = load()
    memory = Memory(0) if form.memory else None
    with LOCK:
        instruction = _instruction(x86, form, [0] * len(form.register_kinds), memory, 0)
        return tuple(sorted(str(e).lower().replace(".", "_") for e in instruction.isa_extensions))


def _encode(
    x86: Any, form: FormName, registers: Sequence[int], memory: Memory | None, immediate: int
) -> bytes:
    asked, disp32 = _memory(form, memory)
    instruction = _instruction(x86, form, registers, asked, immediate)
    width = form.immediate.bits // 8 if form.immediate else 4 if form.is_branch else 0
    for flags, encoding in instruction.encodings:
        if flags & _ACCUMULATOR:
            continue
        options: dict[str, Any] = {}
        if flags & _OPTIONAL_REX:
            options["rex"] = True
        if flags & _TWO_BYTE_VEX:
            options["vex3"] = True
        if disp32 and flags & _MEMORY_FLAG:
            options["min_disp"] = _FORCE_DISP32
        if width == _constant_width(x86, form, encoding, instruction.operands, options):
            return bytes(encoding(instruction.operands, **options))
    raise UnknownFormError(f"{form.text!r}: PeachPy has no encoding with a constant of {8 * width} bits")


def _memory(form: FormName, memory: Memory | None) -> tuple[Memory | None, bool]:
    """The operand to ask for, and whether to force 32 bits of displacement.

    PeachPy divides a broadcast's displacement by the vector's size V where the CPU multiplies by the
    element's size E: ask for displacement / E * V to get displacement / E."""
    operand = form.memory
    if (
        memory is None
        or operand is None
        or not operand.broadcast
        or memory.displacement == 0
        or memory.base < 0
    ):
        return memory, False
    element = operand.bits // 8
    units, rest = divmod(memory.displacement, element)
    if rest or not -128 <= units <= 127:
        return memory, True
    scaled = units * element * operand.broadcast
    return Memory(memory.base, memory.index, memory.scale, scaled), False


def _constant_width(
    x86: Any, form: FormName, encoding: Any, operands: Sequence[Any], options: dict[str, Any]
) -> int:
    """How many bytes an encoding spends on its constant: those that differ between 0 and -1."""
    if not form.immediate and not form.is_branch:
        return 0
    offset = x86.operand.RIPRelativeOffset

    def encoded(constant: int) -> bytes:
        last = offset(constant) if form.is_branch else constant
        return bytes(encoding([*operands[:-1], last], **options))

    return sum(a != b for a, b in zip(encoded(0), encoded(-1), strict=True))


def _instruction(
    x86: Any, form: FormName, registers: Sequence[int], memory: Memory | None, immediate: int
) -> Any:
    constructor = getattr(x86, form.mnemonic.upper(), None)
    if constructor is None:
        raise UnknownFormError(f"{form.text!r}: PeachPy knows no {form.mnemonic}; see supplement.txt")
    operands = list(_operands(x86, form, iter(registers), memory, immediate))
    try:
        return constructor(*operands)
    except (SyntaxError, ValueError) as problem:
        raise UnknownFormError(f"{form.text!r}: PeachPy: {problem}") from problem


def _operands(
    x86: Any, form: FormName, registers: Iterator[int], memory: Memory | None, immediate: int
) -> Iterator[Any]:
    """PeachPy's operands. Where EVEX is wanted and VEX would do, the destination is masked with k0, which
    is no mask, but makes PeachPy choose EVEX. A k destination needs it too (see above)."""
    classes = {
        "r32": x86.GeneralPurposeRegister32,
        "r64": x86.GeneralPurposeRegister64,
        "xmm": x86.XMMRegister,
        "ymm": x86.YMMRegister,
        "zmm": x86.ZMMRegister,
        "k": x86.KRegister,
    }

    def mask(operand: Operand) -> Any:
        register = x86.KRegister(next(registers))
        return register.z if operand.zeroing else register

    hint = form.evex_mark or (form.is_evex and form.operands[0].kind == "k")
    for position, operand in enumerate(form.operands):
        unmasked = x86.KRegister(0) if hint and position == 0 and not operand.masked else None
        if operand.kind == "immediate":
            yield immediate
        elif operand.kind == "relative":
            yield x86.operand.RIPRelativeOffset(immediate)
        elif operand.kind == "memory":
            assert memory is not None
            target = _memory_operand(x86, operand, memory)
            write_mask = mask(operand) if operand.masked else unmasked
            yield target if write_mask is None else target(write_mask)
        else:
            target = classes[operand.kind](next(registers))
            write_mask = mask(operand) if operand.masked else unmasked
            yield target if write_mask is None else target(write_mask)


def _memory_operand(x86: Any, operand: Operand, memory: Memory) -> Any:
    if memory.base < 0:
        address = x86.operand.RIPRelativeOffset(memory.displacement)
        address.index = None  # which PeachPy asks of a masked operand's address
    else:
        index = None if memory.index < 0 else x86.GeneralPurposeRegister64(memory.index)
        scale = None if memory.index < 0 else memory.scale
        base = x86.GeneralPurposeRegister64(memory.base)
        address = x86.operand.MemoryAddress(base, index, scale, memory.displacement)
    size = operand.bits // 8 or None
    return x86.operand.MemoryOperand(address, size, None, operand.broadcast or None)
