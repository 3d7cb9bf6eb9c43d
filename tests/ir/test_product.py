"""Products in parts."""

from __future__ import annotations

import numpy as np
import pytest

from neurojit.ir.product import product


@pytest.mark.parametrize(
    "shapes",
    [
        ((3, 4), (4, 5)),
        ((29, 65), (65, 66)),
        ((65, 200), (200, 129)),  # in parts along every extent
        ((1, 300), (300, 70)),
        ((70, 300), (300, 1)),
        ((2, 1, 80, 90), (3, 90, 70)),
        ((3, 1, 5), (5, 1)),
        ((0, 4), (4, 3)),
        ((3, 0), (0, 3)),
    ],
)
@pytest.mark.parametrize("dtype", ["f4", "f8", "g", "i4"])
def test_products_in_parts_are_products(shapes: tuple[tuple[int, ...], tuple[int, ...]], dtype: str) -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.integers(-9, 9, shape).astype(dtype) for shape in shapes)  # exact in any order
    np.testing.assert_array_equal(product(a, b), np.einsum("...ij,...jk->...ik", a, b))
