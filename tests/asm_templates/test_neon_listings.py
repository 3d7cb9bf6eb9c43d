"""What NEON kernels look like: goldens (`pytest --bless` writes them anew), how many instructions a step of
the main loop takes, and what llvm-mca makes of it."""

from __future__ import annotations

import difflib
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from neurojit.asm_templates.machine import F32
from neurojit.codegen import emit_map, gemm_buffer, list_gemm, machine_for
from neurojit.encoder import aarch64_forms
from neurojit.encoder.listing import listing
from neurojit.errors import RegisterPressureError
from neurojit.plan.blocking import micro_tile, one_tile
from neurojit.plan.epilogue import Activation
from neurojit.plan.gemm import Gemm
from neurojit.plan.map import Map, schedule_map
from neurojit.plan.tiling import schedule_gemm
from neurojit.target import target_for

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import static

GOLDEN = Path(__file__).with_name("golden")
NEON = target_for("aarch64-neon")


def micro_kernel() -> str:
    panel = micro_tile("f32", NEON)
    g = Gemm.micro_kernel("f32", *panel, panel, accumulate=True)
    return list_gemm(g, one_tile(g, NEON), NEON.isa)


def in_place() -> str:
    g = Gemm.contiguous("f32", 5, 7, 6)
    return list_gemm(g, schedule_gemm(g, NEON), NEON.isa)


def doubles() -> str:
    g = Gemm.contiguous("f64", 3, 5, 40)
    return list_gemm(g, schedule_gemm(g, NEON), NEON.isa)


def relu() -> str:
    from neurojit.asm_templates import map as template

    g, buffer = Map.of_functions("f32", (Activation("relu"),)), aarch64_forms.buffer()
    template.emit(machine_for(NEON.isa, buffer, F32, "map"), g, schedule_map(g, NEON.isa))
    assert buffer.finish() == emit_map(g, NEON.isa)
    return listing(buffer)


@pytest.mark.parametrize("kernel", [micro_kernel, in_place, doubles, relu], ids=lambda k: k.__name__)
def test_golden(kernel: Callable[[], str], request: pytest.FixtureRequest) -> None:
    golden, text = GOLDEN / f"neon_{kernel.__name__}.lst", kernel()
    if request.config.getoption("--bless"):
        golden.write_text(text)
    expected = golden.read_text().splitlines()
    difference = "\n".join(difflib.unified_diff(expected, text.splitlines(), lineterm=""))
    assert not difference, f"{difference}\nif this is meant: pytest --bless {Path(__file__).name}"


@pytest.mark.parametrize(("dtype", "loads"), [("f32", 5), ("f64", 7)])
def test_a_step_of_packed_panels_is_24_multiply_adds_and_few_loads(dtype: str, loads: int) -> None:
    loop = static.packed(dtype, NEON)
    assert loop.fmas == 24 * loop.steps
    assert sum(bool(re.match("ldu?r ", line)) for line in loop.instructions) == loads * loop.steps
    assert len(loop.instructions) - (24 + loads) * loop.steps <= 4  # two pointers, the counter, the branch


@pytest.mark.parametrize("cpu", static.CPUS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_main_loops_are_bound_by_multiply_adds(dtype: str, cpu: str) -> None:
    if shutil.which("llvm-mca-19") is None:
        pytest.skip("no llvm-mca-19: nothing predicts the cycles of loops (apt install llvm-19)")
    for loop in (static.packed(dtype, NEON), static.in_place(dtype, 64, 48, NEON)):
        fraction = static.cycles_of_fmas(loop, cpu) / static.cycles(loop.instructions, cpu)
        assert fraction >= static.GOAL, f"{loop.kernel} on {cpu}: {fraction:.1%}"


def test_callee_saved_vectors_are_saved_only_where_they_are_used() -> None:
    small, large = Gemm.contiguous("f32", 4, 4, 4), Gemm.contiguous("f32", 8, 12, 4)
    texts = []
    for g in (small, large):
        buffer = gemm_buffer(g, schedule_gemm(g, NEON), NEON.isa)
        buffer.finish()
        texts.append(listing(buffer))
    assert "stp d8" not in texts[0]
    assert re.search(r"nop\n", texts[0])
    assert re.search(r"stp d8, d9, \[sp, #-16\]!", texts[1])
    assert re.search(r"ldp d8, d9, \[sp\], #16", texts[1])


def test_more_general_registers_than_can_be_saved() -> None:
    m = machine_for(NEON.isa, aarch64_forms.buffer(), F32, "gemm")
    with pytest.raises(RegisterPressureError, match="needs 1 more general registers than this machine can"):
        m.save_pointers(11)


def test_only_a_micro_kernel_has_a_row_stride() -> None:
    m = machine_for(NEON.isa, aarch64_forms.buffer(), F32, "gemm")
    with pytest.raises(ValueError, match="template gemm: only a micro-kernel has a dynamic row stride"):
        m.row_stride()


@pytest.mark.parametrize("value", [0, 1, 65536, -1, -4097, 2**32, 2**63 - 1, -(2**63), 0x123456789ABC])
def test_constants_of_any_size(value: int) -> None:
    """Read back from the words that make them."""
    buffer = aarch64_forms.buffer()
    m = machine_for(NEON.isa, buffer, F32, "test")
    first = buffer.size
    m.constant(value)
    made = 0
    for line in listing(buffer).splitlines():
        found = re.search(r"([0-9a-f]{4})  \w{8}    mov([zkn]) x\d+, #(\d+), lsl #(\d+)", line)
        if found is None or int(found[1], 16) < first:
            continue
        half, shift = int(found[3]), int(found[4])
        if found[2] == "k":
            made = made & ~(0xFFFF << shift) | half << shift
        else:
            made = (half << shift) ^ (2**64 - 1 if found[2] == "n" else 0)
    assert made == value % 2**64
