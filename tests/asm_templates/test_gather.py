"""gather: every row length, and indices that lie anywhere: none reads outside the source."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from fence import SIDES, Fence
from operands import DTYPES, TARGETS, Array, plain, runnable_isas
from oracle import assert_same_bits

from neurojit.codegen import emit_gather
from neurojit.plan.gather import Gather
from neurojit.runtime import Code

ISAS = runnable_isas()
INDICES = np.array([3, 0, 4, 4, -1, 5, 1, -(2**31), 2**31 - 1, 2], np.int32)


def run(isa: str, g: Gather, source: Array, indices: Array, target: Array) -> None:
    code = Code.map(emit_gather(g, TARGETS[isa].isa))
    assert code.call((source.ctypes.data, indices.ctypes.data, target.ctypes.data)) == 0


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("side", SIDES)
def test_row_42_an_index_beyond_the_rows_reads_nothing_outside(isa: str, dtype: str, side: str) -> None:
    """Between guard pages, at every row length."""
    fences = [Fence(1 << 14) for _ in range(3)]
    for n in [*range(1, 36), 150, 300]:
        source = fences[0].hold(plain(n, (5, n), DTYPES[dtype]), side)
        indices = fences[1].hold(INDICES, side)
        count = 10 if n < 100 else 3
        target = fences[2].hold(np.zeros((count, n), DTYPES[dtype]), side)
        run(isa, Gather(dtype, 5, n, count, n, n), source, indices, target)
        assert_same_bits(target, source[np.clip(INDICES[:count], 0, 4)], n)


@pytest.mark.parametrize("isa", ISAS)
def test_batches_and_rows_apart(isa: str) -> None:
    """Along axis 1 of (2, 5, 21): `np.take` with mode clip."""
    source, target = plain(1, (2, 5, 30)), np.full((2, 10, 25), 7, np.float32)
    g = Gather("f32", 5, 21, 10, 30, 25, outer=2, source_outer=150, target_outer=250)
    run(isa, g, source, INDICES, target)
    assert_same_bits(target[..., :21], np.take(source, INDICES, 1, mode="clip")[..., :21])
    assert (target[..., 21:] == 7).all()


@pytest.mark.parametrize("isa", ISAS)
def test_row_33_abi(isa: str) -> None:
    source, target = plain(1, (5, 200)), np.empty((10, 200), np.float32)
    code = Code.map(emit_gather(Gather("f32", 5, 200, 10, 200, 200), TARGETS[isa].isa))
    for stack_offset in (0, 16, 32, 48):
        addresses = source.ctypes.data, INDICES.ctypes.data, target.ctypes.data
        report = code.call_checked(addresses, stack_offset=stack_offset)
        assert report is not None
        assert report["violations"] == ()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gather("f32", 0, 4, 4, 4, 4), r"\(0, 4, 4, 1\), expected 1 and more"),
        (lambda: Gather("f32", 5, 4, 4, 1 << 30, 4), "expected to stay below"),
    ],
)
def test_what_is_no_gather_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
