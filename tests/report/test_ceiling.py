"""The FMA ceiling: plausible where code can run, an error with a reason where not."""

from __future__ import annotations

import pytest
from machine_code import LAST

from neurojit.codegen import emit_ceiling
from neurojit.errors import UnknownIsaError
from neurojit.report import ceiling
from neurojit.target import AVX2, AVX512, NEON, NONE, host_choice, target_for


@pytest.mark.not_emulated("an emulator's rate is no CPU's")
def test_single_precision_is_twice_double() -> None:
    if host_choice().isa is NONE:
        pytest.skip(f"no code runs here: {host_choice().reason}")
    single, double = ceiling.fma_ceiling("float32"), ceiling.fma_ceiling("float64")
    assert 1.0 < double < single < 10_000.0
    assert 1.5 < single / double < 2.5


@pytest.mark.parametrize("isa", [AVX2, AVX512, NEON], ids=lambda isa: isa.name)
@pytest.mark.parametrize("bits", [128, 256, 512])
def test_every_width_fits_the_registers(isa, bits: int) -> None:
    if bits in isa.vector_bits:
        code = emit_ceiling("f32", bits // 32, isa.vector_registers - 1, isa)
        assert LAST[isa.architecture] in code


def test_without_an_isa(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceiling, "host_target", lambda: target_for("none"))
    with pytest.raises(UnknownIsaError, match="'none' has no vector machine"):
        ceiling.fma_ceiling("float32")
