"""Whole networks called from C, one row a call: what the machine code of a program is worth.

Peers are libraries that compile each network ahead of time for this machine, such as RTNeural. neurojit has
no part of them: whoever has one wraps it in the interface of c_peer.h, compiles it, and names the shared
libraries in NEUROJIT_C_PEERS. Of several builds the quickest counts, network by network. Results are compared
before anything is timed.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

import numpy as np
from c_to_c import build
from contest import Contender, take_turns
from goals import Goal, print_goals
from whole_networks import STEPS, Network, flat, gru, lstm, mlp

from neurojit import nn
from neurojit.codegen import emit_program
from neurojit.ir.layer import Array
from neurojit.plan.program import STATE_WORD, WEIGHTS_WORD
from neurojit.runtime import Code
from neurojit.target import host_target
from neurojit.weight_block import aligned

CLOSE = 1e-5
NOT_SLOWER = 1.0


def networks() -> list[Network]:
    dense = Network("Dense-64", [nn.Linear(64, 64, rng=1)], (1, 64))
    perceptrons = [
        mlp(*widths, batch=1, activation=activation)
        for widths in ((64, 64, 64, 8), (16, 32, 32, 8), (8, 16, 4))
        for activation in ("relu", "tanh")
    ]
    return [lstm(), gru(), dense, *perceptrons]


class Native:
    """A program's code and memory, to be called from C."""

    def __init__(self, loops: ctypes.CDLL, network: Network) -> None:
        program = network.program()
        contract = program.contract
        plan = contract.plan
        assert plan is not None, contract.reason
        self.loops, self.code = loops, Code.map(emit_program(plan, host_target().isa))
        self.weights, self.arena = contract.block, aligned(plan.block_bytes)
        self.state = aligned(plan.state_bytes)
        words = self.arena[:16].view(np.uint64)
        words[WEIGHTS_WORD], words[STATE_WORD] = self.weights.ctypes.data, self.state.ctypes.data
        self.x = aligned(network.input.nbytes).view(np.float32)
        self.x[:] = network.input.ravel()
        self.y = aligned(program(network.input).nbytes).view(np.float32)
        addresses = [array.ctypes.data for array in (self.arena, self.x, self.y)]
        self.buffers = (ctypes.c_void_p * len(addresses))(*addresses)

    def time(self, calls: int) -> float:
        self.state.fill(0)
        return float(self.loops.time_program(self.code.address, self.buffers, 1, calls))


class Peer:
    """A library that has the interface of c_peer.h."""

    def __init__(self, path: str) -> None:
        self.library = ctypes.CDLL(path)
        self.library.peer_name.restype = ctypes.c_char_p
        self.library.peer_time.restype = ctypes.c_double
        self.library.peer_time.argtypes = [ctypes.c_char_p, *[ctypes.c_void_p] * 3, ctypes.c_int64]
        self.name: str = self.library.peer_name().decode()

    def timer(self, network: Network, x: Array, y: Array) -> Contender:
        """Seconds of so many calls; what the last gives is in y. Negative: it has no such network."""
        arrays = weights_of(network)
        addresses = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))

        def run(calls: int, kept: list[Array] = arrays) -> float:
            name = network.name.encode()
            return float(self.library.peer_time(name, addresses, x.ctypes.data, y.ctypes.data, calls))

        return run


def weights_of(network: Network) -> list[Array]:
    """Every layer's arrays, in the order of c_peer.h."""
    found: list[Any] = []
    for layer in flat(network.layers):
        if isinstance(layer, nn.Linear):
            found += [layer.weight, layer.bias]
        elif isinstance(layer, (nn.LSTM, nn.GRU)):
            found += [layer.input_weight, layer.state_weight, layer.input_bias, layer.state_bias]
    return [np.ascontiguousarray(array, np.float32) for array in found]


def prepared() -> ctypes.CDLL:
    """c_to_c.c, compiled and loaded."""
    loops = build().library
    loops.time_program.restype = ctypes.c_double
    loops.time_program.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
    return loops


def measure(short: bool) -> dict[str, Any]:
    loops = prepared()
    paths = [path for path in os.environ.get("NEUROJIT_C_PEERS", "").split(os.pathsep) if path]
    peers = [Peer(path) for path in paths]
    print(f"\nWhole networks, C to C, one row a call, float32, ns, {host_target().isa.name}")
    for number, peer in enumerate(peers, 1):
        print(f"  peer {number}: {peer.name}")
    if not peers:
        print("  no peers: NEUROJIT_C_PEERS names none (c_peer.h says what such a library exports)")
    heads = "".join(f"{f'peer {number}':>10}" for number in range(1, len(peers) + 1))
    print(f"{'':20}{'neurojit':>10}{heads}{'x best':>9}{'goal':>14}")
    rows, goals = [], []
    for network in networks():
        ns = race(loops, peers, network, 15 if short else 40)
        ratio = min(ns[1:]) / ns[0] if np.isfinite(ns[1:]).any() else None
        mark = ""
        if ratio is not None:
            goals.append(Goal(f"C to C, {network.name}, x best peer", ratio, NOT_SLOWER, form=".2f"))
            mark = f"{ratio:>9.2f}{goals[-1].mark:>14}"
        print(f"{network.name:20}" + "".join(f"{time:>10.1f}" for time in ns) + mark, flush=True)
        rows.append({"network": network.name, "ns": ns, "x_best": ratio})
    print_goals([goal for goal in goals if not goal.met])
    return {"peers": [p.name for p in peers], "rows": rows, "goals": [goal.as_json() for goal in goals]}


def race(loops: ctypes.CDLL, peers: list[Peer], network: Network, repeats: int) -> list[float]:
    """Nanoseconds a call: neurojit's, then each peer's; infinite where it has no such network."""
    native = Native(loops, network)
    native.time(STEPS)
    expected = native.y.copy()
    contenders: dict[str, Contender] = {"": native.time}
    for number, peer in enumerate(peers):
        y = np.full_like(expected, np.nan)
        run = peer.timer(network, native.x, y)
        if run(STEPS) >= 0:
            np.testing.assert_allclose(
                y, expected, rtol=0, atol=CLOSE, err_msg=f"{network.name}: {peer.name}"
            )
            contenders[str(number)] = run
    ns = take_turns(contenders, repeats)
    return [ns[""], *(ns.get(str(number), float("inf")) for number in range(len(peers)))]
