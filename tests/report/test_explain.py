"""nj.explain_matmul: what it says of packed weights is what is planned for them."""

from __future__ import annotations

import numpy as np
import pytest
from operands import plain, runnable_isas

import neurojit as nj

pytestmark = pytest.mark.skipif(not runnable_isas(), reason="nothing is emitted on this machine")


@pytest.mark.parametrize(("storage", "bound"), [(None, "L3"), ("bf16", "L3"), ("int8", "widening")])
def test_packed_weights(storage: str | None, bound: str) -> None:
    w = nj.pack(np.zeros((1024, 1024), np.float32), storage)
    one = nj.explain_matmul(plain(1, (1, 1024)), w, measure=False)
    assert one.kernel == "gemm, packed"
    assert f"kept as {w.storage}" in one.reason
    assert any("parts  1 x 1 rows" in line for line in one.schedule)
    assert f"B {w.storage} in panels of {w.panels.width} columns" in str(one)
    assert one.listing
    if "avx512" in nj.info().isa:
        assert one.bound in (bound, "widening", "L2", "memory")
    many = nj.explain_matmul(plain(1, (600, 1024)), w, measure=False)
    assert many.bound == "FMA ports"
    if nj.info().isa.startswith("x86_64"):
        assert many.predicted > one.predicted
    else:  # equal where the model has no bandwidth of caches
        assert many.predicted >= one.predicted


def test_packed_weights_measured() -> None:
    measured = nj.explain_matmul(plain(1, (2, 3, 64)), nj.pack(plain(2, (64, 64)), "bf16"))
    assert measured.measured is not None
    assert 0 < measured.measured < 1.5


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"no product of \(2, 63\) and \(64, 64\)"):
        nj.explain_matmul(plain(1, (2, 63)), nj.pack(plain(2, (64, 64))))
