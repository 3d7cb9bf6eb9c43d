"""The kernels that networks need besides products: softmax, layer_norm, LSTM gates, transposition, cumsum.

Each is timed beside what bounds it, kernels of the same run over as many elements: softmax the exponentials
alone; layer_norm two sums of its rows and one scaling; the gates three sigmoids and two tanh; transposition
a copy; running sums two transpositions. `of bound` is that time over the kernel's. Cycles are of the clock
that the FMA ceiling shows. Kernels are called from C, the peers from Python, with out where they have it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
from contest import Contender, take_turns, timed
from goals import Goal

from neurojit.codegen import TensorKernel
from neurojit.plan import reduce as rows
from neurojit.plan.cumsum import Cumsum
from neurojit.plan.expression import Builder
from neurojit.plan.map import Access, Map
from neurojit.plan.reduce import Reduce
from neurojit.plan.transpose import COPY, Transpose
from neurojit.report.ceiling import fma_ceiling
from neurojit.runtime import SLOTS, clock_ns
from neurojit.target import host_target
from neurojit.tensor_compiler import compile_tensor_kernel

Array = np.ndarray[Any, Any]
SHAPES = ((16, 64), (100, 256), (1024, 1024))
X_NUMPY = 2.0
OF_BOUND = 0.6
SLOT_KEY = 0x6B65726E656C73  # keys of their own among the slots


def of_row(r: int, n: int, make: Callable[[Builder, int], int]) -> Reduce:
    build = Builder()
    e = build.done(make(build, build.input(0)))
    out = Access(1, (n, 1)) if e.along_row(())[e.outputs[0]] else Access(1, (1, 0))
    return Reduce("f32", (r, n), (Access(0, (n, 1)),), (out,), e)


def layer_norm(r: int, n: int) -> Reduce:
    build = Builder()
    e = build.done(rows.layer_norm(build, build.input(0), build.input(1), build.input(2), 1e-5))
    inputs = Access(0, (n, 1)), Access(2, (0, 1)), Access(3, (0, 1))
    return Reduce("f32", (r, n), inputs, (Access(1, (n, 1)),), e)


def scaling(r: int, n: int) -> Map:
    build = Builder()
    e = build.done(build.apply("add", build.apply("mul", build.input(0), build.input(1)), build.input(2)))
    inputs = Access(0, (n, 1)), Access(2, (0, 1)), Access(3, (0, 1))
    return Map("f32", (r, n), inputs, (Access(1, (n, 1)),), e)


def gates(r: int, n: int) -> Map:
    """c' = sigmoid(f) c + sigmoid(i) tanh(g), h = sigmoid(o) tanh(c'): rows of 4 n, c in place."""
    build = Builder()
    i, f, g, o, c = (build.input(k) for k in range(5))
    kept = build.apply("mul", build.apply("sigmoid", f), c)
    cell = build.apply("add", kept, build.apply("mul", build.apply("sigmoid", i), build.apply("tanh", g)))
    e = build.done(cell, build.apply("mul", build.apply("sigmoid", o), build.apply("tanh", cell)))
    parts = tuple(Access(0, (4 * n, 1), gate * n) for gate in range(4))
    return Map("f32", (r, n), (*parts, Access(1, (n, 1))), (Access(1, (n, 1)), Access(2, (n, 1))), e)


def function(name: str, r: int, n: int) -> Map:
    build = Builder()
    e = build.done(build.apply(name, build.input(0)))
    return Map("f32", (r * n,), (Access(0, (1,)),), (Access(1, (1,)),), e)


def numpy_softmax(x: Array, y: Array) -> None:
    np.exp(x - x.max(1, keepdims=True), out=y)
    y /= y.sum(1, keepdims=True)


def numpy_layer_norm(x: Array, y: Array, w: Array, b: Array) -> None:
    centred = x - x.mean(1, keepdims=True)
    scale = 1 / np.sqrt(np.mean(centred * centred, 1, keepdims=True) + np.float32(1e-5))
    np.add(centred * scale * w, b, out=y)


def numpy_gates(x: Array, c: Array, h: Array) -> None:
    n = c.shape[1]
    i, f, o = (1 / (1 + np.exp(-x[:, k * n : (k + 1) * n])) for k in (0, 1, 3))
    np.add(f * c, i * np.tanh(x[:, 2 * n : 3 * n]), out=c)
    np.multiply(o, np.tanh(c), out=h)


Case = tuple[TensorKernel, tuple[TensorKernel, ...], Callable[..., Any], str]
"""The kernel, what bounds it, NumPy's way, and torch's as a statement ("": none)."""


def cases(r: int, n: int) -> dict[str, Case]:
    total = of_row(r, n, lambda build, x: build.apply("reduce_sum", x))
    copy = Map("f32", (r * n,), (Access(0, (1,)),), (Access(1, (1,)),), COPY)
    turned = Transpose("f32", (n, r), Access(0, (1, n)), Access(1, (r, 1)))
    sigmoid, tanh = function("sigmoid", r, n), function("tanh", r, n)
    return {
        "softmax": (
            of_row(r, n, rows.softmax), (function("exp", r, n),), numpy_softmax, "t.softmax(x, 1, out=y)"
        ),
        "layer_norm": (
            layer_norm(r, n), (total, total, scaling(r, n)), numpy_layer_norm,
            "t.nn.functional.layer_norm(x, w.shape, w, b)",
        ),
        "LSTM gates": (gates(r, n), (sigmoid,) * 3 + (tanh,) * 2, numpy_gates, ""),
        "transpose": (
            turned, (copy,), lambda x, y: np.copyto(y.reshape(n, r), x.T), "y.view(x.T.shape).copy_(x.T)"
        ),
        "cumsum rows": (
            Cumsum.contiguous("f32", r, n), (turned, turned), lambda x, y: np.cumsum(x, 1, out=y),
            "t.cumsum(x, 1, out=y)",
        ),
        "cumsum down": (
            Cumsum.contiguous("f32", r, n, down=True), (copy,), lambda x, y: np.cumsum(x, 0, out=y),
            "t.cumsum(x, 0, out=y)",
        ),
    }  # fmt: skip


def contender(g: TensorKernel, operands: tuple[Array, ...]) -> Contender:
    """The kernel, called from C."""
    slot = SLOTS.insert((SLOT_KEY, hash(g) & (1 << 62) - 1, operands[0].ctypes.data, 1))
    if not slot.published:
        SLOTS.publish(slot, compile_tensor_kernel(g, host_target()))
    addresses = tuple(x.ctypes.data for x in operands)

    def run(calls: int) -> float:
        start = clock_ns()
        called, _ = slot.call_repeatedly(addresses, 0, calls)
        assert called == calls, "the kernel was evicted while it was measured"
        return (clock_ns() - start) / 1e9

    return run


def measure(short: bool) -> dict[str, Any]:
    target = host_target()
    clock = fma_ceiling("float32") / target.pipes.flop_per_cycle(target.isa.widest)
    has_torch = importlib.util.find_spec("torch") is not None
    print(
        "\nKernels over tensors of (rows, columns), float32; cycles of one element; `of bound`: see the head"
    )
    print("torch: " + ("one thread" if has_torch else "not installed"))
    print(
        f"{'':>12}{'shape':>12}{'us':>9}{'cycles':>8}{'bound':>8}{'of bound':>10}{'goal':>12}"
        f"{'numpy us':>10}{'x NumPy':>9}{'goal':>12}{'x torch':>9}"
    )
    measured, goals = [], []
    for r, n in SHAPES[:2] if short else SHAPES:
        for name, case in cases(r, n).items():
            row = measure_case(r, n, case, clock, has_torch, short)
            own = [
                Goal(f"{name} {r} x {n}, of its bound", row["of_bound"], OF_BOUND, form=".2f"),
                Goal(f"{name} {r} x {n}, x NumPy", row["x_numpy"], X_NUMPY, form=".2f"),
            ]
            print(
                f"{name:>12}{f'{r} x {n}':>12}{row['us']:>9.2f}{row['cycles']:>8.2f}{row['bound']:>8.2f}"
                f"{row['of_bound']:>10.2f}{own[0].mark:>12}{row['numpy_us']:>10.2f}{row['x_numpy']:>9.1f}"
                f"{own[1].mark:>12}" + (f"{row['x_torch']:>9.1f}" if "x_torch" in row else ""),
                flush=True,
            )
            goals += own
            measured.append({"kernel": name, "shape": (r, n), **row})
    return {"rows": measured, "clock_ghz": clock, "goals": [goal.as_json() for goal in goals]}


def measure_case(r: int, n: int, case: Case, clock: float, has_torch: bool, short: bool) -> dict[str, float]:
    kernel, bound, in_numpy, in_torch = case
    rng = np.random.default_rng(n)
    gated = isinstance(kernel, Map) and len(kernel.inputs) == 5
    x = rng.standard_normal((r, 4 * n if gated else n), np.float32)
    y, more = rng.standard_normal((2, r, n), np.float32)
    operands = {"x": x, "y": y, "w": more[0], "b": more[1]} if not gated else {"x": x, "y": y, "h": more}
    arrays = tuple(operands.values())
    used = arrays[
        : 4 if len(arrays) == 4 and isinstance(kernel, Reduce) and kernel.buffers == 4 else kernel.buffers
    ]
    names = ", ".join(list(operands)[: len(used)])
    contenders = {"kernel": contender(kernel, used)}
    for number, g in enumerate(dict.fromkeys(bound)):
        contenders[f"bound {number}"] = contender(g, arrays[: g.buffers])
    contenders["numpy"] = timed(f"f({names})", {"f": in_numpy, **operands})
    if has_torch and in_torch:
        import torch

        torch.set_num_threads(1)
        tensors = {key: torch.from_numpy(value) for key, value in operands.items()}
        contenders["torch"] = timed(in_torch, {"t": torch, **tensors})
    ns = take_turns(contenders, 8 if short else 15)
    distinct = list(dict.fromkeys(bound))
    bounding = sum(ns[f"bound {distinct.index(g)}"] for g in bound)
    row = {
        "us": ns["kernel"] / 1000,
        "cycles": ns["kernel"] * clock / (r * n),
        "bound": bounding * clock / (r * n),
        "of_bound": bounding / ns["kernel"],
        "numpy_us": ns["numpy"] / 1000,
        "x_numpy": ns["numpy"] / ns["kernel"],
    }
    if "torch" in ns:
        row["x_torch"] = ns["torch"] / ns["kernel"]
    return row
