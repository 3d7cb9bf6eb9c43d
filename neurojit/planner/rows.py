"""Rows of a dynamic extent: what may be computed part by part, and how many rows are taken at once.

Most ops keep rows apart. Some carry something from row to row, and take the rows in order: a scan along them
hands its carried values on, a sum over them adds each part to what there is. What they give in the end is
known only after the last row; what needs it in every row goes through the rows once more.
"""

from __future__ import annotations

from collections.abc import Iterable

from neurojit.ir.structure import Op, Value
from neurojit.ir.table import OPS
from neurojit.planner.fusion import Group, Product
from neurojit.planner.tensors import UnplannedError
from neurojit.target import Target

ROW_HEIGHTS = (12, 4, 1)
SUMMED_UP = ("sum", "mean", "max", "min")
"""Reductions that may be made part by part."""


def heights_for(groups: list[Group], target: Target) -> tuple[int, ...]:
    """Falling heights of the parts, the last one 1."""
    return ROW_HEIGHTS if any(isinstance(made, Product) for made in groups) else (16, 1)


def across_rows(groups: list[Group]) -> list[Op]:
    """The ops of dynamic groups that carry something from row to row, in order.

    UnplannedError: an op that mixes the rows in another way."""
    carrying: list[Op] = []
    for op in (op for made in groups for op in made.ops):
        if _carries(op):
            carrying.append(op)
        elif not _keeps_rows(op) or _is_mixed_within(op):
            raise UnplannedError(f"{op}: {op.name} mixes rows of the dynamic extent; give it a static one")
    return carrying


def operands_of(op: Op) -> Iterable[Value]:
    """Those of nested blocks too."""
    yield from op.operands
    for region in op.regions:
        for nested in region.walk():
            yield from nested.operands


def _carries(op: Op) -> bool:
    """Whether it takes rows in order, and hands on what has a static type, or running sums."""
    dynamic = [value.type.is_dynamic for value in op.operands]
    if op.name == "scan":
        carried = int(op.attributes["carried"])  # type: ignore[arg-type]
        inside = any(v.type.is_dynamic for region in op.regions for o in region.walk() for v in o.operands)
        along = bool(dynamic[carried:]) and all(dynamic[carried:])
        return along and not any(dynamic[:carried]) and not op.attributes["reverse"] and not inside
    if op.name == "matmul":
        return all(dynamic) and op.operands[0].type.rank == op.operands[1].type.rank == 2 and adds_rows(op)
    if op.name == "cumsum":
        return op.attributes["axis"] == 0
    return op.name in SUMMED_UP and dynamic[0] and 0 in op.attributes["axes"]  # type: ignore[operator]


def adds_rows(op: Op) -> bool:
    """Whether a product adds up over the rows of both operands."""
    return bool(op.attributes["transpose_a"]) and not op.attributes["transpose_b"]


def _is_mixed_within(op: Op) -> bool:
    """Whether a scan that is the same for all rows has an op inside that mixes them."""
    return any(
        not _keeps_rows(inner)
        for region in op.regions
        for inner in region.body
        if any(value.type.is_dynamic for value in (*inner.operands, *inner.results))
    )


def _keeps_rows(op: Op) -> bool:
    """Whether row i of the results depends on row i of the dynamic operands alone."""
    dynamic = [value.type.is_dynamic for value in op.operands]
    if op.name == "scan":
        return not any(dynamic[int(op.attributes["carried"]) :])  # type: ignore[arg-type]
    if op.name == "matmul":
        a, b = op.operands
        batch = op.result.type.rank - 2
        if dynamic[0] and a.type.rank == 2:
            return not op.attributes["transpose_a"] and not dynamic[1]
        return batch > 0 and (not dynamic[1] or b.type.rank > 2)
    if op.name == "outer":
        return not dynamic[1] or op.operands[1].type.rank > 1
    lowering = OPS[op.name].lowering
    if lowering in ("map", "assert", "end", "source", "random"):
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
