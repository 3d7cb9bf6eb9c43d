"""`neurojit emit`: the machine code of one kernel, and why it looks as it does.

    python -m neurojit emit gemm --m 8 --n 12 --k 64 --dtype f32 --target x86_64-avx2

Nothing is run, so any target can be asked for on any machine.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from neurojit.plan.gemm import ColumnBlock, Gemm, GemmSchedule
    from neurojit.target import Target


KERNELS = ("gemm",)
MOST_EXTENT = 1 << 20


class Emission(NamedTuple):
    """A kernel on paper. size: bytes of code. counts: how often each mnemonic stands in the code, most
    first. listing: offset, bytes and instruction, one a line."""

    gemm: Gemm
    schedule: GemmSchedule
    target: Target
    size: int
    counts: dict[str, int]
    listing: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kernel", choices=KERNELS, help="gemm: C[m,n] = A[m,k] @ B[k,n], contiguous")
    for extent in "mnk":
        parser.add_argument(f"--{extent}", type=_extent, required=True, metavar=extent.upper())
    parser.add_argument("--dtype", choices=("f32", "f64"), default="f32")
    parser.add_argument(
        "--target",
        metavar="ISA",
        help="x86_64-avx2, x86_64-avx512, aarch64-neon; this machine's if not given",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def _extent(text: str) -> int:
    extent = int(text)
    if not 1 <= extent <= MOST_EXTENT:
        raise argparse.ArgumentTypeError(f"{extent}: expected 1 to {MOST_EXTENT}")
    return extent


def run(arguments: argparse.Namespace) -> int:
    emission = emit(
        arguments.kernel, arguments.m, arguments.n, arguments.k, arguments.dtype, arguments.target
    )
    print(json.dumps(document(emission), indent=2) if arguments.json else render(emission))
    return 0


def emit(kernel: str, m: int, n: int, k: int, dtype: str = "f32", target: str | None = None) -> Emission:
    """A kernel on paper, for contiguous operands. kernel: "gemm", C[m,n] = A[m,k] @ B[k,n].
    target: an ISA's name; None for this machine.

    Raises ValueError for a kernel or an extent that there is not, and UnknownIsaError for an ISA that
    neurojit does not know or has no vector machine for.
    """
    if kernel not in KERNELS:
        raise ValueError(f"emit: kernel {kernel!r}: expected one of {', '.join(KERNELS)}")
    for name, extent in (("m", m), ("n", n), ("k", k)):
        if not 1 <= extent <= MOST_EXTENT:
            raise ValueError(f"emit: {name} = {extent}: expected 1 to {MOST_EXTENT}")
    from neurojit.codegen import gemm_buffer, machine_class
    from neurojit.encoder.listing import listing, mnemonics
    from neurojit.plan.gemm import Gemm
    from neurojit.plan.tiling import schedule_gemm
    from neurojit.target import host, host_target, target_for

    chosen = host_target() if target is None else target_for(target, host())
    machine_class(chosen.isa)  # there is one, or this raises
    gemm = Gemm.contiguous(dtype, m, n, k)
    schedule = schedule_gemm(gemm, chosen)
    buffer = gemm_buffer(gemm, schedule, chosen.isa)
    size = len(buffer.finish())
    counts = Counter(mnemonics(buffer))
    return Emission(gemm, schedule, chosen, size, dict(counts.most_common()), listing(buffer))


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
    gemm, schedule = emission.gemm, emission.schedule
    return {
        "kernel": "gemm",
        "dtype": gemm.dtype,
        "m": gemm.m,
        "n": gemm.n,
        "k": gemm.k,
        "isa": emission.target.isa.name,
        "microarchitecture": emission.target.microarchitecture,
        "schedule": {
            "columns": [
                {
                    "lanes": block.lanes,
                    "folded": block.folded,
                    "tiles": block.tiles,
                    "rows": block.rows.groups,
                    "shared": block.shared,
                    "by_lanes": block.by_lanes,
                }
                for block in schedule.columns
            ],
            "unroll": schedule.unroll,
            "cycles": schedule.cycles,
        },
        "bytes": emission.size,
        "counts": emission.counts,
        "listing": emission.listing.splitlines(),
    }


def render(emission: Emission) -> str:
    gemm, target = emission.gemm, emission.target
    counts = [f"{count} {mnemonic}" for mnemonic, count in emission.counts.items()]
    total = sum(emission.counts.values())
    return "\n".join(
        (
            f"gemm {gemm.dtype} {gemm.m}x{gemm.n}x{gemm.k} for {target.isa.name}, tuned for "
            f"{target.microarchitecture}: {emission.size} bytes, {total} instructions, "
            f"about {emission.schedule.cycles:.0f} cycles a call",
            *schedule_lines(emission.schedule),
            f"instructions  {', '.join(counts)}",
            "",
            emission.listing.rstrip("\n"),
        )
    )
