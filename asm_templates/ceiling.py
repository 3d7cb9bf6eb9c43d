"""ceiling: nothing but independent chains of fused multiply-adds, to see how many the core can do.

    chains accumulators + 1 factor; bound: the FMA ports once chains >= FMA latency x pipes

Not a kernel of use to anyone: its rate is what the rates of all others are a fraction of.
"""

from __future__ import annotations

from neurojit.asm_templates.machine import Machine


def emit(m: Machine, lanes: int, chains: int) -> None:
    """Emit the kernel: its extent `n` (at least 1) is the length of each of the `chains`."""
    left = m.extent()
    m.expect(frozenset((lanes,)))
    accumulators = [m.zero(lanes) for _ in range(chains)]
    factor = m.zero(lanes)
    with m.while_positive(left, 1):
        for accumulator in accumulators:
            m.fma(accumulator, factor, factor)
    m.drop(factor, *accumulators)
    m.release(left)
    m.leave()
