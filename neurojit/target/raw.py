"""Raw facts: what a machine says about itself, before anyone has decided what it means.

The problem: which CPU this is decides which code may run, and nobody has every CPU on the desk. So
gathering and meaning are apart. `gather()` asks the machine (C for instructions and system calls,
sysfs for the rest) and everything after it is a pure function of `RawFacts`, which also comes from a
file: `python -m neurojit features --raw` writes one, and tests/target/recorded/ holds a collection.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from neurojit.errors import RecordingError

FORMAT = 1

T = TypeVar("T")


class Registers(NamedTuple):
    """What CPUID left in the four registers."""

    eax: int = 0
    ebx: int = 0
    ecx: int = 0
    edx: int = 0


@dataclass(frozen=True)
class RawFacts:
    """Undecoded. None, or an empty collection, where the machine was not or could not be asked.

    cpuid: (leaf, subleaf) to registers. hwcap, hwcap2: the words of the auxiliary vector. sve_vl: what
    prctl(PR_SVE_GET_VL) returned. hwprobe: riscv_hwprobe key to value. vector_control: what
    prctl(PR_RISCV_V_GET_CONTROL) returned. vlenb: bytes of an RVV register. midr: MIDR_EL1 of each CPU.
    sysctl, brand: macOS' names and values, and its name for the CPU. caches: the text of sysfs' cache/index*
    files for CPU 0. siblings: for each online CPU, the text of topology/core_cpus_list, equal for the
    threads of one core. usable: CPUs of the affinity mask.
    """

    architecture: str = "unknown"
    system: str = "unknown"
    cpuid: Mapping[tuple[int, int], Registers] = field(default_factory=dict)
    xcr0: int | None = None
    hwcap: int | None = None
    hwcap2: int | None = None
    sve_vl: int | None = None
    hwprobe: Mapping[int, int] = field(default_factory=dict)
    vector_control: int | None = None
    vlenb: int | None = None
    midr: tuple[int, ...] = ()
    sysctl: Mapping[str, int] = field(default_factory=dict)
    brand: str = ""
    caches: tuple[Mapping[str, str], ...] = ()
    siblings: tuple[str, ...] = ()
    usable: int | None = None

    def leaf(self, leaf: int, subleaf: int = 0) -> Registers:
        """The registers of a CPUID leaf; zeros, which is how CPUs say "nothing here", if not asked."""
        return self.cpuid.get((leaf, subleaf), Registers())

    def to_json(self) -> dict[str, Any]:
        """A form that `json` can write: numbers as hexadecimal text, as manuals print them."""
        return {
            "format": FORMAT,
            "architecture": self.architecture,
            "system": self.system,
            "cpuid": [[f"{word:08x}" for word in (*at, *regs)] for at, regs in sorted(self.cpuid.items())],
            **{name: _hex(getattr(self, name)) for name in _WORDS},
            "hwprobe": [[key, _hex(value)] for key, value in sorted(self.hwprobe.items())],
            "midr": [_hex(word) for word in self.midr],
            "sysctl": dict(sorted(self.sysctl.items())),
            "brand": self.brand,
            "caches": [dict(cache) for cache in self.caches],
            "siblings": list(self.siblings),
            "usable": self.usable,
        }

    @classmethod
    def from_json(cls, document: object) -> RawFacts:
        """The inverse of `to_json`. Raises RecordingError that names the field if it is malformed."""
        if not isinstance(document, dict):
            raise RecordingError(f"recorded CPU: expected a JSON object, got {type(document).__name__}")
        if document.get("format") != FORMAT:
            raise RecordingError(f"recorded CPU: expected format {FORMAT}, got {document.get('format')!r}")
        read = functools.partial(_read, document)
        return cls(
            architecture=read("architecture", str),
            system=read("system", str),
            cpuid=read("cpuid", _cpuid_from_json),
            **{name: read(name, _optional_word) for name in _WORDS},
            hwprobe=read("hwprobe", lambda rows: {int(key): int(value, 16) for key, value in rows}),
            midr=read("midr", lambda words: tuple(int(word, 16) for word in words)),
            sysctl=read("sysctl", lambda rows: {str(name): int(value) for name, value in rows.items()}),
            brand=read("brand", str),
            caches=read("caches", lambda rows: tuple({str(k): str(v) for k, v in r.items()} for r in rows)),
            siblings=read("siblings", lambda rows: tuple(str(row) for row in rows)),
            usable=read("usable", lambda value: None if value is None else int(value)),
        )


_WORDS = ("xcr0", "hwcap", "hwcap2", "sve_vl", "vector_control", "vlenb")


def _hex(word: int | None) -> str | None:
    return None if word is None else f"{word:#x}"


def _optional_word(value: str | None) -> int | None:
    return None if value is None else int(value, 16)


def _cpuid_from_json(rows: list[list[str]]) -> dict[tuple[int, int], Registers]:
    table = {}
    for row in rows:
        leaf, subleaf, eax, ebx, ecx, edx = (int(word, 16) for word in row)
        table[leaf, subleaf] = Registers(eax, ebx, ecx, edx)
    return table


def _read(document: Mapping[str, Any], name: str, convert: Callable[[Any], T]) -> T:
    if name not in document:
        raise RecordingError(f"recorded CPU: field {name!r} is missing")
    try:
        return convert(document[name])
    except (AttributeError, TypeError, ValueError) as error:
        raise RecordingError(f"recorded CPU: field {name!r} is malformed: {error}") from error


def gather() -> RawFacts:
    """The raw facts of this machine. Never raises: what cannot be asked stays None or empty."""
    from neurojit.target import _cpu, sysfs  # here, so that decoding a file needs no extension module

    system = os.uname().sysname.lower() if hasattr(os, "uname") else os.name
    asked = _cpu.gather()
    cpus = sysfs.online()
    return RawFacts(
        architecture=asked["architecture"],
        system=system,
        cpuid={(row[0], row[1]): Registers(*row[2:]) for row in asked["cpuid"]},
        xcr0=asked["xcr0"],
        hwcap=asked["hwcap"],
        hwcap2=asked["hwcap2"],
        sve_vl=asked["sve_vl"],
        hwprobe={key: value for key, value in asked["hwprobe"] if key >= 0},
        vector_control=asked["vector_control"],
        vlenb=asked["vlenb"],
        midr=_midr(sysfs.midr(cpus), asked["midr"], sysfs.cpuinfo_midr),
        sysctl=asked["sysctl"],
        brand=asked["brand"],
        caches=sysfs.caches(),
        siblings=sysfs.siblings(cpus),
        usable=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    )


def _midr(
    of_each: tuple[int, ...], of_this: int | None, from_cpuinfo: Callable[[], tuple[int, ...]]
) -> tuple[int, ...]:
    """Every core's MIDR_EL1 from sysfs; where that is hidden, or Linux older than 4.7, from where it can
    still be had: /proc/cpuinfo has the parts of every core's, MRS reads that of the core this ran on."""
    return of_each or from_cpuinfo() or (() if of_this is None else (of_this,))
