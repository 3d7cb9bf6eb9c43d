"""The schedule of a plan, as steps of the language: what `Directives` would be asked to get the same plan.

Every kernel that an op asked for is spoken of in full: tiles of a product, or its panels, vectors and
unrolling of the others, what is fused with what, how many rows of a dynamic extent are taken at once. Copies
between kernels follow from the payload and have no steps.
"""

from __future__ import annotations

from collections.abc import Iterator

from neurojit.ir.schedule import step
from neurojit.ir.structure import Function, ScheduleText, Step, Value
from neurojit.ir.table import OPS
from neurojit.plan.cumsum import CumsumSchedule
from neurojit.plan.gemm import ELEMENT_SIZE, Gemm, GemmSchedule
from neurojit.plan.map import MapSchedule
from neurojit.plan.panels import Panels
from neurojit.plan.program import Loop, Node, ProgramPlan, Rows
from neurojit.plan.program import Step as Kernel
from neurojit.plan.reduce import Reduce, ReduceSchedule
from neurojit.planner.fusion import Pointwise
from neurojit.planner.pointwise import group_inputs
from neurojit.target import Isa


def schedule_text(plan: ProgramPlan, function: Function, isa: Isa) -> ScheduleText:
    """The steps, in the order of the code. isa: of the plan's target."""
    return ScheduleText(function.name, tuple(_Speech(function, isa).of(plan)))


class _Speech:
    def __init__(self, function: Function, isa: Isa) -> None:
        self.isa = isa
        self.ops = {value.name: op for op in function.block.walk() for value in op.results}
        self.fused: set[str] = set()  # ops whose kernel has been said

    def of(self, plan: ProgramPlan) -> Iterator[Step]:
        for node in plan.body:
            if isinstance(node, Rows):
                yield from self._rows(node, plan.ways)
            else:
                yield from self._node(node, 0)

    def _rows(self, rows: Rows, ways: int) -> Iterator[Step]:
        first = next((kernel.op for kernel in _kernels(rows.parts[0].body) if kernel.op), None)
        if first is not None:
            yield step("rows", first, heights=[part.height for part in rows.parts])
            if ways:
                yield step("parallel", first, axis=0, ways=ways)
        for part in rows.parts:
            for node in part.body:
                yield from self._node(node, part.height)

    def _node(self, node: Node, part: int) -> Iterator[Step]:
        if isinstance(node, Kernel):
            yield from self._kernel(node, part)
        elif isinstance(node, Loop):
            if node.unroll > 1:
                yield step("unroll", node.op, steps=node.unroll)
            for inner in node.body:
                yield from self._node(inner, part)

    def _kernel(self, kernel: Kernel, part: int) -> Iterator[Step]:
        if not kernel.op:
            return
        op, name, schedule = self.ops[kernel.op], kernel.op, kernel.schedule
        if name not in self.fused:
            self.fused.add(name)
            if OPS[op.name].lowering == "map" and any(self._is_fusible(v.name) for v in op.operands):
                yield step("unfuse", name)
            for other in kernel.fused:
                yield step("fuse", other, into=name)
            if isinstance(kernel.kernel, Gemm) and isinstance(kernel.kernel.b, Panels):
                yield step("pack", name, width=kernel.kernel.b.width)
        at = {"part": part} if part and any(v.type.is_dynamic for v in (*op.operands, *op.results)) else {}
        if isinstance(schedule, GemmSchedule):
            yield from _of_product(name, schedule, at)
            return
        if isinstance(schedule, MapSchedule):
            yield step("vectorize", name, lanes=schedule.lanes or self._lanes(kernel), **at)
            yield step("unroll", name, steps=schedule.unroll, **at)
            inputs = self._inputs(kernel) if schedule.prefetch else []
            for number, distance in schedule.prefetch:
                operand = op.operands.index(inputs[number])
                yield step("prefetch", name, operand=operand, distance=distance, **at)
        elif isinstance(schedule, ReduceSchedule):
            yield step("vectorize", name, lanes=schedule.lanes or self._lanes(kernel), **at)
            yield step("keep", name, registers=schedule.in_registers, **at)
            down = isinstance(kernel.kernel, Reduce) and kernel.kernel.down
            yield step("unroll", name, steps=schedule.columns if down else schedule.rows, **at)
        elif isinstance(schedule, CumsumSchedule):
            if not kernel.kernel.down:  # type: ignore[union-attr]
                yield step("vectorize", name, lanes=schedule.side, **at)
            elif schedule.side:
                yield step("unroll", name, steps=schedule.side, **at)
            else:
                yield step("keep", name, registers=False, **at)

    def _lanes(self, kernel: Kernel) -> int:
        """Of the ISA's own vectors."""
        return self.isa.widest // 8 // ELEMENT_SIZE[kernel.kernel.dtype]

    def _inputs(self, kernel: Kernel) -> list[Value]:
        """What a map reads, in the order of its inputs."""
        group = Pointwise([self.ops[name] for name in (kernel.op, *kernel.fused)])
        made = {value: self.ops.get(value.name) for value in group_inputs(group)}
        return [v for v, op in made.items() if op is None or op.name != "constant" or v.type.count(0) != 1]

    def _is_fusible(self, name: str) -> bool:
        """Whether the planner might put what uses this value into the kernel that makes it."""
        op = self.ops.get(name)
        return op is not None and (op.name == "matmul" or OPS[op.name].lowering == "map")


def _of_product(name: str, schedule: GemmSchedule, at: dict[str, int]) -> Iterator[Step]:
    for block in schedule.columns:
        rows = [number for group in block.rows.groups for number in group]
        yield step(
            "tile",
            name,
            rows=rows,
            columns=list(block.lanes),
            count=block.tiles,
            depth=schedule.k_block,
            folded=block.folded,
            shared=block.shared,
            by_lanes=block.by_lanes,
            **at,
        )
    yield step("unroll", name, steps=schedule.unroll, **at)
    for operand, distance in enumerate(schedule.prefetch):
        if distance:
            yield step("prefetch", name, operand=operand, distance=distance, **at)


def _kernels(nodes: tuple[Node, ...]) -> Iterator[Kernel]:
    for node in nodes:
        if isinstance(node, Kernel):
            yield node
        elif isinstance(node, Loop):
            yield from _kernels(node.body)
