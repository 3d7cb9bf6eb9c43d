"""One way to say each thing: constants to the right, no movement that moves nothing, none after another.

    add(c, x)                    add(x, c), and so for whatever commutes; compare turns its predicate around
    reshape(reshape(x))          reshape(x); alike transpose, and convert to a wider type and back
    reshape, transpose, ... that leave a value as it is: the value
    transpose of extents of 1    reshape, which costs nothing
    add(broadcast(x), y)         add(x, y) where the result is as large anyhow

Bit for bit the same results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from neurojit.ir.structure import Op
from neurojit.ir.table import OPS, infer
from neurojit.ir.types import Extent, TensorType
from neurojit.passes.rewrite import RewritePass, Rewriter, instead

COMMUTATIVE = frozenset({"add", "mul", "maximum", "minimum", "and", "or"})
TURNED = {"eq": "eq", "ne": "ne", "lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}
"""The predicate with its operands exchanged."""
BROADCASTING = frozenset({*COMMUTATIVE, "sub", "div", "compare", "select"})
EXACT_IN = {"f32": ("f64",), "bf16": ("f32", "f64"), "i8": ("i32", "f32", "f64"), "i32": ("f64",)}
"""Element types that hold every number of another, so that converting there and back changes nothing."""


MOVEMENT = frozenset({"convert", *(row.name for row in OPS.values() if row.lowering in ("view", "move"))})


class _Canonicalize(Rewriter):
    looks_at = BROADCASTING | MOVEMENT

    def visit(self, op: Op) -> Sequence[Op] | None:
        if op.name in BROADCASTING:
            op = self._without_broadcasts(op)
            return self._constant_last(op) or (op,)
        return self._movement(op)

    def _constant_last(self, op: Op) -> Sequence[Op] | None:
        if op.name not in COMMUTATIVE and op.name != "compare":
            return None
        x, y = op.operands
        if self.constant(x) is None or self.constant(y) is not None:
            return None
        if op.name == "compare":
            return instead(op, "compare", (y, x), predicate=TURNED[str(op.attributes["predicate"])])
        return instead(op, op.name, (y, x))

    def _without_broadcasts(self, op: Op) -> Op:
        operands = list(op.operands)
        for number, operand in enumerate(operands):
            made = self.maker(operand, "broadcast")
            if made is None:
                continue
            fewer = [*operands[:number], made.operands[0], *operands[number + 1 :]]
            (type_,) = infer(OPS[op.name], tuple(value.type for value in fewer), op.attributes)
            if type_ == op.result.type:
                operands = fewer
        return op if tuple(operands) == op.operands else replace(op, operands=tuple(operands))

    def _movement(self, op: Op) -> Sequence[Op] | None:
        x = op.operands[0]
        if op.result.type == x.type and _leaves_as_it_is(op, x.type):
            return self.use(op, x)
        inner = self.maker(x)
        if op.name == "reshape" and inner is not None and inner.name == "reshape":
            return self._again(*instead(op, "reshape", inner.operands, shape=op.attributes["shape"]))
        if op.name == "transpose":
            return self._transpose(op, inner)
        if op.name == "convert" and inner is not None and inner.name == "convert":
            source = inner.operands[0]
            if x.type.element in EXACT_IN.get(source.type.element, ()):
                if source.type == op.result.type:
                    return self.use(op, source)
                if op.result.type.element in EXACT_IN.get(source.type.element, ()):
                    return instead(op, "convert", (source,), **op.attributes)
        return None

    def _again(self, op: Op) -> Sequence[Op]:
        """What becomes of an op that another rule has made."""
        further = self._movement(op)
        return (op,) if further is None else further

    def _transpose(self, op: Op, inner: Op | None) -> Sequence[Op] | None:
        permutation = _ints(op, "permutation")
        if inner is not None and inner.name == "transpose":
            first = _ints(inner, "permutation")
            composed = tuple(first[axis] for axis in permutation)
            return self._again(*instead(op, "transpose", inner.operands, permutation=composed))
        shape = op.operands[0].type.shape
        moved = [axis for axis in permutation if shape[axis] != 1]
        if moved == sorted(moved):
            return instead(op, "reshape", op.operands, shape=_spelled(op.result.type.shape))
        return None


def _leaves_as_it_is(op: Op, type_: TensorType) -> bool:
    """An op whose result has the type of its operand, and its elements too."""
    if op.name == "transpose":
        return list(_ints(op, "permutation")) == list(range(type_.rank))
    if op.name == "slice":
        return op.attributes["step"] == 1 or type_.count(1) <= 1
    if op.name == "concat":
        return len(op.operands) == 1
    return op.name in ("reshape", "broadcast", "convert", "pad")


def _ints(op: Op, name: str) -> tuple[int, ...]:
    value = op.attributes[name]
    assert isinstance(value, tuple)
    return value


def _spelled(shape: tuple[Extent, ...]) -> tuple[int, ...]:
    return tuple(-1 if extent is None else extent for extent in shape)


CANONICALIZE = RewritePass("canonicalize", _Canonicalize)
