"""Integers of 32 bits, bf16 and casts: every operation against NumPy, and what the gate of kernels says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from fence import SIDES, Fence
from operands import TARGETS, Array, runnable_isas
from oracle import assert_same_bits

from neurojit.asm_templates import cast
from neurojit.asm_templates.machine import ELEMENTS
from neurojit.codegen import emit_cast, emit_map, emit_reduce
from neurojit.ir.numbers import to_element
from neurojit.ir.types import round_bf16
from neurojit.plan.cast import CASTS, Cast
from neurojit.plan.expression import OPERATIONS, Builder
from neurojit.plan.map import Access, Map
from neurojit.plan.reduce import Reduce
from neurojit.product_codegen import machine_class, machine_for
from neurojit.row_validation import validate_cast
from neurojit.runtime import Code
from neurojit.tensor_compiler import compile_tensor_kernel

ISAS = runnable_isas()
EDGES = [0, 1, -1, 2, 127, 128, -128, -129, 255, 256, 65535, -(2**31), 2**31 - 1, -(2**31) + 1, 2**16 + 1]
PAIRS = {
    "iadd": np.add, "isub": np.subtract, "imul": np.multiply, "imax": np.maximum, "imin": np.minimum,
    "i<": np.less, "i<=": np.less_equal, "i==": np.equal, "i!=": np.not_equal, "i>=": np.greater_equal,
    "i>": np.greater,
}  # fmt: skip
REDUCED = {"reduce_isum": np.sum, "reduce_imax": np.max, "reduce_imin": np.min}
NUMBERS = np.array(
    [0.0, -0.0, 0.5, -0.5, 1.5, -1.9999999, 2.0**31, 2.0**31 - 128, -(2.0**31), -(2.0**31) - 256, 1e38, -1e38,
     np.inf, -np.inf, np.nan, 1e-45, 3.3895314e38, 3.4e38, 1.00390625, 1.01171875, 1.0039063, -1.00390625],
    np.float32,
)  # fmt: skip


DTYPES = {"i8": "int8", "i1": "bool", "bf16": "uint16", "i32": "int32", "f32": "float32", "f64": "float64"}


def integers(seed: int, count: int) -> Array:
    """Small ones, any ones, and all edges."""
    rng = np.random.default_rng(seed)
    wide = rng.integers(-(2**31), 2**31, count, np.int32)
    return np.concatenate([EDGES, rng.integers(-5, 5, count, np.int32), wide]).astype(np.int32)


def on(op: str, *constants: int) -> Callable[[int], Map]:
    def made(n: int) -> Map:
        build = Builder()
        count = OPERATIONS[op] - len(constants)
        operands = [build.input(k) for k in range(count)] + [build.integer(value) for value in constants]
        inputs = tuple(Access(k, (1,)) for k in range(count))
        return Map("f32", (n,), inputs, (Access(count, (1,)),), build.done(build.apply(op, *operands)))

    return made


def call(isa: str, g: Map | Reduce, *arrays: Array) -> None:
    emit = emit_map if isinstance(g, Map) else emit_reduce
    assert Code.map(emit(g, TARGETS[isa].isa)).call(tuple(x.ctypes.data for x in arrays)) == 0


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("op", sorted(PAIRS))
def test_pairs_of_integers(isa: str, op: str) -> None:
    x, y = integers(1, 40), integers(2, 40)[::-1].copy()
    truth = op.startswith("i") and op[1] in "<>=!"
    got = np.empty_like(x, np.float32 if truth else np.int32)
    call(isa, on(op)(x.size), x, y, got)
    with np.errstate(over="ignore"):
        assert (got == PAIRS[op](x, y)).all()
        call(isa, on(op, -3)(x.size), x, got)
        assert (got == PAIRS[op](x, np.int32(-3))).all()


@pytest.mark.parametrize("isa", ISAS)
def test_integers_become_numbers_and_bytes(isa: str) -> None:
    x = integers(3, 40)
    number, byte = np.empty(x.size, np.float32), np.empty_like(x)
    call(isa, on("to_number")(x.size), x, number)
    assert_same_bits(number, x.astype(np.float32))
    call(isa, on("wrap8")(x.size), x, byte)
    assert_same_bits(byte, x.astype(np.int8).astype(np.int32))


@pytest.mark.parametrize("isa", ISAS)
def test_row_31_numbers_become_integers_and_bf16(isa: str) -> None:
    x = np.concatenate([NUMBERS, integers(4, 99).view(np.float32)])
    whole, rounded = np.empty(x.size, np.int32), np.empty(x.size, np.float32)
    call(isa, on("to_integer")(x.size), x, whole)
    assert_same_bits(whole, to_element(x, "i32"))
    call(isa, on("round_bf16")(x.size), x, rounded)
    np.testing.assert_array_equal(rounded, round_bf16(x))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("op", sorted(REDUCED))
def test_integers_along_rows_and_down_columns(isa: str, op: str) -> None:
    build = Builder()
    e = build.done(build.apply(op, build.input(0)))
    for n in (1, 3, 7, 8, 16, 31, 100, 999):
        x = np.resize(integers(n, n), (3, n))
        got = np.empty((3, 1), np.int32)
        call(isa, Reduce("f32", (3, n), (Access(0, (n, 1)),), (Access(1, (1, 0)),), e), x, got)
        with np.errstate(over="ignore"):
            assert_same_bits(got, REDUCED[op](x, axis=1, keepdims=True).astype(np.int32))
            down = np.empty(n, np.int32)
            g = Reduce("f32", (3, n), (Access(0, (n, 1)),), (Access(1, (0, 1)),), e, down=True)
            call(isa, g, x, down)
            assert_same_bits(down, REDUCED[op](x, axis=0).astype(np.int32))
        compile_tensor_kernel(g, TARGETS[isa])  # which the gate passes


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("op", [*sorted(PAIRS), "wrap8", "to_number", "to_integer", "round_bf16"])
def test_the_gate_knows_what_they_mean(isa: str, op: str) -> None:
    compile_tensor_kernel(on(op)(61), TARGETS[isa])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("source", "target"), sorted(CASTS))
def test_casts_of_every_length(isa: str, source: str, target: str) -> None:
    for count in (1, 2, 7, 8, 9, 15, 16, 31, 100, 300):
        compile_tensor_kernel(Cast(source, target, count), TARGETS[isa])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("side", SIDES)
def test_row_27_casts_between_guard_pages(isa: str, side: str) -> None:
    fences = Fence(4096), Fence(4096)
    for source, target in sorted(CASTS):
        for count in (*range(1, 36), 100):
            x, y = (
                fence.hold(np.arange(count).astype(DTYPES[element]), side)
                for fence, element in zip(fences, (source, target), strict=True)
            )
            code = Code.map(emit_cast(Cast(source, target, count), TARGETS[isa].isa))
            assert code.call((x.ctypes.data, y.ctypes.data)) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cast("i8", "f64", 4), "cast: i8 to f64: expected one of"),
        (lambda: Cast("i8", "i32", 0), "cast: count 0, expected 1 to"),
    ],
)
def test_what_is_no_cast_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_integers_have_no_64_bits() -> None:
    g = on("wrap8")(4)
    with pytest.raises(ValueError, match="map: integers among f64, expected f32"):
        Map("f64", g.shape, g.inputs, g.outputs, g.expression)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("source", "target"), sorted(CASTS))
def test_casts_with_whichever_register_comes_first(isa: str, source: str, target: str) -> None:
    """What stood in a program before leaves the free registers in any order."""
    g = Cast(source, target, 3)
    for rotated in range(0, 32, 5):
        buffer = machine_class(TARGETS[isa].isa).new_buffer("table")
        machine = machine_for(TARGETS[isa].isa, buffer, ELEMENTS[g.dtype], "cast")
        free = machine.vectors._free
        free[:] = free[rotated:] + free[:rotated]
        cast.emit(machine, g)
        code = Code.map(buffer.finish())
        validate_cast(g, code.call, f"{source} to {target}")
