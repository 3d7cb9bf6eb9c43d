"""Transposes of the last two axes around a product go into its flags, which cost nothing.

    matmul(transpose(a), b)      matmul(a, b), transpose_a turned around; alike b
    transpose(matmul(a, b))      matmul(b, a), both flags turned around, where nobody else uses the product

The same sums of the same products. In which order they are added is the schedule's business either way, so
the bits may differ where the interpreter's do.
"""

from __future__ import annotations

from collections.abc import Sequence

from neurojit.ir.structure import Function, Op, Value
from neurojit.passes.rewrite import RewritePass, Rewriter, instead, uses_of


class _Absorb(Rewriter):
    looks_at = frozenset({"matmul", "transpose"})

    def __init__(self, function: Function) -> None:
        super().__init__(function)
        self._uses: dict[Value, int] | None = None

    def visit(self, op: Op) -> Sequence[Op] | None:
        if op.name == "matmul":
            return self._operands(op)
        if _swaps_last(op):
            product = self.maker(op.operands[0], "matmul")
            if product is not None and self._used_once(product.result):
                (a, b), (ta, tb) = product.operands, _flags(product)
                return instead(op, "matmul", (b, a), transpose_a=not tb, transpose_b=not ta)
        return None

    def _operands(self, op: Op) -> Sequence[Op] | None:
        operands, flags = list(op.operands), list(_flags(op))
        for number, operand in enumerate(operands):
            made = self.maker(operand, "transpose")
            if made is not None and _swaps_last(made):
                operands[number], flags[number] = made.operands[0], not flags[number]
        if tuple(operands) == op.operands:
            return None
        return instead(op, "matmul", operands, transpose_a=flags[0], transpose_b=flags[1])

    def _used_once(self, value: Value) -> bool:
        if self._uses is None:
            self._uses = uses_of(self.original)
        return self._uses.get(value, 0) == 1


def _swaps_last(op: Op) -> bool:
    permutation = op.attributes["permutation"]
    rank = op.operands[0].type.rank
    return rank >= 2 and permutation == (*range(rank - 2), rank - 1, rank - 2)


def _flags(op: Op) -> tuple[bool, bool]:
    return bool(op.attributes["transpose_a"]), bool(op.attributes["transpose_b"])


ABSORB_TRANSPOSES = RewritePass("absorb-transposes", _Absorb)
