"""Algebra on elements. Every rule gives the same bits, up to the sign and payload of NaN and, for maximum,
which of the two zeros: reordering, distributing and reciprocals that round are not here.

    x * 1, x / 1, x + -0, x - 0, max(x, x), min(x, x)          x        (x + 0 is not: -0 + 0 is 0)
    x * -1                                                     -x
    x / 2^k                                                    x * 2^-k
    -(-x), not(not(x))                                         x
    x + -y, x - -y                                             x - y, x + y
    -x * -y, -x / -y                                           x * y, x / y
    |-x|, ||x||                                                |x|
    max(x, 0)                                                  relu(x)
    relu(relu(x))                                              relu(x)
    select(not(c), x, y), select(c, x, x)                      select(c, y, x), x
    not(x == y), not(x != y)                                   x != y, x == y
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from neurojit.ir.structure import Dense, Op, Value
from neurojit.ir.types import FLOATS
from neurojit.passes.rewrite import RewritePass, Rewriter, instead

NEGATED = {"eq": "ne", "ne": "eq"}


class _Simplify(Rewriter):
    def visit(self, op: Op) -> Sequence[Op] | None:
        return _RULES[op.name](self, op)

    def splat(self, value: Value) -> float | None:
        """The number that all elements of a constant are; None if there is no such."""
        constant = self.constant(value)
        if constant is None or not constant.array.size:
            return None
        flat = constant.array.ravel()
        first = float(flat[0])
        same = (flat == flat[0]).all() and (np.signbit(flat) == np.signbit(flat[0])).all()
        return first if same and math.isfinite(first) else None

    def x_of(self, value: Value, name: str) -> Value | None:
        """x where `value` is name(x)."""
        made = self.maker(value, name)
        return made.operands[0] if made is not None else None

    def whole(self, op: Op, value: Value) -> Sequence[Op] | None:
        """`value` in place of what op defines, if it has that type: no broadcast is lost."""
        return self.use(op, value) if value.type == op.result.type else None

    def add(self, op: Op) -> Sequence[Op] | None:
        x, y = op.operands
        zero = self.splat(y)
        if zero == 0 and (math.copysign(1, zero) < 0 or y.type.element not in FLOATS):
            return self.whole(op, x)
        for kept, other in ((x, y), (y, x)):
            negated = self.x_of(other, "neg")
            if negated is not None:
                return instead(op, "sub", (kept, negated))
        return None

    def sub(self, op: Op) -> Sequence[Op] | None:
        x, y = op.operands
        zero = self.splat(y)
        if zero == 0 and math.copysign(1, zero) > 0:
            return self.whole(op, x)
        negated = self.x_of(y, "neg")
        return instead(op, "add", (x, negated)) if negated is not None else None

    def mul(self, op: Op) -> Sequence[Op] | None:
        x, y = op.operands
        factor = self.splat(y)
        if factor == 1:
            return self.whole(op, x)
        if factor == -1 and x.type == op.result.type:
            return instead(op, "neg", (x,))
        return self._without_signs(op)

    def div(self, op: Op) -> Sequence[Op] | None:
        x, y = op.operands
        divisor = self.splat(y)
        if divisor == 1:
            return self.whole(op, x)
        if divisor and abs(math.frexp(divisor)[0]) == 0.5 and 2.0**-100 < abs(divisor) < 2.0**100:
            constant = self.constant(y)
            assert constant is not None
            reciprocal = Dense.of(1 / constant.array, y.type.element)
            made = self.new("constant", (), y, op.span, value=reciprocal)
            return (made, *instead(op, "mul", (x, made.result)))
        return self._without_signs(op)

    def _without_signs(self, op: Op) -> Sequence[Op] | None:
        x, y = (self.x_of(operand, "neg") for operand in op.operands)
        return instead(op, op.name, (x, y)) if x is not None and y is not None else None

    def maximum(self, op: Op) -> Sequence[Op] | None:
        x, y = op.operands
        if self.splat(y) == 0 and x.type == op.result.type and x.type.element in FLOATS:
            return instead(op, "relu", (x,))
        return self.same(op)

    def same(self, op: Op) -> Sequence[Op] | None:
        x, y = op.operands
        return self.use(op, x) if x is y else None

    def neg(self, op: Op) -> Sequence[Op] | None:
        inner = self.x_of(op.operands[0], "neg")
        return self.use(op, inner) if inner is not None else None

    def abs(self, op: Op) -> Sequence[Op] | None:
        x = op.operands[0]
        inner = self.x_of(x, "neg")
        if inner is not None:
            return instead(op, "abs", (inner,))
        return self.again(op)

    def again(self, op: Op) -> Sequence[Op] | None:
        """f(f(x)) is f(x)."""
        x = op.operands[0]
        return self.use(op, x) if self.maker(x, op.name) is not None else None

    def not_(self, op: Op) -> Sequence[Op] | None:
        x = op.operands[0]
        inner = self.x_of(x, "not")
        if inner is not None:
            return self.use(op, inner)
        compared = self.maker(x, "compare")
        turned = NEGATED.get(str(compared.attributes["predicate"])) if compared is not None else None
        if compared is None or turned is None:
            return None
        return instead(op, "compare", compared.operands, predicate=turned)

    def select(self, op: Op) -> Sequence[Op] | None:
        condition, x, y = op.operands
        inner = self.x_of(condition, "not")
        if inner is not None:
            return instead(op, "select", (inner, y, x))
        return self.whole(op, x) if x is y else None


_RULES: dict[str, Callable[[_Simplify, Op], Sequence[Op] | None]] = {
    "add": _Simplify.add,
    "sub": _Simplify.sub,
    "mul": _Simplify.mul,
    "div": _Simplify.div,
    "maximum": _Simplify.maximum,
    "minimum": _Simplify.same,
    "and": _Simplify.same,
    "or": _Simplify.same,
    "neg": _Simplify.neg,
    "abs": _Simplify.abs,
    "relu": _Simplify.again,
    "not": _Simplify.not_,
    "select": _Simplify.select,
}
_Simplify.looks_at = frozenset(_RULES)

SIMPLIFY = RewritePass("simplify", _Simplify)
