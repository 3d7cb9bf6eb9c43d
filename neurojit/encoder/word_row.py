"""One row of a word table: an instruction of 32 bits as text that both encodes and decodes.

    fmla {d:v}.4s, {n:v}.4s, {m:v}.s[{i}] | 0100111110immmmm0001i0nnnnnddddd | i=[0,1]

Left: the instruction as it is written, with its operands in braces: a field's letter, and the kind of name
its numbers have (a kind of the table's head, such as v = v0 to v31; `label`; none for a plain number).
A kind with fewer names than its field has numbers is a limit.
Middle: the word, highest bit first; a letter is a bit of that field. Right, where it is not obvious: which
bits of the number those are, in the order in which they stand. Without it a field is unsigned, its highest
bit first.

    i=[15:4]              bits 15 to 4 of a number up to 65520, a multiple of 16
    i=s[12,10:5,4:1,11]   signed (a RISC-V branch: even, from -4096 to 4094)
    i=32-[4:0]            32 - i is what is written: i is 1 to 32
    isa=dotprod           the extensions it needs

The *name* of a form is the left side with kinds, or letters where there are none, instead of braces:
`fmla v.4s, v.4s, v.s[i]`. The register within [brackets] or (parentheses) is the base of an address, and a
constant beside it its displacement.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from neurojit.errors import EncodeError

LABEL = "label"
WORD_BITS = 32
MOST_FIELDS, MOST_PIECES = 6, 4  # of csrc/word_encoder.h and code_buffer.h

Kinds = Mapping[str, Sequence[str]]
"""The names of a kind's numbers: {"v": ("v0", ..., "v31")}."""

_OPERAND = re.compile(r"\{(?P<letter>[a-z])(?::(?P<kind>\w+))?\}")
_BITS = re.compile(r"(?P<sign>s?)(?:(?P<end>\d+)-)?\[(?P<spans>[\d:,]+)\]")
_LANE = re.compile(r"\{(?P<register>[a-z]):\w+\}\.\w+\}?\[\{(?P<lane>[a-z])\}\]")
_ADDRESS = re.compile(r"\[\{(?P<base>[a-z]):\w+\}(?:, #?\{(?P<after>[a-z])\})?(?:, [^\]]*)?\](?P<moves>!?)")
_ADDRESS_BEFORE = re.compile(r"\{(?P<before>[a-z])\}\(\{(?P<base>[a-z]):\w+\}\)|\(\{(?P<alone>[a-z]):\w+\}\)")


@dataclass(frozen=True)
class Field:
    """name: the operand's letter and kind. pieces: (bit of the word, bit of the number, count of bits).
    from_end: what the number is subtracted from before it is written; 0 for none. is_vector: whether it is a
    vector register; lane_of: of which field's register it is a lane, -1 for none."""

    letter: str
    kind: str
    lowest: int
    highest: int
    shift: int
    from_end: int
    pieces: tuple[tuple[int, int, int], ...]
    is_vector: bool = False
    lane_of: int = -1

    @property
    def name(self) -> str:
        return self.kind or self.letter

    @property
    def bits(self) -> int:
        """Of the field in the word."""
        return len({bit for _, first, count in self.pieces for bit in range(first, first + count)})


@dataclass(frozen=True)
class WordRow:
    """pattern: the word with 0 in every field; mask: the bits that belong to none. label, base,
    displacement: numbers of fields, -1 where there is none."""

    text: str
    name: str
    pattern: int
    mask: int
    fields: tuple[Field, ...]
    label: int
    base: int
    displacement: int
    isa: tuple[str, ...]

    @classmethod
    def parse(cls, line: str, kinds: Kinds, vectors: Collection[str] = ()) -> WordRow:
        """The row in `line`; EncodeError if it is malformed or says two things that disagree.

        vectors: the kinds that are vector registers."""
        text, bits, attributes = _columns(line)
        given, isa = _attributes(line, attributes)
        operands = [(operand["letter"], operand["kind"] or "") for operand in _OPERAND.finditer(text)]
        letters = [letter for letter, _ in operands]
        known = {"", LABEL, *kinds}
        facts = {
            "32 bits": len(bits) == WORD_BITS,
            "bits and small letters alone": re.fullmatch("[01a-z]*", bits) is not None,
            f"at most {MOST_FIELDS} operands": len(letters) <= MOST_FIELDS,
            "each operand once": len(set(letters)) == len(letters),
            "every letter of the word to be an operand": set(bits) - set("01") == set(letters),
            "bits of operands alone on the right": set(given) <= set(letters),
            f"kinds among {', '.join(sorted(known - {''}))}": all(kind in known for _, kind in operands),
        }
        for fact, holds in facts.items():
            if not holds:
                raise EncodeError(f"word table: {line!r}: expected {fact}")
        lane_of = {match["lane"]: letters.index(match["register"]) for match in _LANE.finditer(text)}
        fields = tuple(
            replace(
                _field(line, letter, kind, bits, given.get(letter), kinds.get(kind)),
                is_vector=kind in vectors,
                lane_of=lane_of.get(letter, -1),
            )
            for letter, kind in operands
        )
        base, displacement = _address(text)
        return cls(
            text,
            _OPERAND.sub(lambda operand: operand["kind"] or operand["letter"], text),
            int("".join(bit if bit in "01" else "0" for bit in bits), 2),
            int("".join("1" if bit in "01" else "0" for bit in bits), 2),
            fields,
            next((n for n, field in enumerate(fields) if field.kind == LABEL), -1),
            letters.index(base) if base else -1,
            letters.index(displacement) if displacement else -1,
            isa,
        )

    @cached_property
    def mnemonic(self) -> str:
        return self.text.partition(" ")[0]

    def instruction_text(self, values: Sequence[int], kinds: Kinds) -> str:
        """The instruction with a value for each field; a label's is its number."""
        by_letter = {field.letter: value for field, value in zip(self.fields, values, strict=True)}

        def written(operand: re.Match[str]) -> str:
            value, kind = by_letter[operand["letter"]], operand["kind"]
            if kind == LABEL:
                return f"L{value}"
            return kinds[kind][value] if kind else str(value)

        return _OPERAND.sub(written, self.text)


def name_of(line: str) -> str:
    """The name of the form in a line of a table, which is not parsed further."""
    return _OPERAND.sub(lambda operand: operand["kind"] or operand["letter"], line.split(" | ", 1)[0].strip())


def _columns(line: str) -> tuple[str, str, str]:
    columns = [column.strip() for column in line.split(" | ")]
    if not 2 <= len(columns) <= 3:
        raise EncodeError(f"word table: {line!r}: expected `instruction | word | bits of fields`")
    return columns[0], columns[1].replace(" ", ""), columns[2] if len(columns) == 3 else ""


def _attributes(line: str, text: str) -> tuple[dict[str, str], tuple[str, ...]]:
    given: dict[str, str] = {}
    for attribute in text.split():
        key, equals, value = attribute.partition("=")
        if not equals or key in given:
            raise EncodeError(f"word table: {line!r}: {attribute!r}: expected letter=bits once, or isa=names")
        given[key] = value
    isa = given.pop("isa", "")
    return given, tuple(isa.split(",")) if isa else ()


def _field(
    line: str, letter: str, kind: str, bits: str, given: str | None, names: Sequence[str] | None
) -> Field:
    """The field whose bits stand at `letter` in the word. What has no name is no value of it."""
    places = [WORD_BITS - 1 - at for at, bit in enumerate(bits) if bit == letter]  # highest first
    match = _BITS.fullmatch(given or f"[{len(places) - 1}:0]")
    if match is None:
        raise EncodeError(f"word table: {line!r}: {letter}={given}: expected bits like s[12,10:5]")
    numbers = [bit for span in match["spans"].split(",") for bit in _span(span)]
    where = f"word table: {line!r}: {letter}={given}"
    if len(numbers) != len(places):
        raise EncodeError(f"{where}: {len(numbers)} bits, expected {len(places)} as in the word")
    pieces: list[tuple[int, int, int]] = []
    for place, number in zip(places, numbers, strict=True):
        if pieces and (place + 1, number + 1) == pieces[-1][:2]:
            pieces[-1] = (place, number, pieces[-1][2] + 1)
        else:
            pieces.append((place, number, 1))
    low, high, signed = min(numbers), max(numbers), bool(match["sign"])
    end = int(match["end"] or 0)
    whole = set(numbers) == set(range(low, high + 1))
    if len(pieces) > MOST_PIECES or not whole or (end and (signed or end != 2 << high)):
        raise EncodeError(
            f"{where}: expected up to {MOST_PIECES} pieces that leave no bit out, and N-[...] unsigned "
            "with N one more than they hold"
        )
    lowest, highest = -(1 << high) if signed else 0, (1 << (high if signed else high + 1)) - (1 << low)
    if end:
        lowest, highest = end - highest, end
    if names is not None:
        highest = min(highest, len(names) - 1)
    return Field(letter, kind, lowest, highest, low, end, tuple(pieces))


def _span(text: str) -> range:
    """`10:5` as 10, 9, ... 5; a single bit as itself."""
    high, _, low = text.partition(":")
    return range(int(high), int(low or high) - 1, -1)


def _address(text: str) -> tuple[str, str]:
    """The letters of base and displacement, "" where there is none."""
    match = _ADDRESS.search(text)
    if match is not None:
        return match["base"], "" if match["moves"] else match["after"] or ""
    match = _ADDRESS_BEFORE.search(text)
    return ("", "") if match is None else (match["base"] or match["alone"], match["before"] or "")
