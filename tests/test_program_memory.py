"""Calls of a program with `out` allocate nothing: counted at malloc."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from native import EMULATED, build, needs_compiler
from operands import runnable_isas

COUNTER = r"""
#include <stddef.h>
long counted;
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
void *malloc(size_t n) { counted++; return __libc_malloc(n); }
void *calloc(size_t n, size_t m) { counted++; return __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { counted++; return __libc_realloc(p, n); }
void *aligned_alloc(size_t a, size_t n) { counted++; return __libc_memalign(a, n); }
void *memalign(size_t a, size_t n) { counted++; return __libc_memalign(a, n); }
int posix_memalign(void **p, size_t a, size_t n) { *p = memalign(a, n); return *p ? 0 : 12; }
"""

SCRIPT = """
import ctypes, gc, os, networks, numpy as np, neurojit as nj
from neurojit import nn
block = [nn.Residual(nn.MultiHeadAttention(16, 2, tokens=5)), nn.LayerNorm(16)]
counted = ctypes.c_long.in_dll(ctypes.CDLL(None), "counted")
times = int(os.environ["TIMES"])
gc.disable()
for make, shapes in (
    (lambda: networks.perceptron((8, 16, 4), 1), [(1, 8), (1, 4)]),
    (lambda: networks.perceptron((8, 16, 4)), [(33, 8), (33, 4)]),
    (lambda: networks.recurrent(), [(1, 12), (1, 20)]),
    (lambda: [nn.GRU(12, 20)], [(1, 12), (1, 20)]),
    (lambda: [nn.LSTM(12, 20, steps=9)], [(9, 1, 12), (9, 1, 20)]),
    (lambda: [block], [(5, 16), (5, 16)]),
    (lambda: networks.perceptron((256, 512, 128)), [(64, 256), (64, 128)]),  # gives up the GIL
    (lambda: networks.perceptron((16, 32, 32, 8)), [(20_000, 16), (20_000, 8)]),  # shared among threads
):
    program = nj.compile(*make())
    assert program.compiled, program.explain()
    x, out = (np.ones(shape, np.float32) for shape in shapes)
    bound = program.bind(x, out)
    program(x, out); bound()
    before = counted.value
    for _ in range(times):
        program(x, out)
        bound()
    after = counted.value
    assert after == before, (after - before, shapes)
    program(x)
    before = counted.value
    for _ in range(times):
        program(x)
    print(counted.value - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the counter is preloaded into glibc")
@needs_compiler
@pytest.mark.skipif(not runnable_isas(), reason="no kernels for this machine")
def test_calls_with_out_allocate_nothing(child: Any, tmp_path: Path) -> None:
    source, library = tmp_path / "counter.c", tmp_path / "counter.so"
    source.write_text(COUNTER)
    build(library, [source], "-shared", "-fPIC", "-O1")
    times = 5 if EMULATED else 1000
    done = child(SCRIPT, LD_PRELOAD=str(library), TIMES=str(times))
    if "__libc_memalign" in done.stderr:
        pytest.skip("not glibc")
    assert done.returncode == 0, done.stderr
    large = done.stdout.split()
    assert len(large) == 8, (
        "the counter counts: results that are allocated show, where NumPy's cache is too small"
    )
    assert int(large[6]) >= times


MANY = """
import gc, neurojit as nj, numpy as np
from neurojit import nn
from neurojit.runtime import SLOTS, executable_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

def program(number, made=nj.compile):
    k, n = 3 + number % 20, 2 + number // 20
    return made([nn.Linear(k, n, rng=number), "relu"]), np.ones((2, k), np.float32)

first, x = program(0)
meant = first(x)
for number in range(1, 400):
    one, y = program(number)
    one(y)
    assert SLOTS.stats()["live_bytes"] <= 1 << 18, (number, SLOTS.stats())
    if number == 150:
        gc.collect()
        before, mappings = resident(), executable_memory().live_mappings
del one
gc.collect()
assert resident() - before < 1 << 20, resident() - before
assert executable_memory().live_mappings <= mappings + 8
assert SLOTS.stats()["evictions"] > 200
np.testing.assert_array_equal(first(x), meant)  # evicted meanwhile, compiled again
assert SLOTS.stats()["retired"] == 0
"""


@pytest.mark.not_emulated("reads /proc/self/statm and compiles 400 programs")
def test_many_programs_stay_within_the_code_cache() -> None:
    environment = {**os.environ, "NEUROJIT_CODE_CACHE_BYTES": str(1 << 18)}
    done = subprocess.run([sys.executable, "-c", MANY], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
