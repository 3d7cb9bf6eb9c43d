"""The name of an instruction form, taken apart: `vfmadd231ps zmm{k}{z}, zmm, m32{1to16}`.

A name is the mnemonic and the operand kinds in Intel order. Registers: r32, r64, xmm, ymm, zmm, k.
Memory: m8 .. m512 by bits, plain `m` where nothing is accessed (lea), `m32{1to16}` for an embedded
broadcast. `{k}` after the destination is a merging write mask, `{k}{z}` a zeroing one. Constants:
imm8, imm32, imm64; rel32 is a branch to a label. A trailing ` {evex}` tells the EVEX encoding from the
VEX one of the same operands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from neurojit.errors import UnknownFormError

# Register number bits that a legacy or VEX encoding has; EVEX has 5 for the vector registers.
REGISTER_BITS = {"r32": 4, "r64": 4, "xmm": 4, "ymm": 4, "zmm": 5, "k": 3}
EVEX_REGISTER_BITS = {**REGISTER_BITS, "xmm": 5, "ymm": 5}

_OPERAND = re.compile(
    r"(?P<register>r32|r64|xmm|ymm|zmm|k)(?P<rmask>\{k\})?(?P<zeroing>\{z\})?"
    r"|m(?P<memory>8|16|32|64|128|256|512)?(\{1to(?P<broadcast>2|4|8|16)\})?(?P<mmask>\{k\})?"
    r"|imm(?P<immediate>8|32|64)"
    r"|(?P<relative>rel32)"
)


@dataclass(frozen=True)
class Operand:
    """kind: a register class of REGISTER_BITS, `memory`, `immediate` or `relative`.
    bits: of the memory accessed (0 for a mere address) or of the immediate."""

    kind: str
    bits: int = 0
    broadcast: int = 0
    masked: bool = False
    zeroing: bool = False


@dataclass(frozen=True)
class FormName:
    text: str
    mnemonic: str
    operands: tuple[Operand, ...]
    evex_mark: bool

    @classmethod
    def parse(cls, text: str) -> FormName:
        plain = text.removesuffix(" {evex}")
        mnemonic, _, rest = plain.partition(" ")
        operands = []
        for part in rest.split(", ") if rest else ():
            operand = _operand(part)
            if operand is None:
                expected = "r64, zmm{k}{z}, m512, m32{1to16}, imm8, ..."
                raise UnknownFormError(f"{text!r}: operand {part!r}: expected {expected}")
            operands.append(operand)
        if not re.fullmatch(r"[a-z][a-z0-9]*", mnemonic):
            raise UnknownFormError(f"{text!r}: expected a mnemonic in lower case, then operand kinds")
        return cls(text, mnemonic, tuple(operands), plain != text)

    @property
    def register_kinds(self) -> tuple[str, ...]:
        """The register operands in textual order, write masks as `mask` after what they mask."""
        kinds: list[str] = []
        for operand in self.operands:
            if operand.kind in REGISTER_BITS:
                kinds.append(operand.kind)
            if operand.masked:
                kinds.append("mask")
        return tuple(kinds)

    @property
    def is_evex(self) -> bool:
        """Marked so, or with what only EVEX has: zmm, write masks, broadcasts, vectors compared into k."""
        kinds = {o.kind for o in self.operands}
        return (
            self.evex_mark
            or "zmm" in kinds
            or ("k" in kinds and not kinds.isdisjoint({"xmm", "ymm"}))
            or any(o.masked or o.broadcast for o in self.operands)
        )

    @property
    def memory(self) -> Operand | None:
        return next((o for o in self.operands if o.kind == "memory"), None)

    @property
    def immediate(self) -> Operand | None:
        return next((o for o in self.operands if o.kind == "immediate"), None)

    @property
    def is_branch(self) -> bool:
        return any(o.kind == "relative" for o in self.operands)


@lru_cache(maxsize=64)
def _operand(text: str) -> Operand | None:
    match = _OPERAND.fullmatch(text)
    if match is None:
        return None
    if match["register"]:
        return Operand(match["register"], 0, 0, bool(match["rmask"]), bool(match["zeroing"]))
    if match["immediate"]:
        return Operand("immediate", int(match["immediate"]))
    if match["relative"]:
        return Operand("relative", 32)
    return Operand("memory", int(match["memory"] or 0), int(match["broadcast"] or 0), bool(match["mmask"]))
