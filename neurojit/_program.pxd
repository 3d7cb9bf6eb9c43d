# A compiled program as other modules of its hot path see it.

from libc.stdint cimport int64_t

cimport numpy as cnp
from cpython.object cimport PyObject

from neurojit.runtime._runtime cimport nj_slot

cdef extern from "arenas.h" nogil:
    ctypedef struct nj_arenas:
        size_t bytes
    void *nj_arena_make(size_t bytes)
    void nj_arenas_init(nj_arenas *arenas, size_t bytes)
    void nj_arenas_free(nj_arenas *arenas)
    void *nj_arenas_take(nj_arenas *arenas, int *number)
    void nj_arenas_give(nj_arenas *arenas, void *block, int number)
    void nj_arena_inject(int count)

cdef enum:
    MOST_OPERANDS = 15  # inputs and outputs of the common case
    MOST_RANK = 8

# An input or output as a call must bring it. dims[0] is -1 where the extent is dynamic.
cdef struct Argument:
    void *descr
    int ndim
    cnp.npy_intp dims[MOST_RANK]
    int64_t row_bytes  # for each step of a dynamic extent, else in all


cdef class Program:
    cdef void *vectorcall
    cdef nj_slot *slot
    cdef int inputs, outputs
    cdef bint stateful, busy
    cdef int64_t extent_worth_releasing
    cdef void *arena
    cdef void *weights
    cdef void *state
    cdef Argument arguments[MOST_OPERANDS]
    cdef nj_arenas arenas
    cdef bint has_arenas
    # Rows of a dynamic extent that members of the thread pool share: see `share_rows`.
    cdef int64_t extent_worth_sharing, row_work, unit, least
    cdef int most_members
    cdef int64_t row_bytes[MOST_OPERANDS]
    cdef readonly object contract
    cdef object __weakref__
    cdef object general, slot_owner, weight_block, state_block, descrs


# Runs the published code, buffers[1:] being set: 0, or what `not_run` makes an answer of.
cdef int64_t execute(Program self, void **buffers, int64_t extent) noexcept
cdef PyObject *not_run(Program self, int64_t status, PyObject *const *args, size_t nargsf,
                       PyObject *kwnames) noexcept
cdef const char *busy_text() noexcept
