"""A crowd of characters, each with a neural network that steers it, at 60 frames a second.

Characters live on a torus and are drawn to four beacons, which wander. Each frame every character observes 16
numbers (the way to each beacon, its own velocity, six numbers that it noted to itself a frame ago) and its
network answers with 8 (an acceleration, six new notes). All characters share one network, so a frame is one
call; by default an MLP 16-32-32-8, with `--policy lstm` an LSTM 16-32 and a layer 32-8, whose memory is each
character's own. The output layer was fitted at the start to a rule of steering, so what you see is a network
that does something.

The same network is computed by neurojit, by NumPy and, where it is installed, by PyTorch, all on one thread,
for crowds of several sizes, and must steer alike. `--picture FILE` draws frame time against size.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

# all the times below are of one thread
os.environ.update({f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "OMP", "MKL", "NEUROJIT")})

import numpy as np

import neurojit as nj
from neurojit import nn
from neurojit.ir import Builder, Module, Value

Array = np.ndarray[Any, Any]
Weights = dict[str, Array]
Act = Callable[[], Any]
"""Reads observations, writes actions, both in arrays that were given before."""

FRAME_MS = 1000 / 60
SIZES, SIZES_SHORT = (100, 1_000, 10_000, 100_000, 300_000), (1_000, 20_000)
FRAMES, FRAMES_SHORT = 120, 30
BEACONS, NOTES = 4, 6
SEEN, ANSWERED, HIDDEN = 2 * BEACONS + 2 + NOTES, 2 + NOTES, 32
AGREE = 1e-3
"""How far positions may be apart after AGREE_FRAMES frames, on a torus of 1 x 1."""
AGREE_FRAMES = 5


# The world --------------------------------------------------------------------------------------------


class World:
    """Where everybody is. `observed` and `answered` are what the policy reads and writes, a row a character;
    the world itself keeps a row a quantity, over which NumPy is several times quicker."""

    def __init__(self, n: int, seed: int = 1) -> None:
        rng = np.random.default_rng(seed)
        self.position = rng.random((2, n), np.float32)
        self.velocity = np.zeros((2, n), np.float32)
        self.ways, self.whole = (np.empty((BEACONS, 2, n), np.float32) for _ in range(2))
        self.observed = np.zeros((n, SEEN), np.float32)
        self.answered = np.zeros((n, ANSWERED), np.float32)
        self.frame = 0
        self.observe()

    @property
    def beacons(self) -> Array:
        """Where they are in this frame: four circles."""
        angle = 0.01 * self.frame * np.array([1.0, -1.3, 0.7, -0.5]) + np.arange(BEACONS) * np.pi / 2
        ring = np.array([0.15, 0.25, 0.3, 0.35])
        return (0.5 + ring * np.stack([np.cos(angle), np.sin(angle)])).T.astype(np.float32)

    def observe(self) -> None:
        np.subtract(self.beacons[:, :, None], self.position, out=self.ways)
        np.rint(self.ways, out=self.whole)
        np.subtract(self.ways, self.whole, out=self.ways)  # the short way round the torus
        self.observed[:, : 2 * BEACONS] = self.ways.reshape(2 * BEACONS, -1).T
        self.observed[:, 2 * BEACONS : 2 * BEACONS + 2] = self.velocity.T
        np.clip(self.answered[:, 2:], -1, 1, out=self.observed[:, 2 * BEACONS + 2 :])

    def advance(self) -> None:
        """One frame on, by what the policy answered."""
        for axis in range(2):
            self.velocity[axis] += self.answered[:, axis]
        np.clip(self.velocity, -0.02, 0.02, out=self.velocity)
        self.position += self.velocity
        self.position -= np.floor(self.position, out=self.whole[0])
        self.frame += 1
        self.observe()

    def distance(self) -> float:
        """How far a character is from the nearest beacon, in the mean."""
        return float(np.sqrt((self.ways**2).sum(1)).min(0).mean())

    def drawn(self, width: int = 48, height: int = 16) -> str:
        """How many are where, as characters; O is a beacon."""
        columns, rows = (
            np.minimum(x * size, size - 1).astype(int)
            for x, size in zip(self.position, (width, height), strict=True)
        )
        counts = np.zeros((height, width))
        np.add.at(counts, (rows, columns), 1)
        shades = (counts / max(counts.max(), 1)) ** 0.5 * 7
        lines = [[" .:-=+*#"[int(shade)] for shade in row] for row in shades]
        for x, y in self.beacons:
            lines[int(y * height) % height][int(x * width) % width] = "O"
        return "\n".join("  " + "".join(line) for line in lines)


def steering(observed: Array) -> Array:
    """What the network is fitted to: towards the beacons, the nearest before all, slower when fast; notes of
    where the nearest was."""
    ways = observed[:, : 2 * BEACONS].reshape(-1, BEACONS, 2)
    nearness = np.exp(-20 * (ways**2).sum(2, keepdims=True))
    pull = (ways * nearness).sum(1) / nearness.sum(1)
    velocity, notes = observed[:, 2 * BEACONS : 2 * BEACONS + 2], observed[:, 2 * BEACONS + 2 :]
    return np.hstack([0.02 * pull - 0.2 * velocity, 0.1 * pull, 0.9 * notes[:, :4]])


def examples() -> Array:
    """What characters may observe, to fit on: anywhere, at any speed, in frames of all kinds."""
    rng = np.random.default_rng(4)
    seen = []
    for frame in range(0, 1280, 10):
        world = World(64, seed=frame)
        world.frame = frame
        world.velocity[:] = rng.normal(0, 0.01, world.velocity.shape)
        world.answered[:] = rng.normal(0, 0.03, world.answered.shape)
        world.observe()
        seen.append(world.observed)
    return np.concatenate(seen)


SCALE = np.repeat([0.3, 0.01, 0.3], [2 * BEACONS, 2, NOTES])
"""Of what is observed: ways, velocities, notes."""


def drawn_layer(rng: np.random.Generator, x: Array, width: int, scale: Array) -> tuple[Array, Array]:
    """Weights and bias at random, for columns of this scale. Each function bends at one of the rows of x, so
    that they differ where it matters."""
    weights = rng.normal(0, x.shape[1] ** -0.5, (x.shape[1], width)) / scale[:, None]
    bias = -(x[rng.integers(len(x), size=width)] * weights.T).sum(1)
    return weights.astype(np.float32), bias.astype(np.float32)


def fitted(features: Array, observed: Array) -> tuple[Array, Array]:
    """The output layer, (HIDDEN, ANSWERED) and (ANSWERED,), by least squares."""
    ones = np.ones((len(features), 1))
    solution = np.linalg.lstsq(np.hstack([features, ones]), steering(observed), rcond=None)[0]
    return solution[:-1].astype(np.float32), solution[-1].astype(np.float32)


# Policies: weights once, then the same network in each library ----------------------------------------


class MLP:
    """16-32-32-8 with relu."""

    def __init__(self) -> None:
        rng = np.random.default_rng(4)
        x = h = examples()
        w: Weights = {}
        for layer, scale in (("1", SCALE), ("2", np.ones(HIDDEN))):
            w[f"w{layer}"], w[f"b{layer}"] = drawn_layer(rng, h, HIDDEN, scale)
            h = np.maximum(h @ w[f"w{layer}"] + w[f"b{layer}"], 0)
        w["w3"], w["b3"] = fitted(h, x)
        self.weights = w

    def neurojit(self, world: World) -> Act:
        layers = [
            nn.Linear(SEEN, HIDDEN, self.weights["w1"], self.weights["b1"]),
            "relu",
            nn.Linear(HIDDEN, HIDDEN, self.weights["w2"], self.weights["b2"]),
            "relu",
            nn.Linear(HIDDEN, ANSWERED, self.weights["w3"], self.weights["b3"]),
        ]
        return nj.compile(layers).bind(world.observed, world.answered)

    def numpy(self, world: World) -> Act:
        w = self.weights
        h, k = (np.empty((len(world.observed), HIDDEN), np.float32) for _ in range(2))

        def act() -> None:
            for x, y, number in ((world.observed, h, 1), (h, k, 2)):
                np.matmul(x, w[f"w{number}"], out=y)
                np.add(y, w[f"b{number}"], out=y)
                np.maximum(y, 0, out=y)
            np.matmul(k, w["w3"], out=world.answered)
            np.add(world.answered, w["b3"], out=world.answered)

        return act

    def torch(self, world: World) -> Act:
        import torch

        model = torch.nn.Sequential(
            torch.nn.Linear(SEEN, HIDDEN), torch.nn.ReLU(),
            torch.nn.Linear(HIDDEN, HIDDEN), torch.nn.ReLU(),
            torch.nn.Linear(HIDDEN, ANSWERED),
        )  # fmt: skip
        w = {name: torch.from_numpy(array.T.copy()) for name, array in self.weights.items()}
        model.load_state_dict(
            {f"{2 * i}.{kind}": w[f"{kind[0]}{i + 1}"] for i in range(3) for kind in ("weight", "bias")}
        )
        observed, answered = torch.from_numpy(world.observed), torch.from_numpy(world.answered)

        def act() -> None:
            with torch.inference_mode():
                answered.copy_(model(observed))

        return act


class LSTM:
    """An LSTM 16-32 and a layer 32-8. Every character has an h and a c of its own."""

    def __init__(self) -> None:
        rng = np.random.default_rng(4)
        x = examples()
        of_x, bias = drawn_layer(rng, x, 4 * HIDDEN, SCALE)
        of_h = rng.normal(0, 0.3 * HIDDEN**-0.5, (HIDDEN, 4 * HIDDEN)).astype(np.float32)
        bias[HIDDEN : 2 * HIDDEN] -= 2  # what was before fades fast
        self.weights: Weights = {"wx": of_x, "wh": of_h, "b": bias}
        h = c = np.zeros((len(x), HIDDEN), np.float32)
        for _ in range(4):  # as if the same was seen for some frames
            h, c = self.step(x, h, c)
        self.weights["w"], self.weights["bias"] = fitted(h, x)

    def step(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        gates = x @ self.weights["wx"]
        gates += h @ self.weights["wh"]
        gates += self.weights["b"]
        i, f, g, o = (gates[:, n * HIDDEN : (n + 1) * HIDDEN] for n in range(4))
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c

    def module(self) -> Module:
        """The step in TensorLang: `?` is a crowd of any size, h and c come in and go out."""
        b = Builder("main")
        x = b.parameter("x", f"tensor<?x{SEEN}xf32>")
        h, c = (b.parameter(name, f"tensor<?x{HIDDEN}xf32>") for name in "hc")

        def weight(name: str) -> Value:
            shape = "x".join(map(str, self.weights[name].shape))
            return b.weight(name=name, type=f"tensor<{shape}xf32>")

        gates = b.add(b.add(b.matmul(x, weight("wx")), b.matmul(h, weight("wh"))), weight("b"))
        i, f, g, o = (b.slice(gates, axis=1, start=n * HIDDEN, end=(n + 1) * HIDDEN) for n in range(4))
        c = b.add(b.mul(b.sigmoid(f), c), b.mul(b.sigmoid(i), b.tanh(g)))
        h = b.mul(b.sigmoid(o), b.tanh(c))
        return Module("lstm", (b.build(b.add(b.matmul(h, weight("w")), weight("bias")), h, c),))

    def neurojit(self, world: World) -> Act:
        program = nj.compile(self.module(), self.weights)
        here, there = ([np.zeros((len(world.observed), HIDDEN), np.float32) for _ in "hc"] for _ in range(2))
        steps = [
            program.bind(world.observed, *here, world.answered, *there),
            program.bind(world.observed, *there, world.answered, *here),
        ]

        def act() -> None:
            steps[world.frame % 2]()

        return act

    def numpy(self, world: World) -> Act:
        state = [np.zeros((len(world.observed), HIDDEN), np.float32) for _ in "hc"]

        def act() -> None:
            state[:] = self.step(world.observed, *state)
            np.matmul(state[0], self.weights["w"], out=world.answered)
            np.add(world.answered, self.weights["bias"], out=world.answered)

        return act

    def torch(self, world: World) -> Act:
        import torch

        w = {name: torch.from_numpy(array.T.copy()) for name, array in self.weights.items()}
        cell, last = torch.nn.LSTMCell(SEEN, HIDDEN), torch.nn.Linear(HIDDEN, ANSWERED)
        zeros = torch.zeros(4 * HIDDEN)
        cell.load_state_dict(
            {"weight_ih": w["wx"], "weight_hh": w["wh"], "bias_ih": w["b"], "bias_hh": zeros}
        )
        last.load_state_dict({"weight": w["w"], "bias": w["bias"]})
        observed, answered = torch.from_numpy(world.observed), torch.from_numpy(world.answered)
        state = [torch.zeros(len(world.observed), HIDDEN) for _ in "hc"]

        def act() -> None:
            with torch.inference_mode():
                state[:] = cell(observed, tuple(state))
                answered.copy_(last(state[0]))

        return act


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


Policy = MLP | LSTM
POLICIES: dict[str, type[Policy]] = {"mlp": MLP, "lstm": LSTM}


# Frames -----------------------------------------------------------------------------------------------


class Timed(NamedTuple):
    """Frames of one library: milliseconds of each, and the part of the policy alone."""

    library: str
    n: int
    frames: Array
    policy: Array

    def percentile(self, part: float) -> float:
        return float(np.percentile(self.frames, part))


def play(
    policy: Policy, library: str, n: int, frames: int, tick: Callable[[], None] = lambda: None
) -> tuple[Timed, World]:
    """So many frames, after one that warms up. tick: called after each."""
    world = World(n)
    act: Act = getattr(policy, library)(world)
    times = []
    for _ in range(frames + 1):
        start = time.perf_counter_ns()
        act()
        acted = time.perf_counter_ns()
        world.advance()
        times.append((time.perf_counter_ns() - start, acted - start))
        tick()
    measured = np.array(times[1:]).T / 1e6
    return Timed(library, n, measured[0], measured[1]), world


def disagreement(policy: Policy, libraries: Iterable[str], n: int = 1000) -> float:
    """How far characters are apart at most that different libraries steer."""
    worlds = [play(policy, library, n, AGREE_FRAMES)[1] for library in libraries]
    apart = [np.abs(world.position - worlds[0].position) for world in worlds[1:]]
    return float(max(np.minimum(way, 1 - way).max() for way in apart))


@contextmanager
def progress(total: int) -> Iterator[Callable[[str, int], None]]:
    """A bar that says what is being computed, where rich is installed and there is a terminal to draw on."""
    if importlib.util.find_spec("rich") is None or not sys.stderr.isatty():
        yield lambda what, steps: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description:28}"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda what, steps: bar.update(task, advance=steps, description=what)


def draw_picture(rows: list[Timed], what: str, path: Path) -> None:
    """Median frame time against the size of the crowd."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.6), dpi=100, layout="constrained")
    axes = figure.subplots()
    colors = {"neurojit": "tab:blue", "numpy": "tab:red", "torch": "tab:orange"}
    labels = {"neurojit": "neurojit", "numpy": "NumPy", "torch": "PyTorch"}
    for library, color in colors.items():
        mine = [row for row in rows if row.library == library]
        if mine:
            sizes = [row.n for row in mine]
            axes.plot(sizes, [row.percentile(50) for row in mine], "o-", color=color, label=labels[library])
            policy = [float(np.median(row.policy)) for row in mine]
            axes.plot(sizes, policy, "o:", color=color, markersize=3, linewidth=1)
    axes.axhline(FRAME_MS, color="black", linewidth=0.8, linestyle="--")
    axes.text(min(row.n for row in rows), FRAME_MS * 1.1, "60 frames a second", fontsize=9)
    axes.set(xscale="log", yscale="log", xlabel="characters", ylabel="ms a frame")
    axes.set_title(
        f"{what}\nfull: a frame, the world's own step included; dotted: the policy alone", fontsize=10
    )
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def cpu() -> str:
    from neurojit.target import host

    return f"{host().brand.strip()} ({host().microarchitecture})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--policy", choices=POLICIES, default="mlp")
    parser.add_argument("--short", action="store_true", help="small crowds and few frames: some seconds")
    parser.add_argument("--sizes", type=int, nargs="+", metavar="N", help="sizes of the crowds")
    parser.add_argument("--frames", type=int, metavar="COUNT", help="frames of each")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw frame time against size there")
    chosen = parser.parse_args()
    if chosen.picture and importlib.util.find_spec("matplotlib") is None:
        parser.error("--picture needs matplotlib: pip install 'neurojit[bench]'")
    sizes = chosen.sizes or (SIZES_SHORT if chosen.short else SIZES)
    frames = chosen.frames or (FRAMES_SHORT if chosen.short else FRAMES)
    if min(*sizes, frames) < 1:
        parser.error("sizes and frames: expected at least 1 of each")

    libraries = ["neurojit", "numpy"]
    if importlib.util.find_spec("torch"):
        libraries.append("torch")
        importlib.import_module("torch").set_num_threads(1)
    policy = POLICIES[chosen.policy]()
    what = "MLP 16-32-32-8, relu" if chosen.policy == "mlp" else "LSTM 16-32, Linear 32-8"
    print(f"Crowds steered by one network, {what}, on one thread. {cpu()}\n")

    apart = disagreement(policy, libraries)
    print(f"After {AGREE_FRAMES} frames of 1,000 characters, {', '.join(libraries)} have them at the same")
    print(f"places to within {apart:.1e} of a world of 1 x 1.")
    if not apart < AGREE:
        print("neurojit and the others disagree", file=sys.stderr)
        return 1

    rows, crowd = [], World(min(sizes))
    start = crowd.distance()
    with progress(len(sizes) * len(libraries) * (frames + 1)) as report:
        for n in sizes:
            for library in libraries:
                timed, world = play(policy, library, n, frames, partial(report, f"{n:,} by {library}", 1))
                rows.append(timed)
                if library == "neurojit":
                    crowd = world
    print(f"\nms a frame over {frames} frames: the policy and the world's step in NumPy")
    print(f"{'characters':>11}{'':11}{'p50':>9}{'p99':>9}{'policy':>9}{'world':>9}{'60 a second':>13}")
    for row in rows:
        n = f"{row.n:,}" if row.library == "neurojit" else ""
        p50, p99, policy_ms = row.percentile(50), row.percentile(99), float(np.median(row.policy))
        in_time = "yes" if p99 <= FRAME_MS else "no"
        columns = "".join(f"{ms:>9.3f}" for ms in (p50, p99, policy_ms, p50 - policy_ms))
        print(f"{n:>11} {row.library:10}{columns}{in_time:>13}")
    print(f"\nWhere {len(crowd.observed):,} characters are after {crowd.frame} frames; O are the beacons:")
    print(crowd.drawn())
    print(f"The nearest beacon is {crowd.distance():.3f} away in the mean; it was {start:.3f} at the start.")
    if chosen.picture:
        draw_picture(rows, f"Crowds steered by one {what}, one thread\n{cpu()}", chosen.picture)
        print(f"\nThe picture: {chosen.picture}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
