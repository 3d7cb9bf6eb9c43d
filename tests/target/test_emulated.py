"""AArch64 cores that qemu plays: the whole path from MRS and the auxiliary vector to names and features."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from native import EMULATED

ATOMICS = {"atomics", "fphp", "asimdhp", "asimdrdm", "asimddp"}


@pytest.mark.skipif(not EMULATED, reason="qemu-user chooses the core")
@pytest.mark.parametrize(
    ("core", "design", "has", "has_not"),
    [
        ("cortex-a72", "Cortex-A72", {"fp", "asimd"}, ATOMICS | {"sve"}),
        ("neoverse-n1", "Neoverse N1", {"fp", "asimd"} | ATOMICS, {"sve", "fcma", "bf16", "bti"}),
        ("a64fx", "A64FX", {"sve", "fcma", "atomics"}, {"sve2", "asimddp"}),
        ("max", "unknown (implementer 0x0 part 0x51)", {"sve2", "bf16", "i8mm", "bti"}, {"sme2"}),
    ],
)
def test_cores_are_recognised(core: str, design: str, has: set[str], has_not: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "neurojit", "features", "--json"],
        env={**os.environ, "QEMU_CPU": core}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    document = json.loads(done.stdout)
    assert document["cpu"]["microarchitecture"] == design
    found = {row["name"] for row in document["features"] if row["cpu"] and row["os"]}
    assert has <= found
    assert not has_not & found
    assert document["executable_memory"] == {"strategy": "memfd", "reasons": []}
