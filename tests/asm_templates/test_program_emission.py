"""Whole programs as one function: plans made by hand, at every ISA, against NumPy in double precision."""

from __future__ import annotations

import itertools
import re
import struct
from dataclasses import replace

import numpy as np
import pytest
from operands import DTYPES, TARGETS, Array, plain, runnable_isas

from neurojit.asm_templates import program as program_template
from neurojit.codegen import emit_program, list_program, program_buffer
from neurojit.encoder._buffer import DATA, PADDING
from neurojit.encoder.listing import Record
from neurojit.plan.epilogue import IDENTITY, Activation, Epilogue
from neurojit.plan.gemm import ELEMENT_SIZE, Gemm
from neurojit.plan.gemv import Gemv, schedule_gemv
from neurojit.plan.program import (
    Cursor,
    Loop,
    Node,
    Operand,
    Part,
    Place,
    ProgramPlan,
    Rows,
    Step,
    ceil_line,
)
from neurojit.plan.tiling import schedule_gemm
from neurojit.runtime import Code
from neurojit.target import Target

FRAME = 16  # elements around each output


class Loaded:
    """A plan's machine code with an arena, ready to be called on arrays."""

    def __init__(self, plan: ProgramPlan, target: Target, weights: Array | None = None) -> None:
        self.weights = weights if weights is not None else np.zeros(1, np.float32)
        self.state = np.zeros(max(1, plan.state_bytes // 4), np.float32)
        words = struct.pack("<QQ", self.weights.ctypes.data, self.state.ctypes.data)
        self.code = Code.map(emit_program(plan, target.isa), context=words.ljust(plan.block_bytes, b"\0"))

    def __call__(self, *arrays: Array, extent: int = 0) -> int:
        return self.code.call(tuple(array.ctypes.data for array in arrays), extent)


def framed(shape: tuple[int, ...], dtype: str) -> tuple[Array, Array]:
    """An output of NaN between sentinels: (all of it, the output)."""
    count = int(np.prod(shape))
    whole = np.full(count + 2 * FRAME, 7.25, DTYPES[dtype])
    whole[FRAME : FRAME + count] = np.nan
    return whole, whole[FRAME : FRAME + count].reshape(shape)


def sentinels_stand(whole: Array) -> bool:
    return bool((whole[:FRAME] == 7.25).all() and (whole[-FRAME:] == 7.25).all())


def layer(
    dtype: str, rows: int, shape: tuple[int, int], target: Target, places: tuple[Place, ...], last: bool
) -> Step:
    k, n = shape
    e = Epilogue(bias="row", activation=IDENTITY if last else Activation("tanh"))
    g = Gemm.contiguous(dtype, rows, n, k, e)
    return Step(g, schedule_gemm(g, target), places, f"layer {k} to {n}")


def perceptron(
    dtype: str, widths: tuple[int, ...], heights: tuple[int, ...], target: Target
) -> tuple[ProgramPlan, list[int]]:
    """Dense layers over a dynamic extent, and where the packed weights and biases of each begin."""
    size = ELEMENT_SIZE[dtype]
    shapes = list(itertools.pairwise(widths))
    offsets, end = [], 0
    for k, n in shapes:
        offsets += [end, end + ceil_line(size * k * n)]
        end = offsets[-1] + ceil_line(size * n)
    half = ceil_line(size * heights[0] * max(widths[1:-1]))
    parts = []
    for height in heights:
        steps: list[Node] = []
        for number, shape in enumerate(shapes):
            last = number == len(shapes) - 1
            source = Place("cursor", 0) if number == 0 else Place("arena", 0, (number - 1) % 2 * half)
            target_place = Place("cursor", 1) if last else Place("arena", 0, number % 2 * half)
            weight, bias = (Place("weights", 0, at) for at in offsets[2 * number : 2 * number + 2])
            steps.append(layer(dtype, height, shape, target, (source, weight, target_place, bias), last))
        parts.append(Part(height, tuple(steps)))
    cursors = (
        Cursor(Place("input", 0), size * widths[0]),
        Cursor(Place("output", 0), size * widths[-1]),
    )
    x, y = Operand("x", (None, widths[0]), dtype), Operand("y", (None, widths[-1]), dtype)
    plan = ProgramPlan("perceptron", (x,), (y,), (Rows(tuple(parts), cursors),), 2 * half, weight_bytes=end)
    return plan, offsets


@pytest.mark.parametrize("isa", runnable_isas())
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("widths", [(8, 16, 4), (64, 64, 64, 8), (5, 23, 7, 3)])
def test_one_program_serves_every_extent(isa: str, dtype: str, widths: tuple[int, ...]) -> None:
    target, item = TARGETS[isa], DTYPES[dtype].itemsize
    plan, offsets = perceptron(dtype, widths, (13, 4, 1), target)
    block = np.zeros(plan.weight_bytes // item, DTYPES[dtype])
    layers = []
    for number, (k, n) in enumerate(itertools.pairwise(widths)):
        w, b = plain(number, (k, n), DTYPES[dtype]), plain(number + 9, (n,), DTYPES[dtype])
        for array, at in zip((w, b), offsets[2 * number :], strict=False):
            block[at // item : at // item + array.size] = array.ravel()
        layers.append((w, b))
    program = Loaded(plan, target, block)
    for extent in (0, 1, 3, 4, 5, 12, 13, 14, 17, 26, 57):
        x = plain(extent, (extent, widths[0]), DTYPES[dtype])
        whole, y = framed((extent, widths[-1]), dtype)
        assert program(x, y, extent=extent) == 0
        exact: Array = x.astype(np.longdouble)
        for number, (w, b) in enumerate(layers):
            exact = exact @ w + b
            if number < len(layers) - 1:
                exact = np.tanh(exact)
        bound = 64 * np.finfo(DTYPES[dtype]).eps * max(widths)
        np.testing.assert_allclose(y, exact, rtol=0, atol=bound)
        assert sentinels_stand(whole)
    # Every row has the bits it has alone: no schedule, no part changes a result.
    alone = np.empty_like(y[:1])
    program(x[56:], alone, extent=1)
    np.testing.assert_array_equal(alone, y[56:])


@pytest.mark.parametrize("isa", sorted(TARGETS))
def test_equal_kernels_are_emitted_once(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy is the code that would have been emitted: the same instructions but for padding."""
    target = TARGETS[isa]
    plan, _ = perceptron("f32", (64, 64, 64, 64), (13, 1), target)
    (rows,) = plan.body
    assert isinstance(rows, Rows)
    parts = []
    for height, (first, *others) in rows.parts:
        alike = [
            Step(first.kernel, first.schedule, step.operands, step.name)  # one kernel, on other operands
            for step in others
            if isinstance(first, Step) and isinstance(step, Step)
        ]
        parts.append(Part(height, (first, *alike)))
    plan = replace(plan, body=(Rows(tuple(parts), rows.cursors),))
    emitted = []
    kernel = program_template._Emission.kernel
    monkeypatch.setattr(
        program_template._Emission, "kernel", lambda self, *a: (emitted.append(a), kernel(self, *a))[1]
    )
    copied = instructions(plan, target)
    assert len(emitted) == 2
    monkeypatch.setattr(program_template, "id", lambda _: object(), raising=False)  # no two are equal
    assert instructions(plan, target) == copied
    assert len(emitted) == 2 + 6


def instructions(plan: ProgramPlan, target: Target) -> list[int]:
    """Their forms, without padding. Which register a body takes next depends on what was taken before."""
    buffer, _ = program_buffer(plan, target.isa)
    records = [Record(*record) for record in buffer.records()]
    return [record.form for record in records if record.address not in (PADDING, DATA)]


@pytest.mark.parametrize("isa", runnable_isas())
def test_loops_nest_and_move_their_cursors(isa: str) -> None:
    """y[i][j] = x[i] @ w[j], for i in 3 and j in 5: a loop in a loop, three cursors, one fixed input."""
    target = TARGETS[isa]
    g = Gemm.contiguous("f32", 1, 20, 6)
    step = Step(g, schedule_gemm(g, target), (Place("cursor", 4), Place("cursor", 2), Place("cursor", 1)))
    inner = Loop(5, (step,), (Cursor(Place("cursor", 3), 4 * 20), Cursor(Place("input", 1), 4 * 6 * 20)), 1)
    rows = (Cursor(Place("output", 0), 4 * 5 * 20), Cursor(Place("input", 0), 4 * 6))
    outer = Loop(3, (inner,), rows, 3)
    inputs = (Operand("x", (3, 6), "f32"), Operand("w", (5, 6, 20), "f32"))
    plan = ProgramPlan("nest", inputs, (Operand("y", (3, 5, 20), "f32"),), (outer,))
    assert (plan.depth, plan.cursors) == (2, 5)
    program = Loaded(plan, target)
    x, w = plain(1, (3, 6)), plain(2, (5, 6, 20))
    whole, y = framed((3, 5, 20), "f32")
    for _ in range(2):
        assert program(x, w, y) == 0
        np.testing.assert_allclose(y, np.einsum("ik,jkn->ijn", x, w), rtol=0, atol=1e-5)
        assert sentinels_stand(whole)


@pytest.mark.parametrize("isa", runnable_isas())
def test_state_is_read_and_written_in_its_own_block(isa: str) -> None:
    """state = w @ x in double precision, beside a float32 step: element types follow each other."""
    target = TARGETS[isa]
    sums = Gemv("f64", 6, 9, 9)
    g = Gemm.contiguous("f32", 1, 5, 4)
    steps = (
        Step(
            sums, schedule_gemv(sums, target), (Place("input", 0), Place("input", 1), Place("state", 0, 64))
        ),
        Step(g, schedule_gemm(g, target), (Place("input", 2), Place("input", 3), Place("output", 0))),
    )
    inputs = (
        Operand("a", (6, 9), "f64"), Operand("x", (9,), "f64"),
        Operand("b", (1, 4), "f32"), Operand("c", (4, 5), "f32"),
    )  # fmt: skip
    plan = ProgramPlan("state", inputs, (Operand("y", (1, 5), "f32"),), steps, state_bytes=128)
    program = Loaded(plan, target)
    a, x = plain(1, (6, 9), np.float64), plain(2, (9,), np.float64)
    b, c, y = plain(3, (1, 4)), plain(4, (4, 5)), np.empty((1, 5), np.float32)
    assert program(a, x, b, c, y) == 0
    np.testing.assert_allclose(program.state[16:28].view(np.float64), a @ x, rtol=1e-14)
    np.testing.assert_allclose(y, b @ c, rtol=1e-5, atol=1e-6)
    assert not program.state[:16].any()


@pytest.mark.parametrize("isa", runnable_isas())
def test_a_program_keeps_the_calling_convention(isa: str) -> None:
    plan, _ = perceptron("f32", (5, 23, 7, 3), (13, 4, 1), TARGETS[isa])
    program = Loaded(plan, TARGETS[isa], np.zeros(plan.weight_bytes // 4, np.float32))
    x, y = plain(1, (18, 5)), np.empty((18, 3), np.float32)
    for offset in (0, 16, 32, 48):
        done = program.code.call_checked((x.ctypes.data, y.ctypes.data), 18, stack_offset=offset)
        if done is None:
            pytest.skip("the check is not written for this machine")
        assert done == {"result": 0, "violations": ()}


@pytest.mark.parametrize(("dtype", "wide"), [("f32", 32), ("f64", 64)])
def test_vectors_of_riscv_have_the_elements_of_the_step(dtype: str, wide: int) -> None:
    """Whatever the machine began with: a step before may have had others."""
    plan, _ = perceptron(dtype, (8, 16, 4), (4, 1), TARGETS["rvv"])
    listed = list_program(plan, TARGETS["rvv"].isa)
    assert {int(bits) for bits in re.findall(r"\bvl?s?e(32|64)\.v", listed)} == {wide}


MULTIPLY_ADD = {"avx2": "vfmadd231ps", "avx512": "vfmadd231ps", "neon": "fmla", "rvv": "vfmacc"}


@pytest.mark.parametrize("isa", sorted(TARGETS))
def test_a_listing_names_the_steps_where_their_code_begins(isa: str) -> None:
    plan, _ = perceptron("f32", (8, 16, 4), (4, 1), TARGETS[isa])
    lines = list_program(plan, TARGETS[isa].isa).splitlines()
    notes = [at for at, line in enumerate(lines) if line.startswith(";")]
    assert lines[notes[0]] == "; layer 8 to 16: gemm of cursor 0 + 0, weights + 0, arena + 0, weights + 512"
    assert [lines[at].split(":")[0] for at in notes] == ["; layer 8 to 16", "; layer 16 to 4"] * 2
    for begin, end in zip(notes, [*notes[1:], len(lines)], strict=True):
        assert MULTIPLY_ADD[isa] in "".join(lines[begin:end])


@pytest.mark.parametrize("isa", sorted(TARGETS))
def test_an_empty_program_returns_at_once(isa: str) -> None:
    plan = ProgramPlan("empty", (), (), ())
    assert (plan.depth, plan.cursors, plan.is_dynamic, plan.block_bytes) == (0, 0, False, 64)
    if isa in runnable_isas():
        assert Loaded(plan, TARGETS[isa])() == 0
