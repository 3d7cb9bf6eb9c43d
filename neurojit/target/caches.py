"""The caches that one core sees: from sysfs, from CPUID where sysfs is hidden, from sysctl on macOS, else
assumed.

A planner needs a size whatever the machine hides, so L1d, L1i and L2 are always there and `source`
says how much to trust them. There may be no L3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from neurojit.target.raw import RawFacts
from neurojit.target.sysfs import expand


class Cache(NamedTuple):
    """size and line in bytes; ways: 0 if fully associative or not told; shared_by: hardware threads."""

    level: int
    kind: str  # "data", "instruction", "unified"
    size: int
    line: int = 64
    ways: int = 0
    shared_by: int = 1


@dataclass(frozen=True)
class Caches:
    """source: "sysfs", "cpuid", "sysctl" or "assumed"; it holds for the caches that were found."""

    l1d: Cache
    l1i: Cache
    l2: Cache
    l3: Cache | None
    source: str


# The smallest of the CPUs in neurojit's tables: plans made for it are right, if cautious, anywhere.
ASSUMED = Caches(
    l1d=Cache(1, "data", 32 << 10),
    l1i=Cache(1, "instruction", 32 << 10),
    l2=Cache(2, "unified", 256 << 10),
    l3=None,
    source="assumed",
)


def decode_caches(raw: RawFacts) -> Caches:
    """The hierarchy; what no source tells is taken from ASSUMED."""
    sources = {"sysfs": _from_sysfs, "cpuid": _from_cpuid, "sysctl": _from_sysctl}
    for source, ask in sources.items():
        found = ask(raw)
        if found:
            return Caches(
                l1d=found.get((1, "data")) or found.get((1, "unified")) or ASSUMED.l1d,
                l1i=found.get((1, "instruction")) or found.get((1, "unified")) or ASSUMED.l1i,
                l2=found.get((2, "unified")) or found.get((2, "data")) or ASSUMED.l2,
                l3=found.get((3, "unified")) or found.get((3, "data")),
                source=source,
            )
    return ASSUMED


Found = dict[tuple[int, str], Cache]
UNITS = {"K": 10, "M": 20, "G": 30}


def _from_sysfs(raw: RawFacts) -> Found:
    caches = (_sysfs_cache(row) for row in raw.caches)
    return {(cache.level, cache.kind): cache for cache in caches if cache is not None}


def _sysfs_cache(row: Mapping[str, str]) -> Cache | None:
    size = row.get("size", "")
    unit = UNITS.get(size[-1:], 0)
    bytes_ = _number(size[:-1] if unit else size) << unit
    level, kind = _number(row.get("level", "")), row.get("type", "").lower()
    if not bytes_ or not level:
        return None  # Arm firmware often lists a cache and leaves its size out
    return Cache(
        level,
        kind,
        bytes_,
        line=_number(row.get("coherency_line_size", "")) or 64,
        ways=_number(row.get("ways_of_associativity", "")),
        shared_by=len(expand(row.get("shared_cpu_list", ""))) or 1,
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else 0


def _from_sysctl(raw: RawFacts) -> Found:
    """Of the performance cores. Their L2 is shared by a cluster; macOS tells of no L3."""
    line = raw.sysctl.get("hw.cachelinesize", 0) or 128
    shared_by = raw.sysctl.get("hw.perflevel0.cpusperl2", 0) or 1
    kinds = {"l1d": (1, "data", 1), "l1i": (1, "instruction", 1), "l2": (2, "unified", shared_by)}
    found: Found = {}
    for name, (level, kind, shared) in kinds.items():
        size = raw.sysctl.get(f"hw.perflevel0.{name}cachesize", 0)
        if size > 0:
            found[level, kind] = Cache(level, kind, size, line=line, shared_by=shared)
    return found


# CPUID's cache leaf, the same layout for both vendors: Intel SDM vol. 2A, leaf 4; AMD APM vol. 3,
# E.4.15, leaf 0x8000001D.
CACHE_LEAVES = (0x4, 0x8000001D)
CPUID_KINDS = {1: "data", 2: "instruction", 3: "unified"}


def _from_cpuid(raw: RawFacts) -> Found:
    found: Found = {}
    for (leaf, _), (eax, ebx, ecx, _) in sorted(raw.cpuid.items()):
        kind = CPUID_KINDS.get(eax & 0x1F)
        if leaf not in CACHE_LEAVES or kind is None:
            continue
        level = eax >> 5 & 0x7
        line = (ebx & 0xFFF) + 1
        partitions = (ebx >> 12 & 0x3FF) + 1
        ways = (ebx >> 22 & 0x3FF) + 1
        sets = (ecx & 0xFFFFFFFF) + 1
        fully_associative = bool(eax >> 9 & 1)
        found[level, kind] = Cache(
            level,
            kind,
            size=ways * partitions * line * sets,
            line=line,
            ways=0 if fully_associative else ways,
            shared_by=(eax >> 14 & 0xFFF) + 1,  # addressable ids: an upper bound on Intel
        )
    return found
