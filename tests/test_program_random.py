"""Random programs over the whole op table, compiled and called: within the bounds of what they mean.

What is not native has one of few reasons; that a kernel does not agree with the interpreter is none of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from operands import TARGETS, Array, runnable_isas

import neurojit as nj
from neurojit import bounds
from neurojit.ir.interpreter import held_as_float32

sys.path.append(str(Path(__file__).parent / "ir"))
from programs import by_choice, program

SEEDS, AT_ONCE = 120, 10
REASONS = ("mixes rows of the dynamic extent", "an empty tensor has no kernel")


def in_memory(array: Array, element: str) -> Array:
    array = np.asarray(array)
    return np.asarray(array.view(np.uint32) >> 16, np.uint16) if element == "bf16" else array


@pytest.mark.parametrize("isa", runnable_isas())
@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_random_programs(isa: str, first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurojit.contract.host_target", lambda: TARGETS[isa])
    native = 0
    for seed in range(first, first + AT_ONCE):
        made = program(by_choice(seed))
        f = made.function
        weights = {n: in_memory(a, f.weights[n].element) for n, a in made.weights.items() if n in f.weights}
        compiled = nj.compile(made.module, weights)
        if not compiled.compiled:
            assert any(reason in compiled.explain() for reason in REASONS), (seed, compiled.explain())
            continue
        native += 1
        for name in compiled.state:
            compiled.state[name][...] = made.states[name]
        inputs = [np.asarray(a) for a in made.inputs]
        got = compiled(*(in_memory(a, v.type.element) for a, v in zip(inputs, f.parameters, strict=True)))
        extent = next((len(a) for a, v in zip(inputs, f.parameters, strict=True) if v.type.is_dynamic), 1)
        expected, _ = bounds.bounds(f, inputs, made.weights, made.states, extent)
        outputs = got if isinstance(got, tuple) else (got,)
        for value, output, meant in zip(f.outputs, outputs, expected, strict=True):
            numbers = held_as_float32(output) if value.type.element == "bf16" else output
            near = bounds.agrees(numbers, meant)
            assert near.all(), (seed, str(value), numbers[~near][:3], meant.value[~near][:3])
    assert native, "some of them are native"
