"""The FMA ceiling: the most multiply-adds a second that one core of this machine does, measured.

A kernel of independent chains in registers runs for about 2 ms, several times for each vector width of
the chosen ISA; the fastest run counts. It is what a GEMM's rate is a fraction of, so it has to be
measured in the same run: clocks change with load, temperature and the neighbours.
"""

from __future__ import annotations

from neurojit.codegen import emit_ceiling
from neurojit.plan.gemm import ELEMENT_SIZE
from neurojit.runtime import Code, clock_ns
from neurojit.target import Target, host_target

DTYPES = {"float32": "f32", "float64": "f64"}
RUN_NS = 2_000_000
REPEATS = 7


def fma_ceiling(dtype: str) -> float:
    """GFLOP/s of one core for "float32" or "float64"; a multiply-add is two operations.

    Raises UnknownIsaError where neurojit emits no code, ExecutableMemoryError where none can run.
    """
    target = host_target()
    return max(_rate(DTYPES[dtype], bits, target) for bits in target.isa.vector_bits or (0,))


def _rate(dtype: str, bits: int, target: Target) -> float:
    """GFLOP/s in vectors of `bits`."""
    lanes = bits // 8 // ELEMENT_SIZE[dtype]
    chains = target.isa.vector_registers - 1  # the factor takes one
    kernel = Code.map(emit_ceiling(dtype, lanes, chains, target.isa))
    length = 1000
    length = max(1, length * RUN_NS // max(_run(kernel, length), 1))
    best = min(_run(kernel, length) for _ in range(REPEATS))
    return 2 * lanes * chains * length / best


def _run(kernel: Code, length: int) -> int:
    """Nanoseconds of one call."""
    start = clock_ns()
    kernel.call((), length)
    return clock_ns() - start
