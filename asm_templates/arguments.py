"""A kernel's arguments: which registers a calling convention brings them in, and how a machine takes them up.

A kernel is called with its buffers and its extent, a micro-kernel with three operands, its depth, the row
stride of C and a block of further addresses (csrc/code.h, csrc/gemm_blocked.h). All come in registers, which
are claimed before anything else is taken; those that a template does not ask for are given back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neurojit.asm_templates.machine import Machine, Pointer

ADDRESS_BYTES = 8


@dataclass(frozen=True)
class Convention:
    """Registers, in the order of the arguments: of kernel(buffers, n), and of micro(a, b, c, k, row stride of
    c in bytes, other buffers)."""

    kernel: tuple[int, int]
    micro: tuple[int, int, int, int, int, int]


class RegisterArguments(Machine):
    """The steps of a machine that concern arguments, for ISAs that pass all of them in registers."""

    convention: ClassVar[Convention]
    micro: bool
    template: str

    def claim_arguments(self) -> None:
        """Keep the registers of arguments from being given to anything else. Called first of all."""
        registers = self.convention.micro if self.micro else self.convention.kernel
        self._arguments = [self.pointers.claim(register) for register in registers]

    def _argument(self, register: int) -> Pointer:
        self._arguments.remove(register)
        return register

    def extent(self) -> Pointer:
        return self._argument(self.convention.micro[3] if self.micro else self.convention.kernel[1])

    def row_stride(self) -> Pointer:
        if not self.micro:
            raise ValueError(f"template {self.template}: only a micro-kernel has a dynamic row stride")
        return self._argument(self.convention.micro[4])

    def operands(self, count: int) -> tuple[Pointer, ...]:
        given = self.convention.micro[:3] if self.micro else ()
        pointers = [self._argument(register) for register in given]
        buffers = self._argument(self.convention.micro[5] if self.micro else self.convention.kernel[0])
        first = 0 if self.micro else 1  # the first buffer of a kernel is its context
        for index in range(first, first + count - len(given)):
            pointers.append(self.load_pointer(buffers, ADDRESS_BYTES * index))
        self.release(buffers)
        self._release_arguments()
        return tuple(pointers)

    def buffers(self) -> Pointer:
        buffers = self._argument(self.convention.kernel[0])
        self._release_arguments()
        return buffers

    def _release_arguments(self) -> None:
        for register in self._arguments:
            self.release(register)
        self._arguments.clear()
