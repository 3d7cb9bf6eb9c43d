"""Random programs: ops of the whole table over a few small shapes, a scan, states, weights.

`program(choose)` asks `choose(n)` for a number below n wherever it has a choice, so that hypothesis can
shrink what it found, and a plain generator can drive it too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from neurojit.errors import TensorLangError
from neurojit.ir import OPS, Builder, Dense, Function, Module, TensorType, Value
from neurojit.ir.numbers import to_element
from neurojit.ir.types import ELEMENTS, FLOATS

Choose = Callable[[int], int]
SHAPES = [(), (3,), (2, 3), (3, 2), (1, 3), (None, 3), (None, 2, 3), (2, 2, 3), (None,), (0, 3)]
PICKED = [
    row.name for row in OPS.values() if row.lowering in ("map", "gemm", "reduce", "view", "move", "random")
]
PICKED += ["matmul"] * 5 + ["transpose"] * 2  # few operands fit a product
FLOAT_VALUES = (0.0, -0.0, 1.0, 0.5, -2.0, 1e-5, 0.1, float("inf"))


class Program(NamedTuple):
    function: Function
    inputs: list[Any]
    weights: dict[str, Any]
    states: dict[str, Any]

    @property
    def module(self) -> Module:
        return Module("random", (self.function,))


def numbers(seed: int, shape: tuple[int, ...], element: str) -> Any:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape) * 2
    if ELEMENTS[element].kind != "float":
        values = values * 2
    elif rng.integers(4) == 0 and values.size:
        values.ravel()[0] = rng.choice([0.0, -0.0, np.inf, -np.inf, np.nan, 1e30])
    return to_element(np.asarray(values), element)


def by_choice(seed: int) -> Choose:
    rng = np.random.default_rng(seed)
    return lambda n: int(rng.integers(n))


def program(choose: Choose, ops: int = 14) -> Program:
    return _Maker(choose).program(ops)


class _Maker:
    def __init__(self, choose: Choose) -> None:
        self.choose = choose
        self.b = Builder()
        self.pool: list[Value] = []

    def pick(self, options: Any) -> Any:
        return options[self.choose(len(options))]

    def program(self, ops: int) -> Program:
        b, n, inputs = self.b, self.choose(4), []
        for number in range(2 + self.choose(3)):
            element = self.pick(("f32", "f32", "f64", "bf16", "i32", "i8", "i1"))
            type_ = TensorType(self.pick(SHAPES), element)
            self.pool.append(b.parameter(f"x{number}", type_))
            inputs.append(numbers(self.choose(99), type_.static_shape(n), element))
        if not any(value.type.is_dynamic for value in self.pool):
            self.pool.append(b.parameter("batch", "tensor<?x3xf32>"))
            inputs.append(numbers(1, (n, 3), "f32"))
        weights, states = {}, {}
        for number in range(self.choose(3)):
            name, type_ = f"layer.{number}", TensorType((3, 2 + number))
            self.pool.append(b.weight(name=name, type=type_))
            weights[name] = numbers(number, type_.static_shape(0), "f32")
        if self.choose(2):
            self.pool.append(b.state_read(name="h", type="tensor<2x3xf32>", initial=0.5))
            states["h"] = numbers(5, (2, 3), "f32")
        for _ in range(self.choose(3)):
            element = self.pick(tuple(ELEMENTS))
            shape = self.pick([s for s in SHAPES if None not in s])
            self.pool.append(
                b.op("constant", value=Dense.of(numbers(self.choose(9), shape, element), element))
            )
        for _ in range(ops):
            self.op()
        if self.choose(3) == 0:
            self.scan()
        if states:
            kept = [v for v in self.pool if v.type == TensorType((2, 3))]
            b.state_write(self.pick(kept), name="h")
        if self.choose(4) == 0:
            flags = [v for v in self.pool if v.type.element == "i1"]
            if flags:
                b.op("assert", b.op("or", flags[-1], b.op("not", flags[-1])), text='always "true" \n')
        outputs = [self.pick(self.pool) for _ in range(1 + self.choose(3))] + self.pool[-2:]
        return Program(b.build(*outputs), inputs, weights, states)

    def op(self) -> None:
        """One op, if what was chosen fits its row."""
        row = OPS[self.pick(PICKED)]
        first = self.pick(self.pool)
        operands: list[Value] = []
        for number, _ in enumerate(row.operands):
            own = row.element_of(number)
            fitting = [v for v in self.pool if v.type.element == (own or first.type.element)]
            if row.name.startswith("random"):
                shape: tuple[int, ...] = (2,) if number == 0 else ()
                made = numbers(self.choose(99), shape, "i32")
                fitting = [self.b.op("constant", value=Dense.of(made, "i32"))]
            if not fitting:
                return
            operands.append(self.pick(fitting) if number or own else first)
        attributes = {a.name: self.attribute(row.name, a.name, a.kind, operands) for a in row.attributes}
        try:
            self.pool.append(self.b.op(row.name, *operands, **attributes))
        except TensorLangError:
            return

    def attribute(self, op: str, name: str, kind: str, operands: list[Value]) -> Any:
        shape = operands[0].type.shape
        rank = len(shape)
        if kind == "bool":
            return bool(self.choose(2))
        if name in ("axis", "axes"):
            axis = self.choose(rank) if rank else 0
            return axis if name == "axis" else (axis,) if self.choose(3) else tuple(range(rank))
        if name == "permutation":
            order = list(range(rank))
            if rank > 1:
                i = 1 + self.choose(rank - 1) if shape[0] is None else self.choose(rank)
                order[i], order[-1] = order[-1], order[i]
            return tuple(order)
        if name == "shape":
            if op == "reshape":
                static = operands[0].type.count(1)
                return self.pick(([-1], [-1, static], [static], [1, static], [-1, 1, static]))
            return self.pick(((-1, 3), (2, 3), (2, 2, 3), (3,), (-1, 2, 3)))
        if name in ("low", "high") and kind == "ints":
            return tuple(self.choose(2) if extent is not None else 0 for extent in shape)
        if name == "predicate":
            return self.pick(("eq", "ne", "lt", "le", "gt", "ge"))
        if name == "dtype":
            return self.pick(FLOATS[:2] if op.startswith("random") else tuple(ELEMENTS))
        if kind == "float":
            return self.pick(FLOAT_VALUES)
        return 1 + self.choose(3) if name != "start" else self.choose(2)

    def scan(self) -> None:
        """h carried over the leading axis of one input, with ops of both in the body."""
        b = self.b
        inputs = [v for v in self.pool if v.type.rank and v.type.element == "f32"]
        carried = [v for v in self.pool if v.type == TensorType((2, 3))]
        if not inputs or not carried:
            return
        outer = list(self.pool)

        def body(h: Value, x: Value) -> Any:
            self.pool = [*outer, h, x]
            for _ in range(5):
                self.op()
            new = [v for v in self.pool if v.type == h.type]
            static = [v for v in self.pool if not v.type.is_dynamic]
            return [self.pick(new)], [self.pick(static)]

        finals, stacked = b.scan(
            body, [self.pick(carried)], [self.pick(inputs)], reverse=bool(self.choose(2))
        )
        self.pool = [*outer, *finals, *stacked]
