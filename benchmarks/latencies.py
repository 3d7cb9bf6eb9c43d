"""What single calls of whole networks take: the median, the slowest of a hundred and of a thousand.

Every call is timed alone, which adds what reading the clock takes. neurojit is called 100,000 times (in the
short form 3,000), of each peer the quickest way as often, or for three seconds. What the slowest calls show
is mostly the system: whoever else wants the core. Where a way to call takes two calls at a time (a state that
goes back and forth), half of their time counts.
"""

from __future__ import annotations

import time
from typing import Any

import onnx_peer
import torch_peer
from contest import take_turns
from programs import contenders_of, rows
from whole_networks import Call, Network

CALLS, CALLS_SHORT = 100_000, 3_000
MOST_NS = 3_000_000_000
PERCENTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


def measure(short: bool) -> dict[str, Any]:
    reads = sorted(time.perf_counter_ns() - time.perf_counter_ns() for _ in range(1001))
    print(f"\nSingle calls, us; reading the clock, {-reads[500]} ns, is among it")
    for peer in (onnx_peer, torch_peer):
        if not peer.available:
            print(f"  {peer.missing}")
    heads = "".join(f"{name:>9}" for name in PERCENTILES)
    print(f"{'':26}{'':32}{'calls':>8}{heads}")
    table = []
    for row in rows():
        found = of_network(row.network, CALLS_SHORT if short else CALLS)
        table.append({"network": row.network.name, "ns": found})
        for name, times in found.items():
            what = row.network.name if name == "neurojit" else ""
            columns = "".join(f"{times[label] / 1000:>9.2f}" for label in PERCENTILES)
            print(f"{what:26}{name:32}{times['calls']:>8}{columns}", flush=True)
    return {"clock_ns": -reads[500], "rows": table, "goals": []}


def of_network(network: Network, count: int) -> dict[str, dict[str, float]]:
    """Of neurojit, and of the quickest way to call each peer."""
    calls = contenders_of(network, compiled=False)
    ns = take_turns({name: call.contender() for name, call in calls.items()}, 9)
    found = {"neurojit": percentiles(calls["neurojit"], count)}
    for peer in ("ORT", "torch"):
        names = [name for name in ns if name.startswith(peer)]
        if names:
            best = min(names, key=ns.__getitem__)
            found[best] = percentiles(calls[best], min(count, int(MOST_NS / ns[best])))
    return found


def percentiles(call: Call, count: int) -> dict[str, float]:
    call.latencies(count // 10)
    times = call.latencies(count)
    found: dict[str, float] = {label: times[int(part * len(times))] for label, part in PERCENTILES.items()}
    return {**found, "calls": len(times) * call.calls}
