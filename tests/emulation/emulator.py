"""Emitted kernels run on machines that are not here: a static C program (runner.c) under qemu-user.

`emulator("aarch64")` is None where the cross compiler or qemu is missing; `why_not` says which. Many jobs go
through one process. What they touch beyond their operands faults; what they leave of the caller's registers
is compared, where csrc has a trampoline for the architecture.
"""

from __future__ import annotations

import functools
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"
FLUSH_END, FLUSH_START = 0, 1
KERNEL, MICRO = 0, 1


@dataclass(frozen=True)
class Machine:
    """compiler: of static programs. emulator: the command that runs them."""

    compiler: str
    emulator: tuple[str, ...]
    package: str


MACHINES = {
    "aarch64": Machine("aarch64-linux-gnu-gcc", ("qemu-aarch64",), "gcc-aarch64-linux-gnu qemu-user"),
    "riscv64": Machine("riscv64-linux-gnu-gcc", ("qemu-riscv64",), "gcc-riscv64-linux-gnu qemu-user"),
}


@dataclass(frozen=True)
class Job:
    """buffers: the arrays that the kernel's `buffers` point at, the arena first; of a micro-kernel A, B, C,
    then its epilogue's. starts: at which byte of each, 0 if not given. stride: of a micro-kernel's C in
    bytes."""

    code: bytes
    buffers: Sequence[Array]
    n: int = 0
    kind: int = KERNEL
    stride: int = 0
    placement: int = FLUSH_END
    starts: Sequence[int] = ()


@dataclass(frozen=True)
class Answer:
    """buffers: as they are afterwards. violations: of the calling convention, as bits."""

    result: int
    violations: int
    buffers: list[Array]


class Emulator:
    """Runs jobs; RuntimeError with what the runner said if one kills it."""

    def __init__(self, command: Sequence[str]) -> None:
        self.command = tuple(command)

    def run(self, jobs: Sequence[Job]) -> list[Answer]:
        sent = bytearray()
        for job in jobs:
            sent += struct.pack("<6q", job.kind, job.n, job.stride, len(job.code), len(job.buffers), 0)
            sent += job.code
            for array, start in zip(job.buffers, job.starts or [0] * len(job.buffers), strict=True):
                sent += struct.pack("<3q", array.nbytes, job.placement, start) + array.tobytes()
        run = subprocess.run(self.command, input=bytes(sent), capture_output=True, check=False, timeout=600)
        answers, at = [], 0
        for number, job in enumerate(jobs):
            size = 16 + sum(array.nbytes for array in job.buffers)
            if at + size > len(run.stdout):
                raise RuntimeError(f"job {number} ended the runner: {run.returncode}, {run.stderr.decode()}")
            result, violations = struct.unpack_from("<2q", run.stdout, at)
            at += 16
            after = []
            for array in job.buffers:
                after.append(np.frombuffer(run.stdout, array.dtype, array.size, at).reshape(array.shape))
                at += array.nbytes
            answers.append(Answer(result, violations, after))
        assert at == len(run.stdout), run.stderr
        return answers

    def call(self, code: bytes, views: Sequence[Array], n: int = 0) -> int:
        """A kernel on views of any strides, which see what it wrote; its result."""
        stores = [_store(view) for view in views]
        starts = [view.ctypes.data - store.ctypes.data for view, store in zip(views, stores, strict=True)]
        arena = np.zeros(0, np.uint8)
        answer = self.run([Job(code, [arena, *stores], n, starts=[0, *starts])])[0]
        for store, after in zip(stores, answer.buffers[1:], strict=True):
            store[...] = after
        assert answer.violations == 0, f"calling convention: {answer.violations:#x}"
        return answer.result


def _store(view: Array) -> Array:
    """The array that owns a view's memory. (Between as_strided's views and it stands another object.)"""
    owner: Any = view
    while owner.base is not None:
        owner = owner.base
    assert isinstance(owner, np.ndarray)
    return owner


def why_not(architecture: str) -> str | None:
    """What is missing to run kernels of an architecture."""
    machine = MACHINES[architecture]
    missing = [name for name in (machine.compiler, machine.emulator[0]) if shutil.which(name) is None]
    return f"no {' and no '.join(missing)} (apt install {machine.package})" if missing else None


@functools.cache
def emulator(architecture: str, *options: str) -> Emulator:
    """options: more of the emulator's own, such as `-cpu`, `max`. The runner is built once a process."""
    machine = MACHINES[architecture]
    folder = tempfile.TemporaryDirectory(prefix="neurojit-runner-")
    program = Path(folder.name) / "runner"
    sources = [HERE / "runner.c", *sorted(CSRC.glob("abi_check*.c"))]
    flags = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", f"-I{CSRC}", "-static"]
    command = [machine.compiler, *flags, *map(str, sources), "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    made = Emulator([*machine.emulator, *options, str(program)])
    made.folder = folder  # type: ignore[attr-defined]  # lives as long
    return made
