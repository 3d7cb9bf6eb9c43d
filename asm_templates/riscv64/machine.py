"""The whole vector machine of RISC-V V: see `rvv` for its head."""

from __future__ import annotations

from neurojit.asm_templates.riscv64.widening import RvvWidening


class RvvMachine(RvvWidening):
    """Moves (`rvv`), arithmetic (`rvv_arithmetic`), lanes (`lanes`), storage types (`widening`)."""
