"""The epilogue of a product: what happens to accumulators before they are stored. See plan/epilogue.py.

The sums, and functions of a few instructions, are applied to the accumulators. A longer function would be
emitted once per accumulator, a dozen times and more, and find hardly a register free: instead the tile is
stored as it is, and at once taken up again row by row, in a loop. The tile is in L1 then, so that costs a
store and a load per vector, of which out-of-order cores show little beside the function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from neurojit.asm_templates.machine import Machine, Pointer, Vector
from neurojit.asm_templates.math import FUNCTIONS
from neurojit.plan.epilogue import SHORT_FUNCTIONS, Activation, Epilogue
from neurojit.plan.gemm import Gemm


class EpilogueOperands:
    """The addresses of bias and residual beside a tile, moved along as the kernel goes from tile to tile; and
    of the partial sums of a micro-kernel, which has but one tile."""

    def __init__(
        self,
        m: Machine,
        e: Epilogue,
        bias: Pointer | None,
        residual: Pointer | None,
        partial: Pointer | None = None,
    ) -> None:
        self.m, self.e = m, e
        self.bias = bias
        self.residual = residual
        self.partial = partial

    @classmethod
    def of(cls, m: Machine, e: Epilogue, pointers: tuple[Pointer, ...]) -> EpilogueOperands:
        """From the kernel's operands after C."""
        rest = list(pointers)
        bias = rest.pop(0) if e.bias != "none" else None
        residual = rest.pop(0) if e.residual is not None else None
        return cls(m, e, bias, residual, rest.pop(0) if rest else None)

    def copy(self) -> EpilogueOperands:
        """For one block of columns: what moves down the rows is copied."""
        bias = self.m.copy(self.bias) if self.bias is not None and self._bias_moves_down else self.bias
        residual = self.m.copy(self.residual) if self.residual is not None else None
        return EpilogueOperands(self.m, self.e, bias, residual)

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
            assert self.e.residual is not None
            self.m.advance(self.residual, height * self.e.residual * size)

    def next_columns(self, width: int) -> None:
        size = self.m.element.size
        if self.bias is not None and not self._bias_moves_down:
            self.m.advance(self.bias, width * size)
        if self.residual is not None:
            self.m.advance(self.residual, width * size)

    def down_a_row(self) -> dict[Pointer, int]:
        """By how many bytes the operands of a row lie further than those of the row above."""
        size, steps = self.m.element.size, {}
        if self.bias is not None and self._bias_moves_down:
            steps[self.bias] = size
        if self.residual is not None:
            assert self.e.residual is not None
            steps[self.residual] = self.e.residual * size
        return steps

    @property
    def _bias_moves_down(self) -> bool:
        return self.e.bias == "column"


def store_row(m: Machine, vector: Vector, y: Pointer, at: EpilogueOperands) -> None:
    """Apply the epilogue to one vector of sums, the part of a row that `y` and the operands are at, and store
    it. Its register is given back; nearly all others are free, so any function is applied to it there."""
    column_bias = _column_bias(m, at, vector.lanes, 0)
    _add_terms(m, vector, (y, 0), at, 0, 0, column_bias)
    if column_bias is not None:
        m.drop(column_bias)
    _activate(m, at.e.activation, vector)
    m.store(vector, y, 0)
    m.drop(vector)


Rows = Callable[[dict[Pointer, int]], Iterable[tuple[int, int, list[Vector]]]]
"""The sums of a tile, as the machine's `rows` gives them: (row, bytes from its first column on, vectors)."""


def store_tile(
    m: Machine,
    g: Gemm,
    rows: Rows,
    columns: tuple[int, ...],
    c: Pointer,
    row_stride: Pointer | None,
    at: EpilogueOperands,
) -> None:
    """Apply the epilogue to the accumulators and store them; a long function is left to `activate_tile`.

    columns: the lanes of a row's vectors. row_stride: of C in bytes, where only the call knows it; c is then
    moved on, to anywhere, unless a long function follows.
    """
    e = g.epilogue
    down = g.c.row_stride * m.element.size if g.c.row_stride is not None else 0
    later = e.activation.name not in SHORT_FUNCTIONS
    of_row = m.copy(c) if row_stride is not None and later else c
    for i, across, row in rows({of_row: down, **at.down_a_row()}):
        column_bias = _column_bias(m, at, max(columns), i)
        for vector in row:
            _add_terms(m, vector, (of_row, i * down + across), at, i, across, column_bias)
            if not later:
                _activate(m, e.activation, vector)
            m.store(vector, of_row, i * down + across)
            across += vector.lanes * m.element.size
        if column_bias is not None:
            m.drop(column_bias)
        if row_stride is not None:
            m.advance_by(of_row, row_stride)
    if of_row is not c:
        m.release(of_row)


def activate_tile(
    m: Machine, g: Gemm, height: int, columns: tuple[int, ...], c: Pointer, row_stride: Pointer | None
) -> None:
    """Apply a long function to the tile that `store_tile` has stored, when its registers are given back."""
    if g.epilogue.activation.name not in SHORT_FUNCTIONS:
        down = g.c.row_stride * m.element.size if g.c.row_stride is not None else 0
        _activate_stored(m, g.epilogue.activation, height, columns, c, down, row_stride)


def _column_bias(m: Machine, at: EpilogueOperands, lanes: int, row: int) -> Vector | None:
    """The row's element of a column bias, spread."""
    if at.bias is None or at.e.bias != "column":
        return None
    return m.broadcast(lanes, at.bias, row * m.element.size)


def _add_terms(
    m: Machine,
    t: Vector,
    element_of_c: tuple[Pointer, int],
    at: EpilogueOperands,
    row: int,
    across: int,
    column_bias: Vector | None,
) -> None:
    """t = alpha t + beta C + bias + residual, each operation rounded."""
    e = at.e
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


def _activate_stored(
    m: Machine,
    activation: Activation,
    height: int,
    columns: tuple[int, ...],
    c: Pointer,
    down: int,
    row_stride: Pointer | None,
) -> None:
    """The activation on a tile that is in C already, whose rows are `down` or `row_stride` bytes apart."""
    row = m.copy(c) if height > 1 and row_stride is None else c
    with m.loop(height):
        across = 0
        for lanes in columns:
            vector = m.load(lanes, row, across)
            _activate(m, activation, vector)
            m.store(vector, row, across)
            m.drop(vector)
            across += lanes * m.element.size
        if row_stride is not None:
            m.advance_by(row, row_stride)
        elif height > 1:
            m.advance(row, down)
    if row is not c:
        m.release(row)
