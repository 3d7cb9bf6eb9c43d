"""The networks that whole programs are timed with, and the ways to call one.

Each is a list of neurojit's layers with weights drawn from a seed. `onnx_peer.py` and `torch_peer.py` make
the same network of those layers, so that all contenders have the same weights, and their results are compared
before any is timed.
"""

from __future__ import annotations

import gc
import time
import timeit
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
from contest import Contender

import neurojit as nj
from neurojit import nn
from neurojit.ir import TensorType
from neurojit.ir.layer import Array, LayerLike

STEPS = 4
"""Calls after which results are compared: enough for a state to have had an effect."""


class Network(NamedTuple):
    """shape: of its input."""

    name: str
    layers: list[LayerLike]
    shape: tuple[int, ...]

    @property
    def input(self) -> Array:
        return np.random.default_rng(len(self.name)).standard_normal(self.shape, np.float32)

    def program(self, any_batch: bool = False) -> nj.Program:
        """Compiled for this very shape, as the peers' are, or for any number of rows. AssertionError: it is
        interpreted."""
        exact = TensorType(self.shape)
        program = nj.compile(self.layers, input_type=None if any_batch else exact)
        assert program.compiled, program.explain()
        return program

    @property
    def multiply_adds(self) -> int:
        """Of a call of dense layers, without the rest."""
        linear = [layer for layer in flat(self.layers) if isinstance(layer, nn.Linear)]
        return self.shape[0] * sum(layer.inputs * layer.outputs for layer in linear)


class Call(NamedTuple):
    """One way to call a network, as timeit runs it: `calls` of them in a statement, which leaves the result
    of the last in `y`. setup: before a run of many; a state is then as at first."""

    statement: str
    names: dict[str, Any]
    setup: str = "pass"
    calls: int = 1
    around: Callable[[], AbstractContextManager[Any]] = nullcontext

    def contender(self) -> Contender:
        timer = timeit.Timer(self.statement, self.setup, globals=self.names)

        def run(calls: int) -> float:
            statements = max(1, calls // self.calls)
            with self.around():
                return timer.timeit(statements) * calls / (statements * self.calls)

        return run

    def result(self) -> Array:
        """What STEPS calls give at last."""
        names = dict(self.names)
        with self.around():
            exec(self.setup, names)
            for _ in range(STEPS // self.calls):
                exec(self.statement, names)
            return np.array(names["y"], copy=True)

    def latencies(self, calls: int) -> list[int]:
        """Nanoseconds of so many calls, each timed alone, sorted; the clock's own cost is among them."""
        lines = [
            "def loop(times, clock):",
            f"    {self.setup}",
            "    for i in range(len(times)):",
            "        start = clock()",
            f"        {self.statement}",
            "        times[i] = clock() - start",
        ]
        names = dict(self.names)
        exec("\n".join(lines), names)
        times = [0] * (calls // self.calls)
        gc.disable()
        try:
            with self.around():
                names["loop"](times, time.perf_counter_ns)
        finally:
            gc.enable()
        return sorted(ns // self.calls for ns in times)


def flat(layers: list[Any]) -> list[Any]:
    """Layers, with those that others are made of in their place."""
    found: list[Any] = []
    for layer in layers:
        found += flat(layer.layers) if isinstance(layer, nn.Sequential) else [layer]
    return found


def mlp(*widths: int, batch: int, activation: str) -> Network:
    name = "-".join(map(str, widths)) + (f" x {batch}" if batch > 1 else "") + f" {activation}"
    return Network(name, [nn.MLP(*widths, activation=activation, rng=1)], (batch, widths[0]))


def encoder(tokens: int, width: int, heads: int, blocks: int) -> Network:
    """A transformer's encoder as in torch.nn.TransformerEncoderLayer: norms after the sums, relu, and four
    times the width between."""
    layers: list[LayerLike] = []
    for block in range(blocks):
        layers += [
            nn.Residual(nn.MultiHeadAttention(width, heads, tokens=tokens, rng=4 * block)),
            nn.LayerNorm(width),
            nn.Residual(
                nn.Linear(width, 4 * width, rng=4 * block + 1),
                "relu",
                nn.Linear(4 * width, width, rng=4 * block + 2),
            ),
            nn.LayerNorm(width),
        ]
    return Network(f"encoder {blocks} x {width}, {tokens} tokens", layers, (tokens, width))


def lstm(steps: int | None = None) -> Network:
    return Network(
        "LSTM-64 step" if steps is None else f"LSTM-64, {steps} steps",
        [nn.LSTM(64, 64, steps=steps, rng=2)],
        (1, 64) if steps is None else (steps, 1, 64),
    )


def gru() -> Network:
    return Network("GRU-64 step", [nn.GRU(64, 64, rng=3)], (1, 64))


def calls_of(network: Network, any_batch: bool = False) -> dict[str, Call]:
    """neurojit's: with `out`, bound, and allocating the result."""
    program = network.program(any_batch)
    x = network.input
    y = np.empty_like(program(x))
    names = {"program": program, "bound": program.bind(x, y), "x": x, "y": y}
    return {
        "neurojit": Call("program(x, y)", names, "program.reset()"),
        "bound": Call("bound()", names, "program.reset()"),
        "allocating": Call("y = program(x)", names, "program.reset()"),
    }


def compile_ms(before: Network, network: Network, any_batch: bool) -> float:
    """Milliseconds of compiling a network, after another."""
    before.program(any_batch)
    start = time.perf_counter()
    network.program(any_batch)
    return 1e3 * (time.perf_counter() - start)
