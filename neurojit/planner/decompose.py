"""Softmax and logsumexp along a dynamic extent, as sums and greatest elements that its rows are gone through
for.

No part of the rows has all that such an op needs. In steps it has: the greatest element, then the sum of the
exponentials, each known after the last row, then what each row needs of them (see `network`).
"""

from __future__ import annotations

from collections.abc import Sequence

from neurojit.ir.structure import Dense, Function, Op, Value
from neurojit.passes.rewrite import Rewriter, instead

ROWS = (0,)


def decompose(function: Function) -> Function:
    """The function with such ops in steps; itself if there are none."""
    return _Decompose(function).run()


class _Decompose(Rewriter):
    looks_at = frozenset({"softmax", "logsumexp"})

    def visit(self, op: Op) -> Sequence[Op] | None:
        (x,) = op.operands
        if not x.type.is_dynamic or op.attributes["axis"] != 0:
            return None
        return self._softmax(op, x) if op.name == "softmax" else self._logsumexp(op, x)

    def _softmax(self, op: Op, x: Value) -> Sequence[Op]:
        top = self.new("max", (x,), op.result, op.span, axes=ROWS, keepdims=True)
        below = self.new("sub", (x, top.result), op.result, op.span)
        powers = self.new("exp", (below.result,), op.result, op.span)
        total = self.new("sum", (powers.result,), op.result, op.span, axes=ROWS, keepdims=True)
        return top, below, powers, total, *instead(op, "div", (powers.result, total.result))

    def _logsumexp(self, op: Op, x: Value) -> Sequence[Op]:
        """Shifted by the greatest element, if that is finite."""
        element, result, span = x.type.element, op.result, op.span
        top = self.new("max", (x,), result, span, axes=ROWS, keepdims=True)
        size = self.new("abs", (top.result,), result, span)
        infinite = self.new("constant", (), result, span, value=Dense.of(float("inf"), element))
        finite = self.new("compare", (size.result, infinite.result), result, span, predicate="lt")
        zero = self.new("constant", (), result, span, value=Dense.of(0.0, element))
        shift = self.new("select", (finite.result, top.result, zero.result), result, span)
        below = self.new("sub", (x, shift.result), result, span)
        powers = self.new("exp", (below.result,), result, span)
        total = self.new("sum", (powers.result,), result, span, axes=ROWS, keepdims=True)
        log = self.new("log", (total.result,), result, span)
        ops = (top, size, infinite, finite, zero, shift, below, powers, total, log)
        if op.attributes["keepdims"]:
            return *ops, *instead(op, "add", (log.result, shift.result))
        sum_ = self.new("add", (log.result, shift.result), result, span)
        shape = result.type.static_shape(0)
        return *ops, sum_, *instead(op, "reshape", (sum_.result,), shape=shape)
