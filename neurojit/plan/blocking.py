"""Cache blocks and micro-tile of a large GEMM, from the target's caches.

B block KC x NC   read once per MC rows, from L2 or L3
A block MC x KC   stays in L2 while the micro-kernel sweeps it
micro-panels      MR x KC of A and KC x NR of B stream through L1
"""

from __future__ import annotations

from typing import NamedTuple

from neurojit.plan.gemm import ELEMENT_SIZE, ceil_div
from neurojit.target import Target

MOST_KC = 512
MOST_NC = 4096


class Blocking(NamedTuple):
    """mc is a multiple of mr, nc of nr; kc is even over the blocks of k."""

    mc: int
    nc: int
    kc: int
    mr: int
    nr: int


def block_gemm(dtype: str, m: int, n: int, k: int, target: Target) -> Blocking:
    """Blocks as equal as can be, no larger than the caches allow."""
    size = ELEMENT_SIZE[dtype]
    mr, nr = micro_tile(dtype, target)
    kc = _equal(k, MOST_KC * 4 // size, 4)
    mc = _equal(m, max(target.caches.l2.size // 3 // (kc * size), mr), mr)
    nc = _equal(n, MOST_NC, nr)
    return Blocking(mc, nc, kc, mr, nr)


def micro_tile(dtype: str, target: Target) -> tuple[int, int]:
    """MR x NR: two vectors wide, as tall as the registers allow: 12 x 32 and 6 x 16 floats."""
    lanes = target.isa.widest // 8 // ELEMENT_SIZE[dtype]
    return (12 if target.isa.vector_registers == 32 else 6), 2 * lanes


def _equal(extent: int, most: int, unit: int) -> int:
    """The extent cut into as few pieces of at most `most` as possible, evenly, rounded up to `unit`."""
    return ceil_div(ceil_div(extent, ceil_div(extent, max(most, unit))), unit) * unit
