"""Whole networks from Python: a compiled program against ONNX Runtime and PyTorch, one thread, float32.

All contenders have the same weights; their results are compared before anything is timed. neurojit is
compiled for the shape at hand, as the peers are, and called with `out` (`program(x, y)`). Of ONNX Runtime the
better of `run` and IO binding counts (and of attention as ops and as one fused op); of PyTorch the module as
it is called, beside it traced and compiled. Then the machine code of each program against the cache that it
has to stay in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import onnx_peer
import torch_peer
from contest import best_ns, take_turns
from goals import Goal, print_goals
from whole_networks import Call, Network, calls_of, encoder, gru, lstm, mlp

import neurojit as nj
from neurojit.codegen import emit_program
from neurojit.ir import Builder, Module
from neurojit.report.ceiling import fma_ceiling
from neurojit.target import host_target

CLOSE = 1e-5
"""How far results may be apart; all of them are of the order of 1."""
CALL_NS, CALL_ALLOCATING_NS = 60, 120
COLUMNS = {
    "neurojit": 8, "bound": 8, "ORT run": 9, "ORT IO binding": 9, "torch eager": 8, "torch jit": 8,
    "torch compile": 9,
}  # fmt: skip
"""Contender -> the width of its column."""
COLUMNS = {
    "neurojit": 8, "bound": 8, "ORT run": 9, "ORT IO binding": 9, "torch eager": 8, "torch jit": 8,
    "torch compile": 9,
}  # fmt: skip
"""Contender -> the width of its column."""


class Row(NamedTuple):
    """A network and its goals: at most so many nanoseconds, so many times faster than the best of ONNX
    Runtime and than PyTorch's module, this part of the FMA ceiling."""

    network: Network
    ns: float | None = None
    x_onnx: float | None = None
    x_torch: float | None = None
    of_ceiling: float | None = None


def rows() -> list[Row]:
    found = []
    for activation in ("relu", "tanh"):

        def make(*widths: int, batch: int = 1, activation: str = activation) -> Network:
            return mlp(*widths, batch=batch, activation=activation)

        found += [
            Row(make(8, 16, 4), ns=100),
            Row(make(64, 64, 64, 8), ns=450, x_onnx=14),
            Row(make(16, 32, 32, 8, batch=100), x_onnx=2.5),
            Row(make(128, 256, 256, 32, batch=100), x_onnx=1.02, of_ceiling=0.92),
        ]
    recurrent = [Row(network, ns=1500, x_onnx=7, x_torch=12) for network in (lstm(), gru())]
    return [*found, *recurrent, Row(lstm(64), x_onnx=1.1), Row(encoder(16, 64, 4, 2), x_onnx=4)]


def measure(short: bool) -> dict[str, Any]:
    print("\nWhole networks from Python, float32, us a call")
    for peer in (onnx_peer, torch_peer):
        print(f"  {peer.version()}, one thread" if peer.available else f"  {peer.missing}")
    print(f"{'':26}{'out':>8}{'bound':>8}{'ORT run':>9}{'binding':>9}{'torch':>8}{'jit':>8}{'compile':>9}"
          f"{'x ORT':>8}{'x torch':>9}")  # fmt: skip
    table, goals = [], []
    for row in rows():
        measured = race(row, short)
        print_row(measured)
        ends = goals_of(row, measured)
        print_goals(ends)
        table.append(measured)
        goals += ends
    call, ends = cost_of_a_call()
    print_code(table)
    goals += ends
    return {
        "peers": [peer.version() for peer in (onnx_peer, torch_peer) if peer.available],
        "rows": table,
        "call": call,
        "goals": [goal.as_json() for goal in goals],
    }


def race(row: Row, short: bool) -> dict[str, Any]:
    """Everything measured of one network."""
    network = row.network
    calls = contenders_of(network, compiled=not short)
    ceiling = fma_ceiling("float32")
    contenders = {name: call.contender() for name, call in calls.items()}
    ns = take_turns(contenders, 9 if short else 25)
    onnx = {name: time for name, time in ns.items() if name.startswith("ORT")}
    return {
        "network": network.name,
        "ns": ns,
        "x_onnx": min(onnx.values()) / ns["neurojit"] if onnx else None,
        "x_torch": ns["torch eager"] / ns["neurojit"] if "torch eager" in ns else None,
        "of_ceiling": 2 * network.multiply_adds / ns["neurojit"] / max(ceiling, fma_ceiling("float32")),
        "code": code_of(calls["neurojit"].names["program"]),
    }


def contenders_of(network: Network, compiled: bool) -> dict[str, Call]:
    """Every way to call it. AssertionError: results differ. compiled: torch.compile's among them."""
    calls: dict[str, Call] = {name: call for name, call in calls_of(network).items() if name != "allocating"}
    calls |= {f"ORT {name}": call for name, call in onnx_peer.calls_of(network).items()}
    calls |= {f"torch {name}": call for name, call in torch_peer.calls_of(network, compiled).items()}
    expected = calls["neurojit"].result()
    for name, call in calls.items():
        result = call.result().reshape(expected.shape)
        np.testing.assert_allclose(result, expected, rtol=0, atol=CLOSE, err_msg=f"{network.name}: {name}")
    return calls


def goals_of(row: Row, measured: dict[str, Any]) -> list[Goal]:
    what, goals = row.network.name, []
    if row.ns is not None:
        goals.append(Goal(f"{what}, ns", measured["ns"]["neurojit"], row.ns, True, ".0f"))
    for key, label, bound in (
        ("x_onnx", "x ONNX Runtime", row.x_onnx),
        ("x_torch", "x PyTorch's module", row.x_torch),
    ):
        if bound is not None and measured[key] is not None:
            goals.append(Goal(f"{what}, {label}", measured[key], bound, form=".2f"))
    if row.of_ceiling is not None:
        goals.append(Goal(f"{what}, of the ceiling", measured["of_ceiling"], row.of_ceiling, form=".1%"))
    return goals


def print_row(measured: dict[str, Any]) -> None:
    ns = measured["ns"]

    def us(name: str, width: int) -> str:
        times = [time for full, time in ns.items() if full.partition(",")[0] == name]
        return f"{min(times) / 1000:>{width}.{2 if min(times) < 1e5 else 1}f}" if times else f"{'-':>{width}}"

    def ratio(key: str, width: int) -> str:
        return f"{measured[key]:>{width}.2f}" if measured[key] is not None else f"{'-':>{width}}"

    columns = "".join(us(name, width) for name, width in COLUMNS.items())
    print(f"{measured['network']:26}{columns}{ratio('x_onnx', 8)}{ratio('x_torch', 9)}", flush=True)


def code_of(program: nj.Program) -> dict[str, Any]:
    """Bytes of a program's machine code, and of the weights that it reads."""
    plan = program.contract.plan
    code = len(emit_program(plan, host_target().isa))
    return {"code": code, "weights": plan.weight_bytes, "of_l1i": code / host_target().caches.l1i.size}


def print_code(table: list[dict[str, Any]]) -> None:
    size = host_target().caches.l1i.size
    print(f"\nMachine code of each program; L1I has {size >> 10} KiB")
    for measured in table:
        code = measured["code"]
        beyond = "  beyond it" if code["code"] > size else ""
        print(
            f"{measured['network']:26}{code['code']:>8} bytes{code['of_l1i']:>8.0%}"
            f"{code['weights']:>10} bytes of weights{beyond}"
        )


def cost_of_a_call() -> tuple[dict[str, float], list[Goal]]:
    """A program that adds two numbers: what a call costs beside its arithmetic."""
    b = Builder("main")
    x = b.parameter("x", "tensor<1x1xf32>")
    program = nj.compile(Module("call", (b.build(b.add(x, 1.0)),)))
    array = np.ones((1, 1), np.float32)
    names = {"f": program, "x": array, "y": np.empty_like(array)}
    statements: dict[str, Callable[..., Any] | str] = {"out": "f(x, y)", "allocating": "f(x)"}
    ns = best_ns({name: (str(statement), names) for name, statement in statements.items()}, 15)
    goals = [
        Goal("a call of a program, out, ns", ns["out"], CALL_NS, True, ".0f"),
        Goal("a call of a program, allocating, ns", ns["allocating"], CALL_ALLOCATING_NS, True, ".0f"),
    ]
    print_goals(goals)
    return ns, goals
