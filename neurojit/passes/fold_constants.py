"""Ops whose operands are constants become constants, computed by the interpreter: its bits, by definition.

Not where the result has many more elements than the operands: a broadcast says the same in fewer bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

from neurojit.ir.interpreter import evaluate_op
from neurojit.ir.structure import Dense, Op
from neurojit.ir.table import OPS
from neurojit.passes.rewrite import RewritePass, Rewriter, instead

MOST_ELEMENTS = 1 << 12
SMALL = 16
"""Elements a result may have however few its operands have."""
FOLDED = ("gemm", "map", "reduce", "view", "move")


class _Fold(Rewriter):
    looks_at = frozenset(row.name for row in OPS.values() if row.lowering in FOLDED)

    def visit(self, op: Op) -> Sequence[Op] | None:
        if self.constant(op.operands[0]) is None or op.result.type.is_dynamic:
            return None
        constants = [self.constant(operand) for operand in op.operands]
        known = [constant for constant in constants if constant is not None]
        if len(known) != len(constants):
            return None
        largest = max(constant.array.size for constant in known)
        if op.result.type.count(0) > min(max(largest, SMALL), MOST_ELEMENTS):
            return None
        computed = evaluate_op(op, [constant.array for constant in known])
        return instead(op, "constant", (), value=Dense.of(computed, op.result.type.element))


FOLD_CONSTANTS = RewritePass("fold-constants", _Fold)
