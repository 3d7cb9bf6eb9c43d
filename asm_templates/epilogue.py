"""The epilogue of gemm: what happens to a tile of accumulators before it is stored. See plan/epilogue.py.

The sums, and functions of a few instructions, are applied to the accumulators. A longer function would be
emitted once per accumulator, a dozen times and more, and find hardly a register free: instead the tile is
stored as it is, and at once taken up again row by row, in a loop. The tile is in L1 then, so that costs a
store and a load per vector, of which out-of-order cores show little beside the function.
"""

from __future__ import annotations

from neurojit.asm_templates.machine import Machine, Pointer, Tile, Vector
from neurojit.asm_templates.math import FUNCTIONS
from neurojit.plan.epilogue import Activation, Epilogue
from neurojit.plan.gemm import Gemm

ON_ACCUMULATORS = ("identity", "relu", "leaky_relu", "clamp")
"""Functions of one or two instructions and one temporary."""


class EpilogueOperands:
    """The addresses of bias and residual beside a tile, moved along as the kernel goes from tile to tile."""

    def __init__(self, m: Machine, g: Gemm, bias: Pointer | None, residual: Pointer | None) -> None:
        self.m, self.g = m, g
        self.bias = bias
        self.residual = residual

    @classmethod
    def of(cls, m: Machine, g: Gemm, pointers: tuple[Pointer, ...]) -> EpilogueOperands:
        """From the kernel's operands after C."""
        if g.accumulate:
            raise ValueError("gemm: accumulate with an epilogue; give the epilogue a beta of 1 instead")
        rest = list(pointers)
        bias = rest.pop(0) if g.epilogue.bias != "none" else None
        return cls(m, g, bias, rest.pop(0) if rest else None)

    def copy(self) -> EpilogueOperands:
        """For one block of columns: what moves down the rows is copied."""
        bias = self.m.copy(self.bias) if self.bias is not None and self._bias_moves_down else self.bias
        residual = self.m.copy(self.residual) if self.residual is not None else None
        return EpilogueOperands(self.m, self.g, bias, residual)

    def release_copy(self) -> None:
        if self.bias is not None and self._bias_moves_down:
            self.m.release(self.bias)
        if self.residual is not None:
            self.m.release(self.residual)

    def next_rows(self, height: int) -> None:
        size = self.m.element.size
        if self.bias is not None and self._bias_moves_down:
            self.m.advance(self.bias, height * size)
        if self.residual is not None:
            assert self.g.epilogue.residual is not None
            self.m.advance(self.residual, height * self.g.epilogue.residual * size)

    def next_columns(self, width: int) -> None:
        size = self.m.element.size
        if self.bias is not None and not self._bias_moves_down:
            self.m.advance(self.bias, width * size)
        if self.residual is not None:
            self.m.advance(self.residual, width * size)

    @property
    def _bias_moves_down(self) -> bool:
        return self.g.epilogue.bias == "column"


def store_tile(m: Machine, g: Gemm, tile: Tile, c: Pointer, at: EpilogueOperands) -> None:
    """Apply the epilogue to the accumulators, store them, give back their registers."""
    e, size = g.epilogue, m.element.size
    stride = row_stride(g)
    later = e.activation.name not in ON_ACCUMULATORS
    columns = [vector.lanes for vector in tile[0]]
    for i, row in enumerate(tile):
        column_bias = None
        if at.bias is not None and e.bias == "column":
            column_bias = m.broadcast(max(columns), at.bias, i * size)
        across = 0
        for vector in row:
            _add_terms(m, e, vector, (c, i * stride * size + across), at, i, across, column_bias)
            if not later:
                _activate(m, e.activation, vector)
            m.store(vector, c, i * stride * size + across)
            m.drop(vector)
            across += vector.lanes * size
        if column_bias is not None:
            m.drop(column_bias)
    if later:
        _activate_stored(m, g, len(tile), columns, c)


def row_stride(g: Gemm) -> int:
    if g.c.row_stride is None:
        raise ValueError("a micro-kernel, whose row stride is known only at the call, takes no epilogue")
    return g.c.row_stride


def _add_terms(
    m: Machine,
    e: Epilogue,
    t: Vector,
    element_of_c: tuple[Pointer, int],
    at: EpilogueOperands,
    row: int,
    across: int,
    column_bias: Vector | None,
) -> None:
    """t = alpha t + beta C + bias + residual, each operation rounded."""
    if e.alpha != 1:
        m.mul(t, e.alpha, into=t)
    if e.beta == 1:
        _add(m, t, *element_of_c)
    elif e.beta != 0:
        before = m.load(t.lanes, *element_of_c)
        m.mul(before, e.beta, into=before)
        m.add(t, before, into=t)
        m.drop(before)
    if column_bias is not None:
        m.add(t, column_bias, into=t)
    elif at.bias is not None:
        _add(m, t, at.bias, across)
    if at.residual is not None:
        assert e.residual is not None
        _add(m, t, at.residual, row * e.residual * m.element.size + across)


def _add(m: Machine, t: Vector, pointer: Pointer, offset: int) -> None:
    """t += the vector in memory."""
    term = m.vector(t.lanes, pointer, offset, uses=1)
    m.add(t, term, into=t)
    m.drop(term)


def _activate(m: Machine, activation: Activation, vector: Vector) -> None:
    FUNCTIONS[activation.name](m, vector, *activation.parameters)


def _activate_stored(m: Machine, g: Gemm, height: int, columns: list[int], c: Pointer) -> None:
    """The activation on a tile that is in C already."""
    size = m.element.size
    row = m.copy(c) if height > 1 else c
    with m.loop(height):
        across = 0
        for lanes in columns:
            vector = m.load(lanes, row, across)
            _activate(m, g.epilogue.activation, vector)
            m.store(vector, row, across)
            m.drop(vector)
            across += lanes * size
        if height > 1:
            m.advance(row, row_stride(g) * size)
    if height > 1:
        m.release(row)
