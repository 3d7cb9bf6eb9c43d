"""The C code buffer on its own, under the address and undefined-behaviour sanitizers."""

from __future__ import annotations

from pathlib import Path

from native import CSRC, EMULATED, build, needs_compiler, run_program


@needs_compiler
def test_code_buffer_alone(tmp_path: Path) -> None:
    program = tmp_path / "code_buffer_test"
    sources = [Path(__file__).with_name("code_buffer_test.c"), CSRC / "code_buffer.c"]
    sanitizers = [] if EMULATED else ["-fsanitize=address,undefined", "-fno-sanitize-recover"]
    build(program, sources, "-O1", *sanitizers)
    run_program(program)
