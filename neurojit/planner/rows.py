"""Rows of a dynamic extent: whether each can be computed alone, and how many are taken at once."""

from __future__ import annotations

from neurojit.ir.structure import Op
from neurojit.ir.table import OPS
from neurojit.planner.fusion import Group, Product
from neurojit.planner.tensors import UnplannedError
from neurojit.target import Target

ROW_HEIGHTS = (12, 4, 1)


def heights_for(groups: list[Group], target: Target) -> tuple[int, ...]:
    """Falling heights of the parts, the last one 1."""
    return ROW_HEIGHTS if any(isinstance(made, Product) for made in groups) else (16, 1)


def check_rows(ops: list[Op]) -> None:
    """UnplannedError: an op that mixes the rows of the dynamic extent."""
    for op in ops:
        if op.name == "scan":
            carried = int(op.attributes["carried"])  # type: ignore[arg-type]
            if not any(value.type.is_dynamic for value in op.operands[carried:]):
                check_rows(list(op.regions[0].body))
                continue
        if not _keeps_rows(op):
            raise UnplannedError(f"{op}: {op.name} mixes rows of the dynamic extent; give it a static one")


def _keeps_rows(op: Op) -> bool:
    """Whether row i of the results depends on row i of the dynamic operands alone."""
    dynamic = [value.type.is_dynamic for value in op.operands]
    if op.name == "matmul":
        a, b = op.operands
        batch = op.result.type.rank - 2
        if dynamic[0] and a.type.rank == 2:
            return not op.attributes["transpose_a"] and not dynamic[1]
        return batch > 0 and (not dynamic[1] or b.type.rank > 2)
    if op.name == "outer":
        return not dynamic[1] or op.operands[1].type.rank > 1
    lowering = OPS[op.name].lowering
    if lowering in ("map", "assert", "end", "source"):
        return True
    if lowering in ("view", "move"):
        return _moves_within_rows(op, dynamic)
    if op.name in ("layer_norm", "rms_norm"):
        return op.operands[0].type.rank > 1
    if lowering == "reduce":
        axes = op.attributes.get("axes", (op.attributes.get("axis"),))
        return 0 not in axes  # type: ignore[operator]
    return False


def _moves_within_rows(op: Op, dynamic: list[bool]) -> bool:
    if op.name == "transpose":
        return op.attributes["permutation"][0] == 0  # type: ignore[index]
    if op.name == "gather":
        axis = op.attributes["axis"]
        return axis == 0 and not dynamic[0] if dynamic[1] else axis != 0
    return op.attributes.get("axis") != 0
