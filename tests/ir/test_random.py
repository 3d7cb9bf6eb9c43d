"""Threefry against the known answers of Random123, and the numbers made of its words."""

from __future__ import annotations

import numpy as np
import pytest

from neurojit.ir.random import normal, threefry2x32, uniform, words

PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
        (PI[2:], PI[:2], (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_known_answers(key: tuple[int, int], counter: tuple[int, int], expected: tuple[int, int]) -> None:
    """The vectors of Random123's kat_vectors for threefry2x32, 20 rounds."""
    w0, w1 = threefry2x32(key, np.array([counter[0]], np.uint32), np.array([counter[1]], np.uint32))
    assert (int(w0[0]), int(w1[0])) == expected


KEY, COUNTER = np.array([-5, 7], np.int32), np.array(3, np.int32)


def test_an_element_depends_on_its_number_alone() -> None:
    whole = words(KEY, COUNTER, (6, 4))
    part = words(KEY, COUNTER, (2, 4))
    np.testing.assert_array_equal(whole[0][:2], part[0])
    np.testing.assert_array_equal(whole[1][:2], part[1])
    assert (whole[0] != words(KEY, np.array(4, np.int32), (6, 4))[0]).all()


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_distributions(dtype: str) -> None:
    """Within 5 standard deviations of what the moments of 2^16 numbers should be."""
    n = 1 << 16
    u = uniform(KEY, COUNTER, (n,), dtype)
    assert u.min() >= 0
    assert u.max() < 1
    assert (u == u.astype({"f32": "f4", "f64": "f8"}[dtype])).all()
    assert abs(u.mean() - 0.5) < 5 / np.sqrt(12 * n)
    z = normal(KEY, COUNTER, (n,), dtype).astype("f8")
    assert np.isfinite(z).all()
    assert abs(z.mean()) < 5 / np.sqrt(n)
    assert abs((z**2).mean() - 1) < 5 * np.sqrt(2 / n)
    assert abs((z**4).mean() - 3) < 5 * np.sqrt(96 / n)
