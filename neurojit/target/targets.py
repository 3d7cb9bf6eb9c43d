"""What planners and code generation are given: an ISA and the facts of a CPU to plan for.

A `Target` is a value, never the machine at hand: code for AVX-512 can be planned, emitted and listed
on any host, and the same target gives the same code everywhere.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from neurojit.config import CONFIG
from neurojit.target.caches import ASSUMED, Caches
from neurojit.target.cpu import Cpu, host
from neurojit.target.isa import Isa, IsaChoice, choose_isa, isa_named
from neurojit.target.pipes import Pipes, pipes_of


@dataclass(frozen=True)
class Target:
    """isa: what the code is made of. microarchitecture, pipes, caches: what it is tuned for.
    features: what it may use beyond isa.needs.
    """

    isa: Isa
    microarchitecture: str
    pipes: Pipes
    caches: Caches
    features: frozenset[str]


def target_for(name: str, cpu: Cpu | None = None) -> Target:
    """The target of an ISA ("x86_64-avx2", or "avx2") tuned for `cpu`; without one for the generic CPU
    of the ISA, which is the same on every host; a scalable ISA then has the shortest vectors. A CPU of
    another architecture counts as none. Raises UnknownIsaError.
    """
    isa = isa_named(name)
    if cpu is None or cpu.architecture != isa.architecture:
        pipes = pipes_of("", isa.architecture)
        return Target(isa, pipes.name, pipes, ASSUMED, frozenset(isa.needs))
    if isa.scalable and cpu.vector_bytes:
        isa = isa.with_vectors_of(min(8 * cpu.vector_bytes, LONGEST))
    features = cpu.allowed | frozenset(isa.needs)
    return Target(isa, cpu.microarchitecture, cpu.pipes, cpu.caches, features)


LONGEST = 512
"""Bits of a scalable register that are used: as many as the cost model knows."""


@functools.cache
def host_choice() -> IsaChoice:
    """The ISA for this machine under NEUROJIT_ISA, and why."""
    return choose_isa(host(), CONFIG.isa)


@functools.cache
def host_target() -> Target:
    """The target of this machine under NEUROJIT_ISA."""
    return target_for(host_choice().isa.name, host())
