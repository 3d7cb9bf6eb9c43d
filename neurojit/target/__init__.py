"""The CPU: what it has, what the OS allows, which ISA neurojit emits for it, how fast its pipes are.

raw facts (C, sysfs, or a recording)  -> decode -> Cpu
Cpu + NEUROJIT_ISA                    -> choose_isa -> Isa and the reason
Isa + Cpu, or an ISA's name           -> Target, the argument of planners and code generation
"""

from neurojit.target.caches import Cache, Caches
from neurojit.target.cpu import Cpu, decode, host
from neurojit.target.isa import AVX2, AVX512, ISAS, NEON, NONE, RVV, Isa, IsaChoice, choose_isa, isa_named
from neurojit.target.pipes import PerWidth, Pipes
from neurojit.target.raw import RawFacts, Registers, gather
from neurojit.target.targets import Target, host_choice, host_target, target_for

__all__ = [
    "AVX2",
    "AVX512",
    "ISAS",
    "NEON",
    "NONE",
    "RVV",
    "Cache",
    "Caches",
    "Cpu",
    "Isa",
    "IsaChoice",
    "PerWidth",
    "Pipes",
    "RawFacts",
    "Registers",
    "Target",
    "choose_isa",
    "decode",
    "gather",
    "host",
    "host_choice",
    "host_target",
    "isa_named",
    "target_for",
]
