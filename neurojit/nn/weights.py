"""Weights given and weights drawn: each layer states shapes, this file checks arrays against them."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurojit.ir.layer import Array
from neurojit.ir.types import ELEMENTS


def generator(rng: np.random.Generator | int | None) -> np.random.Generator:
    """A generator, or the one of a seed; None: seeded by the system."""
    return np.random.default_rng(rng)


def given_or_drawn(
    what: str, given: Any, shape: tuple[int, ...], element: str, rng: np.random.Generator, bound: float
) -> Array:
    """The array given, checked, or one drawn evenly from (-bound, bound). Always a copy of the caller's.

    ValueError: another shape, or numbers that are not finite, with the place of the first."""
    dtype = np.dtype(ELEMENTS[element].dtype)
    if given is None:
        drawn: Array = rng.uniform(-bound, bound, shape).astype(dtype)
        return drawn
    array: Array = np.array(given, dtype, order="C")
    if array.shape != shape:
        raise ValueError(f"{what}: shape {array.shape}, expected {shape}")
    if not np.isfinite(array).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{what}: {array[place]} at {place}, expected finite numbers")
    return array


def checked_extents(what: str, **extents: int) -> None:
    """ValueError: an extent that is no positive integer."""
    for name, extent in extents.items():
        if not isinstance(extent, (int, np.integer)) or isinstance(extent, bool) or extent < 1:
            raise ValueError(f"{what}: {name}={extent!r}, expected an integer of at least 1")


def checked_element(what: str, element: str) -> None:
    """ValueError: an element type that weights cannot have."""
    if element not in ("f32", "f64"):
        raise ValueError(f"{what}: dtype {element!r}, expected 'f32' or 'f64'")
