"""The machine's arithmetic, one step at a time: every width and element type, against NumPy bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from measured_functions import TYPES, Array
from test_math import ISAS

from neurojit.asm_templates.machine import ELEMENTS, InMemory, Machine, Pointer, Vector
from neurojit.codegen import machine_class, machine_for
from neurojit.errors import MissingStepError
from neurojit.runtime import Code
from neurojit.target import isa_named

Step = Callable[[Machine, Vector, Vector, Vector], Vector]


def in_place(step: Callable[..., Any]) -> Step:
    """A step that changes its first operand and returns nothing."""

    def emit(m: Machine, *vectors: Vector) -> Vector:
        step(m, *vectors)
        return vectors[0]

    return emit


def chosen(m: Machine, a: Vector, b: Vector, c: Vector, relation: Any) -> Vector:
    mask = m.compare(a, relation, c)
    result = m.select(mask, a, b)
    m.drop_mask(mask)
    return result


def scaled(m: Machine, a: Vector, n: Vector) -> None:
    m.scale(a, m.round(n))


def parts(m: Machine, a: Vector, of: str) -> Vector:
    exponent = m.split(a)
    if of == "mantissa":
        m.drop(exponent)
        return a
    m.drop(a)
    return exponent


def mantissa(x: Array) -> tuple[Array, Array]:
    m, k = np.frexp(x)
    low = m < 0.75  # frexp gives [0.5, 1)
    return np.where(low, m * 2, m).astype(x.dtype), np.where(low, k - 1, k).astype(x.dtype)


def to_power(size: int) -> float:
    """What makes an integer a number with its exponent in the lowest bits."""
    return 1.5 * 2.0**23 + 127 if size == 4 else 1.5 * 2.0**52 + 1023


TINY = {4: 2.0**-126, 8: 2.0**-1022}

# name: (step, meaning, values of a); b and c are random
STEPS: dict[str, tuple[Step, Callable[..., Array]]] = {
    "spread": (lambda m, a, b, c: m.spread(a.lanes, 0.1), lambda a, b, c: np.full_like(a, 0.1)),
    "spread 0": (lambda m, a, b, c: m.spread(a.lanes, 0.0), lambda a, b, c: np.zeros_like(a)),
    "spread -0": (lambda m, a, b, c: m.spread(a.lanes, -0.0), lambda a, b, c: -np.zeros_like(a)),
    "duplicate": (lambda m, a, b, c: m.duplicate(b, into=a), lambda a, b, c: b),
    "add": (lambda m, a, b, c: m.add(a, b), lambda a, b, c: a + b),
    "add constant": (lambda m, a, b, c: m.add(0.3, b, into=b), lambda a, b, c: b + b.dtype.type(0.3)),
    "sub": (lambda m, a, b, c: m.sub(a, b, into=b), lambda a, b, c: a - b),
    "sub from constant": (lambda m, a, b, c: m.sub(1.0, b, into=b), lambda a, b, c: 1 - b),
    "mul": (lambda m, a, b, c: m.mul(a, b, into=c), lambda a, b, c: a * b),
    "mul constant": (lambda m, a, b, c: m.mul(a, 0.7), lambda a, b, c: a * a.dtype.type(0.7)),
    "div": (lambda m, a, b, c: m.div(a, b), lambda a, b, c: a / b),
    "div of constant": (lambda m, a, b, c: m.div(3.0, b), lambda a, b, c: 3 / b),
    "sqrt": (lambda m, a, b, c: m.sqrt(m.abs(a)), lambda a, b, c: np.sqrt(np.abs(a))),
    "max": (lambda m, a, b, c: m.max(a, b), lambda a, b, c: np.where(a > b, a, b)),
    "min": (lambda m, a, b, c: m.min(a, b), lambda a, b, c: np.where(a < b, a, b)),
    "max constant": (lambda m, a, b, c: m.max(0.5, b, into=b), lambda a, b, c: np.where(b < 0.5, 0.5, b)),
    "negate": (lambda m, a, b, c: m.negate(a), lambda a, b, c: -a),
    "abs": (lambda m, a, b, c: m.abs(a, into=a), lambda a, b, c: np.abs(a)),
    "negated_abs": (lambda m, a, b, c: m.negated_abs(a), lambda a, b, c: -np.abs(a)),
    "copysign": (in_place(lambda m, a, b, c: m.copysign(a, b)), lambda a, b, c: np.copysign(a, b)),
    "round": (lambda m, a, b, c: m.round(a), lambda a, b, c: np.rint(a)),
    "pow2": (lambda m, a, b, c: m.pow2(m.round(b)), lambda a, b, c: np.exp2(np.rint(b))),
    "pow2 into": (
        lambda m, a, b, c: m.pow2(m.round(b, into=b), into=b),
        lambda a, b, c: np.exp2(np.rint(b)),
    ),
    "power_of": (
        lambda m, a, b, c: m.power_of(m.add(m.round(b, into=b), to_power(m.element.size), into=b)),
        lambda a, b, c: np.exp2(np.rint(b)),
    ),
    "scale": (in_place(lambda m, a, b, c: scaled(m, a, b)), lambda a, b, c: a * np.exp2(np.rint(b))),
    "select <": (lambda m, a, b, c: chosen(m, a, b, c, "<"), lambda a, b, c: np.where(a < c, a, b)),
    "select <=": (lambda m, a, b, c: chosen(m, a, b, c, "<="), lambda a, b, c: np.where(a <= c, a, b)),
    "select ==": (lambda m, a, b, c: chosen(m, a, b, c, "=="), lambda a, b, c: np.where(a == c, a, b)),
    "select >=": (lambda m, a, b, c: chosen(m, a, b, c, ">="), lambda a, b, c: np.where(a >= c, a, b)),
    "select >": (lambda m, a, b, c: chosen(m, a, b, c, ">"), lambda a, b, c: np.where(a > c, a, b)),
    "mantissa": (lambda m, a, b, c: parts(m, m.abs(a), "mantissa"), lambda a, b, c: mantissa(np.abs(a))[0]),
    "exponent": (lambda m, a, b, c: parts(m, m.abs(a), "exponent"), lambda a, b, c: mantissa(np.abs(a))[1]),
}
FUSED: dict[str, tuple[Step, Callable[..., Array]]] = {  # exact for the small integers they are given
    "add_product": (in_place(lambda m, a, b, c: m.add_product(a, b, c)), lambda a, b, c: a + b * c),
    "sub_product": (in_place(lambda m, a, b, c: m.sub_product(a, b, c)), lambda a, b, c: a - b * c),
    "mul_add": (in_place(lambda m, a, b, c: m.mul_add(a, b, c)), lambda a, b, c: a * b + c),
    "negated_mul_add": (in_place(lambda m, a, b, c: m.negated_mul_add(a, b, c)), lambda a, b, c: c - a * b),
    "mul_add constant": (in_place(lambda m, a, b, c: m.mul_add(a, b, 3.0)), lambda a, b, c: a * b + 3),
}


SOURCES: list[Pointer] = []
"""Of the kernel that `run` emits: where a, b and c come from."""


def run(step: Step, dtype: str, isa: str, lanes: int, *operands: Array) -> Array:
    """The step on three vectors of so many lanes."""
    buffer = machine_class(isa_named(isa)).new_buffer("table")
    m = machine_for(isa_named(isa), buffer, ELEMENTS[dtype], "test")
    *sources, target = m.operands(4)
    SOURCES[:] = sources
    m.expect(frozenset({lanes}))
    m.store(step(m, *(m.load(lanes, source, 0) for source in sources)), target, 0)
    m.leave()
    code = Code.map(buffer.finish())
    out = np.full(operands[0].size, 99, operands[0].dtype)
    size = out.itemsize
    for first in range(0, out.size - lanes + 1, lanes):
        addresses = tuple(array.ctypes.data + first * size for array in (*operands, out))
        assert code.call(addresses) == 0
    return out


def operands(dtype: str, small: bool = False) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(7)
    kind = TYPES[dtype]
    if small:
        return tuple(rng.integers(-30, 30, 960).astype(kind) for _ in range(3))  # type: ignore[return-value]
    a, b, c = (rng.normal(size=960).astype(kind) * 30 for _ in range(3))
    c[::3] = a[::3]
    return a, b, c


def lanes_of(isa: str, dtype: str) -> list[int]:
    size = ELEMENTS[dtype].size
    found = [bits // 8 // size for bits in isa_named(isa).vector_bits] + [1, 3, 16 // size + 1]
    return [lanes for lanes in found if lanes <= isa_named(isa).widest // 8 // size]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", [*STEPS, *FUSED])
def test_step(name: str, dtype: str, isa: str) -> None:
    step, meaning = {**STEPS, **FUSED}[name]
    a, b, c = operands(dtype, small=name in FUSED)
    for lanes in lanes_of(isa, dtype):
        got = run(step, dtype, isa, lanes, a, b, c)
        used = a.size // lanes * lanes
        expected = meaning(a, b, c).astype(a.dtype)[:used]
        np.testing.assert_array_equal(got[:used], expected, f"{lanes} lanes")
        assert np.array_equal(np.signbit(got[:used]), np.signbit(expected))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_scale_at_both_ends(dtype: str, isa: str) -> None:
    """Denormal results are rounded once, results beyond the range are infinite."""
    kind = TYPES[dtype]
    least, most = (-152, 130) if dtype == "f32" else (-1078, 1026)
    ends = np.concatenate([np.arange(least, least + 60), np.arange(most - 20, most)])
    n = np.resize(ends, 960).astype(kind)
    a = np.random.default_rng(8).uniform(0.7, 1.5, 960).astype(kind)
    with np.errstate(all="ignore"):
        expected = np.ldexp(a.astype(np.longdouble), n.astype(np.int32)).astype(kind)
    got = run(in_place(lambda m, x, y, _: scaled(m, x, y)), dtype, isa, 2, a, n, n)
    assert (expected == 0).any()
    assert np.isinf(expected).any()
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_split_of_every_exponent(dtype: str, isa: str) -> None:
    kind = TYPES[dtype]
    exponents = np.arange(-149 if dtype == "f32" else -1074, 127 if dtype == "f32" else 1023)
    x = np.ldexp(np.ones(exponents.size), exponents).astype(kind)
    x = np.resize(np.concatenate([x, x * kind(1.4999), x * kind(1.5), np.nextafter(x, kind(0))[1:]]), 9600)
    for of, expected in zip(("mantissa", "exponent"), mantissa(x), strict=True):
        got = run(lambda m, a, b, c, of=of: parts(m, a, of), dtype, isa, 2, x, x, x)  # type: ignore[misc]
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("isa", ISAS)
def test_nan_in_comparisons_and_extrema(isa: str) -> None:
    nan, one = np.full(16, np.nan, np.float32), np.ones(16, np.float32)
    assert (run(lambda m, a, b, c: m.max(a, b), "f32", isa, 4, nan, one, one) == 1).all()
    assert np.isnan(run(lambda m, a, b, c: m.max(a, b), "f32", isa, 4, one, nan, one)).all()
    assert np.isnan(run(lambda m, a, b, c: m.min(0.0, b), "f32", isa, 4, one, nan, one)).all()
    for relation in ("<", "<=", "==", ">=", ">"):

        def choose(m: Machine, a: Vector, b: Vector, c: Vector, relation: str = relation) -> Vector:
            return chosen(m, a, b, c, relation)

        got = run(choose, "f32", isa, 4, nan, one, one)
        assert (got == 1).all()


@pytest.mark.parametrize("isa", ISAS)
def test_eight_numbers_to_choose_from(isa: str) -> None:
    values = (0.5, -1.0, 2.0, -3.0, math.inf, 5.0, -0.0, 7.0)
    a = np.random.default_rng(6).integers(0, 2**32, 960, dtype=np.uint32).view(np.float32)
    for shift in (20, 21, 22):
        expected = np.array(values, np.float32)[a.view(np.uint32) >> np.uint32(shift) & np.uint32(7)]
        for lanes in lanes_of(isa, "f32"):

            def step(m: Machine, a: Vector, b: Vector, c: Vector, shift: int = shift) -> Vector:
                return m.look_up(m.choice(a, shift), values)

            used = a.size // lanes * lanes
            got = run(step, "f32", isa, lanes, a, a, a)[:used]
            assert got.tobytes() == expected[:used].tobytes()
    with pytest.raises(MissingStepError, match="f64"):
        run(lambda m, a, b, c: m.look_up(m.choice(a, 20), values), "f64", isa, 2, *(np.zeros(2),) * 3)
    with pytest.raises(MissingStepError, match="f64"):
        run(lambda m, a, b, c: m.look_up(a, values), "f64", isa, 2, *(np.zeros(2),) * 3)


@pytest.mark.parametrize("isa", ISAS)
def test_operand_in_memory(isa: str) -> None:
    def add_from_memory(m: Machine, a: Vector, b: Vector, c: Vector) -> Vector:
        base = m.copy(SOURCES[1])
        in_memory = isinstance(m.vector(a.lanes, base, 0, uses=1), InMemory)
        assert in_memory == (isa != "neon"), "NEON has no operands in memory"
        return m.add(a, m.vector(a.lanes, base, 0, uses=1))

    a, b, c = (x[:8].copy() for x in operands("f32"))
    got = run(add_from_memory, "f32", isa, 4, a, b, c)
    assert got.tobytes() == (a + b).tobytes()
