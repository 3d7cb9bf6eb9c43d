"""The benchmark of programs from C: its loop gives the programs' results, and a library joins by c_peer.h."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from native import COMPILER, EMULATED, build, needs_compiler
from operands import runnable_isas

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"

PEER = r"""
#include <string.h>
#include "c_peer.h"
const char *peer_name(void) { return "three loops"; }
double peer_time(const char *network, const float *const *weights, const float *x, float *y, int64_t calls)
{
    if (strcmp(network, "Dense-64") != 0) return -1;
    for (int64_t call = 0; call < calls; call++)
        for (int j = 0; j < 64; j++) {
            y[j] = weights[1][j];
            for (int i = 0; i < 64; i++) y[j] += x[i] * weights[0][64 * i + j];
        }
    return 1e-6 * (double)calls;
}
"""

SCRIPT = """
import sys, numpy as np
sys.path.insert(0, {benchmarks!r})
import programs_c_to_c as part
loops = part.prepared()
for network in part.networks():
    native = part.Native(loops, network)
    native.time(1)
    np.testing.assert_array_equal(native.y, network.program()(network.input).ravel(), network.name)
peers = [part.Peer({peer!r})]
ns = {{network.name: part.race(loops, peers, network, 1) for network in part.networks()}}
print(peers[0].name, [name for name, (_, theirs) in ns.items() if theirs == 1000])
"""


@needs_compiler
@pytest.mark.skipif(not runnable_isas(), reason="no kernels for this machine")
def test_programs_are_called_from_c_as_from_python(child: Any, tmp_path: Path) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("another system's libraries")
    source, library = tmp_path / "peer.c", tmp_path / "peer.so"
    source.write_text(PEER)
    build(library, [source], "-shared", "-fPIC", "-O1", f"-I{BENCHMARKS}")
    compilers = {"CC": " ".join(COMPILER)}
    if EMULATED:
        compilers["LIBXSMM_PATH"] = str(tmp_path)  # what is installed is this machine's
    done = child(SCRIPT.format(benchmarks=str(BENCHMARKS), peer=str(library)), timeout=120, **compilers)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "three loops ['Dense-64']\n"


CONTENDERS = """
import sys
sys.path.insert(0, {benchmarks!r})
from programs import contenders_of, rows
for row in rows():
    print(row.network.name, sorted(name.split()[0] for name in contenders_of(row.network, compiled=False)))
"""


@pytest.mark.skipif(not runnable_isas(), reason="no kernels for this machine")
def test_peers_compute_the_same_networks(child: Any) -> None:
    for package in ("onnx", "onnxruntime", "torch"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"no {package} here")
    done = child(CONTENDERS.format(benchmarks=str(BENCHMARKS)), timeout=120, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 12
    assert all(name in line for line in lines for name in ("neurojit", "ORT", "torch"))
