"""What is computed twice is computed once: pure ops of one name, with the same operands and attributes.

An op inside a block may stand for a later one in the same block or one nested in it, never the other way
round. Reads of a state are pure too: a state changes at the end of a call.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from neurojit.ir.structure import Attribute, Block, Function, Op, Value
from neurojit.ir.table import OPS
from neurojit.passes.rewrite import RewritePass, Rewriter


class _Common(Rewriter):
    def __init__(self, function: Function) -> None:
        super().__init__(function)
        self._frames: list[dict[Hashable, Value]] = []

    def block(self, block: Block) -> Block:
        self._frames.append({})
        try:
            return super().block(block)
        finally:
            self._frames.pop()

    def visit(self, op: Op) -> Sequence[Op] | None:
        if op.regions or len(op.results) != 1 or not OPS[op.name].is_pure:
            return None
        attributes = tuple([(name, _key(value)) for name, value in op.attributes.items()])
        key = (op.name, op.operands, attributes, op.result.type)
        for frame in self._frames:
            if key in frame:
                return self.use(op, frame[key])
        self._frames[-1][key] = op.result
        return None


def _key(value: Attribute) -> Hashable:
    """Equal only for values of the same bits: 0.0 is not -0.0."""
    return repr(value) if isinstance(value, float) else value


ELIMINATE_COMMON_SUBEXPRESSIONS = RewritePass("eliminate-common-subexpressions", _Common)
