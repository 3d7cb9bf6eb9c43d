"""The C runtime seen from Python: mapped code, slots, clocks.

Thin: the contracts stand in csrc/*.h. Addresses cross this border as ints; whoever passes one vouches for it.
"""

import errno
import os

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t

from neurojit.errors import ExecutableMemoryError


# ---- executable memory ----

def strategy():
    """How the latest mapping was made: 'untried', 'memfd', 'mprotect', 'MAP_JIT' or 'none'."""
    return nj_strategy_name(nj_current_strategy()).decode()


def failures():
    """The last failure of each strategy that failed, as text."""
    cdef nj_map_failure failure
    cdef int number
    reasons = []
    for number in range(<int>NJ_STRATEGY_UNTRIED + 1, <int>NJ_STRATEGY_NONE):
        way = <nj_strategy>number
        failure = nj_strategy_failure(way)
        if failure.error:
            name = nj_strategy_name(way).decode()
            step = nj_step_name(failure.step).decode()
            code = errno.errorcode.get(failure.error, str(failure.error))
            closed = "; not tried again" if failure.closed else ""
            reasons.append(f"{name}: {step}: {os.strerror(failure.error)} ({code}){closed}")
    return tuple(reasons)


def closed():
    """Whether every strategy was refused for good."""
    cdef int number
    for number in range(<int>NJ_STRATEGY_UNTRIED + 1, <int>NJ_STRATEGY_NONE):
        way = <nj_strategy>number
        if nj_strategy_exists(way) and not nj_strategy_failure(way).closed:
            return False
    return True


def usage():
    """(live bytes, live mappings, mappings ever made)."""
    cdef nj_memory_usage now = nj_executable_memory_usage()
    return now.live_bytes, now.live_mappings, now.total_mappings


def map_steps():
    """The names of the steps at which mapping can fail, for `inject_map_failure`."""
    return tuple(nj_step_name(<nj_map_step>step).decode() for step in range(NJ_STEP_COUNT))


def inject_map_failure(str step, int error, int times=1):
    """Fault injection: the next `times` visits of `step` fail with the errno `error`."""
    nj_executable_memory_inject(<nj_map_step><int>map_steps().index(step), error, times)


def reset_executable_memory():
    """Forgets refusals and injected failures: every strategy is asked again."""
    nj_executable_memory_reset()


# ---- code ----

cdef extern from "abi_check.h" nogil:
    ctypedef enum nj_abi_violation:
        NJ_ABI_VIOLATION_COUNT
    ctypedef struct nj_abi_report:
        int64_t result
        uint64_t violations
    ctypedef struct nj_abi_call:
        unsigned int stack_offset
        uint32_t float_control
    bool nj_call_checked(nj_kernel kernel, void *const *buffers, int64_t n, nj_abi_call how,
                         nj_abi_report *report)
    const char *nj_abi_violation_name(nj_abi_violation violation)


cdef enum:
    MAX_BUFFERS = 64

cdef struct Buffers:
    void *pointer[MAX_BUFFERS]


cdef int fill(Buffers *target, void *context, tuple addresses) except -1:
    """buffers[0] is the context; the addresses follow."""
    cdef Py_ssize_t count = len(addresses), i
    if count >= MAX_BUFFERS:
        raise ValueError(f"{count} buffers: expected at most {MAX_BUFFERS - 1}")
    target.pointer[0] = context
    for i in range(count):
        target.pointer[1 + i] = <void *><uintptr_t>addresses[i]
    return 0


cdef nj_code *map_code(const void *code, size_t length, const void *context, size_t context_length,
                       uint32_t flags) except NULL:
    cdef nj_code *mapped = NULL
    cdef int error = nj_code_map(&mapped, code, length, context, context_length, flags)
    if error:
        reasons = "; ".join(failures()) or os.strerror(error)
        raise ExecutableMemoryError(f"cannot map {length} bytes of machine code: {reasons}")
    return mapped


@cython.final
cdef class Code:
    """One mapped kernel, owned by this object until it is published in a slot.

    A kernel sees its context as buffers[0] and what it is called with from buffers[1] on.
    """

    def __init__(self):
        raise TypeError("Code is made by Code.map")

    def __dealloc__(self):
        if self.code is not NULL:
            self.code.destroy(self.code)

    @staticmethod
    cdef Code map_memory(const void *code, size_t length, const void *context, size_t context_length,
                         uint32_t flags):
        cdef Code made = Code.__new__(Code)
        made.code = map_code(code, length, context, context_length, flags)
        return made

    @staticmethod
    def map(bytes code not None, *, bint release_gil=False, bytes context=None):
        """Maps machine code whose first byte is its entry. The context is copied, 64-byte aligned.

        Raises ValueError for empty code, ExecutableMemoryError where no strategy works.
        """
        if len(code) == 0:
            raise ValueError("cannot map 0 bytes of machine code")
        cdef const char *constants = NULL
        cdef size_t length = 0
        if context is not None:
            constants = context
            length = len(context)
        return Code.map_memory(<const char *>code, len(code), constants, length,
                               NJ_CODE_RELEASES_GIL if release_gil else 0)

    cdef nj_code *give_up(self) except NULL:
        """The C code, which the caller now owns."""
        if self.calls_in_flight:
            raise RuntimeError(f"{self.calls_in_flight} calls are in flight; publish between calls")
        cdef nj_code *code = self.owned()
        self.code = NULL
        return code

    cdef nj_code *owned(self) except NULL:
        if self.code is NULL:
            raise RuntimeError("this code was published; call it through its slot")
        return self.code

    @property
    def published(self):
        return self.code is NULL

    @property
    def address(self):
        """Of the entry."""
        return <uintptr_t>self.owned().entry

    @property
    def size(self):
        """Bytes mapped, plus those of the context."""
        return self.owned().bytes

    def call(self, tuple buffers not None, int64_t n=0):
        """Calls the kernel with buffers[1:] = the addresses `buffers`; returns its result."""
        cdef nj_code *code = self.owned()
        cdef Buffers pointers
        cdef int64_t result
        fill(&pointers, code.context, buffers)
        if not code.flags & NJ_CODE_RELEASES_GIL:
            return code.entry(pointers.pointer, n)
        self.calls_in_flight += 1
        with nogil:
            result = code.entry(pointers.pointer, n)
        self.calls_in_flight -= 1
        return result

    def call_checked(self, tuple buffers not None, int64_t n=0, *,
                     unsigned int stack_offset=0, uint32_t float_control=0):
        """Calls the kernel through the ABI check (csrc/abi_check.h), with the GIL held.

        stack_offset: of the caller's stack pointer below a multiple of 64, one of 0, 16, 32, 48.
        float_control: the caller's MXCSR or FPCR, 0 for this thread's own. Returns {'result': int,
        'violations': names of what it broke}; None, and nothing is called, where the check is not written
        for this CPU and system.
        """
        if stack_offset not in (0, 16, 32, 48):
            raise ValueError(f"stack_offset {stack_offset}: expected 0, 16, 32 or 48")
        cdef nj_code *code = self.owned()
        cdef nj_abi_call how
        cdef nj_abi_report report
        cdef Buffers pointers
        cdef int violation
        fill(&pointers, code.context, buffers)
        how.stack_offset = stack_offset
        how.float_control = float_control
        if not nj_call_checked(code.entry, pointers.pointer, n, how, &report):
            return None
        broken = tuple(
            nj_abi_violation_name(<nj_abi_violation>violation).decode()
            for violation in range(NJ_ABI_VIOLATION_COUNT) if report.violations >> violation & 1
        )
        return {"result": report.result, "violations": broken}


# ---- slots ----

cdef int read_key(nj_key *key, tuple words) except -1:
    if len(words) != 4:
        raise ValueError(f"a key has 4 words, got {len(words)}")
    cdef int i
    for i in range(4):
        key.word[i] = words[i]
    return 0


@cython.final
cdef class Slot:
    """One slot of a table, made by SlotTable.insert or lookup. Keeps the table alive."""

    def __init__(self):
        raise TypeError("Slot is made by SlotTable.insert")

    def __eq__(self, other):
        return isinstance(other, Slot) and self.slot is (<Slot>other).slot

    def __hash__(self):
        return hash(<uintptr_t>self.slot)

    @property
    def key(self):
        cdef nj_key key = self.slot.key
        return key.word[0], key.word[1], key.word[2], key.word[3]

    @property
    def calls(self):
        """How often it was entered with code in it; racing calls may be counted once."""
        return nj_slot_calls(self.slot)

    @property
    def published(self):
        """Whether it had code a moment ago."""
        return nj_slot_is_published(self.slot)

    def claim(self):
        """True for the one thread that may compile for this slot, until `unclaim`."""
        return nj_slot_claim(self.slot)

    def unclaim(self):
        nj_slot_unclaim(self.slot)

    def while_claimed(self, work):
        """Calls work() unless another thread compiles for this slot; returns whether it did.

        The claim is given back whatever work raises, and no signal handler can run between taking it and
        the `try`, as one could in Python: an interrupt would leave the slot claimed for ever.
        """
        if not nj_slot_claim(self.slot):
            return False
        try:
            work()
        finally:
            nj_slot_unclaim(self.slot)
        return True

    def call(self, tuple buffers not None, int64_t n=0):
        """Calls the published kernel, without the GIL; None if there is none."""
        called, result = self.call_repeatedly(buffers, n, 1)
        return result if called else None

    def call_repeatedly(self, tuple buffers not None, int64_t n, int64_t times):
        """Enters, calls and leaves `times` times without the GIL; (calls that found code, sum of results)."""
        cdef Buffers pointers
        cdef nj_code *code
        cdef int64_t called = 0, total = 0, _
        fill(&pointers, NULL, buffers)
        with nogil:
            for _ in range(times):
                code = nj_slot_enter(self.slot)
                if code is NULL:
                    continue
                pointers.pointer[0] = code.context
                total += code.entry(pointers.pointer, n)
                nj_slot_leave(self.slot)
                called += 1
        return called, total


@cython.final
cdef class SlotTable:
    """Keys to slots: see csrc/slots.h. Every method may be called from any thread."""

    def __cinit__(self):
        self.table = nj_slots_create()
        if self.table is NULL:
            raise MemoryError("no memory for a slot table")

    def __dealloc__(self):
        if self.table is not NULL:
            nj_slots_destroy(self.table)  # left alone if a daemon thread is still inside a kernel

    cdef nj_slot *insert_key(self, const nj_key *key) except NULL:
        cdef nj_slot *slot = nj_slots_insert(self.table, key)
        if slot is NULL:
            raise MemoryError("no memory for a slot")
        return slot

    cdef void publish_code(self, nj_slot *slot, nj_code *code) noexcept nogil:
        nj_slot_publish(self.table, slot, code)

    cdef bint evict_slot(self, nj_slot *slot) noexcept nogil:
        return nj_slot_evict(self.table, slot)

    cdef Slot wrap(self, nj_slot *slot):
        cdef Slot wrapped = Slot.__new__(Slot)
        wrapped.table = self
        wrapped.slot = slot
        return wrapped

    cdef nj_slot *mine(self, Slot slot) except NULL:
        if slot.table is not self:
            raise ValueError("the slot belongs to another table")
        return slot.slot

    def insert(self, tuple key not None):
        """The slot of a key of four 64-bit words, made if need be."""
        cdef nj_key words
        read_key(&words, key)
        return self.wrap(self.insert_key(&words))

    def lookup(self, tuple key not None):
        """The slot of the key, or None."""
        cdef nj_key words
        read_key(&words, key)
        cdef nj_slot *slot = nj_slots_find(self.table, &words)
        return None if slot is NULL else self.wrap(slot)

    def publish(self, Slot slot not None, Code code not None):
        """The slot runs `code` from now on, and the table owns it: `code` itself can no more be called."""
        cdef nj_slot *place = self.mine(slot)
        cdef nj_code *owned = code.give_up()
        with nogil:
            self.publish_code(place, owned)

    def evict(self, Slot slot not None):
        """Takes the slot's code out; whether there was any. Destroyed once its last caller left."""
        cdef nj_slot *place = self.mine(slot)
        cdef bint evicted
        with nogil:
            evicted = self.evict_slot(place)
        return evicted

    def evict_bytes(self, size_t count):
        """Evicts what was not called lately until `count` bytes are given up; returns the bytes given up."""
        cdef size_t given_up
        with nogil:
            given_up = nj_slots_evict(self.table, count)
        return given_up

    def evict_keys(self, tuple mask not None, tuple value not None):
        """Evicts every slot whose key equals `value` in the bits of `mask`; returns how many. Holds the GIL:
        no Python thread can look a key up and enter its slot in between."""
        cdef nj_key bits, words
        read_key(&bits, mask)
        read_key(&words, value)
        return nj_slots_evict_keys(self.table, &bits, &words)

    def reclaim(self):
        """Destroys retired code whose callers have left; returns how many."""
        cdef size_t destroyed
        with nogil:
            destroyed = nj_slots_reclaim(self.table)
        return destroyed

    def stats(self):
        """A dict of counts: see nj_slots_stats."""
        cdef nj_slots_stats now
        with nogil:
            now = nj_slots_statistics(self.table)
        return now  # Cython makes a struct a dict


# ---- clocks ----

cdef extern from "clock.h" nogil:
    uint64_t nj_clock_ns()
    uint64_t nj_ticks()
    double nj_ticks_per_ns()


def clock_ns():
    """The monotonic clock, in nanoseconds."""
    return nj_clock_ns()


def ticks():
    """The CPU's constant-rate counter."""
    return nj_ticks()


def ticks_per_ns():
    """The rate of `ticks`; the first call may measure it for 2 ms."""
    cdef double rate
    with nogil:
        rate = nj_ticks_per_ns()
    return rate


# The slots of this process. Never destroyed: daemon threads may be inside kernels until the very end.
cdef extern from "Python.h":
    void Py_INCREF(object o)

SLOTS = SlotTable()
Py_INCREF(SLOTS)
