"""Products: `gemm` kernels, and what the element types need before and after them.

f32 and f64 are multiplied as they lie. bf16 is held as f32 and the sums are rounded once. i8 is multiplied as
f32, or f64 where sums could pass 2^24: both are exact. i32, whose products no float holds, is an integer
reduction down columns.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

from neurojit.ir.structure import Op, Value
from neurojit.ir.types import ELEMENTS
from neurojit.plan.epilogue import Epilogue
from neurojit.plan.expression import Builder
from neurojit.plan.gemm import Gemm, Matrix, Output
from neurojit.plan.map import Access
from neurojit.plan.panels import Panels, panel_width, suits_panels
from neurojit.plan.reduce import Reduce
from neurojit.plan.tiling import panel_of_one_row
from neurojit.planner.copies import Copies
from neurojit.planner.drafts import at
from neurojit.planner.fusion import Product
from neurojit.planner.pointwise import wrapped
from neurojit.planner.tensors import View, lanes_of

MOST_EXACT = 1 << 10
"""Products of i8 whose sum f32 holds exactly, in any order: each is at most 2^14."""


class Products(Copies):
    """See the module's head."""

    def _product(self, made: Product) -> None:
        op = made.op
        left, right = op.operands
        element = left.type.element
        if element == "i32":
            self._integer_product(op)
            return
        a = self.view(left)
        if op.attributes["transpose_a"]:
            a = _swapped(a)
        exact = element in ("f32", "f64")
        lanes = "f64" if element == "i8" and a.shape[-1] > MOST_EXACT else lanes_of(element)
        a = self._numbers(a, lanes)
        panels = self._panels(op, math.prod(a.shape[:-1]))
        b = self._packed(op, panels) if panels else self._right(op, right, lanes)
        targets = self._targets(made.result) if exact else [View.of(self._shape(op.result), lanes)]
        if len(b.shape) != 2:
            self._batch(op, a, b, targets[0])
        else:
            self._matrices(made, a, b, targets[0], panels)
        if exact:
            self._made(made.result, targets[0], targets[1:])
        else:
            self._rounded(op.result, targets[0])

    def _matrices(self, made: Product, a: View, b: View, target: View, panels: Panels | None) -> None:
        """All rows by one matrix, perhaps in panels, with the epilogue."""
        op = made.op
        k, n = b.shape
        rows = self._reshaped(a, (math.prod(a.shape[:-1]), k), str(op.operands[0]))
        m = rows.shape[0]
        c = target.reshaped((m, n))
        assert c is not None, "destinations are contiguous"
        operands = [at(rows), at(b), at(c)]
        epilogue = Epilogue(activation=made.activation)
        if made.bias is not None:
            bias = self._adjacent(op, self.view(made.bias).spread((1, n)))
            epilogue = replace(epilogue, bias="row")
            operands.append(at(bias))
        if made.residual is not None:
            spread = self.view(made.residual).spread((*a.shape[:-1], n))
            residual = self._reshaped(spread, (m, n), "residual")
            epilogue = replace(epilogue, residual=self._adjacent(op, residual).strides[0] if m > 1 else n)
            operands.append(at(residual))
        payload = Gemm(
            a.element, m, n, k,
            Matrix(rows.strides[0] if m > 1 else k, rows.strides[1]), panels or Matrix(b.strides[0]),
            Output(c.strides[0] if m > 1 else n), epilogue=epilogue,
        )  # fmt: skip
        self._add(payload, tuple(operands), str(made.result), made.ops)

    def _batch(self, op: Op, a: View, b: View, c: View) -> None:
        """Products of many pairs of matrices: a loop over the leading axes."""
        m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
        outer = c.shape[:-2]
        operands = []
        for view in (a, b):
            wide = view.spread((*outer, *view.shape[-2:]))
            steps = _one_stride(outer, wide.strides)
            if steps is None:
                wide = self._copied(wide, f"operand of {op.name}")
                steps = _one_stride(outer, wide.strides)
            assert steps is not None
            operands.append((wide, steps))
        operands.append((c, _one_stride(outer, c.strides) or 0))
        payload = Gemm(
            a.element, m, n, k, Matrix(operands[0][0].strides[-2], operands[0][0].strides[-1]),
            Matrix(operands[1][0].strides[-2]), Output(n),
        )  # fmt: skip
        with self.drafts.loop(math.prod(outer)) as loop:
            size = ELEMENTS[a.element].size
            moving = [self.drafts.cursor(loop, at(view), step * size) for view, step in operands]
            self._add(payload, tuple((buffer, 0) for buffer in moving), str(op.result), [op])

    def _right(self, op: Op, value: Value, lanes: str) -> View:
        """The right operand with adjacent columns, as numbers of `lanes`."""
        transposed = bool(op.attributes["transpose_b"])
        source = self.sources.get(value)
        if source is not None and value.type.rank == 2:
            return self._weight(source, transposed, lanes)
        b = self._numbers(self.view(value), lanes)
        return self._adjacent(op, _swapped(b) if transposed else b)

    def _panels(self, op: Op, m: int) -> Panels | None:
        """The panels that a product's weights lie in, None where they lie row after row.

        Where the extent is dynamic, the weights serve several plans, and lie in the same panels for all."""
        value = op.operands[1]
        source = self.sources.get(value)
        may = source is not None and value.type.rank == 2 and value.type.element in ("f32", "f64")
        width = self.directives.panel(op, may)
        if not may or width == 0:
            return None
        k, n = value.type.static_shape(0)[:: -1 if op.attributes["transpose_b"] else 1]
        element = value.type.element
        if width is None and m == 1 and not self.extent:
            width = panel_of_one_row(element, k, n, self.target)
        elif width is None:
            suits = suits_panels(element, k, n, self.target)
            width = panel_width(element, self.target.isa) if suits else 0
        return Panels.of(element, k, width) if width else None

    def _packed(self, op: Op, panels: Panels) -> View:
        """The weights of a product, in panels; as a view, the place where the first one begins."""
        return self._weight(self.sources[op.operands[1]], bool(op.attributes["transpose_b"]), panels=panels)

    def _numbers(self, view: View, lanes: str) -> View:
        """Numbers of f32 or f64, also where integers are held."""
        if view.element == lanes or lanes == "f64":
            return self._as(view, lanes)
        whole = self._contiguous(view, "integers")
        numbers = View.of(view.shape, lanes)
        return self._apply(lambda b, x: b.apply("to_number", x), whole, numbers, "integers as numbers")

    def _rounded(self, value: Value, product: View) -> None:
        """The sums as the result's element type holds them."""
        name = str(value)
        if value.type.element == "i32" and product.element == "f64":
            self._hand(
                value, self._as(self._apply(wrapped, product, View.of(product.shape, "f64"), name), "i32")
            )
            return
        step = "round_bf16" if value.type.element == "bf16" else "to_integer"
        targets = self._targets(value)
        self._apply(lambda b, x: b.apply(step, x), product, targets[0], name)
        self._made(value, targets[0], targets[1:])

    def _integer_product(self, op: Op) -> None:
        """Sums down k of the products of a column of `a`, spread, and a row of `b`."""
        a, b = map(self.view, op.operands)
        a = _swapped(a) if op.attributes["transpose_a"] else a
        b = self._adjacent(op, _swapped(b) if op.attributes["transpose_b"] else b)
        targets = self._targets(op.result)
        c = targets[0]
        outer, (m, n), k = c.shape[:-2], c.shape[-2:], a.shape[-1]
        a, b = a.spread((*outer, m, k)), b.spread((*outer, k, n))
        build = Builder()
        product = build.apply("imul", build.input(0), build.input(1))
        accesses = (
            Access(0, (*a.strides, 0), a.offset),
            Access(1, (*b.strides[:-2], 0, *b.strides[-2:]), b.offset),
            Access(2, (*c.strides[:-1], 0, c.strides[-1]), c.offset),
        )
        expression = build.done(build.apply("reduce_isum", product))
        payload = Reduce("f32", (*outer, m, k, n), accesses[:2], accesses[2:], expression, down=True)
        views = tuple(replace(view, offset=0) for view in (a, b, c))
        self._add(payload, tuple(map(at, views)), str(op.result), [op])
        self._made(op.result, c, targets[1:])


def _swapped(view: View) -> View:
    """The last two axes exchanged."""
    rank = len(view.shape)
    return view.transposed((*range(rank - 2), rank - 1, rank - 2))


def _one_stride(outer: tuple[int, ...], strides: tuple[int, ...]) -> int | None:
    """The stride from one index of the outer axes to the next, None where there is no single one."""
    kept = [(extent, stride) for extent, stride in zip(outer, strides, strict=False) if extent != 1]
    if not kept:
        return 0
    for (_, stride), (inner, next_stride) in pairwise(kept):
        if stride != inner * next_stride:
            return None
    return kept[-1][1]
