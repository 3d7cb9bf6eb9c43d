"""The part of the RISC-V machine without vectors: arguments, pointers, loops, constants in memory.

Immediates and displacements have 12 bits, vector loads none at all. So an advance of a pointer is only noted,
and added to the displacements that follow, until an instruction needs the pointer itself; and an address out
of reach is computed in one register that is kept for it, from the one it held before where that is near.
Branches reach 4 KiB, jumps 1 MiB: a branch over a jump is never wrong. Constants lie behind the code.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import NamedTuple

from neurojit.asm_templates.arguments import Convention, RegisterArguments
from neurojit.asm_templates.machine import ONCE, Element, Pointer, RegisterPool
from neurojit.encoder import CodeBuffer, WordBuffer, riscv64_forms

X0, SP = 0, 2
A0, A1, A2, A3, A4, A5, A6, A7 = range(10, 18)
T0, T1, T2, T3, T4, T5, T6 = 5, 6, 7, 28, 29, 30, 31
# RISC-V psABI, chapter 1: these need not be preserved. T4 to T6 have uses of their own.
CALLER_SAVED = (T0, T1, T2, T3, A7, A6, A5, A4, A3, A2, A1, A0)
CALLEE_SAVED = (8, 9, *range(18, 28))  # s0 to s11
STRIDE, CONSTANTS, ADDRESS = T4, T5, T6

LOWEST, HIGHEST = -2048, 2047  # of immediates and displacements
BRANCH_REACH = 4000  # bytes; a little less than there is, for what stands around the loop


class Config(NamedTuple):
    """What vsetvli set: bits of an element, registers in a group (-2: half a register, -4: a quarter),
    elements, and whether the tail stays."""

    element_bits: int
    group: int
    length: int
    undisturbed: bool

    @property
    def vtype(self) -> int:
        """V 1.0, section 3.4: vlmul, vsew, vta and vma. Lanes that a mask leaves out hold anything."""
        power = self.group.bit_length() - 1
        sew, lmul = self.element_bits.bit_length() - 4, power if self.group > 0 else 8 - power
        return lmul | sew << 3 | (not self.undisturbed) << 6 | 1 << 7


class RiscvMachine(RegisterArguments):
    """Integers, pointers and control flow; `rvv` adds the vectors."""

    convention = Convention(kernel=(A0, A1), micro=(A0, A1, A2, A3, A4, A5))

    buffer: WordBuffer

    @staticmethod
    def new_buffer(encoder: str) -> WordBuffer:
        """encoder: `table`; the other knows x86-64 alone."""
        return riscv64_forms.buffer()

    def __init__(self, buffer: CodeBuffer, element: Element, template: str, *, micro: bool = False) -> None:
        assert isinstance(buffer, WordBuffer)
        self.buffer = buffer
        self.element = element
        self.micro = micro
        self.template = template
        self.pointers = RegisterPool("general", CALLER_SAVED, template)
        self.config: Config | None = None
        self._saved: list[int] = []
        self._pending: dict[Pointer, int] = {}
        self._at: tuple[Pointer, int] | None = None  # ADDRESS holds this pointer plus so many bytes
        self._stride: int | None = None  # what STRIDE holds
        self._exact: set[Pointer] = set()  # pointers used other than by displacement since `repeat` began
        self._reach: dict[Pointer, tuple[int, int]] = {}  # and their displacements since then
        self._constants: dict[bytes, int] = {}
        self._constant_bytes = 0
        self.claim_arguments()
        self._pool = buffer.new_label()
        self.op("jal x, label", CONSTANTS, self._pool)

    # Instructions ---------------------------------------------------------------------------------

    def op(self, name: str, *values: int) -> None:
        """One instruction, its operands in the order of its name."""
        self.buffer.emit(riscv64_forms[name], *values)

    def put(self, register: int, value: int) -> None:
        """register = value, of 64 bits."""
        if LOWEST <= value <= HIGHEST:
            self.op("addi x, x, i", register, X0, value)
            return
        low = (value & 0xFFF) - (value << 1 & 0x1000)  # sign-extended by the addition
        if -(1 << 31) <= value < 1 << 31:
            self.op("lui x, i", register, (value - low) >> 12 & 0xFFFFF)
            add = "addiw x, x, i"  # wraps at 32 bits, as `lui` may have
        else:
            self.put(register, (value - low) >> 12)
            self.op("slli x, x, i", register, register, 12)
            add = "addi x, x, i"
        if low:
            self.op(add, register, register, low)

    def add_to(self, target: int, base: int, distance: int) -> None:
        """target = base + distance. STRIDE holds the distance where an immediate does not."""
        if LOWEST <= distance <= HIGHEST:
            if distance or target != base:
                self.op("addi x, x, i", target, base, distance)
        elif 2 * LOWEST <= distance <= 2 * HIGHEST:
            half = LOWEST if distance < 0 else HIGHEST
            self.op("addi x, x, i", target, base, half)
            self.op("addi x, x, i", target, target, distance - half)
        else:
            if self._stride != distance:
                self.put(STRIDE, distance)
                self._stride = distance
            self.op("add x, x, x", target, base, STRIDE)

    def save_pointers(self, count: int) -> None:
        if count > len(CALLEE_SAVED):
            super().save_pointers(count - len(CALLEE_SAVED))
        self._saved = list(CALLEE_SAVED[:count])
        if self._saved:
            self.op("addi x, x, i", SP, SP, -self._frame)
            for slot, register in enumerate(self._saved):
                self.op("sd x, i(x)", register, 8 * slot, SP)
        self.pointers.extend(tuple(self._saved))

    @property
    def _frame(self) -> int:
        """Bytes on the stack, which stays aligned to 16."""
        return (8 * len(self._saved) + 15) // 16 * 16

    def load_pointer(self, pointer: Pointer, offset: int) -> Pointer:
        fresh = self.pointers.take()
        base, displacement = self.near_address(pointer, offset)
        self.op("ld x, i(x)", fresh, displacement, base)
        return fresh

    def store_pointer(self, value: Pointer, pointer: Pointer, offset: int) -> None:
        self.settle(value)
        base, displacement = self.near_address(pointer, offset)
        self.op("sd x, i(x)", value, displacement, base)

    # Pointers and counters ------------------------------------------------------------------------

    def copy(self, pointer: Pointer) -> Pointer:
        self.settle(pointer)
        fresh = self.pointers.take()
        self.op("addi x, x, i", fresh, pointer, 0)
        return fresh

    def constant(self, value: int) -> Pointer:
        fresh = self.pointers.take()
        self.put(fresh, value)
        return fresh

    def advance(self, pointer: Pointer, offset: int) -> None:
        pending = self._pending.pop(pointer, 0) + offset
        if pending:
            self._pending[pointer] = pending

    def advance_by(self, pointer: Pointer, stride: Pointer) -> None:
        self.settle(stride)
        self._forget_address(pointer)
        self.op("add x, x, x", pointer, pointer, stride)

    def multiply(self, pointer: Pointer, factor: int) -> None:
        self.settle(pointer)
        self._at = None
        self.put(ADDRESS, factor)
        self._forget_address(pointer)
        self.op("mul x, x, x", pointer, pointer, ADDRESS)

    def prefetch_to_write(self, pointer: Pointer, offset: int) -> None:
        """Nothing: prefetch.w is of an extension of its own (Zicbop), and on others a wasted instruction."""

    def prefetch_to_read(self, pointer: Pointer, offset: int) -> None:
        """Nothing, for the same reasons."""

    def release(self, pointer: Pointer) -> None:
        self._pending.pop(pointer, None)
        self._forget_address(pointer)
        super().release(pointer)

    def settle(self, pointer: Pointer) -> None:
        """The pointer's register holds its value."""
        distance = self._pending.pop(pointer, 0)
        if distance:
            self._forget_address(pointer)
            self.add_to(pointer, pointer, distance)

    def settle_all(self) -> None:
        """Before code that is reached from elsewhere, or leads there."""
        for pointer in list(self._pending):
            self.settle(pointer)
        self._at = self._stride = None

    def _forget_address(self, pointer: Pointer) -> None:
        if self._at is not None and self._at[0] == pointer:
            self._at = None

    def exact_address(self, pointer: Pointer, offset: int) -> int:
        """A register that holds pointer + offset."""
        self._exact.add(pointer)
        distance = offset + self._pending.get(pointer, 0)
        if distance == 0:
            return pointer
        if self._at != (pointer, distance):
            near = self._at is not None and self._at[0] == pointer and not LOWEST <= distance <= HIGHEST
            if near:
                assert self._at is not None
                self.add_to(ADDRESS, ADDRESS, distance - self._at[1])
            else:
                self.add_to(ADDRESS, pointer, distance)
            self._at = (pointer, distance)
        return ADDRESS

    def near_address(self, pointer: Pointer, offset: int) -> tuple[int, int]:
        """A register and a displacement that make pointer + offset."""
        distance = offset + self._pending.get(pointer, 0)
        if LOWEST <= distance <= HIGHEST:
            least, most = self._reach.get(pointer, (distance, distance))
            self._reach[pointer] = min(least, distance), max(most, distance)
            return pointer, distance
        if self._at is not None and self._at[0] == pointer and LOWEST <= distance - self._at[1] <= HIGHEST:
            self._exact.add(pointer)
            return ADDRESS, distance - self._at[1]
        return self.exact_address(pointer, offset), 0

    # Control --------------------------------------------------------------------------------------

    def configure(self, config: Config) -> None:
        """Let vector instructions mean this, if they do not already. May take ADDRESS."""
        if config == self.config:
            return
        self.config = config
        if config.length < 32:
            self.op("vsetivli x, j, i", X0, config.length, config.vtype)
        else:
            self._at = None
            self.put(ADDRESS, config.length)
            self.op("vsetvli x, x, i", X0, ADDRESS, config.vtype)

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

    def begin_body(self) -> None:
        self.settle_all()
        self.config = None

    def leave(self, result: Pointer | None = None) -> None:
        if result is None:
            self.put(A0, 0)
        elif result != A0:
            self.settle(result)
            self.op("addi x, x, i", A0, result, 0)
        for slot, register in enumerate(self._saved):
            self.op("ld x, i(x)", register, 8 * slot, SP)
        if self._saved:
            self.op("addi x, x, i", SP, SP, self._frame)
        self.op("ret")
        self.finish()

    # Constants ------------------------------------------------------------------------------------

    def constant_offset(self, data: bytes) -> int:
        """Where these bytes, 4, 8 or 32 of them, lie, counted from CONSTANTS."""
        at = self._constants.get(data)
        if at is None:
            at = -(-self._constant_bytes // len(data)) * len(data)
            self._constants[data] = at
            self._constant_bytes = at + len(data)
        return at

    def finish(self) -> None:
        """Place the constants behind the code. The entry jumps to the instruction before them, which jumps
        back and leaves the address of what follows it: theirs, in as many instructions as auipc and addi."""
        if self.buffer.size % 8 == 0:
            self.op("nop")
        self.buffer.bind(self._pool)
        self.op("jalr x, i(x)", CONSTANTS, 0, CONSTANTS)
        pool = bytearray(self._constant_bytes)
        for data, at in self._constants.items():
            pool[at : at + len(data)] = data
        if pool:
            self.buffer.raw(bytes(pool))


class _Loop(AbstractContextManager[None]):
    """The loop's end restores the vector configuration of its head, so that the body may rely on that."""

    def __init__(self, machine: RiscvMachine) -> None:
        self.machine = machine

    def __enter__(self) -> None:
        m = self.machine
        m.settle_all()
        self.config = m.config
        self.head = m.buffer.new_label()
        m.buffer.bind(self.head)
        self.start = m.buffer.size

    def again_while_positive(self, counter: int) -> None:
        m = self.machine
        m.settle_all()
        if self.config is not None:
            m.configure(self.config)
        if m.buffer.size - self.start < BRANCH_REACH:
            m.op("blt x, x, label", X0, counter, self.head)
        else:
            past = m.buffer.new_label()
            m.op("bge x, x, label", X0, counter, past)
            m.op("jal x, label", X0, self.head)
            m.buffer.bind(past)
        m.settle_all()


class _While(_Loop):
    def __init__(self, machine: RiscvMachine, counter: Pointer, step: int) -> None:
        super().__init__(machine)
        self.counter, self.step = counter, step

    def __exit__(self, *exception: object) -> None:
        if exception[0] is None:  # else the buffer is given up: an error here would hide the first one
            self.machine.advance(self.counter, -self.step)
            self.again_while_positive(self.counter)


class _WhileInMemory(_Loop):
    def __init__(self, machine: RiscvMachine, pointer: Pointer, offset: int, step: int) -> None:
        super().__init__(machine)
        self.pointer, self.offset, self.step = pointer, offset, step

    def __exit__(self, *exception: object) -> None:
        if exception[0] is None:
            m = self.machine
            counter = m.load_pointer(self.pointer, self.offset)
            m.advance(counter, -self.step)
            m.settle(counter)
            m.store_pointer(counter, self.pointer, self.offset)
            self.again_while_positive(counter)
            m.release(counter)


class _SkipUnless(AbstractContextManager[None]):
    def __init__(self, machine: RiscvMachine, counter: Pointer, bound: int) -> None:
        self.machine, self.counter, self.bound = machine, counter, bound

    def __enter__(self) -> None:
        m = self.machine
        m.settle_all()
        self.config = m.config
        inside, self.past = m.buffer.new_label(), m.buffer.new_label()
        m.put(ADDRESS, self.bound)
        m.op("bge x, x, label", self.counter, ADDRESS, inside)
        m.op("jal x, label", X0, self.past)
        m.buffer.bind(inside)

    def __exit__(self, *exception: object) -> None:
        if exception[0] is not None:
            return
        m = self.machine
        m.settle_all()
        if m.config != self.config:
            m.config = None
        m.buffer.bind(self.past)


class _Repeat(AbstractContextManager[None]):
    """A pointer that only displacements used goes on in these; one whose value was needed moves on itself,
    at the end of each repetition, and is brought back by what is pending after the last."""

    def __init__(self, machine: RiscvMachine, times: int, steps: dict[Pointer, int]) -> None:
        self.machine, self.times, self.steps = machine, times, steps

    def __enter__(self) -> None:
        m = self.machine
        m.settle_all()
        m._exact, m._reach = set(), {}
        self.config = m.config
        self.first = m.buffer.mark

    def __exit__(self, *exception: object) -> None:
        if exception[0] is not None:
            return
        m = self.machine
        m.settle_all()
        moved = {pointer: step for pointer, step in self.steps.items() if self._moves(pointer, step)}
        for pointer, step in moved.items():
            m.add_to(pointer, pointer, step)
        if self.config is not None:
            m.configure(self.config)
        shifts = {pointer: step for pointer, step in self.steps.items() if pointer not in moved}
        m.buffer.repeat(self.first, self.times - 1, shifts)
        m._at = m._stride = None
        for pointer, step in moved.items():
            m.advance(pointer, -self.times * step)

    def _moves(self, pointer: Pointer, step: int) -> bool:
        """Whether displacements alone cannot follow it."""
        if pointer in self.machine._exact:
            return True
        farthest = (self.times - 1) * step
        least, most = self.machine._reach.get(pointer, (0, 0))
        return least + min(farthest, 0) < LOWEST or most + max(farthest, 0) > HIGHEST
