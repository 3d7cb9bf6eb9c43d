"""C stress programs built and run under a sanitizer; skipped where the compiler or the kernel has none."""

from __future__ import annotations

from pathlib import Path

from native import CSRC, EMULATED, build, run_program

HERE = Path(__file__).parent
# The sanitizers' shadow memory does not fit beside an emulator: there the programs run alone.
SANITIZERS = ("none",) if EMULATED else ("thread", "address,undefined")


def run_sanitized(
    sanitizer: str, folder: Path, program: str, sources: tuple[str, ...], arguments: tuple[str, ...] = ()
) -> None:
    """Build `program`, a C file of this folder, with sources of csrc; run it; it must not say a word."""
    binary = folder / program.removesuffix(".c")
    sanitize = () if sanitizer == "none" else (f"-fsanitize={sanitizer}",)
    build(binary, [HERE / program, *(CSRC / name for name in sources)], "-O1", "-pthread", *sanitize)
    run_program(binary, *arguments)
