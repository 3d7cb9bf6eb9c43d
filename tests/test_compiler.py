"""The pipeline: what is compiled, what is refused and why, and that either is remembered."""

from __future__ import annotations

import dataclasses
import sys
import threading
import types
from typing import Any

import numpy as np
import pytest
from disassembly import disassemble
from machine_code import MACHINE, NOP, STORES_BEHIND_C, STORES_TO_A, returns
from operands import TARGETS, Array, needs_kernels, plain, runnable_isas
from oracle import assert_same_bits, reference

import neurojit as nj
from neurojit import _matmul, codegen, compiler
from neurojit.compiler import compile_gemm, micro_kernel, publish_product
from neurojit.errors import EncodeError, RegisterPressureError, ValidationError
from neurojit.plan.gemm import Gemm, Matrix, Output
from neurojit.plan.level import Level
from neurojit.plan.product import Product, plan_product
from neurojit.runtime import SLOTS, Code, Slot, executable_memory, memory
from neurojit.target import NONE, IsaChoice, Target, host_target

pytestmark = [
    pytest.mark.usefixtures("cold"),
    needs_kernels,
]


def operands(m: int = 3, n: int = 5, k: int = 4, seed: int = 1) -> tuple[Array, Array]:
    return plain(seed, (m, k)), plain(seed + 1, (k, n))


def product(m: int, n: int, k: int, **changes: int) -> Product:
    return Product(m, n, k, k, 1, n, 1, n, 4)._replace(**changes)


def slot_of(a: Array, b: Array) -> Slot:
    described = _matmul.describe(a, b, np.empty((a.shape[0], b.shape[1]), a.dtype))
    assert described is not None
    slot = SLOTS.lookup(described[0])
    assert slot is not None
    return slot


# What the gate does -----------------------------------------------------------------------------------


def without_last_multiply_add(code: bytes) -> bytes:
    """The kernel with its last multiply-add replaced by a no-operation of the same length."""
    lines = disassemble(code, MACHINE)
    last = [line for line in lines if line.mnemonic.startswith(("vfmadd", "fmla", "fmadd"))][-1]
    return code[: last.address] + NOP * (last.size // len(NOP)) + code[last.address + last.size :]


def storing_behind(code: bytes) -> bytes:
    """Writes one float just behind C, then runs the kernel."""
    return STORES_BEHIND_C + code


def storing_to_a(code: bytes) -> bytes:
    """Writes to A first."""
    return STORES_TO_A + code


FAULTS = {
    "a multiply-add is missing": (without_last_multiply_add, "the reference gives"),
    "returns 1": (lambda code: returns(1), "returned 1, expected 0"),
    "does nothing": (lambda code: returns(0), "the reference gives"),
    "writes behind C": (storing_behind, "the reference gives"),
    "writes to A": (storing_to_a, "wrote to A"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_row_39_broken_code_is_refused_and_numpy_answers(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil, said = FAULTS[fault]
    emitted = []

    def broken(g: Gemm, schedule: Any, isa: Any, encoder: str = "table") -> bytes:
        emitted.append(g)
        return spoil(codegen.emit_gemm(g, schedule, isa, encoder))

    monkeypatch.setattr(compiler, "emit_gemm", broken)
    a, b = operands()
    out = np.empty((3, 5), np.float32)
    for _ in range(3):
        assert nj.matmul(a, b, out) is out
        np.testing.assert_allclose(out, np.matmul(a, b), rtol=1e-6)
    assert len(emitted) == 1, "what was refused once is refused at once"
    assert not slot_of(a, b).published
    ((reason, count),) = nj.info().fallbacks.items()
    assert count == 3
    assert reason.startswith("ValidationError: gemm f32 3x5x4 on ")
    assert said in reason


def test_row_39_a_broken_micro_kernel_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(g: Gemm, schedule: Any, isa: Any) -> bytes:
        return without_last_multiply_add(codegen.emit_gemm(g, schedule, isa))

    monkeypatch.setattr(compiler, "emit_gemm", broken)
    monkeypatch.setattr(compiler, "_micro_kernels", {})
    a, b = plain(1, (13, 9)), np.asfortranarray(plain(2, (9, 21)))
    np.testing.assert_allclose(nj.matmul(a, b), np.matmul(a, b), rtol=1e-4)
    (reason,) = nj.info().fallbacks
    assert reason.startswith("ValidationError: gemm micro-kernel f32")
    assert not slot_of(a, b).published


@pytest.mark.parametrize("error", [RegisterPressureError("too few"), EncodeError("too far")])
def test_what_cannot_be_emitted_is_numpys_and_remembered(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fails(*_: Any) -> bytes:
        calls.append(1)
        raise error

    monkeypatch.setattr(compiler, "emit_gemm", fails)
    a, b = operands()
    for _ in range(3):
        np.testing.assert_allclose(nj.matmul(a, b), np.matmul(a, b), rtol=1e-6)
    assert nj.info().fallbacks == {f"{type(error).__name__}: {error}": 3}
    assert len(calls) == 1


def test_refusals_are_forgotten_before_they_fill_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> bytes:
        raise EncodeError("no")

    monkeypatch.setattr(compiler, "emit_gemm", fails)
    monkeypatch.setattr(compiler, "_MOST_REFUSALS", 4)
    for n in range(2, 12):
        nj.matmul(*operands(n=n))
        assert 1 <= len(compiler._refused) <= 4


@pytest.mark.parametrize("error", [MemoryError("none left"), KeyboardInterrupt(), ZeroDivisionError()])
def test_whatever_ends_a_compilation_the_next_one_may_begin(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> bytes:
        raise error

    a, b = operands()
    with monkeypatch.context() as patch:
        patch.setattr(compiler, "emit_gemm", fails)
        if isinstance(error, MemoryError):
            np.testing.assert_allclose(nj.matmul(a, b), np.matmul(a, b), rtol=1e-6)
            assert nj.info().fallbacks == {"no memory to compile: none left": 1}
        else:
            with pytest.raises(type(error)):
                nj.matmul(a, b)
    assert_same_bits(nj.matmul(a, b), reference(a, b))
    assert slot_of(a, b).published


def test_while_another_thread_compiles_numpy_answers() -> None:
    a, b = operands()
    described = _matmul.describe(a, b, np.empty((3, 5), np.float32))
    assert described is not None
    slot = SLOTS.insert(described[0])
    answers: list[Any] = []

    def compiling() -> None:
        thread = threading.Thread(target=lambda: answers.append(nj.matmul(a, b)))
        thread.start()
        thread.join()

    assert slot.while_claimed(compiling)
    np.testing.assert_allclose(answers[0], np.matmul(a, b), rtol=1e-6)
    assert nj.info().fallbacks == {"another thread is compiling this kernel": 1}
    assert not slot.published
    nj.matmul(a, b)
    assert slot.published


def test_a_claim_is_given_back_when_the_work_fails() -> None:
    slot = SLOTS.insert((1, 2, 3, 2**63))

    def fails() -> None:
        assert not slot.while_claimed(lambda: None), "one at a time"
        raise KeyError

    with pytest.raises(KeyError):
        slot.while_claimed(fails)
    assert slot.while_claimed(lambda: None)


def test_without_an_isa_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "host_choice", lambda: IsaChoice(NONE, "because"))
    a, b = operands()
    np.testing.assert_allclose(nj.matmul(a, b), np.matmul(a, b), rtol=1e-6)
    assert nj.info().fallbacks == {"no ISA: because": 1}


def test_row_35_a_call_in_the_middle_of_the_compilers_import(monkeypatch: pytest.MonkeyPatch) -> None:
    """As from a signal handler during the first call: the module is there, its names are not yet."""
    monkeypatch.setitem(sys.modules, "neurojit.compiler", types.ModuleType("neurojit.compiler"))
    a, b = operands()
    np.testing.assert_allclose(nj.matmul(a, b), np.matmul(a, b), rtol=1e-6)
    monkeypatch.undo()
    (reason,) = nj.info().fallbacks
    assert reason.startswith("the compiler is not imported: cannot import name")
    assert_same_bits(nj.matmul(a, b), reference(a, b))


def test_a_published_slot_is_not_compiled_again() -> None:
    a, b = operands()
    nj.matmul(a, b)
    made = dict(compiler.counts)
    described = _matmul.describe(a, b, np.empty((3, 5), np.float32))
    assert described is not None
    assert publish_product(described[0], Product(*described[1])) is None
    assert {**compiler.counts, "nanoseconds": 0} == {**made, "nanoseconds": 0}


def test_a_kernel_evicted_at_once_is_numpys_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "keep_within_cache", lambda: SLOTS.evict_bytes(1 << 62))
    a, b = operands()
    np.testing.assert_allclose(nj.matmul(a, b), np.matmul(a, b), rtol=1e-6)
    assert nj.info().fallbacks == {"kernel evicted at once": 1}


def test_the_code_cache_stays_within_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CONFIG", dataclasses.replace(memory.CONFIG, code_cache_bytes=1 << 16))
    evictions = nj.info().evictions
    for n in range(1, 60):
        a, b = operands(n=n, k=n)
        assert_same_bits(nj.matmul(a, b), reference(a, b))
        assert SLOTS.stats()["live_bytes"] <= 1 << 16
    assert nj.info().evictions > evictions


# Which way a product goes -----------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_which_kernel_serves_a_product(target: Target) -> None:
    l2 = target.caches.l2.size

    def kind(m: int, n: int, k: int, **changes: int) -> str:
        return type(plan_product(product(m, n, k, **changes), target)).__name__

    assert kind(1, 1, 1) == "Gemm"
    assert kind(64, 64, 64) == "Gemm"
    assert kind(64, 64, 64, a_row=1, a_column=64) == "Gemm", "A transposed"
    assert kind(64, 64, 64, b_row=1, b_column=64) == "Blocking", "B transposed"
    assert kind(4096, 4096, 4096) == "Blocking", "too much work to validate"
    assert kind(17, l2 // 4, 4) == "Blocking", "B beyond the cache"
    assert kind(16, l2 // 4, 4) == "Gemm", "few rows: B is read only once or twice"
    assert kind(64, 1, 64) == "Gemv", "a matrix times a vector"
    assert kind(1, 64, 64, b_row=1, b_column=64) == "Gemv", "a vector times a transposed matrix"
    assert kind(1, 64, 64) == "Gemm", "a vector times a matrix"
    assert kind(64, 1, 4) == "Blocking", "too short to sum in halves"
    for far in ("a_row", "b_row", "c_row"):
        assert kind(2, 2, 2, **{far: 1 << 25}) == "Blocking", "beyond displacements"
        assert kind(2000, 2, 2000, **{far: 1 << 18}) == "Blocking", "validation would need gigabytes"


def test_a_products_text_says_what_matters() -> None:
    text = str(product(3, 5, 4, element_size=8))
    assert text == "f64 3x5x4, strides A (4, 1) B (5, 1) C (5, 1)"
    assert product(3, 5, 4).work == 60


def test_large_products_release_the_gil(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def record(g: Gemm, target: Target, release_gil: bool = False, *at: Level) -> Code:
        seen[g.k] = release_gil
        return compile_gemm(g, target, release_gil, *at)

    monkeypatch.setattr(compiler, "compile_gemm", record)
    for k in (10, 5000):
        nj.matmul(*operands(11, 13, k))
    assert seen == {10: False, 5000: True}


@pytest.mark.parametrize("isa", runnable_isas())
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_every_isa_of_this_machine_compiles(isa: str, dtype: str) -> None:
    for m, n, k in ((1, 1, 1), (7, 19, 5), (40, 33, 50)):
        assert compile_gemm(Gemm.contiguous(dtype, m, n, k), TARGETS[isa]).size > 0
    p = product(3, 5, 7, c_row=9)
    assert plan_product(p, TARGETS[isa]) == Gemm("f32", 3, 5, 7, Matrix(7), Matrix(5), Output(9))
    g = Gemm.micro_kernel(dtype, 3, 5, (6, 16), accumulate=True)
    assert micro_kernel(g, TARGETS[isa]) is micro_kernel(g, TARGETS[isa]), "kept for good"


def test_a_validation_error_leaves_no_mapping(monkeypatch: pytest.MonkeyPatch) -> None:
    g = Gemm.contiguous("f32", 3, 5, 7)
    compile_gemm(g, host_target())
    before = executable_memory().live_mappings
    monkeypatch.setattr(compiler, "emit_gemm", lambda *_: returns(0))
    for _ in range(5):
        with pytest.raises(ValidationError):
            compile_gemm(g, host_target())
    assert executable_memory().live_mappings == before
