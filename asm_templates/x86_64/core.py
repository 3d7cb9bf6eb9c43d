"""The part of a vector machine that all of x86-64 shares: arguments, pointers, loops.

Caller-saved registers come first, so that hardly a kernel pushes anything. All jumps are backward or skip
forward over one body, to labels; displacements are never computed by hand.
Integers are 64-bit throughout: every form has the same shape, and no upper half is left over.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import lru_cache

from neurojit.asm_templates.arguments import Convention, RegisterArguments
from neurojit.asm_templates.machine import ONCE, Element, Pointer, RegisterPool
from neurojit.encoder import CodeBuffer, X86Buffer, forms, new_buffer

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 = range(16)

# System V AMD64 ABI, section 3.2.1: these need not be preserved.
CALLER_SAVED = (R8, R9, R10, R11, RCX, RDX, RSI, RDI, RAX)
CALLEE_SAVED = (RBX, R12, R13, R14, R15, RBP)

LOOP_ALIGNMENT = 32  # a fetch window of the decoders; the micro-op cache line covers 64
CACHE_LINE = 64


class IntegerForms:
    """Ids of the integer instructions, looked up once."""

    def __init__(self) -> None:
        self.endbr = forms["endbr64"]
        self.ret = forms["ret"]
        self.vzeroupper = forms["vzeroupper"]
        self.mov = forms["mov r64, r64"]
        self.mov_load = forms["mov r64, m64"]
        self.mov_store = forms["mov m64, r64"]
        self.mov_imm32 = forms["mov r64, imm32"]
        self.add = forms["add r64, r64"]
        self.add_imm8 = forms["add r64, imm8"]
        self.add_imm32 = forms["add r64, imm32"]
        self.mul_imm32 = forms["imul r64, r64, imm32"]
        self.sub_imm8 = forms["sub r64, imm8"]
        self.cmp_imm8 = forms["cmp r64, imm8"]
        self.push, self.pop = forms["push r64"], forms["pop r64"]
        self.lea = forms["lea r64, m"]
        self.neg = forms["neg r64"]
        self.xor = forms["xor r64, r64"]
        self.prefetch_to_write = forms["prefetchw m8"]
        self.prefetch_to_read = forms["prefetcht0 m8"]
        self.jump_greater = forms["jg rel32"]
        self.jump_less = forms["jl rel32"]


integer_forms = lru_cache(maxsize=1)(IntegerForms)


class X86Machine(RegisterArguments):
    """Integers, pointers and control flow; AVX2 and AVX-512 add the vectors."""

    convention = Convention(kernel=(RDI, RSI), micro=(RDI, RSI, RDX, RCX, R8, R9))

    buffer: X86Buffer
    vector_registers: int

    def __init__(self, buffer: CodeBuffer, element: Element, template: str, *, micro: bool = False) -> None:
        assert isinstance(buffer, X86Buffer)
        self.buffer = buffer
        self.element = element
        self.micro = micro
        self.template = template
        self.pointers = RegisterPool("general", CALLER_SAVED, template)
        self.vectors = RegisterPool("vector", tuple(range(self.vector_registers)), template)
        self.i = integer_forms()
        self._data: dict[bytes, int] = {}
        self._saved: list[int] = []
        self.claim_arguments()
        buffer.regs(self.i.endbr)

    @staticmethod
    def new_buffer(encoder: str) -> CodeBuffer:
        return new_buffer(encoder)

    def save_pointers(self, count: int) -> None:
        if count > len(CALLEE_SAVED):
            super().save_pointers(count - len(CALLEE_SAVED))
        for register in CALLEE_SAVED[:count]:
            self.buffer.regs(self.i.push, register)
            self._saved.append(register)
        self.pointers.extend(CALLEE_SAVED[:count])

    # Pointers and counters ------------------------------------------------------------------------

    def copy(self, pointer: Pointer) -> Pointer:
        fresh = self.pointers.take()
        self.buffer.regs(self.i.mov, fresh, pointer)
        return fresh

    def load_pointer(self, pointer: Pointer, offset: int) -> Pointer:
        fresh = self.pointers.take()
        self.buffer.mem(self.i.mov_load, pointer, offset, fresh)
        return fresh

    def store_pointer(self, value: Pointer, pointer: Pointer, offset: int) -> None:
        self.buffer.mem(self.i.mov_store, pointer, offset, value)

    def constant(self, value: int) -> Pointer:
        fresh = self.pointers.take()
        self.buffer.imm(self.i.mov_imm32, value, fresh)
        return fresh

    def advance(self, pointer: Pointer, offset: int) -> None:
        if offset == 0:
            return
        small = -128 <= offset <= 127
        self.buffer.imm(self.i.add_imm8 if small else self.i.add_imm32, offset, pointer)

    def advance_by(self, pointer: Pointer, stride: Pointer) -> None:
        self.buffer.regs(self.i.add, pointer, stride)

    def multiply(self, pointer: Pointer, factor: int) -> None:
        self.buffer.imm(self.i.mul_imm32, factor, pointer, pointer)

    def prefetch_to_write(self, pointer: Pointer, offset: int) -> None:
        self.buffer.mem(self.i.prefetch_to_write, pointer, offset)

    def prefetch_to_read(self, pointer: Pointer, offset: int) -> None:
        self.buffer.mem(self.i.prefetch_to_read, pointer, offset)

    # Control --------------------------------------------------------------------------------------

    def loop(self, count: int) -> AbstractContextManager[None]:
        return ONCE if count == 1 else _While(self, self.constant(count), 1, owned=True)

    def while_positive(self, counter: Pointer, step: int) -> AbstractContextManager[None]:
        return _While(self, counter, step)

    def while_positive_in_memory(
        self, pointer: Pointer, offset: int, step: int
    ) -> AbstractContextManager[None]:
        return _WhileInMemory(self, pointer, offset, step)

    def skip_unless_at_least(self, counter: Pointer, bound: int) -> AbstractContextManager[None]:
        return _SkipUnless(self, counter, bound)

    def repeat(self, times: int, steps: dict[Pointer, int]) -> AbstractContextManager[None]:
        return ONCE if times == 1 else Repetition(self, times, steps)

    def leave(self, result: Pointer | None = None) -> None:
        self.buffer.regs(self.i.vzeroupper)
        if result is None:
            self.buffer.regs(self.i.xor, RAX, RAX)
        elif result != RAX:
            self.buffer.regs(self.i.mov, RAX, result)
        for register in reversed(self._saved):
            self.buffer.regs(self.i.pop, register)
        self.buffer.regs(self.i.ret)
        self.finish()

    # Constants ------------------------------------------------------------------------------------

    def data_label(self, data: bytes) -> int:
        """Where these bytes, a power of two of them, will lie behind the code. Equal ones lie there once."""
        label = self._data.get(data)
        if label is None:
            label = self._data[data] = self.buffer.new_label()
        return label

    def finish(self) -> None:
        """Place the constants, the longest first, so that each is aligned to its size."""
        longest_first = sorted(self._data.items(), key=lambda entry: -len(entry[0]))
        if longest_first:
            self.buffer.align(CACHE_LINE)  # no line of constants is decoded too
        for data, label in longest_first:
            self.buffer.bind(label)
            self.buffer.raw(data)


class _While(AbstractContextManager[None]):
    """owned: the counter's register is given back at the end."""

    def __init__(self, machine: X86Machine, counter: Pointer, step: int, owned: bool = False) -> None:
        self.machine, self.counter, self.step, self.owned = machine, counter, step, owned

    def __enter__(self) -> None:
        buffer = self.machine.buffer
        self.head = buffer.new_label()
        buffer.align(LOOP_ALIGNMENT)
        buffer.bind(self.head)

    def __exit__(self, *exception: object) -> None:
        if exception[0] is not None:
            return  # the buffer is given up: an error here would hide the first one
        machine = self.machine
        machine.buffer.imm(machine.i.sub_imm8, self.step, self.counter)
        machine.buffer.jump(machine.i.jump_greater, self.head)
        if self.owned:
            machine.release(self.counter)


class _WhileInMemory(_While):
    def __init__(self, machine: X86Machine, pointer: Pointer, offset: int, step: int) -> None:
        super().__init__(machine, pointer, step)
        self.pointer, self.offset = pointer, offset

    def __exit__(self, *exception: object) -> None:
        if exception[0] is not None:
            return
        machine = self.machine
        counter = machine.load_pointer(self.pointer, self.offset)
        machine.buffer.imm(machine.i.sub_imm8, self.step, counter)
        machine.store_pointer(counter, self.pointer, self.offset)  # leaves the flags alone
        machine.release(counter)
        machine.buffer.jump(machine.i.jump_greater, self.head)


class _SkipUnless(AbstractContextManager[None]):
    def __init__(self, machine: X86Machine, counter: Pointer, bound: int) -> None:
        self.machine, self.counter, self.bound = machine, counter, bound

    def __enter__(self) -> None:
        machine = self.machine
        self.past = machine.buffer.new_label()
        machine.buffer.imm(machine.i.cmp_imm8, self.bound, self.counter)
        machine.buffer.jump(machine.i.jump_less, self.past)

    def __exit__(self, *exception: object) -> None:
        if exception[0] is None:
            self.machine.buffer.bind(self.past)


class Repetition(AbstractContextManager[None]):
    """immediate: by how much those of the instructions of `form` grow each time."""

    def __init__(
        self, machine: X86Machine, times: int, steps: dict[Pointer, int], form: int = -1, immediate: int = 0
    ) -> None:
        self.buffer, self.times, self.steps = machine.buffer, times, steps
        self.form, self.immediate = form, immediate

    def __enter__(self) -> None:
        self.first = self.buffer.mark

    def __exit__(self, *exception: object) -> None:
        if exception[0] is None:
            self.buffer.repeat(
                self.first, self.times - 1, self.steps, form=self.form, immediate=self.immediate
            )
