"""Bound calls: a kernel's slot and the addresses of its operands, as a callable without arguments.

Nothing is read, looked up or checked at a call, but whether the slot still has its code and `out` may still
be written.
"""

include "_call.pxi"


cdef PyObject *bound_vectorcall(PyObject *callable, PyObject *const *args, size_t nargsf,
                                PyObject *kwnames) noexcept:
    cdef Bound self = <Bound>callable
    cdef nj_code *code = NULL
    cdef void *buffers[MOST_BUFFERS]
    cdef int i
    if PyVectorcall_NARGS(nargsf) != 0 or kwnames is not NULL:
        PyErr_SetString(PyExc_TypeError, "a bound call takes no arguments; bind others with `bind`")
        return NULL
    if PyArray_FLAGS(<array_object *>self.result) & WRITEABLE:
        code = nj_slot_enter(self.slot)
    if code is NULL:  # evicted: computed, and compiled again; or out has become read-only: raises
        return PyObject_Vectorcall(<PyObject *>self.general, NULL, 0, NULL)
    for i in range(1, MOST_BUFFERS):
        buffers[i] = self.buffers[i]
    if run_code(code, buffers) != 0:
        nj_slot_leave(self.slot)
        set_no_memory()
        return NULL
    nj_slot_leave(self.slot)
    c_incref(self.result)
    return self.result


cdef class Bound:
    """What `bind` returns."""

    cdef vectorcallfunc vectorcall
    cdef nj_slot *slot
    cdef void *buffers[MOST_BUFFERS]
    cdef PyObject *result
    cdef object general, out, keeps
    cdef str text

    def __cinit__(self, *_):
        self.vectorcall = bound_vectorcall

    def __init__(self, tuple key not None, tuple operands not None, out, general, str text not None,
                 keeps=None):
        """key: of the slot, in which a kernel was published. operands: its arrays, or packed weights, in
        their order; views of this object's own, so that nobody can give them another shape. out: what a call
        returns. general: a call's meaning, for when the kernel is gone. text: what `repr` says. keeps: what
        must live as long."""
        cdef nj_key words
        cdef int i
        if not 3 <= len(operands) < MOST_BUFFERS:
            raise ValueError(f"a kernel has 3 to {MOST_BUFFERS - 1} operands, got {len(operands)}")
        for i in range(4):
            words.word[i] = key[i]
        self.slot = nj_slots_find(TABLE, &words)
        if self.slot is NULL:
            raise ValueError("no kernel was published for these operands")
        for i in range(<int>len(operands)):
            self.buffers[1 + i] = data_of(operands[i])
        self.general, self.out, self.keeps, self.text = general, out, (operands, keeps), text
        self.result = <PyObject *>out

    def __repr__(self):
        return f"<bound neurojit.{self.text}>"


cdef void enable_vectorcall():
    cdef Bound bound = Bound.__new__(Bound)
    nj_enable_vectorcall(<PyTypeObject *>Bound, <char *>&bound.vectorcall - <char *><PyObject *>bound)


enable_vectorcall()
