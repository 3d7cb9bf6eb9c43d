"""What Linux tells about CPUs in /sys/devices/system/cpu and /proc/cpuinfo: text, read and not interpreted.

A container or a sandbox may hide any of these files; a missing one is an empty answer, not an error.
"""

from __future__ import annotations

import os

ROOT = "/sys/devices/system/cpu"
CPUINFO = "/proc/cpuinfo"
CACHE_FIELDS = (
    "level",
    "type",
    "size",
    "coherency_line_size",
    "ways_of_associativity",
    "shared_cpu_list",
)
MOST_CPUS = 1 << 16  # more than any machine has: a bound on what a strange list can make us do


def online() -> tuple[int, ...]:
    """The CPUs that are on line."""
    return expand(_read("online"))


def caches() -> tuple[dict[str, str], ...]:
    """The cache/index* folders of CPU 0, each as {file name: text}."""
    try:
        indices = [name for name in os.listdir(f"{ROOT}/cpu0/cache") if name.startswith("index")]
    except OSError:
        return ()
    rows = ({name: _read(f"cpu0/cache/{index}/{name}") for name in CACHE_FIELDS} for index in sorted(indices))
    return tuple({name: text for name, text in row.items() if text} for row in rows)


def siblings(cpus: tuple[int, ...]) -> tuple[str, ...]:
    """For each CPU the list of the CPUs that share its core."""
    # thread_siblings_list is the name before Linux 5.2, and still there.
    return tuple(_read(f"cpu{cpu}/topology/thread_siblings_list") for cpu in cpus)


def midr(cpus: tuple[int, ...]) -> tuple[int, ...]:
    """MIDR_EL1 of each CPU, on AArch64; big and little cores differ in it."""
    words = (_read(f"cpu{cpu}/regs/identification/midr_el1") for cpu in cpus)
    return tuple(int(word, 16) for word in words if word.startswith("0x"))


# The parts of MIDR_EL1 as /proc/cpuinfo names them, and where each stands (Arm ARM, MIDR_EL1). Bits 16 to 19
# are 0xf in every AArch64 CPU.
MIDR_PARTS = {"CPU implementer": 24, "CPU variant": 20, "CPU part": 4, "CPU revision": 0}
MIDR_ARCHITECTURE = 0xF << 16


def cpuinfo_midr(text: str | None = None) -> tuple[int, ...]:
    """MIDR_EL1 of each CPU on AArch64, put together from /proc/cpuinfo (or from `text`, its content)."""
    if text is None:
        text = _read(CPUINFO)
    words: list[int] = []
    for block in text.split("\n\n"):
        fields = dict(line.split(":", 1) for line in block.splitlines() if ":" in line)
        parts = {name.strip(): value.strip() for name, value in fields.items()}
        try:
            numbers = [int(parts[name], 0) << place for name, place in MIDR_PARTS.items()]
        except (KeyError, ValueError):
            continue  # another architecture's block, or the machine's
        words.append(sum(numbers) | MIDR_ARCHITECTURE)
    return tuple(words)


def expand(text: str) -> tuple[int, ...]:
    """The CPUs of a kernel list such as "0-3,8,10-11"; what is not of that form is left out."""
    cpus: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = (first, last if dash else first)
        if all(end.isascii() and end.isdigit() and len(end) <= 9 for end in ends):
            start, stop = int(ends[0]), int(ends[1]) + 1
            cpus.extend(range(start, min(stop, start + MOST_CPUS)))
    return tuple(cpus[:MOST_CPUS])


def _read(path: str) -> str:
    try:
        with open(os.path.join(ROOT, path), encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
