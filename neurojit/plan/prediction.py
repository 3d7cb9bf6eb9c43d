"""What a plan should reach, and what will hold it back: the largest of a few simple bounds.

Each bound is a number of core cycles for one call: multiply-adds through the FMA pipes, loads through
the load ports, one chain's latency, bytes from L1, L2, L3 or memory. The model is the schedule
chooser's own; it is meant to name the bottleneck, and to be held against a measurement.
"""

from __future__ import annotations

from typing import NamedTuple

from neurojit.plan.blocking import Blocking
from neurojit.plan.cost import L3_LINE_CYCLES, LINE, Traffic, cost_model
from neurojit.plan.gemm import ELEMENT_SIZE, Gemm, GemmSchedule
from neurojit.plan.gemv import Gemv, GemvSchedule, schedule_gemv
from neurojit.plan.level import Level
from neurojit.plan.panels import Panels
from neurojit.plan.product import Product, plan_product
from neurojit.plan.tiling import has_adjacent_segments, schedule_gemm
from neurojit.target import Target

MEMORY_LINE_CYCLES = 10.0
"""Cycles to bring one line from memory in a stream: about 23 GB/s at 3.6 GHz, one core of a server."""
BLOCKED_FRACTION = 0.93
"""What packing and edges leave of the ceiling in the blocked driver. Fitted on Zen 4."""


class Prediction(NamedTuple):
    """cycles: of one call. bound: what takes them. ideal: the multiply-adds alone, at the FMA ceiling."""

    cycles: float
    bound: str
    ideal: float

    @property
    def fraction(self) -> float:
        """Of the FMA ceiling."""
        return self.ideal / self.cycles


def predict(p: Product, target: Target, level: Level = Level.O3) -> Prediction:
    level = p.level_at(level)
    plan = plan_product(p, target, level=level)
    ideal = 2 * p.work / target.pipes.flop_per_cycle(target.isa.widest, 8 * p.element_size)
    if level == Level.O0:
        bounds = {"FMA latency": float(p.work * target.pipes.fma_latency)}
    elif isinstance(plan, Gemm) and isinstance(plan.b, Panels):
        bounds = _panel_bounds(plan, plan.b, schedule_gemm(plan, target), target)
    elif isinstance(plan, Gemm):
        bounds = _gemm_bounds(plan, schedule_gemm(plan, target, level), target)
    elif isinstance(plan, Gemv):
        bounds = _gemv_bounds(plan, schedule_gemv(plan, target, level), target)
    else:
        bounds = _blocked_bounds(ideal, p, plan)
    bound = max(bounds, key=lambda name: bounds[name])
    return Prediction(max(bounds[bound], ideal), bound, ideal)


def _gemm_bounds(g: Gemm, schedule: GemmSchedule, target: Target) -> dict[str, float]:
    """The chooser's cycles, under the name of the port or the level that takes most of them."""
    assert g.k is not None
    model, k = cost_model(target, ELEMENT_SIZE[g.dtype]), g.k
    shares = {"FMA ports": 0.0, "load ports": 0.0, "FMA latency": 0.0}
    traffic = Traffic(g, target)
    level = _level((g.m * g.k + k * g.n + g.m * g.n) * ELEMENT_SIZE[g.dtype], target)
    shares[level] = 0.0
    adjacent = has_adjacent_segments(g)
    for block in schedule.columns:
        cost = model.tile(block.lanes, block.folded, adjacent)
        for height, down in block.rows.groups:
            steps = block.tiles * down * k
            shares["FMA ports"] += steps * cost.slots(height)
            shares["load ports"] += steps * cost.loads(height)
            shares["FMA latency"] += steps * cost.latency
        if not traffic.none:
            shares[level] += block.tiles * traffic.cycles(block.width, block.rows.size, block.rows.tiles)
    largest = max(shares, key=lambda name: shares[name])
    return {largest: max(schedule.cycles, shares[largest])}


WIDENING_CYCLES = {"bf16": 0.6, "int8": 1.0}
"""Cycles for 256 bits of widened weights, in which their multiply-adds for one row hide. Fitted on Zen 4."""


def _panel_bounds(g: Gemm, panels: Panels, schedule: GemmSchedule, target: Target) -> dict[str, float]:
    """Packed weights come from where they lie once, and from L2 for every further tile of rows."""
    assert g.k is not None
    model, pipes = cost_model(target, ELEMENT_SIZE[g.dtype]), target.pipes
    shares = {"FMA ports": 0.0, "FMA latency": 0.0, "widening": 0.0}
    again = 0.0
    for block in schedule.columns:
        cost, sweeps = model.tile(block.lanes), block.tiles * block.rows.tiles
        shares["FMA ports"] += block.tiles * g.m * g.k * cost.slots_per_row
        shares["FMA latency"] += sweeps * g.k * pipes.fma_latency
        wide = block.width * ELEMENT_SIZE[g.dtype] / 32
        shares["widening"] += sweeps * g.k * wide * WIDENING_CYCLES.get(panels.storage, 0.0)
        again += (block.rows.tiles - 1) * block.tiles * block.width / g.n
    lines = g.b_bytes / LINE
    level = _level(g.b_bytes, target)
    reading = lines * _line_cycles(level, target)
    shares[level] = reading + (again * lines * pipes.l2_line_cycles if level != "L1" else 0.0)
    return shares


def _gemv_bounds(g: Gemv, schedule: GemvSchedule, target: Target) -> dict[str, float]:
    size = g.m * g.k * ELEMENT_SIZE[g.dtype]
    level = _level(size, target)
    pipes, widest = target.pipes, target.isa.widest
    loads = size / (widest // 8) / pipes.loads_per_cycle[widest]
    height = schedule.rows.size
    chain = g.k / g.lanes * pipes.fma_latency * -(-g.m // height)
    return {"load ports": loads, "FMA latency": chain, level: size / LINE * _line_cycles(level, target)}


def _blocked_bounds(ideal: float, p: Product, blocks: Blocking) -> dict[str, float]:
    passes = -(-blocks.columns.tiles // blocks.block_columns)
    reads = p.element_size * (p.m * p.k * passes + p.k * p.n + 2 * p.m * p.n)
    return {"FMA ports": ideal / BLOCKED_FRACTION, "memory": reads / LINE * MEMORY_LINE_CYCLES}


def _line_cycles(level: str, target: Target) -> float:
    """To bring a line from there to L1, in a stream."""
    of_l2 = target.pipes.l2_line_cycles
    return {"L1": 1.0, "L2": of_l2, "L3": L3_LINE_CYCLES, "memory": MEMORY_LINE_CYCLES}[level]


def _level(size: int, target: Target) -> str:
    """The cache level that holds so many bytes."""
    caches = target.caches
    for name, cache in (("L1", caches.l1d), ("L2", caches.l2), ("L3", caches.l3)):
        if cache is not None and size <= cache.size * 3 // 4:
            return name
    return "memory"
