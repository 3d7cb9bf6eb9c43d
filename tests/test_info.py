"""nj.info(): what is used and why, what was compiled, what NumPy answered."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from operands import needs_kernels, plain, runnable_isas

import neurojit as nj
from neurojit.config import CONFIG
from neurojit.runtime import SLOTS

pytestmark = pytest.mark.usefixtures("cold")


def test_it_is_a_frozen_value_with_a_line_for_each_field() -> None:
    info = nj.info()
    assert isinstance(info, nj.Info)
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.isa = "mine"  # type: ignore[misc]
    names = [field.name for field in dataclasses.fields(info)]
    assert [line.split()[0] for line in str(info).splitlines()] == names
    for name in names:
        assert nj.Info.__doc__ is not None
        assert name in nj.Info.__doc__


def test_it_is_a_copy() -> None:
    nj.info().fallbacks["mine"] = 1
    assert "mine" not in nj.info().fallbacks


@needs_kernels
def test_it_counts_kernels_compilations_and_evictions() -> None:
    before = nj.info()
    assert before.kernels == 0
    for n in (3, 4, 5):
        for _ in range(2):
            nj.matmul(plain(1, (2, n)), plain(2, (n, 3)))
    after = nj.info()
    assert after.kernels == 3
    assert after.compiled == before.compiled + 3
    assert after.compile_seconds > before.compile_seconds
    assert after.code_bytes >= before.code_bytes + 3 * 4096
    assert after.isa.endswith(runnable_isas()[0])
    assert after.isa_reason
    assert (after.encoder, after.strategy) in ((CONFIG.encoder, "memfd"), (CONFIG.encoder, "mprotect"))
    SLOTS.evict_bytes(1 << 62)
    assert nj.info().evictions == after.evictions + 3
    assert nj.info().kernels == 0


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda x: nj.matmul(x.astype(int), x.astype(int)), "dtype int64"),
        (lambda x: nj.matmul(x, x, casting="no"), "keyword casting"),
        (lambda x: nj.matmul(x, x, dtype="f8", casting="safe"), "keyword casting, dtype"),
        (lambda x: nj.matmul(x, x, out=np.zeros((3, 3))), "out of another shape, dtype or read-only"),
        (lambda x: nj.matmul(x, x, out=np.ma.zeros((3, 3), "f4")), "out of type MaskedArray"),
        (lambda x: nj.matmul(np.ma.array(x), x), "operand of type MaskedArray"),
    ],
)
def test_every_fallback_has_its_reason(call: Any, reason: str) -> None:
    x = plain(1, (3, 3))
    call(x)
    call(x)
    assert nj.info().fallbacks == {reason: 2}


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda x: nj.matmul(x, x[:2]), "shapes that do not match"),
        (lambda x: nj.matmul(x, 3.0), "shapes that do not match"),
        (lambda x: nj.matmul(x, x, out=(x, x)), "out is not one array"),
        (lambda x: nj.matmul(x, x, out=[x]), "out of type list"),
        (lambda x: nj.matmul(np.zeros((2, 2), "V4"), x), "dtypes |V4 and float32"),
    ],
)
def test_errors_are_numpys_to_raise_and_counted_too(call: Any, reason: str) -> None:
    with pytest.raises((TypeError, ValueError)):
        call(plain(1, (3, 3)))
    assert nj.info().fallbacks == {reason: 1}


def test_a_dtype_without_a_common_one() -> None:
    with pytest.raises(TypeError):
        nj.matmul(np.zeros((2, 2), "M8[s]"), plain(1, (2, 2)))
    assert nj.info().fallbacks == {"dtypes datetime64[s] and float32": 1}


def test_no_fallback_without_a_reason() -> None:
    for n in (1, 2, 5, 20):
        nj.matmul(plain(1, (n, n)), plain(2, (n, n)))
    if runnable_isas():
        assert nj.info().fallbacks == {}
    else:
        assert all(reason.startswith("no ISA") for reason in nj.info().fallbacks)
