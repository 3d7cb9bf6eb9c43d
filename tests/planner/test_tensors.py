"""Views: which reshapes are none but another shape and strides, as NumPy finds them."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np

from neurojit.planner.tensors import Buffer, View

MEMORY = np.arange(1 << 16)


def strided(rng: random.Random) -> View:
    """Part of a larger tensor, its axes perhaps exchanged."""
    shape = [rng.choice((1, 2, 3, 4, 6)) for _ in range(rng.randint(1, 4))]
    around = [extent * rng.choice((1, 1, 2)) for extent in shape]
    strides = [math.prod(around[axis + 1 :]) for axis in range(len(shape))]
    order = list(range(len(shape)))
    if rng.random() < 0.4:
        rng.shuffle(order)
    return View(Buffer(MEMORY.nbytes), tuple(shape[a] for a in order), tuple(strides[a] for a in order))


def shape_of(rng: random.Random, size: int) -> tuple[int, ...]:
    """Any shape of so many elements."""
    shape: list[int] = []
    while size > 1:
        shape.append(rng.choice([d for d in range(2, size + 1) if size % d == 0]))
        size //= shape[-1]
    for _ in range(rng.randint(0, 2)):
        shape.insert(rng.randint(0, len(shape)), 1)
    return tuple(shape) or (1,)


def array(view: View) -> np.ndarray[Any, Any]:
    strides = [stride * MEMORY.itemsize for stride in view.strides]
    return np.lib.stride_tricks.as_strided(MEMORY, view.shape, strides)


def test_a_reshape_is_a_view_wherever_strides_can_say_it() -> None:
    rng, views = random.Random(1), 0
    for _ in range(3000):
        view = strided(rng)
        shape = shape_of(rng, math.prod(view.shape))
        reshaped, meant = view.reshaped(shape), array(view).reshape(shape)
        if reshaped is None:
            assert not np.shares_memory(meant, MEMORY), (view.shape, view.strides, shape)
        else:
            views += 1
            np.testing.assert_array_equal(array(reshaped), meant)
    assert 1000 < views < 2900


def test_heads_are_cut_from_a_slice_of_rows() -> None:
    rows = View(Buffer(1 << 14), (16, 192), (192, 1))
    query = rows.sliced(1, 64, 128, 1).reshaped((16, 4, 16))
    assert query is not None
    assert query.strides == (192, 16, 1)
    assert query.offset == 64
    assert rows.sliced(1, 64, 128, 1).reshaped((1024,)) is None
