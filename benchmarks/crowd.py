"""A crowd: how many characters have their policy computed in one frame of a game, 16.6 ms at 60 a second.

Every character observes 16 numbers and has a policy of 16-32-32-8, the same for all; a frame is one call with
all of them, its results in an array that is there. The number is the largest whose median frame fits, to one
part in fifty, found by measuring. With one thread, and with as many as there are cores.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
import onnx_peer
import torch_peer
from goals import Goal, print_goals
from threads import CORES, blas_threads, threadpoolctl
from whole_networks import Call, Network, calls_of, flat, mlp

import neurojit as nj
from neurojit import nn
from neurojit.ir.layer import Array

FRAME_NS = 16_600_000
GOAL = 300_000
WIDTHS = (16, 32, 32, 8)
FIRST, PRECISION = 20_000, 50
CLOSE = 1e-5
Frame = Callable[[int], Call]
"""So many characters -> how a frame of them is computed."""


def measure(short: bool) -> dict[str, Any]:
    print("\nA crowd: how many characters with a policy of 16-32-32-8 fit 16.6 ms, float32")
    heads = "".join(f"{name:>12}" for name in ("ORT", "torch", "numpy"))
    print(f"{'':6}{'threads':>8}{'neurojit':>12}{'ns each':>9}{heads}{'x best':>8}")
    rows, goals = [], []
    for activation in ("relu", "tanh"):
        for threads in sorted({1, len(CORES)}):
            most = race(activation, threads, 9 if short else 31)
            rows.append({"activation": activation, "threads": threads, "characters": most})
            print_row(rows[-1])
            if threads == 1:
                what = f"characters in 16.6 ms, one core, {activation}"
                goals.append(Goal(what, most["neurojit"], GOAL, form=",.0f"))
    print_goals(goals)
    return {"rows": rows, "goals": [goal.as_json() for goal in goals]}


def print_row(row: dict[str, Any]) -> None:
    most = row["characters"]
    ours = most["neurojit"]
    peers = "".join(f"{most.get(name) or '-':>12}" for name in ("ORT", "torch", "numpy"))
    best = max((most[name] for name in most if name != "neurojit"), default=0)
    ratio = f"{ours / best:>8.2f}" if best else ""
    each = FRAME_NS / max(ours, 1)
    print(f"{row['activation']:6}{row['threads']:>8}{ours:>12}{each:>9.1f}{peers}{ratio}", flush=True)


def race(activation: str, threads: int, frames: int) -> dict[str, int]:
    """The characters of each contender, one after the other."""

    def network(n: int) -> Network:
        return mlp(*WIDTHS, batch=n, activation=activation)

    def ours(network: Network) -> Call:
        return calls_of(network, any_batch=True)["neurojit"]

    expected = ours(network(FIRST)).result()

    def quickest(ways: Callable[[Network], dict[str, Call]]) -> Frame:
        """The way that is best for a crowd of middling size. AssertionError: results differ."""
        calls = ways(network(FIRST))
        for name, call in calls.items():
            np.testing.assert_allclose(call.result(), expected, rtol=0, atol=CLOSE, err_msg=name)
        times = {name: frame_ns(call, frames) for name, call in calls.items()}
        return lambda n: ways(network(n))[min(times, key=times.__getitem__)]

    found = {}
    with nj.num_threads(threads):
        found["neurojit"] = most_characters(lambda n: ours(network(n)), frames)
    if onnx_peer.available:
        found["ORT"] = most_characters(quickest(lambda n: onnx_peer.calls_of(n, threads)), frames)
    if torch_peer.available:
        found["torch"] = most_characters(quickest(lambda n: torch_peer.calls_of(n, False, threads)), frames)
    if threadpoolctl is not None or threads == 1:
        with blas_threads(threads) if threadpoolctl is not None else nj.num_threads(1):
            found["numpy"] = most_characters(quickest(lambda n: {"numpy": numpy_call(n)}), frames)
    return found


def most_characters(frame: Frame, frames: int) -> int:
    """The largest crowd whose median frame fits, found by the rule of three."""
    fits, beyond, n = 0, 0, FIRST
    while not beyond or (beyond - fits) * PRECISION > beyond:
        ns = frame_ns(frame(n), frames)
        if ns <= FRAME_NS:
            fits = n
        else:
            beyond = n
        step = max(n // PRECISION, 1)
        guess = int(n * FRAME_NS / ns)
        n = min(max(guess, fits + step), beyond - step if beyond else max(4 * n, guess))
        if n <= fits:
            break
    return fits


def frame_ns(call: Call, frames: int) -> float:
    run = call.contender()
    run(2)
    return median(run(1) for _ in range(frames)) * 1e9


def numpy_call(network: Network) -> Call:
    """As one writes it with some care: every step in place."""
    linear = [layer for layer in flat(network.layers) if isinstance(layer, nn.Linear)]
    act = {"relu": lambda h: np.maximum(h, 0, out=h), "tanh": lambda h: np.tanh(h, out=h)}[
        network.name.rpartition(" ")[2]
    ]
    values = [network.input, *(np.empty((network.shape[0], layer.outputs), np.float32) for layer in linear)]

    def forward() -> Array:
        for number, (layer, (x, h)) in enumerate(zip(linear, pairwise(values), strict=True)):
            np.matmul(x, layer.weight, out=h)
            h += layer.bias
            if number < len(linear) - 1:
                act(h)
        return values[-1]

    return Call("y = forward()", {"forward": forward})
