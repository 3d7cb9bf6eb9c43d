"""The blocked driver: many blocks in every direction, scratch that cannot grow, threads, odd addresses."""

from __future__ import annotations

import resource
import threading
from typing import Any

import numpy as np
import pytest
from operands import DTYPES, LAYOUTS, cancelling, needs_kernels, plain
from oracle import assert_same_bits, reference

import neurojit as nj
from neurojit import _matmul, compiler
from neurojit.plan.blocking import Blocking, micro_tile
from neurojit.plan.cut import ceil_div, cut_by, cut_equally
from neurojit.plan.product import Product
from neurojit.runtime import SLOTS
from neurojit.runtime._blocked import inject_scratch_failure, publish_blocked, strips_code
from neurojit.target import Target, host_target

pytestmark = [
    pytest.mark.usefixtures("cold"),
    needs_kernels,
]


needs_any_offset = pytest.mark.skipif(
    not host_target().isa.any_offset, reason="micro-kernels for rows of A as they lie: not for this ISA"
)


def small_blocks(monkeypatch: pytest.MonkeyPatch, dtype: str, a_in_place: bool = False) -> None:
    """Blocks of one or two tiles, so that small products meet every loop of the driver."""
    mr, nr = micro_tile(dtype, host_target())

    def plan(p: Product, target: Target, *_: Any) -> Blocking:
        return Blocking(
            cut_equally(p.m, ceil_div(p.m, mr)), cut_by(p.n, nr), 8, 2, 2, 1, 1, 1 << 30, a_in_place
        )

    monkeypatch.setattr(compiler, "plan_product", plan)


@pytest.mark.parametrize("a_in_place", [False, pytest.param(True, marks=needs_any_offset)])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_every_number_of_blocks_and_every_edge(
    dtype: str, a_in_place: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch, dtype, a_in_place)
    for m in (1, 6, 11, 12, 13, 23, 24, 25, 50):
        for n in (1, 8, 15, 16, 31, 32, 33, 65, 130):
            for k in (1, 7, 8, 9, 16, 17):
                a, b = cancelling(m, (m, k), DTYPES[dtype]), cancelling(n, (k, n), DTYPES[dtype])
                assert_same_bits(nj.matmul(a, b), reference(a, b), (m, n, k))
    assert not nj.info().fallbacks


@pytest.mark.parametrize("a_layout", LAYOUTS)
@pytest.mark.parametrize("b_layout", LAYOUTS)
def test_row_26_every_layout_is_packed(a_layout: str, b_layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small_blocks(monkeypatch, "f32")
    a, b = LAYOUTS[a_layout](plain(1, (29, 19))), LAYOUTS[b_layout](plain(2, (19, 70)))
    assert_same_bits(nj.matmul(a, b), reference(a, b))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_row_26_operands_off_by_one_byte(dtype: str) -> None:
    """Vectorised packing must not assume elements to be aligned."""
    odd = LAYOUTS["off_by_one_byte"]
    for a_layout in (odd, lambda x: odd(x.T.copy()).T):
        for b_layout in (odd, lambda x: odd(x.T.copy()).T):
            a, b = a_layout(plain(1, (200, 301), dtype)), b_layout(plain(2, (301, 150), dtype))
            out = odd(np.empty((200, 150), dtype))
            nj.matmul(a, b, out)
            assert_same_bits(np.array(out), reference(a, b))


def test_k_of_several_blocks_reads_c_again_and_only_then() -> None:
    """NaN in out before: the first block of k must not read it, later ones must."""
    a, b = plain(1, (40, 1500)), plain(2, (1500, 600))
    out = np.full((40, 600), np.nan, np.float32)
    nj.matmul(a, b, out)
    assert_same_bits(out, reference(a, b))
    assert compiler.counts["blocked"] > 0


# Row 16: no memory for scratch ------------------------------------------------------------------------


def in_a_fresh_thread(function: Any) -> Any:
    """Scratch is a thread's own, so only a fresh one must grow it."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(function())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0]


@pytest.mark.parametrize("warm", [False, True], ids=["first call", "later call"])
@pytest.mark.parametrize("batch", [(), (2,)], ids=["matrix", "batch"])
def test_row_16_no_memory_for_packed_panels(warm: bool, batch: tuple[int, ...]) -> None:
    a, b = plain(1, (*batch, 50, 60)), np.asfortranarray(plain(2, (60, 70)))
    out = np.full((*batch, 50, 70), 7, np.float32)
    if warm:
        nj.matmul(a, b)
    try:
        inject_scratch_failure(1 << 20)
        error = in_a_fresh_thread(lambda: nj.matmul(a, b, out))
    finally:
        inject_scratch_failure(0)
    assert type(error) is MemoryError
    assert "no memory for packed panels" in str(error)
    assert (out == 7).all(), "out is unchanged"
    result = in_a_fresh_thread(lambda: nj.matmul(a, b, out))
    assert result is out
    assert_same_bits(out, reference(a, b))


@pytest.mark.parametrize("depth", [60, 3000], ids=["packed panels", "partial sums too"])
def test_row_16_no_memory_for_a_layer(depth: int) -> None:
    """An epilogue that reads out must find it as it was."""
    a, b = plain(1, (50, depth)), np.asfortranarray(plain(2, (depth, 70)))
    out = plain(3, (50, 70))
    before = out.copy()
    expected = nj.linear(a, b, activation="relu", out=out.copy(), beta=0.5)
    try:
        inject_scratch_failure(1 << 20)
        error = in_a_fresh_thread(lambda: nj.linear(a, b, activation="relu", out=out, beta=0.5))
    finally:
        inject_scratch_failure(0)
    assert type(error) is MemoryError
    assert_same_bits(out, before)
    in_a_fresh_thread(lambda: nj.linear(a, b, activation="relu", out=out, beta=0.5))
    assert_same_bits(out, expected)


def test_a_plan_has_no_more_operands_than_c_has_room_for() -> None:
    slot = SLOTS.insert((1, 2, 3, 2**63))
    cut, steps = (1, 1, 0, 0), ((0, 4),) * 5
    with pytest.raises(ValueError, match="at most 4 operands beside C, got 5"):
        publish_blocked(slot, (1,) * 9, (cut, cut, 1, 1, 1, 1, 1, 1, 0), (None,) * 8, False, (), steps)
    with pytest.raises(ValueError, match="at most 4 operands beside C, got 5"):
        strips_code((cut, cut), ((0, 4),) * 8, (None,) * 4, 1, 1)
    with pytest.raises(ValueError, match="8 micro-kernels, got 1"):
        publish_blocked(slot, (1,) * 9, (cut, cut, 1, 1, 1, 1, 1, 1, 0), (0,), False)
    assert not slot.published


def test_each_thread_has_its_own_scratch() -> None:
    a, b = plain(1, (70, 300)), np.asfortranarray(plain(2, (300, 90)))
    expected = reference(a, b)
    assert_same_bits(nj.matmul(a, b), expected)  # compiled: NumPy answers nobody meanwhile
    wrong: list[Any] = []

    def work() -> None:
        for _ in range(30):
            c = nj.matmul(a, b)
            if not np.array_equal(c, expected):
                wrong.append(c)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.not_emulated("too much arithmetic")
def test_scratch_is_freed_with_its_thread() -> None:
    a, b = plain(1, (600, 900)), np.asfortranarray(plain(2, (900, 900)))
    in_a_fresh_thread(lambda: nj.matmul(a, b))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(40):
        in_a_fresh_thread(lambda: nj.matmul(a, b))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000, "KiB"


# The binding ------------------------------------------------------------------------------------------


CUT = (1, 1, 0, 0)
BLOCKS = (CUT, CUT, 1, 1, 1, 1, 1, 1, 0)


@pytest.mark.parametrize(
    ("fields", "blocks", "micro"),
    [
        ((1, 2, 3), BLOCKS, (None,) * 8),
        ((1,) * 9, BLOCKS[:-1], (None,) * 8),
        ((1,) * 9, BLOCKS, (None,) * 7),
        (("x",) * 9, BLOCKS, (None,) * 8),
        ((1,) * 9, BLOCKS, ("x",) * 8),
    ],
)
def test_a_malformed_plan_is_an_error_and_not_published(fields: Any, blocks: Any, micro: Any) -> None:
    slot = SLOTS.insert((7, 7, 7, 2**63))
    with pytest.raises((IndexError, ValueError, TypeError)):
        publish_blocked(slot, fields, blocks, micro, False)
    assert not slot.published


def test_products_without_a_kernel_are_left_alone() -> None:
    a, b, c = np.ones((3, 4), "f4"), np.ones((4, 5), "f4"), np.full((3, 5), 7, "f4")
    assert _matmul.products(a, b, c) is False
    assert (c == 7).all()
    odd = LAYOUTS["odd_strides"](a)
    assert _matmul.products(odd, b, c) is False
    assert _matmul.describe(odd, b, c) is None
