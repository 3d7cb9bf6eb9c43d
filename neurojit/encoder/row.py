"""One row of the encoder table: how an instruction form becomes bytes.

    vmovups zmm{k}{z}, m512 : 62 f1 7c c8 10 00 ; zmm=5.3,5.4,5.5,1.7,1.4 mask=3.0,3.1,3.2
                                                  modrm=5 base=1.5 index=1.6 disp8=64 isa=avx512f   (one line)

After the name stands the pattern, the bytes with every register 0, [rax] for memory, and neither
displacement nor immediate. Then, for each register operand in textual order, the `byte.bit` that each
bit of the register number flips (low bit first); for memory the offset of ModRM, what bit 3 of base
and of index flip, and the unit of an 8-bit displacement; for an immediate its width and whether it is
sign-extended (imm=s8, u8, s32 ...); rel=32 for a branch; isa= the extensions it needs.

A row says more than it must, so that it can be checked: `Row.parse` holds it against the name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

from neurojit.encoder.form_name import EVEX_REGISTER_BITS, REGISTER_BITS, FormName
from neurojit.errors import EncodeError

EVEX_PREFIX = 0x62


@dataclass(frozen=True)
class Row:
    """Bit positions count from bit 0 of the first byte. base, index, modrm are -1 without memory;
    disp8 is 0 then; immediate is "" or "s8", "u8", "s32", "u32", "s64"."""

    name: str
    pattern: bytes
    registers: tuple[tuple[str, tuple[int, ...]], ...]
    modrm: int = -1
    base: int = -1
    index: int = -1
    disp8: int = 0
    immediate: str = ""
    branch: bool = False
    isa: tuple[str, ...] = ()

    @classmethod
    def parse(cls, line: str) -> Row:
        """The row in `line`; EncodeError if it is malformed or contradicts its own name."""
        try:
            name, rest = line.split(" : ")
            pattern, _, attributes = rest.partition(";")
            registers: list[tuple[str, tuple[int, ...]]] = []
            fields: dict[str, str] = {}
            for attribute in attributes.split():
                key, value = attribute.split("=")
                if key == "mask" or key in REGISTER_BITS:
                    registers.append((key, tuple(_position(at) for at in value.split(","))))
                elif key in fields or key not in ("modrm", "base", "index", "disp8", "imm", "rel", "isa"):
                    raise ValueError(f"{key}= is unknown or stands twice")
                else:
                    fields[key] = value
            row = cls(
                name=name.strip(),
                pattern=bytes.fromhex(pattern),
                registers=tuple(registers),
                modrm=int(fields.get("modrm", "-1")),
                base=_position(fields["base"]) if "base" in fields else -1,
                index=_position(fields["index"]) if "index" in fields else -1,
                disp8=int(fields.get("disp8", "0")),
                immediate=fields.get("imm", ""),
                branch=fields.get("rel") == "32",
                isa=tuple(fields["isa"].split(",")) if "isa" in fields else (),
            )
        except (ValueError, KeyError) as problem:
            raise EncodeError(f"encoder table: {line!r}: {problem}; run `make encodings`") from problem
        row.check()
        return row

    def __str__(self) -> str:
        fields = [f"{kind}={','.join(_text(at) for at in flips)}" for kind, flips in self.registers]
        if self.modrm >= 0:
            fields.append(
                f"modrm={self.modrm} base={_text(self.base)} index={_text(self.index)} disp8={self.disp8}"
            )
        if self.immediate:
            fields.append(f"imm={self.immediate}")
        if self.branch:
            fields.append("rel=32")
        if self.isa:
            fields.append(f"isa={','.join(self.isa)}")
        return f"{self.name} : {self.pattern.hex(' ')} ; {' '.join(fields)}".rstrip(" ;")

    @cached_property
    def form(self) -> FormName:
        return FormName.parse(self.name)

    @property
    def mnemonic(self) -> str:
        return self.form.mnemonic

    @property
    def is_evex(self) -> bool:
        return self.pattern[0] == EVEX_PREFIX

    @property
    def immediate_bytes(self) -> int:
        return int(self.immediate[1:]) // 8 if self.immediate else 0

    def check(self) -> None:
        """Everything that the row says twice agrees; EncodeError names the first thing that does not."""
        form, evex = self.form, self.is_evex
        widths = {**(EVEX_REGISTER_BITS if evex else REGISTER_BITS), "mask": 3}
        flips = [at for _, field in self.registers for at in field]
        flips += [at for at in (self.base, self.index) if at >= 0]
        memory, immediate = form.memory, form.immediate
        facts = {
            "1 to 15 bytes": 0 < len(self.pattern) <= 15,
            "its registers are the name's": tuple(kind for kind, _ in self.registers) == form.register_kinds,
            "at most 4 registers": len(self.registers) <= 4,
            "register fields have their class's width": all(
                len(at) == widths[kind] for kind, at in self.registers
            ),
            "no two bits of registers share a place": len(set(flips)) == len(flips),
            "fields lie in the pattern's first 8 bytes": all(
                0 <= at < 8 * min(8, len(self.pattern)) for at in flips
            ),
            "EVEX if the name says so": evex or not form.is_evex,  # some instructions have nothing else
            "memory fields exactly if the name has memory": (memory is not None)
            == (self.modrm >= 0)
            == (self.base >= 0)
            == (self.index >= 0)
            == (self.disp8 > 0),
            "ModRM ends the pattern and holds [rax]": memory is None
            or (self.modrm == len(self.pattern) - 1 and self.pattern[-1] & 0o307 == 0),
            "disp8 is a power of two up to 64, and 1 outside EVEX": memory is None
            or (self.disp8 in (1, 2, 4, 8, 16, 32, 64) and (evex or self.disp8 == 1)),
            "a broadcast's disp8 is its element": memory is None
            or memory.broadcast == 0
            or 8 * self.disp8 == memory.bits,
            "the immediate has the name's width": (immediate is None) == (not self.immediate)
            and (immediate is None or 8 * self.immediate_bytes == immediate.bits),
            "rel exactly if the name is a branch": self.branch == form.is_branch,
        }
        for fact, holds in facts.items():
            if not holds:
                raise EncodeError(
                    f"encoder table: row {self.name!r}: expected that {fact}; run `make encodings`"
                )


@lru_cache(maxsize=128)
def _position(text: str) -> int:
    byte, bit = text.split(".")
    if not 0 <= int(bit) <= 7:
        raise ValueError(f"{text}: expected byte.bit")
    return 8 * int(byte) + int(bit)


def _text(position: int) -> str:
    return f"{position // 8}.{position % 8}"
