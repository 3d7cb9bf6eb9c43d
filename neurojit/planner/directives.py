"""What a schedule asks of each kernel, held against the machine, and the planner's own choice for the rest.

A step names an op; here it becomes a field of the schedule of that op's kernel, or an error at its place:
more accumulators than the ISA has registers, vectors wider than its own, a panel that a tile cuts. What no
kernel took at the end is an error too, so that no step is ever passed over in silence. Without a schedule
every question has the planner's answer at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from neurojit.ir.schedule import is_in_rows
from neurojit.ir.structure import Function, Op, ScheduleText, Step, Value
from neurojit.plan.cost import SEGMENT, cost_model
from neurojit.plan.cumsum import Cumsum, CumsumSchedule, columns_at_once, schedule_cumsum
from neurojit.plan.cut import Cut, ceil_div, cut_by
from neurojit.plan.gemm import ELEMENT_SIZE, ColumnBlock, Gemm, GemmSchedule, register_bits
from neurojit.plan.map import Map, MapSchedule, schedule_map
from neurojit.plan.panels import Panels, panel_width
from neurojit.plan.program import Kernel, Schedule
from neurojit.plan.reduce import (
    SPARE,
    Reduce,
    ReduceSchedule,
    picks_positions,
    registers_needed,
    row_program,
    schedule_reduce,
)
from neurojit.plan.tiling import (
    FULL_UNROLL,
    MOST_GROUPED,
    UNROLL,
    has_adjacent_segments,
    max_height,
    schedule_gemm,
)
from neurojit.planner.fusing import Fusing, refuse
from neurojit.target import Target

NOTHING = ScheduleText("", ())


def whole(step: Step, parameter: str) -> int:
    """A parameter of a step that is an integer."""
    value = step.parameters[parameter]
    assert isinstance(value, int)
    return value


class Directives:
    """One function's schedule, while the function is planned. part: the rows of a dynamic extent that are
    computed at once, 0 outside the loop over them."""

    def __init__(self, function: Function, target: Target, schedule: ScheduleText = NOTHING) -> None:
        self.target = target
        self.steps = schedule.steps
        self.fusing = Fusing.of(self.steps)
        self.asked: dict[tuple[str, str], list[Step]] = {}
        self.obeyed: set[int] = set()
        for step in self.steps:
            self.asked.setdefault((step.kind, step.op), []).append(step)
        self.ops = {v.name: op for op in function.block.walk() for v in op.results} if self.steps else {}
        self.parts: tuple[int, ...] = ()

    # Which steps ------------------------------------------------------------------------------------------

    def of(self, kind: str, op: str, part: int) -> list[Step]:
        """The steps of a kind for one kernel of an op: those for this part, else those for all parts."""
        steps = self.asked.get((kind, op))
        if not steps:
            return []
        chosen = [step for step in steps if step.parameters.get("part", 0) == part]
        chosen = chosen or [step for step in steps if not step.parameters.get("part", 0)]
        self.obeyed.update(map(id, chosen))
        return chosen

    def number(self, kind: str, op: str, part: int, parameter: str) -> tuple[int, Step | None]:
        """(a parameter of the one step of its kind, the step); (0, None) without one."""
        steps = self.of(kind, op, part)
        return (whole(steps[0], parameter), steps[0]) if steps else (0, None)

    def lanes(self, op: str, part: int, size: int) -> int:
        """Lanes that `vectorize` asks for, which a register of this machine has; 0: not asked."""
        lanes, step = self.number("vectorize", op, part, "lanes")
        isa = self.target.isa
        widths = [bits // 8 // size for bits in isa.vector_bits]
        if step is not None and lanes not in widths:
            have = ", ".join(str(width) for width in widths if width)
            refuse(
                step,
                f"lanes of {8 * size} bits on {isa.option}",
                f"one of {have}, as its registers have",
                str(lanes),
                at="lanes",
            )
        return lanes

    def check_obeyed(self) -> None:
        """TensorLangError: a step that no kernel took."""
        for step in self.steps:
            if id(step) in self.obeyed or step.kind in ("fuse", "unfuse"):
                continue
            part = step.parameters.get("part", 0)
            if part and part not in self.parts:
                refuse(
                    step, "part", f"one of {', '.join(map(str, self.parts)) or 'none'}", str(part), at="part"
                )
            inside = [g for g in self.fusing.together if step.op in g]
            hint = f"name the first of {', '.join(f'%{name}' for name in inside[0])}" if inside else ""
            refuse(step, f"%{step.op} has no kernel of its own that takes this step", hint=hint)

    # Rows of a dynamic extent -----------------------------------------------------------------------------

    def heights(self, default: tuple[int, ...]) -> tuple[int, ...]:
        """How many rows the loop over the dynamic extent takes at once: falling, the last 1."""
        self.parts = default
        said: tuple[int, ...] | None = None
        for step in self.steps:
            heights = step.parameters.get("heights") or step.parameters.get("rows")
            if step.kind not in ("rows", "tile") or not isinstance(heights, tuple):
                continue
            if step.kind == "tile" and heights[1] != -1:
                continue
            heights = heights if step.kind == "rows" else heights[::2]
            self.obeyed.add(id(step))
            if said is not None and heights != said:
                at = "heights" if step.kind == "rows" else "rows"
                refuse(step, at, f"heights {list(said)}, as in another step: one loop takes all rows", at=at)
            self.parts = said = heights
        return self.parts

    def ways(self, shared: bool) -> int:
        """The most threads that share rows; 0: not asked. shared: whether a call's rows can be."""
        asked = [step for step in self.steps if step.kind == "parallel"]
        ways = 0
        for step in asked:
            self.obeyed.add(id(step))
            number = whole(step, "ways")
            if not is_in_rows(self.ops[step.op]) or step.parameters["axis"] != 0:
                expected = "axis 0 of an op of dynamic extent: threads share the rows of a call"
                refuse(step, f"%{step.op} is computed by one thread", expected, at="axis")
            if not shared and number > 1:
                refuse(step, "rows of this program are not shared: it has state, or an output without rows",
                "1",
                       str(number), at="ways")  # fmt: skip
            if ways and number != ways:
                refuse(
                    step,
                    "ways",
                    f"{ways}, as in another step: one loop takes all rows",
                    str(number),
                    at="ways",
                )
            ways = number
        return ways

    # Kernels ----------------------------------------------------------------------------------------------

    def panel(self, op: Op, is_weight: bool) -> int | None:
        """Columns of the panels that the right operand of a product lies in, 0: in none; None: not asked."""
        name = op.result.name
        for step in self.of("pack", name, 0):
            if step.parameters["operand"] != 1:
                refuse(step, "only the right operand of a product lies in panels", "1", "0", at="operand")
            if not is_weight:
                refuse(step, f"{op.operands[1]} has no place among the weights of the program", at="operand")
            width = whole(step, "width")
            return panel_width(op.result.type.element, self.target.isa) if width < 0 else width
        return 0 if ("tile", name) in self.asked else None

    def schedule(self, op: Op, kernel: Kernel, inputs: Sequence[Value], part: int) -> Schedule:
        """Of the kernel that op is the first of; None where nothing is asked. inputs: what a map reads, in
        order. TensorLangError: what the machine, or the kernel, does not allow."""
        if not self.asked:
            return None
        if isinstance(kernel, Gemm):
            return self.gemm(op, kernel, part)
        if isinstance(kernel, Map):
            return self.map(op, kernel, inputs, part)
        if isinstance(kernel, Reduce):
            return self.reduce(op, kernel, part)
        return self.cumsum(op, kernel, part) if isinstance(kernel, Cumsum) else None

    def gemm(self, op: Op, g: Gemm, part: int) -> GemmSchedule:
        """TensorLangError: tiles, or vectors, that the machine has no registers for."""
        name, size = op.result.name, ELEMENT_SIZE[g.dtype]
        lanes = self.lanes(name, part, size)
        tiles = self.of("tile", name, part)
        if tiles:
            schedule = self._tiled(g, tiles, lanes, part)
        else:
            schedule = schedule_gemm(g, _narrowed(self.target, 8 * lanes * size) if lanes else self.target)
        unroll, _ = self.number("unroll", name, part, "steps")
        if unroll:
            schedule = replace(schedule, unroll=unroll)
        ahead = [0, 0]
        for step in self.of("prefetch", name, part):
            assert g.k is not None
            self._check_prefetch(step, (schedule.k_block or g.k) // schedule.unroll)
            ahead[whole(step, "operand")] = whole(step, "distance")
        return replace(schedule, prefetch=(ahead[0], ahead[1])) if any(ahead) else schedule

    def _check_prefetch(self, step: Step, trips: int) -> None:
        """TensorLangError: a machine, or a loop, in which nothing is asked for ahead."""
        if not self.target.isa.prefetches:
            refuse(step, f"{self.target.isa.option} has no instruction that asks for a cache line")
        if trips < 2:
            hint = "unroll less"
            refuse(step, "trips of the loop that asks for a later one's", "at least 2", str(trips), hint)

    def _tiled(self, g: Gemm, tiles: list[Step], most_lanes: int, part: int) -> GemmSchedule:
        assert g.k is not None
        columns = [self._column_block(g, step, most_lanes, part) for step in tiles]
        partial = {n for block in columns for n in block.lanes if n * ELEMENT_SIZE[g.dtype] not in WHOLE}
        for block, step in zip(columns, tiles, strict=True):
            self._check_registers(g, block, len(partial), step)
        if isinstance(g.b, Panels):
            _check_panels(g.b, columns, tiles, ELEMENT_SIZE[g.dtype])
        depth = whole(tiles[0], "depth")
        return GemmSchedule(tuple(columns), max(g.k, 1) if g.k <= FULL_UNROLL else UNROLL, 0.0, depth)

    def _column_block(self, g: Gemm, step: Step, most_lanes: int, part: int) -> ColumnBlock:
        rows, lanes = step.parameters["rows"], step.parameters["columns"]
        assert isinstance(rows, tuple)
        assert isinstance(lanes, tuple)
        isa = self.target.isa
        full = isa.widest // 8 // ELEMENT_SIZE[g.dtype]
        most = most_lanes or full * (MOST_GROUPED if isa.scalable else 1)
        for count in lanes:
            if count > most:
                what = "as vectorize says" if most_lanes else f"that a register of {isa.option} has"
                refuse(step, "scheduled vector", f"at most {most} lanes, {what}", str(count), at="columns")
        if rows[1] == -1:  # as many as fit, in every part
            cut = cut_by(g.m, min(part, g.m))
        else:
            cut = Cut(*rows[:2]) if len(rows) == 2 else Cut(*rows[:4])
        folded, by_lanes = whole(step, "folded"), whole(step, "by_lanes")
        shared = bool(step.parameters["shared"])
        block = ColumnBlock(lanes, whole(step, "count"), cut, folded, shared, by_lanes)
        if block.in_segments:
            self._check_segments(g, step, "folded" if folded else "by_lanes")
        if shared and not isa.mask_registers:
            message = f"multiply-adds of {isa.option} share each element as it is"
            refuse(step, message, "false", "true", at="shared")
        return block

    def _check_segments(self, g: Gemm, step: Step, at: str) -> None:
        """TensorLangError: a machine, or a left operand, that is not read in segments of 128 bits along k."""
        isa, steps, depth = self.target.isa, SEGMENT // ELEMENT_SIZE[g.dtype], whole(step, "depth")
        assert g.k is not None
        if not isa.has_segments:
            message = f"registers of {isa.option} are not taken in segments"
            refuse(step, message, "0", str(whole(step, at)), at=at)
        last = g.k - (g.k - 1) // depth * depth if 0 < depth < g.k else g.k
        if not has_adjacent_segments(g) or min(last, depth or last) < steps:
            expected = f"several rows of adjacent elements, {steps} steps of k in every pass, no panels"
            refuse(step, "the left operand is not read in segments", expected, at=at)

    def _check_registers(self, g: Gemm, block: ColumnBlock, masks: int, step: Step) -> None:
        isa = self.target.isa
        full = isa.widest // 8 // ELEMENT_SIZE[g.dtype]
        height = max(size for size, _ in block.rows.groups)
        if block.in_segments:
            tile = cost_model(self.target, ELEMENT_SIZE[g.dtype]).tile(block.lanes, block.folded, True)
            needed = tile.registers(height) + min(block.by_lanes, height)
            have = isa.vector_registers - (0 if isa.mask_registers else masks)
            if needed > have:
                message = f"scheduled tile of {height} rows in segments needs {needed} registers"
                refuse(step, message, f"at most {have}, of {isa.option}", at="rows")
            return
        vectors = sum(1 << (ceil_div(lanes, full) - 1).bit_length() for lanes in block.lanes)
        if isa.scalars_apart and not g.has_epilogue:
            most = max(1, (isa.vector_registers - vectors) // vectors)
        else:
            most = max_height(isa, vectors, masks)
        if height > most or vectors + 1 > isa.vector_registers:
            refuse(
                step,
                f"scheduled tile {height}x{vectors} needs {height * vectors} accumulators, "
                f"{isa.option} has {isa.vector_registers}",
                f"at most {most} rows of {vectors} vectors, beside which B and A find registers"
                if vectors < isa.vector_registers
                else "fewer vectors side by side",
                str(height) if vectors < isa.vector_registers else str(vectors),
                at="rows",
            )

    def map(self, op: Op, g: Map, inputs: Sequence[Value], part: int) -> MapSchedule:
        """op: the first of those that the kernel computes. inputs: what it reads, in order."""
        schedule = schedule_map(g, self.target.isa)
        name = op.result.name
        lanes = self.lanes(name, part, ELEMENT_SIZE[g.dtype])
        unroll, _ = self.number("unroll", name, part, "steps")
        ahead = []
        for step in self.of("prefetch", name, part):
            value = op.operands[whole(step, "operand")]
            if value not in inputs:
                refuse(step, f"{value} is a number in the code of {op}", at="operand")
            flat, number = g.collapsed(), inputs.index(value)
            width = lanes or self.target.isa.widest // 8 // ELEMENT_SIZE[g.dtype]
            self._check_prefetch(step, (flat.shape[-1] or 0) // width // (unroll or schedule.unroll))
            if flat.inputs[number].strides[-1] == 0:
                refuse(step, f"{value} is the same all along a row", at="operand")
            ahead.append((inputs.index(value), whole(step, "distance")))
        return replace(schedule, unroll=unroll or schedule.unroll, lanes=lanes, prefetch=tuple(ahead))

    def reduce(self, op: Op, g: Reduce, part: int) -> ReduceSchedule:
        name, chosen = op.result.name, schedule_reduce(g, self.target.isa)
        lanes = self.lanes(name, part, ELEMENT_SIZE[g.dtype])
        unroll, unrolled = self.number("unroll", name, part, "steps")
        kept = self.of("keep", name, part)
        in_registers = bool(kept[0].parameters["registers"]) if kept else chosen.in_registers
        if g.down:
            if in_registers:
                message = f"{op} goes down columns, whose sums alone are kept"
                refuse(kept[0], message, "false", "true", at="registers")
            return replace(chosen, columns=unroll or chosen.columns, lanes=lanes)
        rows = unroll or chosen.rows
        if unrolled is not None:
            self._check_side_by_side(op, g, rows, unrolled)
        elif self._registers_lacking(g, in_registers, lanes, rows):
            rows = 1  # the planner's own, with other vectors or registers than it had in mind
        lacking = self._registers_lacking(g, in_registers, lanes, rows)
        if lacking and kept and in_registers:
            refuse(kept[0], f"a row in registers: {lacking}", "false", "true", at="registers")
        if lacking and unrolled is not None:
            refuse(unrolled, f"{rows} rows side by side: {lacking}", "fewer", str(rows), at="steps")
        return replace(chosen, in_registers=in_registers and not lacking, lanes=lanes, rows=rows)

    def _check_side_by_side(self, op: Op, g: Reduce, rows: int, step: Step) -> None:
        """TensorLangError: so many rows are not gone through at once."""
        count = (g.collapsed().shape[:-1] or (1,))[-1]
        if rows > 1 and (count is None or count % rows):
            refuse(step, "rows side by side", f"a divisor of {count}", str(rows), at="steps")
        if rows > 1 and picks_positions(g):
            refuse(step, f"{op} goes through one row at a time", "1", str(rows), at="steps")

    def _registers_lacking(self, g: Reduce, in_registers: bool, lanes: int, rows: int) -> str:
        """Which registers rows take that the machine has not, "" if it has them."""
        isa = self.target.isa
        width = lanes or isa.widest // 8 // ELEMENT_SIZE[g.dtype]
        columns = g.shape[-1] or 1
        if not in_registers and rows == 1:
            return ""
        vectors = ceil_div(columns, width) if in_registers else 0
        needed = registers_needed(g, row_program(g, hold=not in_registers), vectors, width, rows)
        needed += SPARE if rows == 1 or columns % width else 0
        have = isa.vector_registers
        return f"needs {needed}, {isa.option} has {have}" if needed > have else ""

    def cumsum(self, op: Op, g: Cumsum, part: int) -> CumsumSchedule:
        isa, name = self.target.isa, op.result.name
        schedule = schedule_cumsum(g, isa)
        lanes = self.lanes(name, part, ELEMENT_SIZE[g.dtype])
        if lanes and g.down:
            refuse(
                self.of("vectorize", name, part)[0], f"{op} goes down columns, in vectors as wide as they are"
            )
        if lanes:
            schedule = CumsumSchedule(lanes)
        for step in self.of("keep", name, part):
            if not g.down:
                refuse(step, f"{op} goes along rows, whose sums are kept", at="registers")
            schedule = CumsumSchedule(
                (schedule.side or columns_at_once(isa)) if step.parameters["registers"] else 0
            )
        unroll, step_ = self.number("unroll", name, part, "steps")
        if step_ is not None:
            if not g.down or not schedule.side:
                refuse(step_, f"{op} does not take vectors of columns side by side", at="steps")
            schedule = CumsumSchedule(unroll)
        return schedule

    def scan(self, op: Op, trips: int) -> int:
        """Copies of a scan's body that follow each other in the code."""
        for value in op.results:
            unroll, step = self.number("unroll", value.name, 0, "steps")
            if step is not None:
                return min(unroll, trips)
        return 1


WHOLE = (4, 8, 16, 32, 64)
"""Bytes of vectors that are loaded and stored without a mask."""


def _check_panels(b: Panels, columns: list[ColumnBlock], tiles: list[Step], size: int) -> None:
    """TensorLangError: a tile that begins, or a vector that ends, in the middle of a panel."""
    for block, step in zip(columns, tiles, strict=True):
        width, last = sum(block.lanes), block is columns[-1] and block.tiles == 1
        if width % b.width and not last:
            refuse(step, "scheduled tile", f"whole panels of {b.width} columns", str(width), at="columns")
        column = 0
        for lanes in block.lanes:
            held = register_bits(lanes * size) // 8 // size
            if column % b.width + max(held, lanes) > b.width:
                refuse(
                    step,
                    "scheduled vector",
                    f"one inside a panel of {b.width} columns",
                    str(lanes),
                    at="columns",
                )
            column += lanes


_targets: dict[tuple[int, int], tuple[Target, Target]] = {}


def _narrowed(target: Target, bits: int) -> Target:
    """The target without the registers that are wider. The same each time: cost models are kept by it."""
    known = _targets.get((id(target), bits))
    if known is None or known[0] is not target:
        isa = replace(target.isa, vector_bits=tuple(b for b in target.isa.vector_bits if b <= bits))
        known = _targets[id(target), bits] = target, replace(target, isa=isa)
    return known[1]
