"""How long compiling takes: a network in a process that has compiled another before, validation included.

Each time is of a process of its own, in which the network and its shapes are new: the slot of a program is
named by its code, so a second compile of the same network would only look it up. What was compiled before is
a small network of the same kind of layers, so that imports and tables are not counted. The least of several
processes counts. Beside it what a peer needs from the same weights to its first result: a session of ONNX
Runtime; torch.compile, without its caches (not in the short form, it takes many seconds).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx_peer
import torch_peer
from goals import Goal, print_goals
from whole_networks import Network, encoder, gru, lstm, mlp

from neurojit import nn

GOALS_MS = (1.5, 3.0, 3.0, 15.0)
"""Of the networks, in their order."""

CHILD = """
import json, sys, time
sys.path.insert(0, {folder!r})
import {peer} as peer
from compiling import before, networks
print(json.dumps(peer.compile_ms(before()[{number}], networks()[{number}], {any_batch})))
"""


def networks() -> list[Network]:
    return [mlp(64, 64, 64, 8, batch=1, activation="tanh"), lstm(), gru(), encoder(16, 64, 4, 2)]


def before() -> list[Network]:
    """What is compiled before each."""
    small = [Network(kind.__name__, [kind(5, 12, rng=1)], (1, 5)) for kind in (nn.LSTM, nn.GRU)]
    return [mlp(5, 7, 3, batch=1, activation="tanh"), *small, encoder(3, 12, 2, 1)]


def measure(short: bool) -> dict[str, Any]:
    print("\nCompiling a network, ms, the least of several processes; peers: until the first result")
    print(f"{'':28}{'neurojit':>10}{'goal':>14}{'one shape':>11}{'ORT session':>13}{'torch.compile':>15}")
    rows, goals = [], []
    for number, (network, goal_ms) in enumerate(zip(networks(), GOALS_MS, strict=True)):
        processes = 3 if short else 9
        ms = {"neurojit": least("whole_networks", number, processes, any_batch=True)}
        ms["exact"] = least("whole_networks", number, processes)
        if onnx_peer.available:
            ms["ORT"] = least("onnx_peer", number, 3)
        if torch_peer.available and torch_peer.has_compiler and not short:
            ms["torch"] = least("torch_peer", number, 1)
        goal = Goal(f"compiling {network.name}, ms", ms["neurojit"], goal_ms, True, ".2f")
        goals.append(goal)
        rows.append({"network": network.name, "ms": ms})
        peers = "".join(
            f"{ms[name]:>{width}.2f}" if name in ms else f"{'-':>{width}}"
            for name, width in (("exact", 11), ("ORT", 13), ("torch", 15))
        )
        print(f"{network.name:28}{ms['neurojit']:>10.2f}{goal.mark:>14}{peers}", flush=True)
    print_goals(goals)
    return {"rows": rows, "goals": [goal.as_json() for goal in goals]}


def least(peer: str, number: int, processes: int, any_batch: bool = False) -> float:
    """Milliseconds; CalledProcessError where a process fails."""
    script = CHILD.format(folder=str(Path(__file__).parent), peer=peer, number=number, any_batch=any_batch)
    environment = {**os.environ, "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    times = []
    for _ in range(processes):
        command = [sys.executable, "-W", "ignore", "-c", script]  # torch says that its caches are off
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        times.append(float(json.loads(done.stdout.splitlines()[-1])))
    return min(times)
