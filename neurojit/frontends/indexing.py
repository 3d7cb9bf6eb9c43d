"""`x[index]` of a traced array: integers, slices, None, ..., and one array of known integers.

Each axis is cut by a slice or, for a step backwards or an array, by a gather; a reshape at the end takes away
the axes that integers picked and adds those of None. Indices from data are taken with mode="clip" only:
nothing could raise NumPy's IndexError in the middle of a program.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from neurojit.frontends.trace import Trace, Tracer, located, shaped

MOST_RUNS = 16
"""Runs of adjacent indices that are cut out and joined; more of them are gathered."""


def getitem(trace: Trace, x: Tracer, index: Any) -> Tracer:
    """x[index]. IndexError: as NumPy. TypeError: an index whose numbers are not known, or of another kind."""
    items = _expanded(x, index if isinstance(index, tuple) else (index,))
    arrays = [item for item in items if isinstance(item, np.ndarray)]
    if len(arrays) > 1 or (arrays and any(isinstance(item, int) for item in items)):
        raise located("index: one array of integers and no integer beside it; index in two steps")
    cut, shape, axis = x, [], 0
    for item in items:
        if item is None:
            shape.append(1)
            continue
        cut, kept = _cut(trace, cut, axis, item)
        shape += cut.shape[axis : axis + kept] if not isinstance(item, int) else []
        axis += kept
    wanted = tuple(shape)
    return cut if cut.shape == wanted else trace.op("reshape", cut._value, shape=wanted)


def _expanded(x: Tracer, items: tuple[Any, ...]) -> list[Any]:
    """One item for each axis, and None for each new one."""
    checked = [_item(item) for item in items]
    taken = sum(item is not None and item is not Ellipsis for item in checked)
    if taken > x.ndim:
        raise IndexError(f"too many indices: {x!r} has {x.ndim} axes, but {taken} were indexed")
    gaps = [number for number, item in enumerate(checked) if item is Ellipsis]
    if len(gaps) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    gap = gaps[0] if gaps else len(checked)
    rest = [slice(None)] * (x.ndim - taken)
    return [*checked[:gap], *rest, *checked[gap + 1 :]]


def _item(item: Any) -> Any:
    if item is None or item is Ellipsis:
        return item
    if isinstance(item, slice):
        if any(isinstance(part, Tracer) for part in (item.start, item.stop, item.step)):
            raise located("index: a slice whose ends are traced; its extent must be known")
        return item
    if isinstance(item, Tracer):
        if item.dtype.kind == "b":
            raise located("index: a traced mask picks an unknown number; use numpy.where(mask, x, y)")
        raise located("index: a traced array; use numpy.take(x, indices, axis, mode='clip')")
    if isinstance(item, (int, np.integer)) and not isinstance(item, bool):
        return int(item)
    array = np.asarray(item)
    if isinstance(item, list) and not array.size:  # as NumPy: no number, no dtype
        array = array.astype(np.intp)
    if array.dtype.kind not in "iu":
        raise located(
            f"index: {type(item).__name__} of {array.dtype}: expected integers, slices, None or ..."
        )
    return array


def _cut(trace: Trace, x: Tracer, axis: int, item: Any) -> tuple[Tracer, int]:
    """x cut along one axis, and how many axes that leaves in its place."""
    extent = x.shape[axis]
    if isinstance(item, int):
        if not -extent <= item < extent:
            raise IndexError(f"index {item} is out of bounds for axis {axis} with size {extent}")
        start = item % extent
        return trace.op("slice", x._value, axis=axis, start=start, end=start + 1), 1
    if isinstance(item, np.ndarray):
        return gathered(trace, x, item, axis, "raise"), item.ndim
    places = range(extent)[item]
    if places == range(extent):
        return x, 1
    if places.step < 0 and len(places):
        return gathered(trace, x, np.asarray(places), axis, "raise"), 1
    start, end = (places.start, max(places.start, places.stop)) if len(places) else (0, 0)
    step = places.step if len(places) else 1
    return trace.op("slice", x._value, axis=axis, start=start, end=min(end, extent), step=step), 1


def gathered(trace: Trace, x: Tracer, indices: Any, axis: int, mode: str) -> Tracer:
    """numpy.take along one axis."""
    extent = x.shape[axis]
    if isinstance(indices, Tracer):
        if mode != "clip":
            raise located(
                f"numpy.take: mode {mode!r} with traced indices: expected 'clip'; "
                "a program cannot raise IndexError"
            )
        if indices.dtype.kind != "i":
            raise located(f"numpy.take: indices of {indices.dtype}: expected int32; convert with astype")
        places = trace.value(indices, np.int32)
    else:
        known = np.asarray(indices)
        if known.dtype.kind not in "iu":
            raise located(f"numpy.take: indices of {known.dtype}: expected integers")
        counted = np.take(np.arange(extent), known, mode=mode)  # type: ignore[call-overload]
        runs = np.split(counted.ravel(), np.flatnonzero(np.diff(counted.ravel()) != 1) + 1)
        if extent and counted.size and len(runs) <= MOST_RUNS:
            return _joined(trace, x, axis, runs, counted.shape)
        places = trace.value(counted.astype(np.int32), np.int32)
    if extent == 0 and not isinstance(indices, Tracer):
        shape = (*x.shape[:axis], *np.shape(indices), *x.shape[axis + 1 :])
        return trace.op("reshape", x._value, shape=shape)
    return trace.op("gather", x._value, places, axis=axis)


def _joined(trace: Trace, x: Tracer, axis: int, runs: list[Any], shape: tuple[int, ...]) -> Tracer:
    """The slices of these runs, one after another; `shape` takes the place of the axis."""
    slices = [
        trace.op("slice", x._value, axis=axis, start=int(run[0]), end=int(run[-1]) + 1)._value for run in runs
    ]
    joined = trace.op("concat", *slices, axis=axis) if len(slices) > 1 else Tracer(trace, slices[0])
    return shaped(joined, (*x.shape[:axis], *shape, *x.shape[axis + 1 :]))
