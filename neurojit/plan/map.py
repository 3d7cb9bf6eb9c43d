"""What a fused elementwise kernel computes (`Map`): an expression at every element of a tensor.

Inputs and outputs lie in numbered buffers, each at an offset and with a stride for every dimension, in
elements. An input may be spread over dimensions (stride 0): a row vector, a column, one number; and several
may be slices of one buffer, as the gates of an LSTM are of one row. Vectors run along the last dimension, so
strides there are 1, or 0 for an input.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from neurojit.plan.cut import ceil_div
from neurojit.plan.epilogue import Activation
from neurojit.plan.expression import Apply, Builder, Expression, evaluate_in_order
from neurojit.plan.gemm import ELEMENT_SIZE
from neurojit.target import Isa

FARTHEST = 1 << 30
"""Elements that offsets and strides stay below: what 32-bit displacements reach."""


@dataclass(frozen=True)
class Access:
    """Where the elements of an input or output lie: element i, j, ... at offset + i strides[0] + j strides[1]
    + ... of the buffer, counted in elements."""

    buffer: int
    strides: tuple[int, ...]
    offset: int = 0


@dataclass(frozen=True)
class Map:
    """outputs = expression(inputs) at every element of `shape`, whose first extent may be None: known at the
    call, the kernel's n.

    unit: how many elements of a first extent of None one of n makes. Outputs may lie on inputs, element on
    element; else nothing overlaps. ValueError: an expression that
    reduces, strides that do not fit the shape, vectors that are not adjacent, an offset too far."""

    dtype: str
    shape: tuple[int | None, ...]
    inputs: tuple[Access, ...]
    outputs: tuple[Access, ...]
    expression: Expression
    unit: int = 1

    def __post_init__(self) -> None:
        if self.expression.reduces:
            raise ValueError("map: the expression reduces; give it to reduce")
        check_layout("map", self.shape, self.inputs, self.outputs, self.expression)
        check_lanes("map", self.dtype, self.expression)
        for output in self.outputs:
            if self.shape[-1] != 1 and output.strides[-1] != 1:
                raise ValueError(f"map: output strides {output.strides}, expected 1 along the last dimension")

    @classmethod
    def of_functions(cls, dtype: str, functions: tuple[Activation, ...]) -> Map:
        """y[i] = f_last(... f_first(x[i])) for 0 <= i < n, n the kernel's extent. y may be x."""
        build = Builder()
        node = build.input(0)
        for f in functions:
            node = build.apply(f.name, node, parameters=f.parameters)
        return cls(dtype, (None,), (Access(0, (1,)),), (Access(1, (1,)),), build.done(node))

    @property
    def buffers(self) -> int:
        """How many addresses the kernel takes."""
        return 1 + max(access.buffer for access in (*self.inputs, *self.outputs))

    def collapsed(self) -> Map:
        """The same elements in as few dimensions as can be: neighbours that every access passes through in
        one stride become one, and extents of 1 vanish."""
        accesses = (*self.inputs, *self.outputs)
        shape, strides, unit = collapse(self.shape, tuple(access.strides for access in accesses))
        placed = [replace(access, strides=of) for access, of in zip(accesses, strides, strict=True)]
        count = len(self.inputs)
        ins, outs = tuple(placed[:count]), tuple(placed[count:])
        return replace(self, shape=shape, inputs=ins, outputs=outs, unit=self.unit * unit)


def check_lanes(what: str, dtype: str, expression: Expression) -> None:
    """ValueError: integers in lanes of 64 bits."""
    if dtype != "f32" and expression.has_integers:
        raise ValueError(f"{what}: integers among {dtype}, expected f32, whose lanes have their 32 bits")


def check_layout(
    what: str,
    shape: tuple[int | None, ...],
    inputs: tuple[Access, ...],
    outputs: tuple[Access, ...],
    expression: Expression,
) -> None:
    """ValueError as `Map` says."""
    if not shape or not all(extent is None or extent >= 1 for extent in shape) or None in shape[1:]:
        raise ValueError(f"{what}: shape {shape}, expected extents from 1 up, the first one or None")
    if len(outputs) != len(expression.outputs):
        raise ValueError(f"{what}: {len(outputs)} outputs, but the expression has {len(expression.outputs)}")
    if max(expression.inputs, default=-1) >= len(inputs):
        raise ValueError(
            f"{what}: the expression reads input {max(expression.inputs)}, but there are {len(inputs)}"
        )
    for access in (*inputs, *outputs):
        if len(access.strides) != len(shape):
            raise ValueError(f"{what}: strides {access.strides} for shape {shape}, expected {len(shape)}")
        if shape[-1] != 1 and access.strides[-1] not in (0, 1):
            raise ValueError(
                f"{what}: strides {access.strides}, expected 1 or 0 along the last dimension; copy it first"
            )
        span = access.offset + sum(s * (e or 1) for s, e in zip(access.strides, shape, strict=True))
        if access.buffer < 0 or not 0 <= access.offset < FARTHEST or not -FARTHEST < span < FARTHEST:
            raise ValueError(f"{what}: {access}: expected offsets and strides that stay below {FARTHEST}")


def collapse(
    shape: tuple[int | None, ...], strides: tuple[tuple[int, ...], ...]
) -> tuple[tuple[int | None, ...], tuple[tuple[int, ...], ...], int]:
    """Shape and strides with neighbouring dimensions made one wherever all strides allow; and how many
    elements of what became the first dimension one of the former first makes, if that is None."""
    kept, columns, unit = [shape[-1]], [tuple(of[-1] for of in strides)], 1  # the last dimension first
    for at in range(len(shape) - 2, -1, -1):
        extent, of, inner = shape[at], tuple(s[at] for s in strides), kept[-1]
        assert inner is not None
        if extent == 1:
            continue
        if inner == 1 and (len(kept) > 1 or all(stride in (0, 1) for stride in of)):
            kept[-1], columns[-1] = extent, of
        elif all(a == inner * b for a, b in zip(of, columns[-1], strict=True)):
            kept[-1] = None if extent is None else extent * inner
            unit = inner if extent is None else 1
        else:
            kept.append(extent)
            columns.append(of)
    return tuple(kept[::-1]), tuple(zip(*columns[::-1], strict=True)), unit


@dataclass(frozen=True)
class MapSchedule:
    """unroll: vectors in one trip of the loop along a row; all of a row's if those are no more. lanes: of a
    vector, 0 for as many as the ISA has. prefetch: (an input, how many trips ahead its next elements are
    asked for). abreast: of the vectors of a trip, how many are computed step by step together."""

    unroll: int
    lanes: int = 0
    prefetch: tuple[tuple[int, int], ...] = ()
    abreast: int = 1


def schedule_map(g: Map, target: Isa) -> MapSchedule:
    """Few operations an element: several vectors a trip, for the loop's own instructions count as much. Many:
    one, since that is code enough, and vectors overlap anyway; but of a large tensor as many abreast as there
    are registers for, since they overlap better so."""
    g = g.collapsed()
    work = g.expression.weight() + len(g.inputs) + len(g.outputs)
    most = next((unroll for unroll, limit in UNROLLED if work <= limit), 1)
    extent, lanes = g.shape[-1], target.widest // 8 // ELEMENT_SIZE[g.dtype]
    vectors = math.prod(extent or MANY * lanes for extent in g.shape) // lanes
    abreast = _abreast(g, target) if most <= 2 and vectors >= MANY else 1
    most = max(most, abreast)
    if extent is None:
        return MapSchedule(min(most, 4), abreast=abreast)
    whole = max(1, extent // lanes)
    unroll = ceil_div(whole, ceil_div(whole, most))
    return MapSchedule(unroll, abreast=min(abreast, unroll))


def _abreast(g: Map, target: Isa) -> int:
    """How many vectors the registers hold with all that is alive in each; one is for a constant, one for a
    mask where those are vectors."""
    e = g.expression
    held = e.held_along_row(e.outputs, {n for n, access in enumerate(g.inputs) if access.strides[-1] == 0})
    room = target.vector_registers - 1 - (not target.mask_registers) - len(held)
    two_masks = any(isinstance(node, Apply) and node.op == "log" for node in e.nodes)
    most = MOST_ABREAST - two_masks  # of seven masks, one is for the tail
    return max(1, min(most, room // evaluate_in_order(e, e.outputs, held).registers))


UNROLLED = ((8, 6), (4, 16), (2, 40))
"""(vectors a trip, up to so many operations, loads and stores of each). Measured on Zen 4."""
MOST_ABREAST = 4
"""Of these the exponential takes 6.1 cycles a vector, where one after the other takes 8.8; the gates of an
LSTM take 52 and 63 (Zen 5)."""
MANY = 64
"""Vectors of a tensor that is worth the longer code."""
