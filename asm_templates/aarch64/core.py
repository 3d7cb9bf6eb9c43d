"""The part of AArch64's vector machine that is not vectors: arguments, addresses, loops, constants.

AAPCS64 (IHI 0055), 6.1: x0-x15 are a kernel's own; x16 and x17, which a call may spoil, are this file's
scratch; x18 is the platform's and never touched; x19-x28 and the low halves of v8-v15 are saved by whoever
takes them.

An offset is an immediate of its instruction only in certain sizes and units, so addresses are the machine's
work: what does not fit is added into x17 first, and stays there as long as the next access can use it.
Where an unrolled body's offsets do not fit, the pointers themselves move on from step to step: the machine
then remembers how far a register is *ahead* of what the template believes, subtracts it from the offsets,
and takes it back with the template's next addition, which so is no instruction, or with one before a branch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any

from neurojit.asm_templates.arguments import Convention, RegisterArguments
from neurojit.asm_templates.machine import ONCE, Element, Pointer, RegisterPool
from neurojit.encoder import CodeBuffer, WordBuffer
from neurojit.encoder import aarch64_forms as forms
from neurojit.errors import EncodeError

X0, X1, X2, X3, X4, X5 = range(6)
SCRATCH, ADDRESS = 16, 17
SP = ZERO = 31
CALLER_SAVED = (*range(6, 16), *range(5, -1, -1))
CALLEE_SAVED = tuple(range(19, 29))
VECTORS = (*range(8), *range(16, 32), *range(8, 16))  # the last eight are the callee's to save
SAVED_VECTORS = tuple(range(8, 16))

LOOP_ALIGNMENT = 32  # a fetch window of Neoverse N1, V1 and their successors
POOL_ALIGNMENT = 16
LOAD_L1, STORE_L1 = 0, 16  # prfop pldl1keep, pstl1keep
PAGE = 4096  # an addition's immediate has 12 bits, and may stand 12 bits higher


class IntegerForms:
    """Ids of the integer instructions, looked up once."""

    def __init__(self) -> None:
        self.landing, self.nop, self.ret = forms["bti c"], forms["nop"], forms["ret"]
        self.mov = forms["mov x, x"]
        self.movz, self.movn = forms["movz x, #i, lsl #h"], forms["movn x, #i, lsl #h"]
        self.movk = forms["movk x, #i, lsl #h"]
        self.add, self.sub, self.mul = forms["add x, x, x"], forms["sub x, x, x"], forms["mul x, x, x"]
        self.add_imm, self.sub_imm = forms["add xsp, xsp, #i"], forms["sub xsp, xsp, #i"]
        self.add_high = forms["add xsp, xsp, #i, lsl #12"]
        self.sub_high = forms["sub xsp, xsp, #i, lsl #12"]
        self.subs = forms["subs x, xsp, #i"]
        self.cmp_imm, self.cmp = forms["cmp xsp, #i"], forms["cmp x, x"]
        self.sub_shifted = forms["sub x, x, x, lsl #i"]
        self.adr = forms["adr x, label"]
        self.branch, self.greater, self.less = forms["b label"], forms["b.gt label"], forms["b.lt label"]
        self.bit_clear = forms["tbz x, #i, label"]
        self.load, self.load_unscaled = forms["ldr x, [xsp, #i]"], forms["ldur x, [xsp, #i]"]
        self.store, self.store_unscaled = forms["str x, [xsp, #i]"], forms["stur x, [xsp, #i]"]
        self.prefetch = forms["prfm prfop, [xsp, #i]"]
        self.push, self.pop = forms["str x, [xsp, #i]!"], forms["ldr x, [xsp], #i"]
        self.push_vectors, self.pop_vectors = forms["stp d, d, [xsp, #i]!"], forms["ldp d, d, [xsp], #i"]


integer_forms = lru_cache(maxsize=1)(IntegerForms)


class VectorPool(RegisterPool):
    """All 32, and which of those that a kernel must save were ever taken."""

    def __init__(self, template: str) -> None:
        super().__init__("vector", VECTORS, template)
        self.to_save: set[int] = set()

    def take(self) -> int:
        register = super().take()
        if register in SAVED_VECTORS:
            self.to_save.add(register)
        return register

    def take_in_order(self, count: int) -> list[int]:
        """Not the lowest first, but those that need no saving."""
        taken = self._take_last(count)
        self.to_save.update(set(taken).intersection(SAVED_VECTORS))
        return taken


class AArch64Machine(RegisterArguments):
    """Integers, pointers and control flow; NEON adds the vectors."""

    convention = Convention(kernel=(X0, X1), micro=(X0, X1, X2, X3, X4, X5))

    buffer: WordBuffer
    vectors: VectorPool

    def __init__(self, buffer: CodeBuffer, element: Element, template: str, *, micro: bool = False) -> None:
        assert isinstance(buffer, WordBuffer)
        self.buffer = buffer
        self.element = element
        self.micro = micro
        self.template = template
        self.pointers = RegisterPool("general", CALLER_SAVED, template)
        self.vectors = VectorPool(template)
        self.i = integer_forms()
        self._data: dict[bytes, int] = {}
        self._saved: list[int] = []
        self._ahead: dict[Pointer, int] = {}
        self._reached: tuple[Pointer, int] | None = None  # whose page ADDRESS holds
        self._computed = False  # an address went through ADDRESS since `repeat` began
        self.claim_arguments()
        buffer.emit(self.i.landing)
        self._gap = buffer.mark  # becomes a branch to what saves vector registers, if any are to be saved
        buffer.emit(self.i.nop)
        self._begin = buffer.new_label()
        buffer.bind(self._begin)

    @staticmethod
    def new_buffer(encoder: str) -> CodeBuffer:
        return forms.buffer()

    def save_pointers(self, count: int) -> None:
        if count > len(CALLEE_SAVED):
            super().save_pointers(count - len(CALLEE_SAVED))
        for register in CALLEE_SAVED[:count]:
            self.buffer.emit(self.i.push, register, SP, -16)  # sp stays a multiple of 16
            self._saved.append(register)
        self.pointers.extend(CALLEE_SAVED[:count])

    # Addresses ------------------------------------------------------------------------------------

    def access(
        self, scaled: int, unscaled: int, size: int, register: int, pointer: Pointer, offset: int
    ) -> None:
        """A load or store of `size` bytes in the form whose immediate holds the offset."""
        offset -= self._ahead.get(pointer, 0)
        if not (0 <= offset <= 4095 * size and offset % size == 0) and not -256 <= offset <= 255:
            high = offset & -PAGE
            pointer, offset = self._page(pointer, high), offset - high
            if offset % size and offset > 255:
                pointer, offset = self._exact(pointer, offset), 0
        if offset >= 0 and offset % size == 0:
            self.buffer.emit(scaled, register, pointer, offset)
        else:
            self.buffer.emit(unscaled, register, pointer, offset)

    def at(self, pointer: Pointer, offset: int) -> int:
        """A register that holds this very address, for instructions that take no offset: for the next one."""
        offset -= self._ahead.get(pointer, 0)
        return pointer if offset == 0 else self._exact(pointer, offset)

    def _page(self, pointer: Pointer, high: int) -> int:
        """ADDRESS, with pointer + high in it."""
        self._computed = True
        if self._reached != (pointer, high):
            self._add(ADDRESS, pointer, high)
            self._reached = (pointer, high)
        return ADDRESS

    def _exact(self, pointer: Pointer, offset: int) -> int:
        self._computed = True
        self._add(ADDRESS, pointer, offset)
        self._reached = None
        return ADDRESS

    def _add(self, target: int, source: int, value: int) -> None:
        """target = source + value, in as few instructions as it takes."""
        magnitude, up = abs(value), value >= 0
        low, high = magnitude % PAGE, magnitude // PAGE
        if high >= PAGE:
            self._set(SCRATCH, magnitude)
            self.buffer.emit(self.i.add if up else self.i.sub, target, source, SCRATCH)
            return
        if high:
            self.buffer.emit(self.i.add_high if up else self.i.sub_high, target, source, high)
            source = target
        if low or source != target:
            self.buffer.emit(self.i.add_imm if up else self.i.sub_imm, target, source, low)

    def _set(self, register: int, value: int) -> None:
        """register = value, of 64 bits."""
        halves = [(value >> shift & 0xFFFF, shift) for shift in (0, 16, 32, 48)]
        ones = sum(half == 0xFFFF for half, _ in halves) > sum(half == 0 for half, _ in halves)
        rest = 0xFFFF if ones else 0
        first, *others = [pair for pair in halves if pair[0] != rest] or [(rest, 0)]
        self.buffer.emit(self.i.movn if ones else self.i.movz, register, first[0] ^ rest, first[1])
        for half, shift in others:
            self.buffer.emit(self.i.movk, register, half, shift)

    def _changed(self, register: int) -> None:
        """What ADDRESS was made from is no more."""
        if self._reached is not None and self._reached[0] == register:
            self._reached = None

    def _settle(self, *registers: Pointer) -> None:
        """The registers hold what the template believes: all that are ahead, or those."""
        for register in registers or tuple(self._ahead):
            ahead = self._ahead.pop(register, 0)
            if ahead:
                self._add(register, register, -ahead)
                self._changed(register)

    def _meet(self) -> None:
        """Before control flow leaves or joins here: nothing is known but what the template knows."""
        self._settle()
        self._reached = None

    # Pointers and counters ------------------------------------------------------------------------

    def release(self, pointer: Pointer) -> None:
        self._ahead.pop(pointer, None)
        self._changed(pointer)
        super().release(pointer)

    def copy(self, pointer: Pointer) -> Pointer:
        fresh = self.pointers.take()
        self._add_or_move(fresh, pointer, -self._ahead.get(pointer, 0))
        return fresh

    def _add_or_move(self, target: int, source: int, value: int) -> None:
        if value:
            self._add(target, source, value)
        else:
            self.buffer.emit(self.i.mov, target, source)

    def load_pointer(self, pointer: Pointer, offset: int) -> Pointer:
        fresh = self.pointers.take()
        self.access(self.i.load, self.i.load_unscaled, 8, fresh, pointer, offset)
        return fresh

    def store_pointer(self, value: Pointer, pointer: Pointer, offset: int) -> None:
        self._settle(value)
        self.access(self.i.store, self.i.store_unscaled, 8, value, pointer, offset)

    def constant(self, value: int) -> Pointer:
        fresh = self.pointers.take()
        self._set(fresh, value)
        return fresh

    def advance(self, pointer: Pointer, offset: int) -> None:
        offset -= self._ahead.pop(pointer, 0)
        if offset:
            self._add(pointer, pointer, offset)
            self._changed(pointer)

    def advance_by(self, pointer: Pointer, stride: Pointer) -> None:
        self._settle(stride)
        self.buffer.emit(self.i.add, pointer, pointer, stride)
        self._changed(pointer)

    def multiply(self, pointer: Pointer, factor: int) -> None:
        self._settle(pointer)
        self._set(SCRATCH, factor)
        self.buffer.emit(self.i.mul, pointer, pointer, SCRATCH)
        self._changed(pointer)

    def prefetch_to_write(self, pointer: Pointer, offset: int) -> None:
        self._prefetch(STORE_L1, pointer, offset)

    def prefetch_to_read(self, pointer: Pointer, offset: int) -> None:
        self._prefetch(LOAD_L1, pointer, offset)

    def _prefetch(self, operation: int, pointer: Pointer, offset: int) -> None:
        offset = (offset - self._ahead.get(pointer, 0)) & -8  # in the same line
        if 0 <= offset <= 4095 * 8:
            self.buffer.emit(self.i.prefetch, operation, pointer, offset)
        else:
            self.buffer.emit(self.i.prefetch, operation, self._exact(pointer, offset), 0)

    # Control --------------------------------------------------------------------------------------

    def while_positive(self, counter: Pointer, step: int) -> AbstractContextManager[None]:
        return _While(self, counter, step)

    def while_positive_in_memory(
        self, pointer: Pointer, offset: int, step: int
    ) -> AbstractContextManager[None]:
        return _WhileInMemory(self, pointer, offset, step)

    def skip_unless_at_least(self, counter: Pointer, bound: int) -> AbstractContextManager[None]:
        return _SkipUnless(self, counter, bound)

    def repeat(self, times: int, steps: dict[Pointer, int]) -> AbstractContextManager[None]:
        return ONCE if times == 1 else _Repeat(self, times, steps)

    def turns(
        self, times: int, steps: dict[Pointer, int], following: bytes, lanes: dict[int, int]
    ) -> Iterator[int]:
        """0 to times - 1, for a loop whose body emits the same each time, grown as `WordBuffer.repeat` says.
        Where the buffer can do that, the body runs but once: not where it computes an address, nor where an
        offset grows out of its field."""
        if times == 0:
            return
        first, before = self.buffer.mark, self._computed
        self._computed = False
        yield 0
        if times > 1 and (self._computed or not self._grow(first, times - 1, steps, following, lanes)):
            yield from range(1, times)
        self._computed |= before

    def _grow(self, first: int, times: int, *growth: Any) -> bool:
        """Repeat with what grows, if it fits the instructions."""
        try:
            self.buffer.repeat(first, times, *growth)
        except EncodeError:
            return False
        return True

    def begin_body(self) -> None:
        self._meet()

    def bind(self, label: int) -> None:
        self.buffer.bind(label)
        self._reached = None

    def leave(self, result: Pointer | None = None) -> None:
        if result is None:
            self.buffer.emit(self.i.movz, X0, 0, 0)
        elif result != X0:
            self._settle(result)
            self.buffer.emit(self.i.mov, X0, result)
        for register in reversed(self._saved):
            self.buffer.emit(self.i.pop, register, SP, 16)
        pairs = [(n, n + 1) for n in SAVED_VECTORS[::2] if {n, n + 1} & self.vectors.to_save]
        for pair in reversed(pairs):
            self.buffer.emit(self.i.pop_vectors, *pair, SP, 16)
        self.buffer.emit(self.i.ret)
        if pairs:
            saving = self.buffer.new_label()
            self.buffer.replace(self._gap, self.i.branch, saving)
            self.buffer.bind(saving)
            for pair in pairs:
                self.buffer.emit(self.i.push_vectors, *pair, SP, -16)
            self.buffer.emit(self.i.branch, self._begin)
        self.finish()

    # Constants ------------------------------------------------------------------------------------

    def data_label(self, data: bytes) -> int:
        """Where these bytes, a power of two of them, will lie behind the code. Equal ones lie there once."""
        label = self._data.get(data)
        if label is None:
            label = self._data[data] = self.buffer.new_label()
        return label

    def finish(self) -> None:
        """Place the constants, the longest first, so that each is aligned to its size or 16."""
        longest_first = sorted(self._data.items(), key=lambda entry: -len(entry[0]))
        if longest_first:
            self.buffer.align(POOL_ALIGNMENT)
        for data, label in longest_first:
            self.buffer.bind(label)
            self.buffer.raw(data)


class _While(AbstractContextManager[None]):
    def __init__(self, machine: AArch64Machine, counter: Pointer, step: int) -> None:
        self.machine, self.counter, self.step = machine, counter, step

    def __enter__(self) -> None:
        self.machine._meet()
        self.head = self.machine.buffer.new_label()
        self.machine.buffer.align(LOOP_ALIGNMENT)
        self.machine.bind(self.head)

    def __exit__(self, *exception: object) -> None:
        if exception[0] is not None:
            return  # the buffer is given up: an error here would hide the first one
        machine = self.machine
        machine._meet()
        machine.buffer.emit(machine.i.subs, self.counter, self.counter, self.step)
        machine.buffer.emit(machine.i.greater, self.head)


class _WhileInMemory(_While):
    def __init__(self, machine: AArch64Machine, pointer: Pointer, offset: int, step: int) -> None:
        super().__init__(machine, pointer, step)
        self.pointer, self.offset = pointer, offset

    def __exit__(self, *exception: object) -> None:
        if exception[0] is not None:
            return
        machine = self.machine
        machine._meet()
        counter = machine.load_pointer(self.pointer, self.offset)
        machine.buffer.emit(machine.i.subs, counter, counter, self.step)
        machine.store_pointer(counter, self.pointer, self.offset)  # leaves the flags alone
        machine.release(counter)
        machine._reached = None
        machine.buffer.emit(machine.i.greater, self.head)


class _SkipUnless(AbstractContextManager[None]):
    def __init__(self, machine: AArch64Machine, counter: Pointer, bound: int) -> None:
        self.machine, self.counter, self.bound = machine, counter, bound

    def __enter__(self) -> None:
        machine = self.machine
        machine._meet()
        self.past = machine.buffer.new_label()
        if self.bound < PAGE:
            machine.buffer.emit(machine.i.cmp_imm, self.counter, self.bound)
        else:
            machine._set(SCRATCH, self.bound)
            machine.buffer.emit(machine.i.cmp, self.counter, SCRATCH)
        machine.buffer.emit(machine.i.less, self.past)

    def __exit__(self, *exception: object) -> None:
        if exception[0] is None:
            self.machine._meet()
            self.machine.bind(self.past)


class _Repeat(AbstractContextManager[None]):
    def __init__(self, machine: AArch64Machine, times: int, steps: dict[Pointer, int]) -> None:
        self.machine, self.times, self.steps = machine, times, steps

    def __enter__(self) -> None:
        self.machine._reached = None
        self.machine._computed = False
        self.first = self.machine.buffer.mark

    def __exit__(self, *exception: object) -> None:
        machine = self.machine
        if exception[0] is not None:
            return
        if not machine._computed and machine._grow(self.first, self.times - 1, self.steps):
            return
        for pointer, step in self.steps.items():
            if step:
                machine._add(pointer, pointer, step)
        machine._reached = None
        machine.buffer.repeat(self.first, self.times - 1, {})
        for pointer, step in self.steps.items():
            if step:
                machine._ahead[pointer] = machine._ahead.get(pointer, 0) + self.times * step
