"""Vector functions: errors in units in the last place, sampled and exhaustive, and every special value.

The default run samples every exponent, the neighbourhood of each branch and reduction, and whole intervals
that matter: more than 10^6 points for each function, ISA and element type, against the C library in higher
precision; mpmath checks that reference at some points of its own. `-m slow` runs all 2^32 f32 inputs.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
from measured_functions import ALPHA, MEASURED, TYPES, Array, Sweeper, apply, kernel
from operands import runnable_isas

from neurojit.asm_templates import coefficients, derive_coefficients, derive_pieces
from neurojit.asm_templates import math as template
from neurojit.asm_templates.machine import ELEMENTS, Machine
from neurojit.asm_templates.pieces import PIECES
from neurojit.codegen import machine_class, machine_for
from neurojit.errors import RegisterPressureError
from neurojit.functions import BOUND, EXACT, MEANING, agrees, apply_exactly
from neurojit.plan.epilogue import FUNCTIONS, Activation
from neurojit.plan.expression import TEMPORARIES
from neurojit.target import host, isa_named

ISAS = runnable_isas()
needs_both = pytest.mark.skipif(bool(host().why_not("avx512dq")), reason="compares AVX2 with AVX-512")
PARAMETERS = {"leaky_relu": (0.1,), "clamp": (-1.0, 1.5), "elu": (ALPHA,)}

# Largest errors, in units in the last place: f32 over all inputs, f64 over the samples here.
LIMIT = {
    "f32": BOUND,
    "f64": {
        "exp": 0.95, "log": 0.95, "tanh": 1.1, "sigmoid": 2.0, "erf": 1.0, "elu": 2.0,
        "silu": 2.4, "gelu": 1.6, "gelu_tanh": 2.4,
    },
}  # fmt: skip
INTERESTING = (
    0.25, 0.375, 0.5, 0.625, 0.75, 1.0, 1.5, math.log(2) / 2, math.log(2) / 4, math.sqrt(2), 3.95, 5.95,
    8.7, 9.02, 17.0, 18.0, 19.07, 38.0, 64.0, 87.34, 88.03, 88.73, 103.98, 104.0, 708.4, 709.79, 745.14,
)  # fmt: skip


@pytest.fixture(scope="module")
def sweeper(tmp_path_factory: pytest.TempPathFactory) -> Sweeper:
    return Sweeper(tmp_path_factory.mktemp("ulp_sweep"))


def samples(dtype: str) -> Array:
    """Every exponent with random fractions, both signs; intervals; neighbours of boundaries; specials."""
    rng = np.random.default_rng(20)
    kind = TYPES[dtype]
    unsigned: Any = np.uint32 if dtype == "f32" else np.uint64
    fraction = 23 if dtype == "f32" else 52
    exponents = np.arange(255 if dtype == "f32" else 2047, dtype=unsigned)
    each = 600_000 // exponents.size
    bits = np.repeat(exponents << unsigned(fraction), each)
    bits |= rng.integers(0, 1 << fraction, bits.size, dtype=np.uint64).astype(unsigned)
    everywhere = bits.view(kind) * rng.choice(np.array([-1, 1], kind), bits.size)
    reach = 110 if dtype == "f32" else 750
    intervals = [rng.uniform(-high, high, 100_000) for high in (0.5, 1.5, 6, 20, reach)]
    around = np.array([*INTERESTING, *(n * math.log(2) / 2 for n in range(1, 300))]).astype(kind)
    steps = np.arange(-40, 41).astype(kind) * np.spacing(around)[:, np.newaxis]
    near = (around[:, np.newaxis] + steps).ravel()
    info = np.finfo(kind)
    special = [0.0, np.inf, np.nan, info.max, info.tiny, info.smallest_subnormal, 1.0]
    parts = [everywhere, *(part.astype(kind) for part in intervals), near, -near, special]
    signed = np.concatenate([*parts, np.negative(special)]).astype(kind)
    assert signed.size > 1_000_000
    return signed


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", MEASURED)
def test_error_of_samples(sweeper: Sweeper, name: str, dtype: str, isa: str) -> None:
    x = samples(dtype)
    measured = sweeper.measure(name, x, apply(kernel(name, dtype, isa), x))
    assert measured.count == x.size
    assert measured.worst <= LIMIT[dtype][name], f"{name}({measured.at!r})"


@pytest.mark.slow
@needs_both
@pytest.mark.parametrize("name", MEASURED)
def test_error_of_all_f32(sweeper: Sweeper, name: str) -> None:
    code = kernel(name, "f32", "avx512")
    measured = sweeper.sweep(code, name)
    print(f"{name}: {measured.worst:.3f} ULP at {measured.at!r}")
    assert measured.count == 2**32
    assert measured.worst <= LIMIT["f32"][name], f"{name}({measured.at!r})"
    assert sweeper.differences(kernel(name, "f32", "avx2"), code) == 0


@needs_both
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_both_isas_give_the_same_bits(name: str, dtype: str) -> None:
    x = samples(dtype)[::7].copy()
    y, z = (apply(kernel(name, dtype, isa, PARAMETERS.get(name, ())), x) for isa in ("avx2", "avx512"))
    assert np.array_equal(np.isnan(y), np.isnan(z))
    assert y[~np.isnan(y)].tobytes() == z[~np.isnan(z)].tobytes()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", sorted(EXACT))
def test_exact_functions(name: str, dtype: str, isa: str) -> None:
    x = samples(dtype)
    activation = Activation(name, PARAMETERS.get(name, ()))
    with np.errstate(all="ignore"):
        expected = apply_exactly(activation, x)
    got = apply(kernel(name, dtype, isa, activation.parameters), x)
    np.testing.assert_array_equal(got, expected)  # NaN equals NaN
    number = ~np.isnan(x)
    assert np.array_equal(np.signbit(got[number]), np.signbit(expected[number]))


INF, NAN = math.inf, math.nan
SPECIAL = {
    "exp": {-INF: 0.0, INF: INF, 0.0: 1.0},
    "log": {-INF: NAN, INF: INF, 0.0: -INF, 1.0: 0.0, -1.0: NAN},
    "tanh": {-INF: -1.0, INF: 1.0, 0.0: 0.0},
    "sigmoid": {-INF: 0.0, INF: 1.0, 0.0: 0.5},
    "erf": {-INF: -1.0, INF: 1.0, 0.0: 0.0},
    "relu": {-INF: 0.0, INF: INF, 0.0: 0.0},
    "leaky_relu": {-INF: -INF, INF: INF, 0.0: 0.0},
    "clamp": {-INF: -1.0, INF: 1.5, 0.0: 0.0},
    "elu": {-INF: -ALPHA, INF: INF, 0.0: 0.0},
    "silu": {-INF: -0.0, INF: INF, 0.0: 0.0},
    "gelu": {-INF: 0.0, INF: INF, 0.0: 0.0},
    "gelu_tanh": {-INF: -0.0, INF: INF, 0.0: 0.0},
    "identity": {-INF: -INF, INF: INF, 0.0: 0.0},
}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values(name: str, dtype: str, isa: str) -> None:
    x = np.array([*SPECIAL[name], NAN], TYPES[dtype])
    got = apply(kernel(name, dtype, isa, PARAMETERS.get(name, ())), x)
    for argument, value, result in zip(x, [*SPECIAL[name].values(), NAN], got, strict=True):
        same = math.isnan(result) if math.isnan(value) else result == value
        assert same, f"{name}({argument}) is {result}, expected {value}"


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "name", ["tanh", "erf", "relu", "leaky_relu", "clamp", "elu", "silu", "gelu", "gelu_tanh"]
)
def test_signs_of_zero_are_kept(name: str, isa: str) -> None:
    got = apply(kernel(name, "f32", isa, PARAMETERS.get(name, ())), np.array([0.0, -0.0], np.float32))
    assert list(np.signbit(got)) == [False, True]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ["tanh", "erf", "sigmoid", "elu"])
def test_denormal_arguments(sweeper: Sweeper, name: str, isa: str) -> None:
    for dtype, kind in TYPES.items():
        x = (np.arange(-500, 500) * np.finfo(kind).smallest_subnormal).astype(kind)
        assert sweeper.measure(name, x, apply(kernel(name, dtype, isa), x)).worst <= 1


@pytest.mark.parametrize("name", MEASURED)
def test_meaning_agrees_with_mpmath(name: str) -> None:
    """The reference of validation and of these tests, at points of its own."""
    x = np.random.default_rng(3).uniform(-8, 8, 200)
    x = np.abs(x) if name == "log" else x
    mpf = mpmath.mpf
    exact = {
        "exp": mpmath.exp, "log": mpmath.log, "tanh": mpmath.tanh, "erf": mpmath.erf,
        "sigmoid": lambda t: 1 / (1 + mpmath.exp(-t)),
        "elu": lambda t: t if t >= 0 else mpf(ALPHA) * mpmath.expm1(t),
        "silu": lambda t: t / (1 + mpmath.exp(-t)),
        "gelu": lambda t: t * mpmath.erfc(-t / mpmath.sqrt(2)) / 2,
        "gelu_tanh": lambda t: (
            t / (1 + mpmath.exp(-2 * mpmath.sqrt(2 / mpmath.pi) * (t + mpf(0.044715) * t**3)))
        ),
    }[name]  # fmt: skip
    with mpmath.workdps(40):
        expected = [float(exact(mpf(float(t)))) for t in x]
    got = MEANING[name](x, *PARAMETERS.get(name, ()))
    np.testing.assert_allclose(got.astype(float), expected, rtol=2e-14)


@pytest.mark.parametrize("isa", ISAS[:1])
@pytest.mark.parametrize("name", MEASURED)
def test_the_bound_of_validation_tells_right_from_wrong(name: str, isa: str) -> None:
    x = np.random.default_rng(4).uniform(0.1, 8, 1000).astype(np.float32)
    activation = Activation(name, PARAMETERS.get(name, ()))
    exact, near = agrees(activation, x, apply(kernel(name, "f32", isa), x))
    assert near.all()
    _, near = agrees(activation, x, exact + 4 * np.spacing(exact))
    assert not near.any()


def test_every_function_has_a_meaning_and_an_emitter() -> None:
    assert set(FUNCTIONS) == set(MEANING) == set(template.FUNCTIONS) == set(BOUND) | EXACT


@pytest.mark.parametrize(("name", "parameters"), [("swish", ()), ("relu", (1.0,)), ("clamp", (0.0,))])
def test_unknown_activations_are_refused(name: str, parameters: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Activation(name, parameters)


def empty_machine(name: str, dtype: str) -> Machine:
    isa = isa_named(name)
    m = machine_for(isa, machine_class(isa).new_buffer("table"), ELEMENTS[dtype], "test")
    m.expect(frozenset())
    return m


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_temporaries_are_those_stated(name: str, dtype: str) -> None:
    """A function's head states the most vector registers it takes besides x; it gives all of them back."""
    found = re.search(r"(\d) temps?(?:, f64 (\d))?\.", template.FUNCTIONS[name].__doc__ or "")
    stated = 0 if found is None else int((dtype == "f64" and found[2]) or found[1])
    taken = {}
    for isa in ("avx2", "avx512", "neon"):
        m = empty_machine(isa, dtype)
        x, registers = m.zero(2), m.vectors.budget
        for spare in range(registers):
            kept = [m.vectors.take() for _ in range(registers - 1 - spare)]
            try:
                template.FUNCTIONS[name](m, x, *PARAMETERS.get(name, ()))
            except RegisterPressureError:
                m = empty_machine(isa, dtype)
                x = m.zero(2)
                continue
            taken[isa] = spare
            left = [m.vectors.take() for _ in range(spare)]
            assert not set(left) & set(kept)
            break
    assert max(taken["avx2"], taken["avx512"]) == stated
    looked_up = dtype == "f32" and name in ("tanh", "gelu", "gelu_tanh")
    assert taken["neon"] <= stated + 1 + looked_up, "a constant that x86-64 reads from memory; half a table"
    assert max(taken.values()) <= TEMPORARIES.get(name, 0) + (name in EXACT)


def test_logarithm_of_2() -> None:
    """The two parts: enough of it, and a high part with zeros at its end."""
    for c, digits in ((template.F32, 24), (template.F64, 53)):
        left = abs(c.log2_high + mpmath.mpf(c.log2_low) - mpmath.log(2))
        assert left < 2.0 ** (-digits - 12)
        scaled = math.ldexp(c.log2_high, digits - 10)
        assert scaled == int(scaled)


@pytest.mark.parametrize("p", derive_coefficients.POLYNOMIALS, ids=lambda p: f"{p.name}-{p.dtype}")
def test_coefficients(p: derive_coefficients.Polynomial) -> None:
    """They leave the error that the table states, on points other than those they were derived on."""
    values = getattr(coefficients, f"{p.name}_{p.dtype.upper()}")
    assert len(values) == p.degree + 1
    assert all(derive_coefficients._round(c, p.dtype) == c for c in values)
    error = derive_coefficients.error_of(p, values)
    text = Path(coefficients.__file__).read_text()
    stated = re.search(rf"error 2\^(-[0-9.]+)\n{p.name}_{p.dtype.upper()} = ", text)
    assert stated is not None
    assert abs(math.log2(error) - float(stated[1])) < 0.1
    assert error < 2.0 ** (-25.5 if p.dtype == "f32" else -54.5)


@pytest.mark.parametrize("p", derive_pieces.PIECEWISE, ids=lambda p: p.name)
def test_pieces(p: derive_pieces.Piecewise) -> None:
    """Polynomials leave the error that the table states, on points other than those they were fitted to; what
    stands behind the last piece in use is 0."""
    pieces = getattr(coefficients, f"{p.name}_F32")
    stated = re.search(rf"error 2\^(-[0-9.]+)\n{p.name}_F32 = ", Path(coefficients.__file__).read_text())
    assert stated is not None
    assert (pieces.start, pieces.scale, pieces.shift, pieces.last) == (p.start, p.scale, p.shift, p.last)
    worst = 0.0
    with mpmath.workdps(30):
        for piece in range(PIECES):
            place = (p.first + piece) % PIECES
            values = [row[place] for row in pieces.coefficients]
            assert all(float(np.float32(c)) == c for c in (*values, pieces.points[place]))
            if piece < p.used:
                error = derive_pieces.error_of_piece(p, piece, pieces.points[place], values, 173)
                worst = max(worst, error)
            else:
                assert not any(values)
    assert abs(math.log2(worst) - float(stated[1])) < 0.1
    assert worst < 2.0**-25.5


def test_a_piece_is_derived_again() -> None:
    p = derive_pieces.PIECEWISE[0]
    with mpmath.workdps(derive_coefficients.DIGITS):
        at, values = derive_pieces._piece(p, 2, derive_coefficients._remez)
    place = (p.first + 2) % PIECES
    assert at == coefficients.TANH_F32.points[place]
    assert values == [row[place] for row in coefficients.TANH_F32.coefficients]


def test_coefficients_are_derived_again() -> None:
    for p in derive_coefficients.POLYNOMIALS[:1]:
        values, _ = derive_coefficients.derive(p)
        assert values == getattr(coefficients, f"{p.name}_{p.dtype.upper()}")
