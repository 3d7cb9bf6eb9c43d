"""Code generation: both encoders give the same bytes, listings show them, any host emits for any ISA."""

from __future__ import annotations

import importlib.util
import os

import pytest
from machine_code import ENTRY
from operands import TARGETS, planned, transposed_gemm

from neurojit.asm_templates.machine import F32
from neurojit.codegen import MACHINES, emit_gemm, list_gemm, machine_class, machine_for
from neurojit.config import CONFIG
from neurojit.plan.blocking import micro_tile
from neurojit.plan.gemm import Gemm

JAL = 0x6F  # the opcode of RISC-V's jump and link


def has_peachpy() -> bool:
    path = CONFIG.peachpy_path
    found = importlib.util.find_spec("peachpy") is not None
    return found or (path is not None and os.path.isdir(os.path.join(path, "peachpy")))


def kernels(isa: str) -> list[Gemm]:
    """Every family: shapes with each kind of edge, loops in all directions, micro-kernels."""
    found = []
    for dtype in ("f32", "f64"):
        for m, n, k in (
            (1, 1, 1),
            (3, 7, 5),
            (4, 16, 16),
            (9, 23, 17),
            (30, 70, 40),
            (5, 130, 3),
            (1, 64, 64),
        ):
            found += [Gemm.contiguous(dtype, m, n, k), transposed_gemm(dtype, m, n, k)]
        mr, nr = micro_tile(dtype, TARGETS[isa])
        for height, width in ((mr, nr), (1, 1), (mr - 1, nr - 3), (2, nr // 2)):
            for accumulate in (False, True):
                found.append(Gemm.micro_kernel(dtype, height, width, (mr, nr), accumulate))
    return found


@pytest.mark.not_emulated("x86-64 encodings are the same from any host, and all of them take minutes")
@pytest.mark.skipif(not has_peachpy(), reason="PeachPy is not here; `make encodings` fetches it")
@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_both_encoders_give_the_same_bytes(isa: str) -> None:
    target = TARGETS[isa]
    for g in kernels(isa):
        schedule = planned(g, target)
        table = emit_gemm(g, schedule, target.isa, "table")
        assert emit_gemm(g, schedule, target.isa, "peachpy") == table, g


@pytest.mark.parametrize("isa", sorted(TARGETS))
def test_a_listing_has_every_byte_of_the_code(isa: str) -> None:
    target = TARGETS[isa]
    g = Gemm.contiguous("f32", 5, 19, 7)
    schedule = planned(g, target)
    listing = list_gemm(g, schedule, target.isa)
    opening, multiply_add = {
        "x86_64": ("endbr64", "vfmadd231ps"),
        "aarch64": ("bti c", "fmla"),
        "riscv64": ("jal x30", "vfmacc.vf"),
    }[target.isa.architecture]
    assert opening in listing
    assert multiply_add in listing
    assert listing.rstrip().count("\n") > 20


def test_every_isa_has_its_machine() -> None:
    from neurojit.target import ISAS, NONE

    assert set(MACHINES) == {isa.name for isa in ISAS if isa is not NONE}


@pytest.mark.parametrize("isa", sorted(TARGETS))
def test_only_a_micro_kernel_has_a_dynamic_row_stride(isa: str) -> None:
    machine = machine_for(TARGETS[isa].isa, machine_class(TARGETS[isa].isa).new_buffer("table"), F32, "gemm")
    with pytest.raises(ValueError, match="template gemm: only a micro-kernel has a dynamic row stride"):
        machine.row_stride()


def test_code_for_any_isa_is_emitted_on_any_host() -> None:
    for isa, target in TARGETS.items():
        for g in kernels(isa):
            code = emit_gemm(g, planned(g, target), target.isa)
            if target.isa.architecture == "riscv64":
                assert code[0] & 0x7F == JAL, g  # whose other bits say how far the constants are
            else:
                assert code[:4] == ENTRY[target.isa.architecture], g
