"""Sums across vectors: the lanes of up to a register's number of vectors added up, side by side in one.

Lane l is added to lane l + half, as on every ISA. Of floats, halves of two vectors are put together and
added, which leaves two lanes of each; `faddp` adds neighbours of two registers. A row that is missing at the
end is stood in for by the first.
"""

from __future__ import annotations

from functools import lru_cache

from neurojit.asm_templates.aarch64.moves import WIDTH, NeonMoves
from neurojit.asm_templates.machine import Vector
from neurojit.encoder import aarch64_forms as forms


class _Forms:
    def __init__(self) -> None:
        self.low, self.high = forms["zip1 v.2d, v.2d, v.2d"], forms["zip2 v.2d, v.2d, v.2d"]
        self.add, self.add_pairs = forms["fadd v.4s, v.4s, v.4s"], forms["faddp v.4s, v.4s, v.4s"]
        self.add_pairs_of_doubles = forms["faddp v.2d, v.2d, v.2d"]


_forms = lru_cache(maxsize=1)(_Forms)


def row_sums(m: NeonMoves, rows: list[Vector]) -> Vector:
    """Up to 4 rows of 4 floats, or 2 rows of 2 doubles."""
    f, emit = _forms(), m.buffer.emit
    count, lanes = len(rows), m.widest_lanes
    assert count <= lanes
    at = [row.register for row in rows]
    if lanes == 2:
        emit(f.add_pairs_of_doubles, at[0], at[0], at[-1])
    else:
        other = m.vectors.take()
        pairs = [at[:2], at[2:]] if count > 2 else [at]
        for pair in pairs:
            emit(f.high, other, pair[0], pair[-1])
            emit(f.low, pair[0], pair[0], pair[-1])
            emit(f.add, pair[0], pair[0], other)
        emit(f.add_pairs, at[0], at[0], pairs[-1][0])
        m.vectors.give(other)
    for register in at[1:]:
        m.vectors.give(register)
    return Vector(at[0], count, WIDTH)
