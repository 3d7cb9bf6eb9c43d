"""`neurojit emit`: machine code on paper, and why it looks as it does.

    python -m neurojit emit gemm --m 8 --n 12 --k 64 --dtype f32 --target x86_64-avx2
    python -m neurojit emit map --function gelu --target aarch64-neon
    python -m neurojit emit reduce --function softmax --m 8 --n 64 --target riscv64-rvv
    python -m neurojit emit program policy.tl --target aarch64-neon

Nothing is run, so any target can be asked for on any machine.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from neurojit.errors import NeurojitError

if TYPE_CHECKING:
    from neurojit.codegen import Note
    from neurojit.encoder import CodeBuffer
    from neurojit.plan.gemm import ColumnBlock, GemmSchedule
    from neurojit.target import Target


class Kernel(NamedTuple):
    """What can be asked for by name. extents: those that it needs, of m, n and k. functions: whether it
    computes one that has to be named. meaning: for contiguous operands."""

    extents: str
    has_function: bool
    meaning: str


KERNELS = {
    "gemm": Kernel("mnk", False, "C[m,n] = A[m,k] @ B[k,n]"),
    "gemv": Kernel("mk", False, "y[m] = A[m,k] @ x[k]"),
    "map": Kernel("", True, "y = function(x), element by element"),
    "reduce": Kernel("mn", True, "function of each of m rows of n: softmax, sum ..."),
    "transpose": Kernel("mn", False, "y[n,m] = x[m,n] transposed"),
    "cumsum": Kernel("mn", False, "running sums along each of m rows of n"),
}
PROGRAM = "program"
MOST_EXTENT = 1 << 20


class Emission(NamedTuple):
    """Machine code on paper. kernel: a name of KERNELS, or "program". payload, schedule: what is computed,
    and how, as the planner has it; of a program its plan. what, how: the same in words. code: the bytes.
    counts: how often each mnemonic stands in the code, most first. listing: offset, bytes and instruction,
    one a line."""

    kernel: str
    payload: Any
    schedule: Any
    what: str
    how: tuple[str, ...]
    target: Target
    code: bytes
    counts: dict[str, int]
    listing: str

    @property
    def size(self) -> int:
        """Bytes of code."""
        return len(self.code)


# The command line -----------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    names = "; ".join(f"{name}: {kernel.meaning}" for name, kernel in KERNELS.items())
    kernels = (*KERNELS, PROGRAM)
    help_ = f"{names}; {PROGRAM}: a whole network"
    parser.add_argument("kernel", choices=kernels, metavar="KERNEL", help=help_)
    parser.add_argument("file", nargs="?", help="of a program: TensorLang text")
    for extent in "mnk":
        parser.add_argument(f"--{extent}", type=_extent, metavar=extent.upper())
    parser.add_argument("--function", help="of map: gelu, tanh ...; of reduce: softmax, logsumexp, sum ...")
    parser.add_argument("--dtype", choices=("f32", "f64"), default="f32")
    parser.add_argument(
        "--target",
        metavar="ISA",
        help="x86_64-avx2, x86_64-avx512, aarch64-neon, riscv64-rvv; this machine's if not given",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def _extent(text: str) -> int:
    extent = int(text)
    if not 1 <= extent <= MOST_EXTENT:
        raise argparse.ArgumentTypeError(f"{extent}: expected 1 to {MOST_EXTENT}")
    return extent


def run(arguments: argparse.Namespace) -> int:
    try:
        emission = _asked_for(arguments)
    except ValueError as error:
        raise NeurojitError(str(error)) from None
    print(json.dumps(document(emission), indent=2) if arguments.json else render(emission))
    return 0


def _asked_for(arguments: argparse.Namespace) -> Emission:
    if arguments.kernel == PROGRAM:
        if arguments.file is None:
            raise ValueError("emit program: expected a file of TensorLang text; name one")
        try:
            text = Path(arguments.file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"emit program: {arguments.file}: {error}") from None
        return _program(text, arguments.target)
    if arguments.file is not None:
        raise ValueError(f"emit {arguments.kernel}: got a file, {arguments.file}: expected one with program")
    a = arguments
    return emit(a.kernel, a.m, a.n, a.k, a.dtype, a.target, function=a.function)


# The function ---------------------------------------------------------------------------------------------


def emit(
    what: Any,
    m: int | None = None,
    n: int | None = None,
    k: int | None = None,
    dtype: str = "f32",
    target: str | None = None,
    *,
    function: str | None = None,
    input_type: Any = None,
) -> Emission:
    """Machine code on paper, for any target on any machine.

    what: a kernel's name, with the extents that it needs, its operands contiguous:
    "gemm" C[m,n] = A[m,k] @ B[k,n]; "gemv" y[m] = A[m,k] @ x[k]; "map" function(x), element by element;
    "reduce" a function of each of m rows of n; "transpose" of m x n; "cumsum" along each of m rows of n.
    function: of "map" an activation, such as "gelu"; of "reduce" "softmax", "logsumexp" or a reduction, such
    as "sum". Or a whole network, as nj.compile takes it: TensorLang text, a module, a layer or a list of them
    (input_type: as there), or an nj.Program. target: an ISA's name; None for this machine.

    Raises ValueError for a kernel, a function or an extent that there is not, UnknownIsaError for an ISA that
    neurojit does not know or has no vector machine for, TensorLangError for a text or a module that is none,
    and UnplannedError for what no kernel computes.
    """
    if not isinstance(what, str) or "func.func" in what or "\n" in what:
        return _program(what, target, input_type)
    if what not in KERNELS:
        raise ValueError(
            f"emit: kernel {what!r}: expected one of {', '.join(KERNELS)}, or a network: its TensorLang "
            "text, module or layers"
        )
    kernel = KERNELS[what]
    for name, extent in (("m", m), ("n", n), ("k", k)):
        needed = name in kernel.extents
        if needed and not (extent is not None and 1 <= extent <= MOST_EXTENT):
            raise ValueError(f"emit {what}: {name} = {extent}: expected 1 to {MOST_EXTENT}")
        if not needed and extent is not None:
            raise ValueError(f"emit {what}: {name} = {extent}: expected none: {kernel.meaning}")
    if kernel.has_function != (function is not None):
        expected = "the name of one" if kernel.has_function else "none"
        raise ValueError(f"emit {what}: function {function!r}: expected {expected}: {kernel.meaning}")
    return _kernel(what, (m or 0, n or 0, k or 0), dtype, _target(target), function or "")


def _target(name: str | None) -> Target:
    from neurojit.codegen import machine_class
    from neurojit.target import host, host_target, target_for

    chosen = host_target() if name is None else target_for(name, host())
    machine_class(chosen.isa)  # there is one, or this raises
    return chosen


def _kernel(what: str, extents: tuple[int, int, int], dtype: str, target: Target, function: str) -> Emission:
    m, n, k = extents
    if what == "gemm":
        from neurojit.codegen import gemm_buffer
        from neurojit.plan.gemm import Gemm
        from neurojit.plan.tiling import schedule_gemm

        gemm = Gemm.contiguous(dtype, m, n, k)
        tiles = schedule_gemm(gemm, target)
        heading = f"gemm {dtype} {m}x{n}x{k}"
        return _emission(what, gemm, tiles, heading, target, gemm_buffer(gemm, tiles, target.isa))
    if what == "gemv":
        from neurojit.codegen import gemv_buffer
        from neurojit.plan.gemv import Gemv, schedule_gemv

        gemv = Gemv(dtype, m, k, k)
        rows = schedule_gemv(gemv, target)
        heading = f"gemv {dtype} {m}x{k}"
        return _emission(what, gemv, rows, heading, target, gemv_buffer(gemv, rows, target.isa))
    from neurojit.codegen import TEMPLATES, tensor_buffer

    payload = _tensor_payload(what, m, n, dtype, function)
    _, choose = TEMPLATES[type(payload)]
    schedule = choose(payload, target.isa) if choose else None
    shape = f" {m}x{n}" if KERNELS[what].extents else ""
    heading = f"{what}{' ' if function else ''}{function} {dtype}{shape}"
    buffer = tensor_buffer(payload, target.isa, schedule=schedule)
    return _emission(what, payload, schedule, heading, target, buffer)


def _tensor_payload(what: str, m: int, n: int, dtype: str, function: str) -> Any:
    from neurojit.plan.cumsum import Cumsum
    from neurojit.plan.map import Access
    from neurojit.plan.transpose import Transpose

    if what == "map":
        return _map_of(function, dtype)
    if what == "reduce":
        return _reduction(function, dtype, m, n)
    if what == "cumsum":
        return Cumsum.contiguous(dtype, m, n)
    return Transpose(dtype, (n, m), Access(0, (1, n)), Access(1, (m, 1)))


def _map_of(function: str, dtype: str) -> Any:
    from neurojit.plan.epilogue import FUNCTIONS, Activation
    from neurojit.plan.map import Map

    if function not in FUNCTIONS:
        raise ValueError(f"emit map: function {function!r}: expected one of {', '.join(sorted(FUNCTIONS))}")
    activation = Activation(function, EXAMPLE_PARAMETERS[: FUNCTIONS[function]])
    return Map.of_functions(dtype, (activation,))


EXAMPLE_PARAMETERS = (0.25, 1.5)
"""Of functions that have some; the code is the same for others."""


def _reduction(function: str, dtype: str, m: int, n: int) -> Any:
    from neurojit.plan.expression import REDUCTIONS, Builder
    from neurojit.plan.map import Access
    from neurojit.plan.reduce import Reduce, logsumexp, softmax

    build = Builder()
    made: dict[str, Callable[[Builder, int], int]] = {"softmax": softmax, "logsumexp": logsumexp}
    single_ops = [name.removeprefix("reduce_") for name in REDUCTIONS if not name.startswith("reduce_i")]
    if function not in made and function not in single_ops:
        known = ", ".join((*made, *single_ops))
        raise ValueError(f"emit reduce: function {function!r}: expected one of {known}")
    x = build.input(0)
    node = made[function](build, x) if function in made else build.apply(f"reduce_{function}", x)
    expression = build.done(node)
    single = not expression.along_row(set())[expression.outputs[0]]
    target = Access(1, (1, 0)) if single else Access(1, (n, 1))
    return Reduce(dtype, (m, n), (Access(0, (n, 1)),), (target,), expression)


def _program(thing: Any, target: str | None, input_type: Any = None) -> Emission:
    from neurojit.program import Program, module_to_plan
    from neurojit.program_compiler import planned_program

    module = thing.contract.module if isinstance(thing, Program) else module_to_plan(thing, input_type)
    function, chosen = module.main, _target(target)
    planned = planned_program(function, chosen, module.schedule(function.name))
    steps = tuple(f"{step.name}: {step.what}" for step in planned.plan.steps())
    return _emission(
        *(PROGRAM, planned.plan, None, f"program {function.name}", chosen, planned.buffer),
        *(planned.code, steps, planned.notes),
    )


def _emission(
    kernel: str,
    payload: Any,
    schedule: Any,
    what: str,
    target: Target,
    buffer: CodeBuffer,
    code: bytes | None = None,
    how: tuple[str, ...] | None = None,
    notes: Sequence[Note] = (),
) -> Emission:
    from neurojit.encoder.listing import listing, mnemonics

    code = buffer.finish() if code is None else code
    counts = dict(Counter(mnemonics(buffer)).most_common())
    how = _how(schedule) if how is None else how
    return Emission(kernel, payload, schedule, what, how, target, code, counts, listing(buffer, notes))


# In words -------------------------------------------------------------------------------------------------


def _how(schedule: Any) -> tuple[str, ...]:
    from neurojit.plan.gemm import GemmSchedule

    if isinstance(schedule, GemmSchedule):
        return tuple(schedule_lines(schedule))
    if schedule is None:
        return ()
    chosen = ", ".join(f"{field.name} {getattr(schedule, field.name)}" for field in fields(schedule))
    return (f"schedule      {chosen}",)


def schedule_lines(schedule: GemmSchedule) -> list[str]:
    """The tiling of C in words, a line for each kind of column of tiles, and one for k."""
    lines = [
        f"tiles of C    {block.tiles} x ({_columns(block)}) columns, rows {block.rows}{_scalars(block)}"
        for block in schedule.columns
    ]
    return [*lines, f"steps of k    unrolled by {schedule.unroll}"]


def _columns(block: ColumnBlock) -> str:
    vectors = list(map(str, block.lanes))
    return " + ".join([*vectors, f"{block.folded} folded"] if block.folded else vectors)


def _scalars(block: ColumnBlock) -> str:
    """How a tile gets the scalars of A, where that is not left to the machine."""
    if block.shared:
        return "; scalars shared by the vectors of a row"
    return f"; scalars of {block.by_lanes} rows by lanes" if block.by_lanes else ""


def document(emission: Emission) -> dict[str, Any]:
    found: dict[str, Any] = {
        "kernel": emission.kernel,
        "what": emission.what,
        "isa": emission.target.isa.name,
        "microarchitecture": emission.target.microarchitecture,
        "how": list(emission.how),
        "bytes": emission.size,
        "counts": emission.counts,
        "listing": emission.listing.splitlines(),
    }
    if emission.kernel == "gemm":
        gemm, schedule = emission.payload, emission.schedule
        blocks = [
            {
                "lanes": block.lanes,
                "folded": block.folded,
                "tiles": block.tiles,
                "rows": block.rows.groups,
                "shared": block.shared,
                "by_lanes": block.by_lanes,
            }
            for block in schedule.columns
        ]
        tiling = {"columns": blocks, "unroll": schedule.unroll, "cycles": schedule.cycles}
        found |= {"dtype": gemm.dtype, "m": gemm.m, "n": gemm.n, "k": gemm.k, "schedule": tiling}
    return found


def render(emission: Emission) -> str:
    target, cycles = emission.target, getattr(emission.schedule, "cycles", None)
    counts = [f"{count} {mnemonic}" for mnemonic, count in emission.counts.items()]
    total = sum(emission.counts.values())
    return "\n".join(
        (
            f"{emission.what} for {target.isa.name}, tuned for {target.microarchitecture}: "
            f"{emission.size} bytes, {total} instructions"
            + (f", about {cycles:.0f} cycles a call" if cycles else ""),
            *emission.how,
            f"instructions  {', '.join(counts)}",
            "",
            emission.listing.rstrip("\n"),
        )
    )
