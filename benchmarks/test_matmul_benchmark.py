"""A few products under pytest-benchmark, whose `--benchmark-compare` holds one run against an earlier one."""

from __future__ import annotations

import numpy as np
import pytest

import neurojit as nj

FUNCTIONS = {"neurojit": nj.matmul, "numpy": np.matmul}


@pytest.mark.parametrize("n", [1, 8, 32, 64, 256])
@pytest.mark.parametrize("library", FUNCTIONS)
def test_matmul(benchmark, library: str, n: int) -> None:
    a, b = np.random.default_rng(n).standard_normal((2, n, n)).astype(np.float32)
    out = np.empty((n, n), np.float32)
    FUNCTIONS[library](a, b, out)
    benchmark(FUNCTIONS[library], a, b, out)
    np.testing.assert_allclose(out, a @ b, rtol=1e-4, atol=1e-4)
