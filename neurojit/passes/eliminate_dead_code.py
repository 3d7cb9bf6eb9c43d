"""Ops whose results nobody uses go, as do outputs and inputs of scans that nobody looks at.

What an op does besides (state_write, assert) keeps it, and keeps a scan around it. An input of a scan goes
only while another one counts the steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from neurojit.ir.structure import Block, Function, Op, Value
from neurojit.ir.table import OPS


@dataclass(frozen=True)
class EliminateDeadCode:
    name: str = "eliminate-dead-code"

    def run(self, function: Function) -> Function:
        live: set[Value] = set()
        block = _live_block(function.block, live)
        return function if block is function.block else replace(function, block=block)


def _live_block(block: Block, live: set[Value]) -> Block:
    """The block without what is dead; what its ops use is added to `live`."""
    kept: list[Op] = []
    for op in reversed(block.ops):
        if not _has_effect(op) and not any(value in live for value in op.results):
            continue
        if op.name == "scan":
            op = _live_scan(op, live)
        live.update(op.operands)
        kept.append(op)
    kept.reverse()
    same = len(kept) == len(block.ops) and all(a is b for a, b in zip(kept, block.ops, strict=True))
    return block if same else Block(block.parameters, tuple(kept))


def _has_effect(op: Op) -> bool:
    return not OPS[op.name].is_pure or any(
        _has_effect(inner) for region in op.regions for inner in region.body
    )


def _live_scan(op: Op, live: set[Value]) -> Op:
    (block,) = op.regions
    carried = int(op.attributes["carried"])  # type: ignore[arg-type]
    end = block.terminator
    outputs = [
        (result, handed)
        for result, handed in zip(op.results[carried:], end.operands[carried:], strict=True)
        if result in live
    ]
    if len(outputs) < len(op.results) - carried:
        end = replace(end, operands=(*end.operands[:carried], *(handed for _, handed in outputs)))
        results = (*op.results[:carried], *(result for result, _ in outputs))
        op = replace(op, results=results)
        block = Block(block.parameters, (*block.body, end))
    inside: set[Value] = set()
    block = _live_block(block, inside)
    live.update(inside)
    pairs = list(zip(block.parameters[carried:], op.operands[carried:], strict=True))
    used = [pair for pair in pairs if pair[0] in inside] or pairs[:1]
    if len(used) < len(pairs):
        parameters = (*block.parameters[:carried], *(parameter for parameter, _ in used))
        block = Block(parameters, block.ops)
        op = replace(op, operands=(*op.operands[:carried], *(operand for _, operand in used)))
    return op if block is op.regions[0] else replace(op, regions=(block,))


ELIMINATE_DEAD_CODE = EliminateDeadCode()
