"""Hoisting: products that need nothing carried are computed for all steps of a scan before it.

A step of a recurrent network multiplies its input by one matrix and what it carries by another. The first
products do not wait for each other: all steps together are one product with as many rows, which reads the
matrix once instead of once a step, and keeps the FMA ports busy. Elementwise ops that follow go along.

A step's slice of rank r is a slice of a tensor of rank r + 1, so an op is hoisted as it stands, if each
operand that is a slice has the rank of the result: then the new leading axis does not disturb how they
broadcast.
"""

from __future__ import annotations

from dataclasses import replace

from neurojit.ir.structure import Block, Function, Op, Value
from neurojit.ir.table import OPS
from neurojit.ir.types import ELEMENTS, TensorType
from neurojit.target import Target

LEAST_STEPS = 4
"""Below, one product of so many rows saves nothing."""


def hoist(function: Function, target: Target) -> Function:
    """The function with products taken out of its scans, as far as their results fit half of L2."""
    most = target.caches.l2.size // 2
    return replace(function, block=_block(function.block, most))


def _block(block: Block, most: int) -> Block:
    ops: list[Op] = []
    for op in block.ops:
        if op.regions:
            op = replace(op, regions=tuple(_block(region, most) for region in op.regions))
        ops += _scan(op, most) if op.name == "scan" else [op]
    return replace(block, ops=tuple(ops))


def _scan(op: Op, most: int) -> list[Op]:
    """The scan, and before it what was taken out of it."""
    (block,) = op.regions
    carried = int(op.attributes["carried"])  # type: ignore[arg-type]
    sequences = dict(zip(block.parameters[carried:], op.operands[carried:], strict=True))
    steps = next((value.type.shape[0] for value in sequences.values()), None)
    if steps is None or steps < LEAST_STEPS:
        return [op]
    inside = {*block.parameters, *(value for inner in block.walk() for value in inner.results)}
    taken: list[Op] = []
    kept: list[Op] = []
    for inner in block.body:
        if _may_be_taken(inner, sequences, inside, steps, most):
            value = inner.result
            wide = Value(f"{value.name}.all", TensorType((steps, *value.type.shape), value.type.element))
            operands = tuple(sequences.get(operand, operand) for operand in inner.operands)
            taken.append(replace(inner, operands=operands, results=(wide,)))
            sequences[value] = wide
        else:
            kept.append(inner)
    if not any(inner.name == "matmul" for inner in taken):
        return [op]
    used = {value for inner in (*kept, block.terminator) for value in _reads(inner)}
    slices = {value: wide for value, wide in sequences.items() if value in used}
    body = Block((*block.parameters[:carried], *slices), (*kept, block.terminator))
    if not slices:  # the steps are counted by a sequence: one stays
        slices = dict([next(iter(sequences.items()))])
        body = replace(body, parameters=(*block.parameters[:carried], *slices))
    scan = replace(op, operands=(*op.operands[:carried], *slices.values()), regions=(body,))
    return [*taken, scan]


def _may_be_taken(op: Op, sequences: dict[Value, Value], inside: set[Value], steps: int, most: int) -> bool:
    slices = [value for value in op.operands if value in sequences]
    if not slices or any(value in inside and value not in sequences for value in op.operands):
        return False
    if op.result.type.is_dynamic or any(value.type.is_dynamic for value in op.operands):
        return False
    if steps * op.result.type.count(1) * ELEMENTS[op.result.type.element].size > most:
        return False
    if op.name == "matmul":
        a, b = op.operands
        return a in sequences and b not in sequences and b.type.rank == 2 and not op.attributes["transpose_a"]
    rank = op.result.type.rank
    return OPS[op.name].lowering == "map" and all(value.type.rank == rank for value in slices)


def _reads(op: Op) -> list[Value]:
    return [
        *op.operands,
        *(value for region in op.regions for inner in region.walk() for value in inner.operands),
    ]
