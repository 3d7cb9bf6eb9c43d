"""The call path of a compiled program: from Python objects to its one native function.

`Program` implements the vectorcall protocol itself. The common case (exact, contiguous arrays of the
expected types and shapes, outputs positional or none) is decided from the NumPy structs alone. Nothing is
allocated but the results, no lock is taken, no Python code runs. Everything else goes to the program's
`contract`, a Python object with the whole meaning of a call, which comes back through `run`.

A call that keeps the GIL is alone in the process, so it needs no arena but the program's first. A call long
enough to give up the GIL takes an arena of its own (csrc/arenas.h) and holds on to the weights it began with.
"""

import weakref

from libc.stdint cimport INT64_MAX
from libc.stdlib cimport free

include "_operands.pxi"

from neurojit.runtime._blocked cimport members_worth, nj_row_batch, run_rows
from neurojit.runtime._runtime cimport (
    Code, Slot, nj_code, nj_slot_enter, nj_slot_is_published, nj_slot_leave,
)

# The results of a call besides 0 and the numbers of asserts, which are positive.
cdef enum:
    NO_ARENA = -1
    NO_CODE = -2

cdef enum:
    MOST_MEMBERS = 32  # of one call: half the arenas that are kept

cdef int64_t NEVER = INT64_MAX

# Multiply-adds, or elementwise ops, that one more member is worth: measured, see DECISIONS.
cdef int64_t MEMBER_WORK = 1 << 19


def fail_arenas(int count):
    """The next `count` arenas cannot be allocated. For tests."""
    nj_arena_inject(count)


def call_code(Code code not None, uintptr_t arena, tuple addresses not None, int64_t extent):
    """Calls code that is not published with an arena and these addresses; its result. For the gate."""
    cdef void *buffers[64]
    set_addresses(buffers, addresses)
    buffers[0] = <void *>arena
    return code.owned().entry(buffers, extent)


cdef int set_addresses(void **buffers, tuple addresses) except -1:
    """buffers[1:] = addresses."""
    cdef Py_ssize_t i
    if len(addresses) >= 64:
        raise ValueError(f"program: {len(addresses)} inputs and outputs, expected at most 63")
    for i in range(len(addresses)):
        buffers[1 + i] = <void *><uintptr_t>addresses[i]
    return 0


cdef inline int64_t bytes_of(const Argument *argument, int64_t extent) noexcept nogil:
    return argument.row_bytes * extent if argument.dims[0] < 0 else argument.row_bytes


cdef inline bint meet(const void *a, int64_t a_bytes, const void *b, int64_t b_bytes) noexcept nogil:
    return <const char *>a < <const char *>b + b_bytes and <const char *>b < <const char *>a + a_bytes


cdef class Program:
    """A compiled network: call it with its inputs, in order.

    `y = program(x)`, `program(x, out)` with as many arrays as there are outputs, or `program(x, out=y)`. Each
    input is an array of exactly the type and shape that `signature` names; a leading `?` is any extent, the
    same in all. Returns the output, or a tuple of them. The outputs may overlap the inputs.

    A call costs some 50 ns and the arithmetic; it allocates its results and nothing else. Any thread may call
    at any time. A program with state has one state: a call while another is running raises RuntimeError;
    `clone()` gives each thread its own. Raises TypeError for types, ValueError for shapes and read-only
    outputs, AssertionError with text and place where an assert of the program fails, MemoryError; outputs are
    then untouched but for a failed assert.
    """

    def __cinit__(self, *_):
        self.vectorcall = <void *>program_vectorcall
        self.extent_worth_sharing = NEVER

    def __init__(self, contract, general, operands, int inputs):
        """operands: (dtype, shape with a leading -1 where dynamic) of each input, then of each output."""
        cdef int index, axis
        cdef Argument *argument
        self.contract, self.general = contract, general(weakref.ref(self))
        self.inputs, self.outputs = inputs, len(operands) - inputs
        self.descrs = [dtype for dtype, _ in operands]
        if len(operands) > MOST_OPERANDS:
            return  # every call is general
        for index, (dtype, shape) in enumerate(operands):
            argument = &self.arguments[index]
            argument.descr = <void *>dtype
            argument.ndim = len(shape)
            argument.row_bytes = dtype.itemsize
            argument.dims[0] = 0
            for axis in range(argument.ndim):
                argument.dims[axis] = shape[axis]
                if shape[axis] >= 0:
                    argument.row_bytes *= shape[axis]

    def __dealloc__(self):
        free(self.arena)
        if self.has_arenas:
            nj_arenas_free(&self.arenas)

    def use(self, Slot slot not None, size_t arena_bytes, weight_block, state_block,
            int64_t extent_worth_releasing):
        """From now on, calls run the code of `slot` with an arena of so many bytes. Once, by the contract.

        weight_block, state_block: aligned arrays or None. extent_worth_releasing: the dynamic extent from
        which a call gives up the GIL; 0 for always."""
        self.arena = nj_arena_make(arena_bytes)
        if self.arena is NULL:
            raise MemoryError(f"program: no memory for an arena of {arena_bytes} bytes")
        nj_arenas_init(&self.arenas, arena_bytes)
        self.has_arenas = True
        self.use_weights(weight_block)
        self.state_block = state_block
        self.state = NULL if state_block is None else PyArray_DATA(<array_object *>state_block)
        self.stateful = state_block is not None
        self.extent_worth_releasing = extent_worth_releasing
        self.slot_owner = slot
        self.slot = slot.slot

    def share_rows(self, int64_t work, int64_t unit, int64_t least, int most=MOST_MEMBERS):
        """Calls over many rows may be shared by threads from now on: up to `most`. By the contract, of code
        whose rows do not depend on each other, nor on anything that a call changes.

        work: multiply-adds of a row. unit: rows that are computed at once. least: rows that a thread takes
        at a time, a multiple of unit."""
        cdef int index
        if self.inputs + self.outputs > MOST_OPERANDS or most == 1:
            return
        for index in range(self.inputs + self.outputs):
            self.row_bytes[index] = 0
            if self.arguments[index].dims[0] < 0:
                self.row_bytes[index] = self.arguments[index].row_bytes
        self.row_work, self.unit, self.least = work, unit, least
        self.most_members = min(most, <int>MOST_MEMBERS)
        self.extent_worth_sharing = max(1 + 2 * MEMBER_WORK // work, 1 + least)

    def use_weights(self, block):
        """Calls that begin from now on read these packed weights; those that run keep theirs."""
        self.weights = NULL if block is None else PyArray_DATA(<array_object *>block)
        self.weight_block = block

    def run(self, tuple addresses not None, int64_t extent):
        """Calls the code on these addresses of inputs and outputs. Its result: 0 or the number of the assert
        that failed; None: it is not compiled. MemoryError: no arena. RuntimeError: the state is in use."""
        cdef void *buffers[64]
        set_addresses(buffers, addresses)
        if self.busy:
            raise RuntimeError(BUSY_TEXT.decode())
        cdef int64_t status = execute(self, buffers, extent)
        if status == NO_ARENA:
            raise MemoryError("program: no memory for an arena; free some memory and call again")
        return None if status == NO_CODE else status

    @property
    def compiled(self):
        """Whether a native function is published. Without one, the interpreter answers: see `explain()`."""
        return self.slot is not NULL and nj_slot_is_published(self.slot)

    def bind(self, *arrays):
        """A callable without arguments that runs the program on these inputs and outputs each time, and
        returns the output or the tuple of outputs. What the arrays hold is read at each call; their shapes
        and types are checked now. Outputs that are left out are allocated now, once."""
        return self.contract.bind(self, arrays)

    @property
    def signature(self):
        """Names, types and shapes of inputs and outputs, as text."""
        return self.contract.signature

    @property
    def ir(self):
        """The TensorLang text of what is running; `nj.parse` gives it back."""
        return self.contract.ir

    @property
    def schedule(self):
        """How it runs: the schedule of every kernel, as text in TensorLang. `nj.compile(program.ir, weights,
        schedule=program.schedule)` makes the same machine code; a comment if the program is interpreted."""
        return self.contract.schedule

    def rescheduled(self, schedule):
        """A program with the same text, weights and state under another schedule, which is a text such as
        `schedule` gives. TensorLangError, with the place: it is not legal, or this machine cannot obey it."""
        return self.contract.rescheduled(schedule)

    def listing(self, target=None):
        """The machine code: offset, bytes, mnemonics, with the step of the program each part belongs to.

        target: an ISA's name, such as "aarch64-neon", for the code that another machine would get."""
        return self.contract.listing(target)

    def explain(self):
        """What each kernel computes, how, and why; what is interpreted, and for what reason."""
        return self.contract.explain(self)

    def memory_map(self):
        """Where weights, state, temporaries and code lie, and how many bytes each takes."""
        return self.contract.memory_map()

    @property
    def weights(self):
        """A mapping of names to arrays. Assigning an array re-packs it; nothing is compiled anew, and calls
        that are running keep the weights they began with."""
        return self.contract.weights(self)

    @property
    def state(self):
        """A mapping of names to arrays: live views of what persists between calls. Save copies of them;
        assigning a mapping restores it."""
        return self.contract.state

    @state.setter
    def state(self, saved):
        self.contract.restore(saved)

    def reset(self):
        """The state as it was before the first call: zeros."""
        self.contract.reset()

    def clone(self):
        """A program with the same code and weights, and a state and arenas of its own."""
        return self.contract.clone()

    def save(self, path):
        """Write text, weights and state to a file, for `nj.load`; never code. Needs the package safetensors.
        Atomic: a reader finds the old file or the new one. OSError: what was there before still is."""
        self.contract.save(path)

    def __reduce__(self):
        return self.contract.reduced()

    def __repr__(self):
        return f"<neurojit.Program {self.contract.signature}>"


cdef const char *BUSY_TEXT = "program: another call is using its state; give each thread a clone()"


cdef const char *busy_text() noexcept:
    return BUSY_TEXT


cdef int64_t execute(Program self, void **buffers, int64_t extent) noexcept:
    """Runs the published code, buffers[1:] being set. The first buffer is an arena found here."""
    cdef nj_code *code
    cdef void **arena
    cdef int64_t status
    if self.slot is NULL:
        return NO_CODE
    if extent >= self.extent_worth_releasing:
        return execute_alone(self, buffers, extent)
    code = nj_slot_enter(self.slot)
    if code is NULL:
        return NO_CODE
    arena = <void **>self.arena
    arena[0], arena[1] = self.weights, self.state
    buffers[0] = arena
    status = code.entry(buffers, extent)
    nj_slot_leave(self.slot)
    return status


cdef int64_t execute_alone(Program self, void **buffers, int64_t extent) noexcept:
    """A call that gives up the GIL: in an arena of its own, or one for each member that shares its rows."""
    cdef nj_code *code
    cdef void **arenas[MOST_MEMBERS]
    cdef int numbers[MOST_MEMBERS]
    cdef int wanted = 1, taken = 0, member
    cdef int64_t status
    cdef PyThreadState *thread
    cdef PyObject *weight_block
    if extent >= self.extent_worth_sharing:
        wanted = members_worth(<double>self.row_work * <double>extent, MEMBER_WORK)
        wanted = <int>min(wanted, self.most_members, 1 + (extent - 1) // self.least)
    while taken < wanted:
        arenas[taken] = <void **>nj_arenas_take(&self.arenas, &numbers[taken])
        if arenas[taken] is NULL:
            break
        arenas[taken][0], arenas[taken][1] = self.weights, self.state
        taken += 1
    if taken == 0:
        return NO_ARENA
    code = nj_slot_enter(self.slot)
    if code is not NULL:
        weight_block = <PyObject *>self.weight_block
        c_incref(weight_block)
        buffers[0] = arenas[0]
        self.busy = self.stateful
        thread = PyEval_SaveThread()
        if taken == 1:
            status = code.entry(buffers, extent)
        else:
            status = share(self, code, buffers, extent, <void **>arenas, taken)
        PyEval_RestoreThread(thread)
        self.busy = False
        nj_slot_leave(self.slot)
        Py_DECREF(weight_block)
    else:
        status = NO_CODE
    for member in range(taken):
        nj_arenas_give(&self.arenas, arenas[member], numbers[member])
    return status


cdef inline int64_t share(Program self, const nj_code *code, void *const *buffers, int64_t rows,
                          void **arenas, int members) noexcept nogil:
    cdef nj_row_batch batch
    batch.code, batch.operands = code, self.inputs + self.outputs
    batch.buffers, batch.row_bytes, batch.arenas = buffers, self.row_bytes, arenas
    batch.rows, batch.unit, batch.least = rows, self.unit, self.least
    return run_rows(&batch, members)


cdef inline PyObject *allocate(const Argument *argument, int64_t extent) noexcept:
    """A fresh array for an output."""
    cdef cnp.npy_intp dims[MOST_RANK]
    cdef int axis
    for axis in range(argument.ndim):
        dims[axis] = argument.dims[axis]
    if argument.ndim and dims[0] < 0:
        dims[0] = extent
    c_incref(<PyObject *>argument.descr)
    return PyArray_NewFromDescr(array_type, argument.descr, argument.ndim, dims, NULL, NULL, 0, NULL)


cdef PyObject *program_vectorcall(PyObject *callable, PyObject *const *args, size_t nargsf,
                                  PyObject *kwnames) noexcept:
    cdef Program self = <Program>callable
    cdef Py_ssize_t nargs = PyVectorcall_NARGS(nargsf), given = nargs
    cdef int inputs = self.inputs, operands = self.inputs + self.outputs
    cdef int i, j
    cdef int64_t extent = -1, status
    cdef void *buffers[1 + MOST_OPERANDS]
    cdef PyObject *results[MOST_OPERANDS]
    cdef bint fresh
    if kwnames is not NULL:
        if (PyTuple_GET_SIZE(kwnames) != 1 or PyTuple_GET_ITEM(kwnames, 0) != OUT or nargs != inputs
                or operands != inputs + 1 or args[nargs] == c_None):
            return general_call(self.general, args, nargsf, kwnames)
        given += 1
    fresh = given == inputs and operands > inputs
    if self.slot is NULL or self.busy or operands > MOST_OPERANDS or not (fresh or given == operands):
        return general_call(self.general, args, nargsf, kwnames)
    for i in range(<int>given):
        if not fits(args[i], &self.arguments[i], &extent):
            return general_call(self.general, args, nargsf, kwnames)
        buffers[1 + i] = PyArray_DATA(<array_object *>args[i])
    if extent < 0:
        extent = 1
    if fresh:
        for i in range(inputs, operands):
            results[i] = allocate(&self.arguments[i], extent)
            if results[i] is NULL:
                for j in range(inputs, i):
                    Py_DECREF(results[j])
                return NULL
            buffers[1 + i] = PyArray_DATA(<array_object *>results[i])
    else:
        for i in range(inputs, operands):
            if not PyArray_FLAGS(<array_object *>args[i]) & WRITEABLE:
                return general_call(self.general, args, nargsf, kwnames)
            for j in range(i):
                if meet(buffers[1 + i], bytes_of(&self.arguments[i], extent),
                        buffers[1 + j], bytes_of(&self.arguments[j], extent)):
                    return general_call(self.general, args, nargsf, kwnames)
            results[i] = args[i]
            c_incref(results[i])
    status = execute(self, buffers, extent)
    if status != 0:
        for i in range(inputs, operands):
            Py_DECREF(results[i])
        return not_run(self, status, args, nargsf, kwnames)
    if operands == inputs + 1:
        return results[inputs]
    return tuple_of(results + inputs, operands - inputs)


cdef PyObject *tuple_of(PyObject **results, int count) noexcept:
    """A tuple that takes the references over; NULL without memory."""
    cdef PyObject *made = PyTuple_New(count)
    cdef int i
    for i in range(count):
        if made is NULL:
            Py_DECREF(results[i])
        else:
            PyTuple_SET_ITEM(made, i, results[i])
    return made


cdef PyObject *not_run(Program self, int64_t status, PyObject *const *args, size_t nargsf,
                       PyObject *kwnames) noexcept:
    """What a call gives whose code did not return 0."""
    if status == NO_CODE:  # evicted: compiled again
        return general_call(self.general, args, nargsf, kwnames)
    if status == NO_ARENA:
        PyErr_SetString(PyExc_MemoryError, "program: no memory for an arena; free some memory and call again")
    else:
        set_assertion(self.contract, status)
    return NULL


cdef void set_assertion(object contract, int64_t status) noexcept:
    error = contract.failed(status)
    PyErr_SetObject(<PyObject *>Py_TYPE(<PyObject *>error), <PyObject *>error)


cdef void enable_vectorcall():
    cdef Program probe = Program.__new__(Program)
    nj_enable_vectorcall(<PyTypeObject *>Program, <char *>&probe.vectorcall - <char *><PyObject *>probe)


enable_vectorcall()
