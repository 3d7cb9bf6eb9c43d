"""Compiled programs: every kind of call against the interpreter, at every ISA."""

from __future__ import annotations

import gc
import threading
from typing import Any

import networks
import numpy as np
import pytest
from fence import SIDES, Fence
from networks import ELEMENT, Net
from operands import Array, plain, runnable_isas

import neurojit as nj
from neurojit import bounds
from neurojit.errors import TensorLangError
from neurojit.ir import Module, evaluate
from neurojit.runtime import SLOTS
from neurojit.target import host_target

MULTIPLY_ADDS = ("vfmadd231ps", "fmla", "vfmacc.v")


def agree(module: Module, weights: networks.Weights, inputs: list[Array], got: Any, **states: Array) -> None:
    """Every output is within the bound of what the interpreter means."""
    outputs = got if isinstance(got, tuple) else (got,)
    extent = len(inputs[0]) if inputs else 0
    expected, _ = bounds.bounds(module.main, inputs, weights, states, extent)
    for output, meant in zip(outputs, expected, strict=True):
        assert output.shape == meant.value.shape
        assert bounds.agrees(output, meant).all(), np.abs(output - meant.value).max()
        assert meant.error.max(initial=0) < 1e-2 * max(
            1.0, np.abs(meant.value).max(initial=0)
        )  # it says something


@pytest.mark.parametrize("element", ["f32", "f64"])
@pytest.mark.parametrize("widths", [(8, 16, 4), (64, 64, 64, 8), (5, 23, 7, 3), (3, 1, 2)])
def test_one_program_serves_every_batch(isa: str, widths: tuple[int, ...], element: str) -> None:
    module, weights = networks.perceptron(widths, "?", "tanh", element)
    program = nj.compile(module, weights)
    assert program.compiled, program.explain()
    for batch in (0, 1, 2, 3, 4, 7, 11, 12, 13, 17, 40, 101):
        x = plain(batch, (batch, widths[0]), ELEMENT[element])
        agree(module, weights, [x], program(x))


@pytest.mark.parametrize("batch", [1, 2, 16, 33])
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "gelu", "silu", "exp"])
def test_a_static_batch(isa: str, batch: int, activation: str) -> None:
    module, weights = networks.perceptron((9, 31, 6), batch, activation)
    program = nj.compile(module, weights)
    assert program.compiled, program.explain()
    x = plain(batch, (batch, 9))
    agree(module, weights, [x], program(x))


@pytest.mark.parametrize("batch", ["?", 1, 5])
def test_residuals_fused_elementwise_ops_and_two_outputs(isa: str, batch: int | str) -> None:
    module, weights = networks.residual_block(batch)
    program = nj.compile(module, weights)
    assert program.compiled, program.explain()
    x = plain(3, (19 if batch == "?" else int(batch), 20))
    agree(module, weights, [x], program(x))
    y, z = np.empty_like(x), np.empty_like(x)
    result = program(x, y, z)
    assert result[0] is y
    assert result[1] is z
    agree(module, weights, [x], (y, z))


def test_views_broadcasts_and_constants(isa: str) -> None:
    """Slices, reshapes and spreads are no code; constants lie beside the weights; outputs may be inputs."""
    net = Net()
    b, x = net.b, net.input("x", 4, 6)
    table = b.constant(np.arange(6, dtype=np.float32), "f32")
    left = b.slice(x, axis=1, start=0, end=3)
    right = b.slice(x, axis=1, start=3, end=6)
    column = b.slice(x, axis=1, start=2, end=3)
    mixed = b.mul(b.add(left, right), column)
    flat = b.reshape(b.add(x, table), shape=(2, 12))
    module, weights = net.module(mixed, flat, x, left, b.broadcast(column, shape=(4, 5)), table)
    program = nj.compile(module, weights)
    assert program.compiled, program.explain()
    data = plain(1, (4, 6))
    got = program(data)
    for output, expected in zip(got, evaluate(module.main, [data]).outputs, strict=True):
        np.testing.assert_array_equal(output, expected)


def test_comparisons_and_selects(isa: str) -> None:
    net = Net()
    b, x, y = net.b, net.input("x", 3, 17), net.input("y", 3, 17)
    chosen = b.select(b.compare(x, y, predicate="lt"), b.maximum(x, 0.5), b.minimum(y, -0.5))
    both = b.and_(b.compare(x, 0.0, predicate="gt"), b.not_(b.compare(y, 0.0, predicate="le")))
    module, weights = net.module(chosen, b.select(both, b.sqrt(b.abs(x)), b.div(x, 3.0)))
    program = nj.compile(module, weights)
    assert program.compiled, program.explain()
    a, c = plain(1, (3, 17)), plain(2, (3, 17))
    a[0, :4] = np.nan, np.inf, -np.inf, -0.0
    got = program(a, c)
    for output, expected in zip(got, evaluate(module.main, [a, c]).outputs, strict=True):
        np.testing.assert_array_equal(output, expected)


def test_special_numbers_go_through(isa: str) -> None:
    module, weights = networks.perceptron((8, 16, 4))
    program = nj.compile(module, weights)
    x = plain(1, (30, 8))
    x[3, 2], x[7, 0], x[20, 5], x[25] = np.nan, np.inf, -np.inf, 1e-42
    agree(module, weights, [x], program(x))


# State -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3])
def test_state_persists_is_saved_restored_and_reset(isa: str, batch: int) -> None:
    module, weights = networks.recurrent(batch)
    program = nj.compile(module, weights)
    assert program.compiled, program.explain()
    states: dict[str, Array] = {
        "h": np.zeros((batch, 20), np.float32),
        "c": np.zeros((batch, 20), np.float32),
    }
    outputs = []
    for step in range(5):
        x = plain(step, (batch, 12))
        got = program(x)
        agree(module, weights, [x], got, **states)
        states = evaluate(module.main, [x], weights, states).states
        for name, array in states.items():
            np.testing.assert_allclose(program.state[name], array, rtol=1e-5, atol=1e-6)
        states = {name: array.copy() for name, array in program.state.items()}
        outputs.append(got)
        if step == 2:
            saved = {name: array.copy() for name, array in program.state.items()}
    program.state = saved
    for step in (3, 4):
        np.testing.assert_array_equal(program(plain(step, (batch, 12))), outputs[step])
    program.reset()
    np.testing.assert_array_equal(program(plain(0, (batch, 12))), outputs[0])
    with pytest.raises(KeyError, match=r"expected \['c', 'h'\], got \['h'\]"):
        program.state = {"h": saved["h"]}
    with pytest.raises(ValueError, match="state 'c': expected shape"):
        program.state = {"h": saved["h"], "c": np.zeros(3)}


def test_states_take_effect_together(isa: str) -> None:
    """Two states that swap: each takes what the other held before the call."""
    net = Net()
    b, x = net.b, net.input("x", 4)
    p, q = net.state("p", 4, initial=1.5), net.state("q", 4, initial=-2.0)
    b.state_write(q, name="p")
    b.state_write(p, name="q")
    module, weights = net.module(b.add(b.add(p, x), b.mul(q, 10.0)))
    program = nj.compile(module, weights)
    assert program.compiled, program.explain()
    x0 = np.zeros(4, np.float32)
    np.testing.assert_array_equal(program(x0), np.full(4, -18.5))
    np.testing.assert_array_equal(program(x0), np.full(4, 13.0))
    np.testing.assert_array_equal(program.state["p"], np.full(4, 1.5))
    program(x0)
    program.reset()
    np.testing.assert_array_equal(program(x0), np.full(4, -18.5))


def test_a_clone_shares_the_code_and_has_a_state_of_its_own(isa: str) -> None:
    module, weights = networks.recurrent()
    program = nj.compile(module, weights)
    program(plain(1, (1, 12)))
    other = program.clone()
    np.testing.assert_array_equal(other.state["h"], program.state["h"])
    published = SLOTS.stats()["published"]
    a = program(plain(2, (1, 12)))
    np.testing.assert_array_equal(other(plain(2, (1, 12))), a)
    program(plain(3, (1, 12)))
    assert (other.state["h"] != program.state["h"]).any()
    assert SLOTS.stats()["published"] == published
    other.weights["b"] = np.zeros(80, np.float32)
    assert program.weights["b"].any()


def test_a_stateful_program_runs_one_call_at_a_time() -> None:
    net = Net()
    b, x = net.b, net.input("x", 256, 512)
    s = net.state("s", 256, 512)
    h = x
    for number in range(4):
        h = b.matmul(h, net.weight(f"w{number}", 512, 512))
    b.state_write(b.add(h, s), name="s")
    module, weights = net.module(h)
    program = nj.compile(module, weights)
    assert program.compiled, program.explain()
    x0, refused, done = plain(1, (256, 512)), [], []

    def work() -> None:
        for _ in range(8):
            try:
                program(x0)
                done.append(1)
            except RuntimeError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    once = nj.compile(module, weights)
    for _ in done:
        once(x0)
    np.testing.assert_array_equal(program.state["s"], once.state["s"])
    assert len(done) + len(refused) == 32
    assert all(
        text == "program: another call is using its state; give each thread a clone()" for text in refused
    )


# Weights -----------------------------------------------------------------------------------------------


def test_weights_are_exchanged_without_compiling(isa: str) -> None:
    module, weights = networks.perceptron((8, 16, 4))
    program = nj.compile(module, weights)
    x = plain(1, (9, 8))
    program(x)
    publications = SLOTS.stats()["publications"]
    changed = {name: plain(number, array.shape) for number, (name, array) in enumerate(weights.items())}
    for name, array in changed.items():
        program.weights[name] = array
    agree(module, changed, [x], program(x))
    np.testing.assert_array_equal(program.weights["w0"], changed["w0"])
    assert list(program.weights) == list(weights)
    assert len(program.weights) == 4
    assert SLOTS.stats()["publications"] == publications


def test_large_weights_of_one_row_lie_in_panels(isa: str) -> None:
    """Those that leave L1; and they are exchanged like any others. The last panel is not full."""
    module, weights = networks.recurrent(inputs=48, hidden=100)
    program = nj.compile(module, weights)
    assert program.compiled, program.explain()
    assert any(weight.panel for weight in program.contract.plan.weights) == (isa in ("avx2", "avx512"))
    x, zeros = plain(1, (1, 48)), np.zeros((1, 100), np.float32)
    agree(module, weights, [x], program(x), h=zeros, c=zeros)
    changed = {name: plain(number, array.shape) / 8 for number, (name, array) in enumerate(weights.items())}
    for name, array in changed.items():
        program.weights[name] = array
    program.reset()
    agree(module, changed, [x], program(x), h=zeros, c=zeros)
    np.testing.assert_array_equal(program.weights["wx"], changed["wx"])


def test_errors_about_weights() -> None:
    module, weights = networks.perceptron((8, 16, 4))
    with pytest.raises(KeyError, match=r"missing \['b1'\], unknown \['b9'\]"):
        nj.compile(module, {("b9" if k == "b1" else k): v for k, v in weights.items()})
    with pytest.raises(ValueError, match=r"weight 'w0': expected shape \(8, 16\), got \(16, 8\)"):
        nj.compile(module, {**weights, "w0": weights["w0"].T})
    with pytest.raises(TypeError, match="weight 'w0': expected float32, got float64"):
        nj.compile(module, {**weights, "w0": weights["w0"].astype(np.float64)})
    program = nj.compile(module, weights)
    with pytest.raises(KeyError, match="weight 'nope'"):
        program.weights["nope"] = np.zeros(1, np.float32)
    with pytest.raises(TypeError, match="keeps all its weights"):
        del program.weights["w0"]
    with pytest.raises(ValueError, match="read-only"):
        program.weights["w0"][0, 0] = 1
    with pytest.raises(TensorLangError, match="1:1"):
        nj.compile("not a module")
    with pytest.raises(TensorLangError, match="at least one function"):
        nj.compile(Module("empty", ()))
    with pytest.raises(TypeError, match=r"compile: int: expected a TensorLang text, a Module, a layer"):
        nj.compile(3)


def test_the_callers_arrays_are_copied() -> None:
    module, weights = networks.perceptron((8, 16, 4))
    program = nj.compile(module, weights)
    x = plain(1, (3, 8))
    before = program(x)
    weights["w0"][...] = 0
    np.testing.assert_array_equal(program(x), before)


def test_two_programs_of_one_network_share_their_code() -> None:
    module, weights = networks.perceptron((8, 16, 5))
    first = nj.compile(module, weights)
    publications = SLOTS.stats()["publications"]
    changed = {name: 2 * array for name, array in weights.items()}
    second = nj.compile(networks.perceptron((8, 16, 5))[0], changed)
    assert SLOTS.stats()["publications"] == publications
    x = plain(1, (3, 8))
    agree(module, weights, [x], first(x))
    agree(module, changed, [x], second(x))


# Arguments ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small() -> tuple[Module, networks.Weights, nj.Program]:
    module, weights = networks.perceptron((8, 16, 4))
    return module, weights, nj.compile(module, weights)


def test_every_way_to_give_outputs(small: tuple[Module, networks.Weights, nj.Program]) -> None:
    _, _, program = small
    x = plain(1, (5, 8))
    expected = program(x)
    out = np.empty((5, 4), np.float32)
    for given in (program(x, out), program(x, out=out), program(x, out=(out,)), program(x, out=None)):
        np.testing.assert_array_equal(given, expected)
    assert program(x, out) is out
    assert program(x, out=out) is out
    wide = np.full((5, 8), 7, np.float32)
    program(x, wide[:, ::2])
    np.testing.assert_array_equal(wide[:, ::2], expected)
    assert (wide[:, 1::2] == 7).all()


def test_arrays_that_are_not_the_common_case(small: tuple[Module, networks.Weights, nj.Program]) -> None:
    _, _, program = small
    x = plain(1, (5, 8))
    expected = program(x)
    np.testing.assert_array_equal(program(np.asfortranarray(x)), expected)
    np.testing.assert_array_equal(program(np.repeat(x, 2, axis=1)[:, ::2]), expected)
    np.testing.assert_array_equal(program(x[::-1].copy()[::-1]), expected)
    np.testing.assert_array_equal(program(x.tolist()), expected)
    np.testing.assert_array_equal(program(x.astype(">f4")), expected)
    odd = np.zeros(4 * 40 + 1, np.uint8)[1:].view(np.float32).reshape(5, 8)
    odd[...] = x
    np.testing.assert_array_equal(program(odd), expected)

    class Sub(np.ndarray[Any, Any]):
        pass

    np.testing.assert_array_equal(program(x.view(Sub)), expected)


@pytest.mark.parametrize("shift", [-3, 0, 2])
def test_outputs_may_overlap_inputs(isa: str, shift: int) -> None:
    module, weights = networks.perceptron((6, 16, 6))
    program = nj.compile(module, weights)
    memory = np.zeros((40, 6), np.float32)
    x = memory[5:32]
    x[...] = plain(1, x.shape)
    expected = program(x.copy())
    out = memory[5 + shift : 32 + shift]
    assert program(x, out) is out
    np.testing.assert_array_equal(out, expected)


def test_errors_about_arguments(small: tuple[Module, networks.Weights, nj.Program]) -> None:
    _, _, program = small
    x, out = plain(1, (5, 8)), np.full((5, 4), 7, np.float32)
    locked = out.copy()
    locked.flags.writeable = False
    cases: list[tuple[type[Exception], str, tuple[Any, ...], dict[str, Any]]] = [
        (TypeError, r"got 0 arrays: expected 1, or 2 with out", (), {}),
        (TypeError, r"got 3 arrays", (x, out, out), {}),
        (TypeError, r"got 2 arrays", (x, out), {"out": out}),
        (TypeError, r"unexpected keyword", (x,), {"into": out}),
        (TypeError, r"out: 2 arrays, expected 1", (x,), {"out": (out, out)}),
        (TypeError, r"main: input 0 \(x\): expected float32, got float64; convert", (x.astype(float),), {}),
        (ValueError, r"input 0 \(x\): expected tensor<\?x8xf32>, got shape .5, 9", (plain(0, (5, 9)),), {}),
        (ValueError, r"got shape \(8,\)", (x[0],), {}),
        (ValueError, r"output 0 .*: shape \(4, 4\): expected a writeable .* \(5, 4\)", (x, out[:4]), {}),
        (ValueError, r"read-only: expected a writeable", (x, locked), {}),
        (TypeError, r"output 0 .*: expected an array of float32, got float64", (x, out.astype(float)), {}),
        (TypeError, r"output 0 .*: expected an array of float32, got <class 'list'>", (x, [1.0]), {}),
    ]  # fmt: skip
    for error, text, arrays, keywords in cases:
        with pytest.raises(error, match=text):
            program(*arrays, **keywords)
    assert (out == 7).all()


def test_all_dynamic_extents_are_one() -> None:
    net = Net()
    x, y = net.input("x", "?", 3), net.input("y", "?", 3)
    module, weights = net.module(net.b.add(x, y))
    program = nj.compile(module, weights)
    a = plain(1, (4, 3))
    np.testing.assert_array_equal(program(a, a), a + a)
    with pytest.raises(
        ValueError, match=r"input 1 \(y\): leading extent 5, expected 4 as in .*input 0 \(x\)"
    ):
        program(a, plain(1, (5, 3)))


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("batch", ["?", 1, 7])
def test_row_27_nothing_outside_inputs_and_outputs_is_touched(isa: str, batch: int | str, side: str) -> None:
    fences = [Fence(1 << 14) for _ in range(3)]
    module, weights = networks.residual_block(batch)
    program = nj.compile(module, weights)
    for n in (1, 2, 5, 13, 17, 31) if batch == "?" else (int(batch),):
        x = fences[0].hold(plain(n, (n, 20)), side)
        y, z = (fence.hold(np.full((n, 20), np.nan, np.float32), side) for fence in fences[1:])
        program(x, y, z)
        agree(module, weights, [x], (y, z))


def test_a_bound_program_reads_its_arrays_anew(isa: str) -> None:
    module, weights = networks.perceptron((8, 16, 4))
    program = nj.compile(module, weights)
    x, out = plain(1, (5, 8)), np.empty((5, 4), np.float32)
    step = program.bind(x, out)
    assert step() is out
    np.testing.assert_array_equal(out, program(x))
    x += 1
    np.testing.assert_array_equal(step(), program(x))
    own = program.bind(x)
    assert own() is own()
    odd = program.bind(np.asfortranarray(x), out)  # not the common case, and yet a bound call
    np.testing.assert_array_equal(odd(), program(x))
    with pytest.raises(TypeError, match="a bound program takes no arguments"):
        step(x)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="bind got 3 arrays"):
        program.bind(x, out, out)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        step()
    assert "bound" in repr(step)


# What it says about itself -----------------------------------------------------------------------------


def test_what_a_program_says_about_itself(small: tuple[Module, networks.Weights, nj.Program]) -> None:
    _, _, program = small
    assert program.signature == "main(x: tensor<?x8xf32>) -> tensor<?x4xf32>"
    assert repr(program) == f"<neurojit.Program {program.signature}>"
    assert nj.compile(program.ir, dict(program.weights)).ir == program.ir
    assert f"one native function for {host_target().isa.name}" in program.explain()
    assert any(name in program.listing() for name in MULTIPLY_ADDS)
    assert "; %" in program.listing()
    assert "w0: 8 x 16 f32" in program.memory_map()
    assert "nj.unroll" in program.schedule


# Faults ------------------------------------------------------------------------------------------------


def test_what_no_kernel_computes_is_interpreted_and_says_why() -> None:
    net = Net()
    b, x = net.b, net.input("x", "?", 6)
    module, weights = net.module(b.argmax(b.exp(x), axis=0))
    program = nj.compile(module, weights)
    assert not program.compiled
    assert "interpreted by NumPy: " in program.explain()
    assert "argmax mixes rows of the dynamic extent" in program.explain()
    data = plain(1, (4, 6))
    np.testing.assert_array_equal(program(data), np.argmax(data, axis=0))
    out = np.empty(6, np.int32)
    assert program(data, out) is out
    assert program.bind(data, out)() is out
    for text in (program.schedule, program.listing(), program.memory_map()):
        assert "argmax mixes rows" in text


def test_without_an_isa_programs_are_interpreted(child: Any) -> None:
    script = (
        "import networks, numpy as np, neurojit as nj\n"
        "m, w = networks.recurrent()\n"
        "p = nj.compile(m, w)\n"
        "x = np.ones((1, 12), np.float32)\n"
        "a = p(x); b = p(x)\n"
        "assert not p.compiled and (a != b).any() and (p.state['h'] == b).all()\n"
        "p.reset(); assert (p(x) == a).all()\n"
        "q = p.clone(); assert (q(x) == b).all()\n"
        "p.weights['b'] = np.zeros(80, np.float32)\n"
        "p.reset(); assert (p(x) != a).any()\n"
        "assert 'NEUROJIT_ISA' in p.explain(), p.explain()\n"
    )
    done = child(script, NEUROJIT_ISA="none")
    assert done.returncode == 0, done.stderr


def test_row_15_without_executable_memory_programs_are_interpreted(child: Any) -> None:
    script = (
        "import errno, networks, numpy as np, neurojit as nj\n"
        "from neurojit.runtime import _runtime\n"
        "_runtime.inject_map_failure('memfd_create', errno.EPERM, 9)\n"
        "_runtime.inject_map_failure('mprotect(R|X)', errno.EACCES, 9)\n"
        "m, w = networks.perceptron((8, 16, 4))\n"
        "x = np.ones((3, 8), np.float32)\n"
        "for _ in range(2):\n"
        "    p = nj.compile(m, w)\n"
        "    assert not p.compiled\n"
        "    assert 'memfd' in p.explain(), p.explain()\n"
        "    y = p(x)\n"
        "_runtime.reset_executable_memory()\n"
        "p = nj.compile(m, w)\n"
        "assert p.compiled and np.allclose(p(x), y, atol=1e-5)\n"
    )
    done = child(script)
    assert done.returncode == 0, done.stderr


def test_code_that_computes_something_else_is_not_published(monkeypatch: pytest.MonkeyPatch) -> None:
    from neurojit import program_compiler
    from neurojit.codegen import emit_program

    module, weights = networks.perceptron((8, 17, 4), activation="tanh")
    other = nj.compile(*networks.perceptron((8, 17, 4), activation="sigmoid")).contract.plan

    monkeypatch.setattr(program_compiler, "emit_program", lambda plan, isa: emit_program(other, isa))
    monkeypatch.setattr(program_compiler, "_key", lambda code: (1, 2, 3, 4))
    program = nj.compile(module, weights)
    assert not program.compiled
    assert "ValidationError: program 'main': output" in program.explain()
    assert "it was not published" in program.explain()
    x = plain(1, (3, 8))
    agree(module, weights, [x], program(x))


def test_evicted_code_is_compiled_again(isa: str) -> None:
    module, weights = networks.perceptron((8, 18, 4))
    program = nj.compile(module, weights)
    x, out = plain(1, (3, 8)), np.empty((3, 4), np.float32)
    expected, step = program(x), program.bind(x, out)
    for call in (lambda: program(x), lambda: program(x, out), step, lambda: program(x[::-1])[::-1]):
        SLOTS.evict_bytes(1 << 62)
        assert not program.compiled
        assert "evicted" in program.explain()
        np.testing.assert_array_equal(call(), expected)
        assert program.compiled


def test_no_memory_for_an_arena() -> None:
    from neurojit._program import fail_arenas

    module, weights = networks.perceptron((256, 512, 256))
    program = nj.compile(module, weights)
    x = plain(1, (64, 256))
    out = np.full((64, 256), 7, np.float32)
    fail_arenas(1)
    with pytest.raises(MemoryError, match="no memory for an arena"):
        program(x, out)
    assert (out == 7).all()
    agree(module, weights, [x], program(x, out))
    fail_arenas(1)
    with pytest.raises(MemoryError, match="no memory for an arena"):
        nj.compile(module, weights)
    fail_arenas(1)
    with pytest.raises(MemoryError, match="no memory for an arena"):
        program.clone()(np.asfortranarray(x))


def test_threads_call_one_program_and_exchange_its_weights() -> None:
    """Long calls give up the GIL and have an arena each; each result belongs to one set of weights."""
    module, weights = networks.perceptron((256, 512, 128), activation="relu")
    program = nj.compile(module, weights)
    assert program.compiled, program.explain()
    other = {**weights, "b1": weights["b1"] + 1}
    inputs = [plain(seed, (48, 256)) for seed in range(6)]
    expected = [program(x) for x in inputs]
    wrong: list[int] = []
    going = threading.Event()
    going.set()

    def call(number: int) -> None:
        out = np.empty((48, 128), np.float32)
        for _ in range(60):
            program(inputs[number], out)
            same = np.abs(out - expected[number]).max() < 1e-3
            shifted = np.abs(out - expected[number] - 1).max() < 1e-3
            if not (same or shifted):
                wrong.append(number)

    def exchange() -> None:
        while going.is_set():
            for b in (other["b1"], weights["b1"]):
                program.weights["b1"] = b

    exchanger = threading.Thread(target=exchange)
    callers = [threading.Thread(target=call, args=(number,)) for number in range(len(inputs))]
    for thread in (exchanger, *callers):
        thread.start()
    for thread in callers:
        thread.join()
    going.clear()
    exchanger.join()
    assert not wrong


def test_many_inputs_and_outputs_take_the_general_way() -> None:
    net = Net()
    xs = [net.input(f"x{i}", 3) for i in range(20)]
    total = xs[0]
    for x in xs[1:]:
        total = net.b.add(total, x)
    module, weights = net.module(total)
    program = nj.compile(module, weights)
    arrays = [np.full(3, i, np.float32) for i in range(20)]
    np.testing.assert_array_equal(program(*arrays), np.full(3, 190))


def test_a_program_without_outputs_or_inputs() -> None:
    net = Net()
    module, weights = net.module(net.b.exp(net.weight("w", 5)))
    program = nj.compile(module, weights)
    np.testing.assert_allclose(program(), np.exp(weights["w"]), rtol=1e-6)
    net = Net()
    s = net.state("s", 3)
    net.b.state_write(net.b.add(s, 1.0), name="s")
    program = nj.compile(*net.module())
    assert program() == ()
    program()
    np.testing.assert_array_equal(program.state["s"], [2, 2, 2])


def test_a_program_is_collected_with_its_arenas() -> None:
    module, weights = networks.perceptron((8, 16, 4))
    gc.collect()
    before = len([o for o in gc.get_objects() if type(o) is nj.Program])
    for _ in range(10):
        program = nj.compile(module, weights)
        program(plain(1, (2, 8)))
        program.bind(plain(1, (2, 8)))()
    del program
    gc.collect()
    assert len([o for o in gc.get_objects() if type(o) is nj.Program]) == before


# Scans -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 9])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_is_one_loop_in_the_same_function(isa: str, steps: int, batch: int, reverse: bool) -> None:
    module, weights = networks.recurrent_sequence(steps, batch, reverse=reverse)
    program = nj.compile(module, weights)
    assert program.compiled, program.explain()
    inputs = [plain(number, v.type.static_shape(0)) for number, v in enumerate(module.main.parameters)]
    agree(module, weights, inputs, program(*inputs))


def test_what_a_scan_carries_changes_places_together(isa: str) -> None:
    """Two carried values swap, a third is a sum, a fourth stays; an output is one of the inputs' slices."""
    net = Net()
    b = net.b
    p, q, xs = net.input("p", 5), net.input("q", 5), net.input("xs", 4, 5)

    def step(p: Any, q: Any, total: Any, fixed: Any, x: Any) -> tuple[list[Any], list[Any]]:
        return [q, p, b.add(total, b.mul(p, x)), fixed], [b.add(total, fixed), x]

    carried, outputs = b.scan(step, (p, q, p, q), (xs,))
    module, weights = net.module(*carried, *outputs)
    program = nj.compile(module, weights)
    assert program.compiled, program.explain()
    inputs = [plain(1, (5,)), plain(2, (5,)), plain(3, (4, 5))]
    agree(module, weights, inputs, program(*inputs))


def test_scans_nest_and_use_what_lies_outside(isa: str) -> None:
    net = Net()
    b = net.b
    xs, start = net.input("xs", 3, 4, 6), net.input("start", 6)
    scale = b.exp(net.weight("scale", 6))

    def inner(total: Any, x: Any) -> tuple[list[Any], list[Any]]:
        total = b.add(total, b.mul(x, scale))
        return [total], []

    def outer(total: Any, rows: Any) -> tuple[list[Any], list[Any]]:
        (total,), _ = b.scan(inner, (total,), (rows,))
        return [total], [b.tanh(total)]

    carried, outputs = b.scan(outer, (start,), (xs,))
    module, weights = net.module(*carried, *outputs, b.add(start, scale))
    program = nj.compile(module, weights)
    assert program.compiled, program.explain()
    inputs = [plain(1, (3, 4, 6)), plain(2, (6,))]
    agree(module, weights, inputs, program(*inputs))


def test_a_scan_without_inputs_counts_its_steps(isa: str) -> None:
    net = Net()
    b, x = net.b, net.input("x", "?", 7)

    def step(x: Any) -> tuple[list[Any], list[Any]]:
        return [b.mul(x, 0.5)], []

    (halved,), _ = b.scan(step, (x,), length=5)
    module, weights = net.module(halved)
    program = nj.compile(module, weights)
    assert program.compiled, program.explain()
    data = plain(1, (30, 7))
    np.testing.assert_array_equal(program(data), data / 32)


def test_products_of_a_scan_that_need_nothing_carried_are_hoisted() -> None:
    module, weights = networks.recurrent_sequence(9, 1)
    program = nj.compile(module, weights)
    steps = list(program.contract.plan.steps())
    assert [(s.name, s.kernel.m) for s in steps if hasattr(s.kernel, "k")] == [("%0.all", 9), ("%3", 1)]


# Reductions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", ["?", 1, 5])
def test_norms_softmax_and_sums(isa: str, batch: int | str) -> None:
    net = Net()
    b, x = net.b, net.input("x", batch, 37)
    normed = b.layer_norm(x, net.weight("scale", 37), net.weight("shift", 37))
    rms = b.rms_norm(normed, net.weight("scale2", 37))
    module, weights = net.module(
        b.softmax(b.mul(rms, 0.5), axis=1),
        b.logsumexp(x, axis=1),
        b.sum(x, axes=(1,), keepdims=True),
        b.mean(b.exp(x), axes=(1,)),
        b.sub(x, b.max(x, axes=(1,), keepdims=True)),
        b.min(x, axes=(1,)),
    )
    program = nj.compile(module, weights)
    assert program.compiled, program.explain()
    data = plain(2, (17 if batch == "?" else int(batch), 37))
    agree(module, weights, [data], program(data))


def test_reductions_down_columns_and_in_the_middle(isa: str) -> None:
    net = Net()
    b, x = net.b, net.input("x", 3, 11, 20)
    module, weights = net.module(
        b.softmax(x, axis=1), b.sum(x, axes=(1,)), b.max(x, axes=(2,)), b.mean(x, axes=(1,), keepdims=True)
    )
    program = nj.compile(module, weights)
    assert program.compiled, program.explain()
    data = plain(1, (3, 11, 20))
    agree(module, weights, [data], program(data))


@pytest.mark.parametrize("batch", ["?", 1, 4])
@pytest.mark.parametrize("reset_after", [True, False])
def test_both_conventions_of_a_gru(isa: str, batch: int | str, reset_after: bool) -> None:
    module, weights = networks.gated(batch, reset_after=reset_after)
    program = nj.compile(module, weights)
    assert program.compiled, program.explain()
    n = 18 if batch == "?" else int(batch)
    inputs = [plain(1, (n, 12)), plain(2, (n, 20))]
    agree(module, weights, inputs, program(*inputs))
    maps = [s for s in program.contract.plan.steps() if s.what.startswith("map")]
    heights = 3 if batch == "?" else 1
    assert len(maps) == heights * (1 if reset_after else 2)  # all gates in registers, at once


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_concat_copies_parts_to_where_they_belong(isa: str, axis: int) -> None:
    net = Net()
    b, x = net.b, net.input("x", 3, 4, 5)
    y = b.exp(x)
    joined = b.concat(x, y, b.slice(y, axis=axis, start=1, end=3), axis=axis)
    module, weights = net.module(joined, b.tanh(joined))
    program = nj.compile(module, weights)
    assert program.compiled, program.explain()
    data = plain(1, (3, 4, 5))
    agree(module, weights, [data], program(data))


def test_too_many_values_at_once_are_several_kernels(isa: str) -> None:
    """Forty functions of one input, all alive until a sum goes through them backwards, each used twice."""
    net = Net()
    b, x = net.b, net.input("x", 3, 50)
    powers = [x]
    for number in range(40):
        powers.append(b.mul(b.add(powers[-1], 0.1 * number - 1), 0.5))
    total = powers[0]
    for value in reversed(powers):
        total = b.add(b.mul(total, 0.5), value)
    for value in powers:
        total = b.sub(total, b.mul(value, 0.01))
    module, weights = net.module(total)
    program = nj.compile(module, weights)
    assert program.compiled, program.explain()
    assert len(list(program.contract.plan.steps())) > 1
    data = plain(1, (3, 50))
    agree(module, weights, [data], program(data))


def test_a_transformer_block(isa: str) -> None:
    module, weights = networks.encoder()
    program = nj.compile(module, weights)
    assert program.compiled, program.explain()
    data = plain(1, (5, 16))
    agree(module, weights, [data], program(data))


def test_transposes_pads_and_running_sums(isa: str) -> None:
    net = Net()
    b, x = net.b, net.input("x", 3, 7, 10)
    turned = b.transpose(x, permutation=(2, 0, 1))
    module, weights = net.module(
        turned,
        b.exp(turned),
        b.reshape(turned, shape=(30, 7)),
        b.pad(x, low=(0, 2, 1), high=(1, 0, 3), value=1.5),
        b.cumsum(x, axis=2),
        b.cumsum(b.tanh(turned), axis=1),
        b.sum(turned, axes=(2,)),
    )
    program = nj.compile(module, weights)
    assert program.compiled, program.explain()
    data = plain(1, (3, 7, 10))
    agree(module, weights, [data], program(data))


def test_dump_shows_the_plan_and_the_code(child: Any) -> None:
    script = "import networks, neurojit as nj; nj.compile(*networks.perceptron((8, 16, 4)))"
    done = child(script, NEUROJIT_DUMP="plan,asm")
    assert done.returncode == 0, done.stderr
    if runnable_isas():
        assert "gemm f32 12x16x8" in done.stderr
        assert "arena" in done.stderr
        assert any(name in done.stderr for name in MULTIPLY_ADDS)
    assert child(script).stderr == ""
