"""Kernels of an ISA this machine does not have, run under qemu by a small C program (kernel_runner.c)."""

from __future__ import annotations

import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
CSRC = Path(__file__).parents[2] / "csrc"
SOURCE = Path(__file__).with_name("kernel_runner.c")
KERNEL, CHECKED_KERNEL, MICRO_KERNEL = range(3)


class EmulatedError(AssertionError):
    """The kernel died, strayed, or broke the ABI."""


def why_not(architecture: str) -> str:
    """What is missing to build and run the runner for an architecture; "" if nothing is."""
    tools = (f"{architecture}-linux-gnu-gcc", f"qemu-{architecture}")
    missing = [tool for tool in tools if shutil.which(tool) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


def build_runner(architecture: str, folder: Path) -> Path:
    """The runner for an architecture, linked statically so that no libraries of it are needed."""
    runner = folder / f"kernel_runner_{architecture}"
    if not runner.exists():
        sources = [SOURCE, *sorted(CSRC.glob("abi_check*.c"))]
        compiler = [f"{architecture}-linux-gnu-gcc", "-std=gnu11", "-O2", "-Wall", "-Werror", "-static"]
        subprocess.run([*compiler, f"-I{CSRC}", *map(str, sources), "-o", str(runner)], check=True)
    return runner


@dataclass(frozen=True)
class Emulator:
    """A CPU to run kernels on. cpu: qemu's description of it."""

    runner: Path
    architecture: str
    cpu: str

    def run(
        self, code: bytes, operands: list[Array], n: int = 0, call: int = KERNEL, row_stride: int = 0
    ) -> int:
        """Call the kernel on strided views; what it writes is written to them. Its result.

        EmulatedError: a fault, a write before an operand, a broken ABI (of a CHECKED_KERNEL)."""
        spans = [np.lib.array_utils.byte_bounds(x) for x in operands]
        request = struct.pack("<QQQqq", call, len(code), len(operands), n, row_stride)
        for operand, (low, high) in zip(operands, spans, strict=True):
            request += struct.pack("<QQ", high - low, operand.ctypes.data - low)
        contents = [_bytes_at(low, high - low) for low, high in spans]
        request += code + b"".join(content.tobytes() for content in contents)
        command = [f"qemu-{self.architecture}", "-cpu", self.cpu, str(self.runner)]
        done = subprocess.run(command, input=request, capture_output=True, timeout=120)
        if done.returncode != 0:
            raise EmulatedError(f"{self.cpu}: exit {done.returncode}: {done.stderr.decode(errors='replace')}")
        result, violations, checked, strayed = struct.unpack_from("<qQQQ", done.stdout)
        if strayed or violations or (call == CHECKED_KERNEL and not checked):
            broken = ", ".join(done.stderr.decode().splitlines())
            raise EmulatedError(f"wrote before operands {strayed:b}; broke {broken or 'nothing'}; {checked=}")
        at = struct.calcsize("<qQQQ")
        for content in contents:
            content[:] = np.frombuffer(done.stdout, np.uint8, content.size, at)
            at += content.size
        return int(result)


def _bytes_at(address: int, size: int) -> Array:
    """The memory there; whoever owns it is kept alive by the caller."""
    import ctypes

    return np.frombuffer((ctypes.c_uint8 * size).from_address(address), np.uint8)
