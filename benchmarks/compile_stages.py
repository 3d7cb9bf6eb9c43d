"""What each stage of compiling a network takes: the three networks whose time has a goal, stage by stage.

The process has compiled other networks before, so that nothing is imported and Python has seen the code; the
network's own code is evicted before each compile, and what is remembered of its kernels forgotten. The
networks take turns, and the least of many compiles counts, of each stage by itself. A stage's time is without
that of the stages inside it: `plan` is what is left of planning beside hoisting, grouping, scheduling and
laying out. `compiling.py` has the time of the whole in a process that has compiled but one small network.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from goals import Goal, print_goals
from whole_networks import Network, encoder, lstm, mlp

import neurojit as nj
from neurojit import bounds, contract, program, program_compiler, program_validation
from neurojit.planner import copies, drafts
from neurojit.runtime import SLOTS, Code, clock_ns

GOALS_MS = {"64-64-64-8": 1.5, "LSTM-64": 3.0, "encoder": 15.0}

STAGES: tuple[tuple[str, Any, str], ...] = (
    ("build", program, "module_of"),
    ("passes, verified", program, "run"),
    ("weights checked", program, "checked_weights"),
    ("hoist", contract, "hoist"),
    ("plan", contract, "plan_program"),
    ("  group", copies, "group"),
    ("  schedule", copies, "schedule_of"),
    ("  lay out", drafts, "lay_out"),
    ("emit", program_compiler, "emit_program"),
    ("  hash of the code", program_compiler, "_key"),
    ("map", program_compiler, "Code"),
    ("gate", program_compiler, "validate_program"),
    ("  bounds", bounds.Bounds, "of"),
    ("  call", program_compiler, "call_code"),
    ("  compare", program_validation, "agrees"),
    ("  pack", program_compiler, "packed"),
    ("weights packed", contract, "packed"),
)
"""What is printed, and the function that is timed, where its caller finds it. The rest is publication."""
REST = "publish, and the rest"


class Clock:
    """Time spent in each stage, without what the stages inside it took."""

    def __init__(self) -> None:
        self.spent: dict[str, int] = {}
        self._inside = [0]

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            self._inside.append(0)
            start = clock_ns()
            try:
                return function(*arguments, **options)
            finally:
                elapsed = clock_ns() - start
                self.spent[stage] = self.spent.get(stage, 0) + elapsed - self._inside.pop()
                self._inside[-1] += elapsed

        return run


@contextmanager
def watched(clock: Clock) -> Iterator[None]:
    """Every stage is timed meanwhile."""
    originals = [getattr(owner, name) for _, owner, name in STAGES]
    for (stage, owner, name), function in zip(STAGES, originals, strict=True):
        timed: Any = clock.timed(stage, function)
        if function is Code:  # of which only `map` is called

            class Mapped:
                map = staticmethod(clock.timed(stage, Code.map))

            timed = Mapped
        setattr(owner, name, timed)
    try:
        yield
    finally:
        for (_, owner, name), function in zip(STAGES, originals, strict=True):
            setattr(owner, name, function)


def networks() -> dict[str, Network]:
    return {
        "64-64-64-8": mlp(64, 64, 64, 8, batch=1, activation="relu"),
        "LSTM-64": lstm(),
        "encoder": encoder(16, 64, 4, 2),
    }


def forget() -> None:
    """What was compiled, and what planners remember of its kernels."""
    SLOTS.evict_bytes(1 << 62)
    for name, module in list(sys.modules.items()):
        if name.startswith("neurojit.plan"):  # plan and planner
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def compile_network(network: Network) -> None:
    made = nj.compile(network.layers)
    assert made.compiled, made.explain()


def measure(short: bool) -> dict[str, Any]:
    all_networks = networks()
    least: dict[str, dict[str, float]] = {name: {} for name in all_networks}
    for _ in range(10 if short else 40):
        for name, network in all_networks.items():
            found = least[name]
            forget()
            start = clock_ns()
            compile_network(network)
            whole = (clock_ns() - start) / 1e6
            found["all"] = min(found.get("all", whole), whole)
            forget()
            clock = Clock()
            with watched(clock):
                clock.timed(REST, compile_network)(network)
            for stage, ns in clock.spent.items():
                found[stage] = min(found.get(stage, ns / 1e6), ns / 1e6)
    return printed(least)


def printed(least: dict[str, dict[str, float]]) -> dict[str, Any]:
    print("\nCompiling a network, ms, stage by stage; in a process that has compiled others")
    print(f"{'':22}" + "".join(f"{name:>14}" for name in least))
    for stage in [*(stage for stage, _, _ in STAGES), REST, "all"]:
        print(f"{stage:22}" + "".join(f"{found.get(stage, 0.0):>14.3f}" for found in least.values()))
    goals = [
        Goal(f"compiling {name} in a warm process, ms", found["all"], GOALS_MS[name], True, ".2f")
        for name, found in least.items()
    ]
    print(f"{'goal':22}" + "".join(f"{goal.mark:>14}" for goal in goals), flush=True)
    print_goals(goals)
    return {"stages": least, "goals": [goal.as_json() for goal in goals]}
