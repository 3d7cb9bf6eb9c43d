"""`make encodings`: writes encodings.txt, the encoder table, from PeachPy's answers about FORMS."""

from __future__ import annotations

from pathlib import Path

from neurojit.asm_templates.x86_64.forms import FORMS
from neurojit.encoder import peachpy_encoder
from neurojit.encoder.learn import learn

TABLE = Path(__file__).with_name("encodings.txt")

HEAD = """\
# x86-64 encodings: one instruction form a row. Made by `make encodings` with PeachPy {version}; never edited.
# form : the bytes with every register 0, [rax] for memory, no displacement, no immediate ; then
# class=the byte.bit that each bit of the register number flips, low bit first, in textual order
# modrm=its offset base=, index=what bit 3 of the number flips disp8=its unit imm=its kind isa=what it needs
"""


def table(verify: bool = True) -> str:
    """The whole file; verify as in learn().

    UnknownFormError or EncodeError if PeachPy cannot answer for a form."""
    return HEAD.format(version=peachpy_encoder.version()) + "".join(
        f"{learn(name, verify)}\n" for name in FORMS
    )


if __name__ == "__main__":
    TABLE.write_text(table())
    print(f"{TABLE}: {len(FORMS)} forms")
