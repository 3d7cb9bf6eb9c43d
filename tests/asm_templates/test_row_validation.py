"""Rows 39 and 40 for kernels over tensors: the gate passes what is right, and names what is wrong."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from operands import TARGETS, Array, runnable_isas
from test_map_expressions import emitted_functions, lstm_map, one_op
from test_reduce import layer_norm_of, reduction, rows_of

from neurojit.codegen import (
    emit_cumsum,
    emit_gather,
    emit_map,
    emit_random,
    emit_reduce,
    emit_transpose,
)
from neurojit.errors import ValidationError
from neurojit.plan import reduce as plan
from neurojit.plan.cumsum import Cumsum
from neurojit.plan.gather import Gather
from neurojit.plan.map import Access, Map
from neurojit.plan.random import Random
from neurojit.plan.transpose import Transpose
from neurojit.row_validation import Run, validate_gather, validate_random, validate_rows
from neurojit.runtime import Code

ISAS = runnable_isas()
ADD = Map("f32", (None, 21), (Access(0, (25, 1)), Access(1, (0, 1))), (Access(2, (23, 1)),), one_op("add"))


def run_of(emitted: bytes) -> Run:
    code = Code.map(emitted)
    return lambda addresses, extent: code.call(addresses, extent)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_right_kernels_pass(isa: str, dtype: str) -> None:
    target = TARGETS[isa].isa
    functions = emitted_functions(isa, dtype)
    for g in (replace(ADD, dtype=dtype), lstm_map(dtype, 2, 37), lstm_map(dtype, None, 9)):
        validate_rows(g, run_of(emit_map(g, target)), "map", functions)
    for r in (rows_of(dtype, None, 70, plan.softmax), layer_norm_of(dtype, 3, 300)):
        validate_rows(r, run_of(emit_reduce(r, target)), "reduce", functions)
    t = Transpose(dtype, (None, 9, 20), Access(0, (200, 1, 9)), Access(1, (190, 21, 1)))
    validate_rows(t, run_of(emit_transpose(t, target)), "transpose")
    for down in (False, True):
        c = Cumsum(dtype, (None, 9, 20), Access(0, (180, 20, 1)), Access(0, (180, 20, 1)), down)
        validate_rows(c, run_of(emit_cumsum(c, target)), "cumsum")
    picked = Gather(dtype, 5, 21, 9, 30, 25, 2, 150, 225)
    validate_gather(picked, run_of(emit_gather(picked, target)), "gather")


@pytest.mark.parametrize("isa", ISAS)
def test_right_random_numbers_pass(isa: str) -> None:
    for g in (Random("uniform", 77), Random("normal", 500)):
        validate_random(g, run_of(emit_random(g, TARGETS[isa].isa)), "random")


def floats(address: int, count: int) -> Array:
    return np.ctypeslib.as_array((ctypes.c_float * count).from_address(address))


def wrong(change: Callable[[tuple[int, ...], int], object]) -> Run:
    """The right kernel, and then something else."""
    right = run_of(emit_map(ADD, TARGETS[ISAS[0]].isa))

    def run(addresses: tuple[int, ...], extent: int) -> int:
        right(addresses, extent)
        change(addresses, extent)
        return 0

    return run


@pytest.mark.parametrize(
    "change",
    [
        lambda a, n: floats(a[2], 60).__setitem__(slice(0, n), 0),  # zeros
        lambda a, n: floats(a[2], 60).__setitem__(20, 5) if n else None,  # the last column
        lambda a, n: floats(a[2], 60).__setitem__(21, 5),  # between the rows
        lambda a, n: floats(a[2] - 4, 60).__setitem__(0, 5),  # before the first
        lambda a, n: floats(a[0], 60).__setitem__(3, 5),  # an input
        lambda a, n: floats(a[1], 21).__setitem__(3, 5),
        lambda a, n: floats(a[2], 60).__setitem__(0, 5),  # also where there are no rows
        lambda a, n: np.nan_to_num(floats(a[2], 21 if n else 0), copy=False),  # NaN and infinities
    ],
)
def test_rows_39_and_40_wrong_kernels_are_refused(change: Callable[[tuple[int, ...], int], object]) -> None:
    with pytest.raises(
        ValidationError, match=r"^a map: buffer \d at \(\d, 21\): element -?\d+ is .*, the ref"
    ):
        validate_rows(ADD, wrong(change), "a map")


def test_row_39_another_order_of_additions_is_refused() -> None:
    """One chain instead of partial sums."""
    g = rows_of("f32", 1, 300, reduction("reduce_sum"))
    validate_rows(g, run_of(emit_reduce(g, TARGETS[ISAS[0]].isa)), "a sum")

    def one_chain(addresses: tuple[int, ...], extent: int) -> int:
        with np.errstate(all="ignore"):
            floats(addresses[1], 1)[0] = np.cumsum(floats(addresses[0], 300))[-1]
        return 0

    with pytest.raises(ValidationError, match="a sum: buffer 1"):
        validate_rows(g, one_chain, "a sum")


def test_wrong_picks_numbers_and_results_are_refused() -> None:
    target = TARGETS[ISAS[0]].isa
    g = Gather("f32", 5, 21, 9, 21, 21)
    with pytest.raises(ValidationError, match=r"gather: target: element \d+ is"):
        validate_gather(g, run_of(emit_gather(replace(g, rows=4), target)), "gather")
    with pytest.raises(ValidationError, match=r"uniform: key \(0, 0\): element \d+ is"):
        validate_random(Random("uniform", 9), run_of(emit_random(Random("uniform", 8), target)), "uniform")
    with pytest.raises(ValidationError, match=r"normal: key \(0, 0\): element 0 is"):
        validate_random(Random("normal", 9), run_of(emit_random(Random("uniform", 9), target)), "normal")
    with pytest.raises(ValidationError, match="add: returned 7, expected 0"):
        validate_rows(ADD, lambda addresses, extent: 7, "add")
