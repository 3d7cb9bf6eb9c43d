"""The gate for kernels that go over tensors: maps, reductions, copies, running sums, gathers, random numbers.

As for products (`validation`), results are compared bit for bit: additions have one order, arithmetic is
NumPy's, and functions are computed by kernels of one function each, which were held against their bounds
already. Every buffer is a frame of sentinels around what the kernel may touch; all of it is compared, so a
write beside an output shows as well as an input that was changed. Two sets of inputs run, ordinary numbers,
and tiny ones with NaN, infinities and signed zeros among them; a dynamic extent is tried as 0, 1 and 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from neurojit.errors import ValidationError
from neurojit.expressions import Function, apply_function, evaluate, evaluate_rows
from neurojit.ir import random
from neurojit.ir.types import ELEMENTS, round_bf16
from neurojit.plan.cast import Cast
from neurojit.plan.cumsum import Cumsum
from neurojit.plan.gather import Gather
from neurojit.plan.map import Access, Map
from neurojit.plan.random import Random
from neurojit.plan.reduce import Reduce
from neurojit.plan.transpose import Transpose
from neurojit.validation import DTYPES, FRAME, Array, special_numbers

Kernel = Map | Reduce | Transpose | Cumsum
Run = Callable[[tuple[int, ...], int], int]
"""Calls the kernel on the addresses of its buffers, with a dynamic extent; returns its result code."""

EXTENTS = (0, 1, 3)
SPECIAL_EVERY = 7
NORMAL_BOUND = 4.0
"""Units in the last place that a normal number may be off: logarithm, root, cosine and two products."""


def validate_rows(g: Kernel, run: Run, what: str, function: Function = apply_function) -> None:
    """Run the kernel on both sets of inputs; ValidationError names the first element that differs."""
    for extent in EXTENTS if g.shape[0] is None else (0,):
        shape = tuple(extent if size is None else size for size in g.shape)
        for seed, every in ((1, 0), (2, SPECIAL_EVERY)):
            _validate(g, shape, extent, seed, every, run, what, function)


def _validate(
    g: Kernel,
    shape: tuple[int, ...],
    extent: int,
    seed: int,
    every: int,
    run: Run,
    what: str,
    function: Function,
) -> None:
    dtype = DTYPES[g.dtype]
    inputs, outputs = _accesses(g)
    frames = [_Frame(b, (*inputs, *outputs), shape, dtype, seed, every) for b in range(g.buffers)]
    values = [frames[a.buffer].view(a).copy() for a in inputs]
    results = _meaning(g, values, function)
    for access, result in zip(outputs, results, strict=True):
        frames[access.buffer].expect(access, result)
    _call(run, tuple(frame.address for frame in frames), extent, what)
    exact = isinstance(g, (Map, Reduce)) and g.expression.gives_integers
    for frame in frames:
        _compare(frame.expected, frame.store, f"{what}: buffer {frame.number} at {shape}", exact)


def _accesses(g: Kernel) -> tuple[Sequence[Access], Sequence[Access]]:
    return (g.inputs, g.outputs) if isinstance(g, (Map, Reduce)) else ((g.source,), (g.target,))


def _meaning(g: Kernel, inputs: list[Array], function: Function) -> list[Array]:
    if isinstance(g, Map):
        return evaluate(g.expression, inputs, function)
    if isinstance(g, Reduce):
        return evaluate_rows(g, inputs, function)
    if isinstance(g, Transpose):
        return inputs
    with np.errstate(all="ignore"):
        return [np.cumsum(inputs[0], -2 if g.down else -1, inputs[0].dtype)]


class _Frame:
    """A buffer with what surrounds it, and what it must be afterwards."""

    def __init__(
        self,
        number: int,
        accesses: Sequence[Access],
        shape: tuple[int, ...],
        dtype: np.dtype[np.generic],
        seed: int,
        every: int,
    ) -> None:
        own = [a for a in accesses if a.buffer == number]
        reach = [
            [(extent - 1) * s for extent, s in zip(shape, a.strides, strict=True) if extent] for a in own
        ]
        low = min(a.offset + sum(r for r in of if r < 0) for a, of in zip(own, reach, strict=True))
        high = max(a.offset + sum(r for r in of if r > 0) for a, of in zip(own, reach, strict=True))
        self.number, self.shape, self.origin = number, shape, FRAME - low
        self.store = special_numbers(seed + number, high - low + 1 + 2 * FRAME, dtype, every)
        self.expected = self.store.copy()

    @property
    def address(self) -> int:
        return int(self.store.ctypes.data) + self.origin * self.store.itemsize

    def view(self, access: Access, of: Array | None = None) -> Array:
        store = self.store if of is None else of
        strides = [stride * store.itemsize for stride in access.strides]
        return np.lib.stride_tricks.as_strided(store[self.origin + access.offset :], self.shape, strides)

    def expect(self, access: Access, result: Array) -> None:
        self.view(access, self.expected)[...] = result


def validate_gather(g: Gather, run: Run, what: str) -> None:
    """The same for a gather, with indices inside and far outside the rows."""
    dtype = DTYPES[g.dtype]
    reach = (g.rows - 1) * abs(g.source_row) + (g.outer - 1) * abs(g.source_outer) + g.n
    source = special_numbers(1, reach + 2 * FRAME, dtype, SPECIAL_EVERY)
    indices = np.resize(
        np.array([0, g.rows - 1, -1, g.rows, -(2**31), 2**31 - 1, g.rows // 2], np.int32), g.count
    )
    size = (g.count - 1) * abs(g.target_row) + (g.outer - 1) * abs(g.target_outer) + g.n
    target = special_numbers(2, size + 2 * FRAME, dtype, 0)
    expected, kept = target.copy(), source.copy()
    for o in range(g.outer):
        for i, index in enumerate(np.clip(indices, 0, g.rows - 1)):
            first = FRAME + o * g.source_outer + int(index) * g.source_row
            to = FRAME + o * g.target_outer + i * g.target_row
            expected[to : to + g.n] = source[first : first + g.n]
    inside = FRAME * dtype.itemsize
    _call(run, (source.ctypes.data + inside, indices.ctypes.data, target.ctypes.data + inside), 0, what)
    _compare(expected, target, f"{what}: target")
    _compare(kept, source, f"{what}: source")


def validate_random(g: Random, run: Run, what: str) -> None:
    """The same for random numbers: uniform ones have the bits of their meaning, normal ones are near it."""
    for key, counter in (((0, 0), 0), ((1, -2), -(2**31))):
        words, at = np.array(key, np.int32), np.array([counter], np.int32)
        if g.distribution == "words":
            got = np.zeros((2, g.count), np.int32)
            addresses = words.ctypes.data, at.ctypes.data, got[0].ctypes.data, got[1].ctypes.data
            _call(run, addresses, 0, what)
            meant = np.stack(random.words(words, at[0], (g.count,))).view(np.int32)
            _compare(meant.ravel(), got.ravel(), f"{what}: key {key}")
            continue
        target = special_numbers(1, g.count + 2 * FRAME, np.dtype(np.float32), 0)
        expected = target.copy()
        inside = target[FRAME : FRAME + g.count]
        _call(run, (words.ctypes.data, at.ctypes.data, inside.ctypes.data), 0, what)
        meaning = random.uniform if g.distribution == "uniform" else random.normal
        exact = meaning(words, at[0], (g.count,), g.dtype)
        result = exact.astype(np.float32)
        if g.distribution == "normal":
            near = np.abs(inside - exact) <= NORMAL_BOUND * np.spacing(np.maximum(np.abs(result), 2.0**-100))
            result = np.where(near, inside, result)
        expected[FRAME : FRAME + g.count] = result
        _compare(expected, target, f"{what}: key {key}")


def validate_cast(g: Cast, run: Run, what: str) -> None:
    """The same for a cast, of numbers that it is asked for: integers of 8 bits, truth, rounded to bf16."""
    values = _castable(g)
    source, target = _held(values, g.source), special_numbers(2, g.count, np.dtype(np.float64), 0)
    expected = _held(values, g.target)
    frame = np.resize(target.view(np.uint8), 2 * FRAME + expected.nbytes)
    meant = frame.copy()
    meant[FRAME : FRAME + expected.nbytes] = expected.view(np.uint8)
    _call(run, (source.ctypes.data, frame.ctypes.data + FRAME), 0, what)
    _compare(meant, frame, f"{what}: bytes", exact=True)


def _castable(g: Cast) -> Array:
    """Numbers, as f64, that have both types."""
    numbers = special_numbers(1, g.count, np.dtype(np.float32), 0).astype(np.float64) * 97
    if "i1" in (g.source, g.target):
        return np.asarray(numbers > 0, np.float64)
    if "i8" in (g.source, g.target):
        return np.trunc(np.clip(numbers, -128, 127))
    if "i32" in (g.source, g.target):
        return np.trunc(np.clip(numbers * 1e6, -(2.0**31), 2.0**31 - 1))
    return round_bf16(numbers).astype(np.float64)


def _held(values: Array, element: str) -> Array:
    if element == "bf16":
        return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return values.astype(ELEMENTS[element].dtype)


def _call(run: Run, addresses: tuple[int, ...], extent: int, what: str) -> None:
    code = run(addresses, extent)
    if code != 0:
        raise ValidationError(f"{what}: returned {code}, expected 0; it is not used")


def _compare(expected: Array, got: Array, what: str, exact: bool = False) -> None:
    """exact: one NaN is not as good as another, since integers may look like it."""
    integers = np.dtype(f"u{expected.itemsize}")
    same = expected.view(integers) == got.view(integers)
    if not exact and expected.dtype.kind == "f":
        same |= np.isnan(expected) & np.isnan(got)
    if not same.all():
        at = int(np.flatnonzero(~same)[0])
        raise ValidationError(
            f"{what}: element {at - FRAME} is {got[at]!r}, the reference gives {expected[at]!r} "
            f"({int((~same).sum())} elements differ); it is not used, please report this"
        )
