"""Threads share the rows of a batch: the same bits for every number of them, and only where rows allow it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import networks
import numpy as np
import pytest
from operands import TARGETS, needs_kernels, plain, runnable_isas

import neurojit as nj
from neurojit.ir import Module
from neurojit.plan.program import ProgramPlan, Rows
from neurojit.runtime import _blocked

pytestmark = needs_kernels

WIDE = (128, 256, 64)
"""49,152 multiply-adds a row: threads share from 22 rows on."""


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = nj.get_num_threads()
    yield
    nj.set_num_threads(before)
    _blocked.inject_thread_failure(0)


def plan_of(program: nj.Program) -> ProgramPlan:
    plan = program.contract.plan
    assert isinstance(plan, ProgramPlan), program.explain()
    return plan


@pytest.mark.parametrize("isa", runnable_isas())
def test_the_bits_do_not_depend_on_the_threads(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurojit.contract.host_target", lambda: TARGETS[isa])
    program = nj.compile(*networks.perceptron(WIDE))
    for rows in (23, 24, 25, 37, 48, 60, 97, 211, 1000):
        x = plain(rows, (rows, 128))
        nj.set_num_threads(1)
        alone = program(x)
        for threads in (2, 3, 5):
            nj.set_num_threads(threads)
            out = np.full((rows, 64), np.nan, np.float32)
            for _ in range(3):
                program(x, out)
                np.testing.assert_array_equal(out.view(np.int32), alone.view(np.int32))
            np.testing.assert_array_equal(program.bind(x, out)(), alone)
            np.testing.assert_array_equal(program(np.asfortranarray(x)), alone)  # the general way


def test_several_inputs_and_outputs_some_of_them_the_same_for_all_rows() -> None:
    net = networks.Net()
    b, x, y = net.b, net.input("x", "?", 96), net.input("y", "?", 40)
    shared = net.input("shared", 40)
    h = net.dense(x, "up", 96, 128, "relu")
    out = b.add(b.mul(net.dense(h, "down", 128, 40), shared), y)
    module, weights = net.module(out, h, b.sum(out, axes=(1,)))
    program = nj.compile(module, weights)
    assert plan_of(program).shared_rows is not None
    arrays = [plain(1, (400, 96)), plain(2, (400, 40)), plain(3, (40,))]
    nj.set_num_threads(1)
    alone = program(*arrays)
    nj.set_num_threads(4)
    for got, expected in zip(program(*arrays), alone, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_what_a_call_keeps_or_writes_once_is_not_shared() -> None:
    """State, and outputs that have no rows: a call is one call then."""
    net = networks.Net()
    b, x, old = net.b, net.input("x", "?", 64), net.state("s", 64)
    b.state_write(b.tanh(old), name="s")
    module, weights = net.module(net.dense(b.add(x, old), "a", 64, 256))
    assert plan_of(nj.compile(module, weights)).shared_rows is None

    net = networks.Net()
    x, w = net.input("x", "?", 64), net.weight("w", 64, 64)
    module, weights = net.module(net.b.matmul(x, w), net.b.tanh(w))
    assert plan_of(nj.compile(module, weights)).shared_rows is None
    assert plan_of(nj.compile(*networks.perceptron(WIDE, 500))).shared_rows is None  # no dynamic extent


def test_pieces_are_whole_parts_and_outweigh_what_each_repeats() -> None:
    net = networks.Net()
    x, w, v = net.input("x", "?", 8), net.weight("w", 128, 128), net.weight("v", 128, 8)
    module, weights = net.module(net.b.matmul(x, net.b.matmul(v, w, transpose_a=True)))
    module = Module("net", (module.main,))
    plan = plan_of(nj.compile(module, weights))
    (rows,) = (node for node in plan.body if isinstance(node, Rows))
    assert plan.shared_rows is not None
    row, unit, least = plan.shared_rows
    assert (row, unit) == (8 * 128, rows.parts[0].height)
    assert least % unit == 0
    assert least * row >= 16 * 8 * 128 * 128


def test_weights_are_exchanged_while_threads_share_rows() -> None:
    module, weights = networks.perceptron(WIDE)
    program = nj.compile(module, weights)
    nj.set_num_threads(2)
    x = plain(1, (600, 128))
    one = program(x)
    other = {**weights, "b1": weights["b1"] + 1}
    two = nj.compile(module, other)(x)
    seen: list[bool] = []

    def call() -> None:
        for _ in range(40):
            got = program(x)
            seen.append(np.array_equal(got, one) or np.array_equal(got, two))

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(20):
        program.weights["b1"] = (weights, other)[turn % 2]["b1"]
    for thread in threads:
        thread.join()
    assert len(seen) == 120
    assert all(seen)


def test_without_memory_or_threads_fewer_take_part() -> None:
    from neurojit._program import fail_arenas

    module, weights = networks.perceptron(WIDE)
    x = plain(1, (300, 128))
    nj.set_num_threads(1)
    expected = nj.compile(module, weights)(x)
    program = nj.compile(module, weights)
    nj.set_num_threads(4)
    fail_arenas(1)
    with pytest.raises(MemoryError, match="no memory for an arena"):
        program(x)
    program(x[:24])  # two arenas, the second of which is there next time
    fail_arenas(1)
    np.testing.assert_array_equal(program(x), expected)  # two members instead of four
    fail_arenas(0)
    _blocked.inject_thread_failure(1000)
    nj.set_num_threads(9)
    np.testing.assert_array_equal(program(x), expected)


def test_a_forked_child_shares_rows_too(child: Any) -> None:
    done = child(
        """
import os, signal, warnings
import numpy as np, neurojit as nj
from neurojit.nn import MLP
warnings.simplefilter("ignore")
nj.set_num_threads(2)
program = nj.compile(MLP(128, 256, 64))
x = np.ones((600, 128), np.float32)
expected = program(x)
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        os._exit(0 if np.array_equal(program(x), expected) and np.array_equal(program(x), expected) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert np.array_equal(program(x), expected)
print("shared")
"""
    )
    assert done.returncode == 0, done.stderr
    assert "shared" in done.stdout


def test_the_first_assert_that_fails_is_the_same_for_every_number_of_threads() -> None:
    net = networks.Net()
    b, x = net.b, net.input("x", "?", 128)
    y = net.dense(x, "a", 128, 256)
    for number, limit in enumerate((9.0, 8.0)):
        small = b.compare(b.max(b.abs(x), axes=(1,)), limit, predicate="lt")
        getattr(b, "assert")(small, text=f"assert {number}")
    module, weights = net.module(y)
    program = nj.compile(module, weights)
    assert program.compiled, program.explain()
    assert plan_of(program).shared_rows is not None
    rows = np.zeros((400, 128), np.float32)
    for threads in (1, 2, 4):
        nj.set_num_threads(threads)
        program(rows)
        for at, failed in (({399: 10.0, 3: 8.5}, 0), ({350: 8.5}, 1), ({3: 8.5, 70: 8.5}, 1)):
            x_bad = rows.copy()
            for row, value in at.items():
                x_bad[row, 5] = value
            with pytest.raises(AssertionError, match=f"assert {failed}"):
                program(x_bad)
