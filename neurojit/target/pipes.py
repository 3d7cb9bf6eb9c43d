"""What a core can start in a cycle: the facts from which a schedule's cost is computed.

Data, not measurements of this machine: `python -m neurojit features --measure` is for those. A cycle
count of a loop is at least the largest of

    FMA slots       sum of fma_slots[width] over its FMAs / fma_pipes
    load slots      sum of 1 / loads_per_cycle[width] over its loads
    store slots     likewise
    latency chain   fma_latency x FMAs on one accumulator

so a tile needs fma_latency x fma_pipes / fma_slots[width] independent accumulators to be bound by
anything but latency.

Sources, by the letter that each row names:
  A  Agner Fog, The microarchitecture of Intel, AMD and VIA CPUs; Instruction tables
  U  uops.info, measured latency, throughput and port usage of each instruction
  I  Intel 64 and IA-32 Architectures Optimization Reference Manual (248966)
  D  AMD Software Optimization Guides: family 17h (55723, 56305), 19h (56665, 57647), 1Ah (58455)
  N  Arm Software Optimization Guides of the named core
  F  Fujitsu, A64FX Microarchitecture Manual
  L  LLVM 19's scheduling models, where a core has one of its own: tests/target/test_pipes.py asks llvm-mca
  J  Dougall Johnson, Apple M1 Firestorm Microarchitecture
  M  measured by us: chains and independent streams of one instruction, clock from a chain of adds
Where sources differ or are silent the lower throughput stands here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PerWidth:
    """One number for each vector width in bits: `fma_slots[512]`. Half a 128-bit vector costs a whole."""

    bits128: float
    bits256: float
    bits512: float

    def __getitem__(self, bits: int) -> float:
        if bits in (64, 128):
            return self.bits128
        if bits == 256:
            return self.bits256
        if bits == 512:
            return self.bits512
        raise KeyError(f"vector width {bits}: expected 64, 128, 256 or 512")


@dataclass(frozen=True)
class Pipes:
    """fma_pipes: FMAs started in a cycle at the widths that take one slot. fma_slots: pipe-cycles one
    FMA takes. fma_latency: cycles from accumulator to accumulator. loads_per_cycle, stores_per_cycle:
    vector loads that hit L1, and stores. free_shuffles: shuffles within 128 bits that start in a cycle beside
    as many FMAs as can; 0 where each takes the place of one. l2_line_cycles: to bring 64 bytes from L2 to
    L1, in a stream. A width the CPU does not have counts as its split halves.
    source: letters of the list at the top of this file, or "assumed".
    """

    name: str
    fma_pipes: int
    fma_slots: PerWidth
    fma_latency: int
    loads_per_cycle: PerWidth
    stores_per_cycle: PerWidth
    source: str
    free_shuffles: PerWidth = PerWidth(1, 1, 0.5)
    l2_line_cycles: float = 2.0

    def fma_per_cycle(self, bits: int) -> float:
        """FMA instructions of that width that a core starts in a cycle."""
        return self.fma_pipes / self.fma_slots[bits]

    def flop_per_cycle(self, bits: int, element_bits: int = 32) -> float:
        """Floating-point operations a cycle, with FMAs of that width; an FMA of one element is two."""
        return 2 * (bits // element_bits) * self.fma_per_cycle(bits)

    def accumulators_needed(self, bits: int) -> int:
        """Independent accumulators of that width below which latency, not the pipes, is the bound."""
        return -(-self.fma_latency * self.fma_pipes // int(self.fma_slots[bits]))


def _x86(
    name: str,
    source: str,
    *,
    latency: int,
    slots: tuple[int, int, int],
    loads: tuple[float, float, float],
    stores: tuple[float, float, float],
    pipes: int = 2,
    shuffles: tuple[float, float, float] | None = None,
    l2_line: float = 2.0,
) -> Pipes:
    if shuffles is None:  # Intel's second 512-bit FMA unit is on the port that shuffles; else one is free
        shuffles = (1, 1, 0 if slots[2] == 1 else 0.5)
    of_memory = PerWidth(*loads), PerWidth(*stores)
    return Pipes(name, pipes, PerWidth(*slots), latency, *of_memory, source, PerWidth(*shuffles), l2_line)


def _neon(name: str, source: str, *, pipes: int, latency: int, loads: int, stores: float = 1) -> Pipes:
    # 128-bit vectors; SVE registers are wider on a few of these cores, and not used yet.
    return Pipes(
        name,
        pipes,
        PerWidth(1, 2, 4),
        latency,
        PerWidth(loads, loads / 2, loads / 4),
        PerWidth(stores, stores / 2, stores / 4),
        source,
    )


# Unknown CPUs get the row of their ISA: the modest, widespread core, so that a schedule which is good
# there is not bad elsewhere. x86-64: Zen 4, whose 256-bit numbers are Skylake's too. AArch64: Neoverse N1.
GENERIC_X86 = _x86(
    "generic x86-64", "assumed", latency=4, slots=(1, 1, 2), loads=(2, 2, 1), stores=(1, 1, 0.5)
)
GENERIC_NEON = _neon("generic AArch64", "assumed", pipes=2, latency=4, loads=2)
GENERIC = _neon("generic", "assumed", pipes=1, latency=4, loads=1)

PIPES: tuple[Pipes, ...] = (
    # Intel. Ports 0 and 1 hold an FMA unit each; 512-bit code fuses them into one unit, and server
    # cores have a second one on port 5. Loads on ports 2 and 3 (and 11 from Golden Cove on, for at most
    # 256 bits), stores on port 4 (and 9 from Sunny Cove on: two only of 256 bits to one line).
    _x86("Haswell", "A U I", latency=5, slots=(1, 1, 2), loads=(2, 2, 1), stores=(1, 1, 0.5)),
    _x86("Broadwell", "A U I", latency=5, slots=(1, 1, 2), loads=(2, 2, 1), stores=(1, 1, 0.5)),
    _x86("Skylake", "A U I", latency=4, slots=(1, 1, 2), loads=(2, 2, 1), stores=(1, 1, 0.5)),
    # Xeon Bronze, Silver and most Gold 5000 of these two have the port 5 unit off: half the 512-bit rate.
    _x86("Skylake-X", "A U I", latency=4, slots=(1, 1, 1), loads=(2, 2, 2), stores=(1, 1, 1)),
    _x86("Cascade Lake", "A U I", latency=4, slots=(1, 1, 1), loads=(2, 2, 2), stores=(1, 1, 1)),
    _x86("Cooper Lake", "A I", latency=4, slots=(1, 1, 1), loads=(2, 2, 2), stores=(1, 1, 1)),
    _x86("Cannon Lake", "U", latency=4, slots=(1, 1, 2), loads=(2, 2, 2), stores=(1, 1, 1)),
    _x86("Ice Lake", "A U I", latency=4, slots=(1, 1, 2), loads=(2, 2, 2), stores=(1, 1, 1)),
    _x86("Ice Lake server", "A I", latency=4, slots=(1, 1, 1), loads=(2, 2, 2), stores=(1, 1, 1)),
    _x86("Tiger Lake", "A U", latency=4, slots=(1, 1, 2), loads=(2, 2, 2), stores=(1, 1, 1)),
    _x86("Rocket Lake", "U", latency=4, slots=(1, 1, 2), loads=(2, 2, 2), stores=(1, 1, 1)),
    _x86("Alder Lake", "A U I", latency=4, slots=(1, 1, 2), loads=(3, 3, 2), stores=(2, 2, 1)),
    _x86("Raptor Lake", "A I", latency=4, slots=(1, 1, 2), loads=(3, 3, 2), stores=(2, 2, 1)),
    _x86("Meteor Lake", "U", latency=4, slots=(1, 1, 2), loads=(3, 3, 1.5), stores=(2, 2, 1)),
    _x86("Sapphire Rapids", "I", latency=4, slots=(1, 1, 1), loads=(3, 3, 2), stores=(2, 2, 1)),
    _x86("Emerald Rapids", "I", latency=4, slots=(1, 1, 1), loads=(3, 3, 2), stores=(2, 2, 1)),
    _x86("Granite Rapids", "I", latency=4, slots=(1, 1, 1), loads=(3, 3, 2), stores=(2, 2, 1)),
    # Gracemont: 128-bit datapaths, 256-bit instructions are two operations.
    _x86("Gracemont", "A U", latency=6, slots=(1, 2, 4), loads=(2, 1, 0.5), stores=(2, 1, 0.5)),
    # AMD. Two FMA pipes: 128 bits in Zen 1, 256 bits in Zen 2 to Zen 4 (where a 512-bit operation holds
    # its pipe for two cycles), 512 bits in Zen 5 except its mobile parts. Vector loads: two a cycle.
    _x86("Zen 1", "A U D", latency=5, slots=(1, 2, 4), loads=(2, 1, 0.5), stores=(1, 0.5, 0.25)),
    _x86("Zen 2", "A U D", latency=5, slots=(1, 1, 2), loads=(2, 2, 1), stores=(1, 1, 0.5)),
    _x86("Zen 3", "A U D", latency=4, slots=(1, 1, 2), loads=(2, 2, 1), stores=(1, 1, 0.5)),
    _x86("Zen 4", "A U D M", latency=4, slots=(1, 1, 2), loads=(2, 2, 1), stores=(1, 1, 0.5)),
    # Zen 5: four pipes shuffle within 128 bits, two of them beside the FMA pipes; shuffles across 128 bits,
    # and loads that repeat more than an element, take one of two pipes, of which one multiplies.
    _x86(
        "Zen 5",
        "A D M",
        latency=4,
        slots=(1, 1, 1),
        loads=(2, 2, 2),
        stores=(1, 1, 1),
        shuffles=(2, 2, 2),
        l2_line=1.0,
    ),
    _x86("Zen 5 mobile", "A D", latency=4, slots=(1, 1, 2), loads=(2, 2, 1), stores=(1, 1, 0.5)),
    # Arm. fma_latency is that of a whole FMLA; Arm's cores forward late into the accumulator, which
    # makes a chain of FMLAs 2 cycles a step there. 4 is what a schedule may rely on.
    _neon("Cortex-A53", "L", pipes=1, latency=10, loads=1),
    _neon("Cortex-A55", "N L", pipes=1, latency=8, loads=1),
    # These two do half of a 128-bit FMA in each of their pipes.
    _neon("Cortex-A57", "L", pipes=1, latency=10, loads=1, stores=0.5),
    _neon("Cortex-A72", "assumed", pipes=1, latency=7, loads=1, stores=0.5),
    _neon("Cortex-A76", "N", pipes=2, latency=4, loads=2, stores=2),
    _neon("Cortex-A77", "N", pipes=2, latency=4, loads=2, stores=2),
    _neon("Cortex-A78", "N", pipes=2, latency=4, loads=2, stores=2),
    _neon("Cortex-X1", "N", pipes=4, latency=4, loads=3, stores=2),
    _neon("Cortex-X2", "N", pipes=4, latency=4, loads=3, stores=2),
    _neon("Cortex-X3", "assumed", pipes=4, latency=4, loads=3, stores=2),
    _neon("Cortex-X4", "assumed", pipes=4, latency=4, loads=3, stores=2),
    _neon("Cortex-A710", "assumed", pipes=2, latency=4, loads=2, stores=2),
    _neon("Neoverse N1", "N L", pipes=2, latency=4, loads=2),
    _neon("Neoverse N2", "N L", pipes=2, latency=4, loads=2, stores=2),
    _neon("Neoverse N3", "assumed", pipes=2, latency=4, loads=2, stores=2),
    _neon("Neoverse V1", "N L", pipes=4, latency=4, loads=3, stores=2),
    _neon("Neoverse V2", "N L", pipes=4, latency=4, loads=3, stores=2),
    _neon("Neoverse V3", "assumed", pipes=4, latency=4, loads=3, stores=2),
    _neon("A64FX", "F L", pipes=2, latency=9, loads=2),
    _neon("Apple M1 (Firestorm)", "J", pipes=4, latency=4, loads=3, stores=2),
    _neon("Apple M2 (Avalanche)", "J", pipes=4, latency=4, loads=3, stores=2),
    _neon("Apple M3", "assumed", pipes=4, latency=4, loads=3, stores=2),
    _neon("Apple M4", "assumed", pipes=4, latency=4, loads=3, stores=2),
)

_BY_NAME = {row.name: row for row in PIPES}


def pipes_of(microarchitecture: str, architecture: str) -> Pipes:
    """The row of a microarchitecture's name, or the generic row of its architecture."""
    generic = {"x86_64": GENERIC_X86, "aarch64": GENERIC_NEON}.get(architecture, GENERIC)
    return _BY_NAME.get(microarchitecture, generic)
