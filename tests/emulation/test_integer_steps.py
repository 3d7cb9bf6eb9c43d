"""Constants, integers, bf16 and casts with NEON and RISC-V V, under emulation: NumPy's bits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from emulator import Emulator, build_runner, why_not
from oracle import assert_same_bits
from test_integer_lanes import NUMBERS, PAIRS, REDUCED, integers, on
from test_riscv_kernels import target

from neurojit.asm_templates.machine import F32
from neurojit.codegen import emit_cast, emit_map, emit_reduce, machine_class, machine_for
from neurojit.ir.numbers import to_element
from neurojit.ir.types import round_bf16
from neurojit.plan.cast import CASTS, Cast
from neurojit.plan.expression import Builder
from neurojit.plan.map import Access
from neurojit.plan.reduce import Reduce
from neurojit.row_validation import validate_cast
from neurojit.target import Isa, target_for

Machine = tuple[Emulator, Isa]


@pytest.fixture(scope="module", params=["neon", "rvv128", "rvv256"])
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    architecture = "aarch64" if request.param == "neon" else "riscv64"
    missing = why_not(architecture)
    if missing:
        pytest.skip(missing)
    runner = build_runner(architecture, tmp_path_factory.mktemp(request.param))
    if architecture == "aarch64":
        return Emulator(runner, architecture, "cortex-a57"), target_for("aarch64-neon").isa
    bits = int(request.param[3:])
    return Emulator(runner, architecture, f"rv64,v=true,vlen={bits}"), target(bits).isa


CONSTANTS = [
    sign * value + more
    for bits in (0, 11, 12, 16, 20, 31, 32, 33, 43, 44, 48, 62)
    for value in (1 << bits, 3 << bits - 1 if bits else 0, 0x5A5A_1234_8765_0FED >> 62 - bits)
    for sign in (1, -1)
    for more in (-2049, -2048, -1, 0, 1, 2047, 2048)
]


def test_constants_of_any_size(machine: Machine) -> None:
    cpu, isa = machine
    buffer = machine_class(isa).new_buffer("table")
    m = machine_for(isa, buffer, F32, "constants")
    (target,) = m.operands(1)
    for number, value in enumerate(CONSTANTS):
        constant = m.constant(value)
        m.store_pointer(constant, target, 8 * number)
        m.release(constant)
    m.leave()
    got = np.zeros(len(CONSTANTS), np.int64)
    assert cpu.run(buffer.finish(), [got]) == 0
    assert got.tolist() == CONSTANTS


@pytest.mark.parametrize("op", sorted(PAIRS))
def test_pairs_of_integers(machine: Machine, op: str) -> None:
    cpu, isa = machine
    x, y = integers(1, 20), integers(2, 20)[::-1].copy()
    got = np.empty(x.size, np.float32 if op[1] in "<>=!" else np.int32)
    assert cpu.run(emit_map(on(op)(x.size), isa), [x, y, got]) == 0
    with np.errstate(over="ignore"):
        assert (got == PAIRS[op](x, y)).all()


def test_numbers_integers_and_bf16(machine: Machine) -> None:
    cpu, isa = machine
    x = np.concatenate([NUMBERS, integers(4, 31).view(np.float32)])
    whole, rounded, number = np.empty(x.size, np.int32), np.empty_like(x), np.empty_like(x)
    assert cpu.run(emit_map(on("to_integer")(x.size), isa), [x, whole]) == 0
    assert_same_bits(whole, to_element(x, "i32"))
    assert cpu.run(emit_map(on("round_bf16")(x.size), isa), [x, rounded]) == 0
    np.testing.assert_array_equal(rounded, round_bf16(x))
    assert cpu.run(emit_map(on("to_number")(x.size), isa), [whole, number]) == 0
    assert_same_bits(number, whole.astype(np.float32))
    assert cpu.run(emit_map(on("wrap8")(x.size), isa), [whole, number]) == 0
    assert_same_bits(number.view(np.int32), whole.astype(np.int8).astype(np.int32))


@pytest.mark.parametrize("op", sorted(REDUCED))
def test_integers_along_rows(machine: Machine, op: str) -> None:
    cpu, isa = machine
    build = Builder()
    e = build.done(build.apply(op, build.input(0)))
    for n in (1, 3, 8, 31, 100):
        x, got = np.resize(integers(n, n), (3, n)), np.empty((3, 1), np.int32)
        g = Reduce("f32", (3, n), (Access(0, (n, 1)),), (Access(1, (1, 0)),), e)
        assert cpu.run(emit_reduce(g, isa), [x, got]) == 0
        with np.errstate(over="ignore"):
            assert_same_bits(got, REDUCED[op](x, axis=1, keepdims=True).astype(np.int32))


@pytest.mark.parametrize(("source", "target"), sorted(CASTS))
def test_casts(machine: Machine, source: str, target: str) -> None:
    """Through the gate, which hands over addresses: the arrays are those of the gate, found by them."""
    cpu, isa = machine
    for count in (1, 3, 4, 17, 40):
        g = Cast(source, target, count)
        code = emit_cast(g, isa)
        validate_cast(g, _running(cpu, code, g), f"{source} to {target} of {count}")


def _running(cpu: Emulator, code: bytes, g: Cast) -> Callable[[tuple[int, ...], int], int]:
    import ctypes

    def run(addresses: tuple[int, ...], extent: int) -> int:
        sizes = (g.count * g.size(g.source), g.count * g.size(g.target))
        arrays = [
            np.frombuffer((ctypes.c_uint8 * size).from_address(address), np.uint8)
            for address, size in zip(addresses, sizes, strict=True)
        ]
        return cpu.run(code, arrays)

    return run
