"""Packed weights: the block of bytes that a program reads its weights from, as its plan lays them out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from neurojit.ir import ELEMENTS, Dense, Function
from neurojit.ir.interpreter import held_as_float32
from neurojit.plan.panels import Panels
from neurojit.plan.program import LINE, ProgramPlan, Weight

Array = np.ndarray[Any, Any]


def packed(
    plan: ProgramPlan, arrays: Mapping[str, Array], old: Array | None = None, only: str | None = None
) -> Array:
    """The block of packed weights; or a copy of the old block in which one weight is exchanged."""
    block = aligned(plan.weight_bytes)
    if old is not None:
        block[...] = old
    for weight in plan.weights:
        if only is None or weight.name == only:
            _pack(block, weight, arrays)
    return block


def _pack(block: Array, weight: Weight, arrays: Mapping[str, Array]) -> None:
    dtype = np.dtype(ELEMENTS[weight.dtype].dtype)
    array = arrays[weight.name]
    if array.dtype == np.uint16:  # bf16, held as f32
        array = held_as_float32(array)
    matrix = array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)
    if weight.transposed:
        matrix = matrix.T
    if weight.panel:
        _lay_panels(block, weight, matrix, dtype)
        return
    shape, strides = (weight.rows, weight.columns), (weight.row_bytes, dtype.itemsize)
    target: Array = np.ndarray(shape, dtype, block, weight.offset, strides)
    target[...] = matrix[:, weight.first_column : weight.first_column + weight.columns]


def _lay_panels(block: Array, weight: Weight, matrix: Array, dtype: np.dtype[Any]) -> None:
    """As plan/panels.py says: in each panel, row after row, so many columns; zeros behind the last column."""
    panels = Panels.of(weight.dtype, weight.rows, weight.panel)
    for number in range(panels.panels(weight.columns)):
        columns = matrix[:, number * weight.panel : (number + 1) * weight.panel]
        begin = weight.offset + number * panels.panel_bytes
        shape, strides = (weight.rows, columns.shape[1]), (weight.row_bytes, dtype.itemsize)
        target: Array = np.ndarray(shape, dtype, block, begin, strides)
        target[...] = columns


def aligned(size: int) -> Array:
    """So many zero bytes, 64-byte aligned."""
    store = np.zeros(size + LINE, np.uint8)
    begin = -store.ctypes.data % LINE
    return store[begin : begin + size]


def constants_of(function: Function) -> dict[str, Array]:
    """The constants of a function under the names that plans give them."""
    return {
        f"%{op.result.name}": value.array
        for op in function.block.walk()
        if op.name == "constant" and isinstance(value := op.attributes["value"], Dense)
    }
