"""What `Program.bind` returns: a program and the addresses of its operands, checked once."""

include "_operands.pxi"

from neurojit._program cimport busy_text, execute, not_run


cdef PyObject *bound_vectorcall(PyObject *callable, PyObject *const *args, size_t nargsf,
                                PyObject *kwnames) noexcept:
    cdef BoundProgram self = <BoundProgram>callable
    cdef void *buffers[1 + MOST_OPERANDS]
    cdef int i
    cdef int64_t status
    if PyVectorcall_NARGS(nargsf) != 0 or kwnames is not NULL:
        PyErr_SetString(PyExc_TypeError, "a bound program takes no arguments; bind others with program.bind")
        return NULL
    for i in range(self.first_output, self.count):
        if not PyArray_FLAGS(<array_object *>self.operands[i]) & WRITEABLE:
            return PyObject_Vectorcall(<PyObject *>self.program.general, self.operands, self.count, NULL)
    if self.program.busy:
        PyErr_SetString(PyExc_RuntimeError, busy_text())
        return NULL
    for i in range(self.count):
        buffers[1 + i] = self.buffers[i]
    status = execute(self.program, buffers, self.extent)
    if status != 0:
        return not_run(self.program, status, self.operands, self.count, NULL)
    c_incref(<PyObject *>self.result)
    return <PyObject *>self.result


cdef class BoundProgram:
    """What `Program.bind` returns: a program and the addresses of its operands."""

    cdef void *vectorcall
    cdef Program program
    cdef int first_output, count
    cdef int64_t extent
    cdef void *buffers[MOST_OPERANDS]
    cdef PyObject *operands[MOST_OPERANDS]
    cdef object arrays, views, result

    def __cinit__(self, *_):
        self.vectorcall = <void *>bound_vectorcall

    def __init__(self, Program program not None, tuple arrays not None, result):
        """arrays: inputs and outputs that fit the program and do not overlap. ValueError: they do not."""
        cdef int i
        cdef int64_t extent = -1
        if program.slot is NULL or len(arrays) != program.inputs + program.outputs:
            raise ValueError("these arrays, or this program, take no part in the common case")
        self.program, self.arrays, self.result = program, arrays, result
        self.views = tuple([array.view() for array in arrays])  # nobody else can give these another shape
        self.first_output, self.count = program.inputs, len(arrays)
        for i in range(self.count):
            if not fits(<PyObject *>self.views[i], &program.arguments[i], &extent):
                raise ValueError(f"array {i} takes no part in the common case")
            self.operands[i] = <PyObject *>arrays[i]
            self.buffers[i] = PyArray_DATA(<array_object *>self.views[i])
        self.extent = 1 if extent < 0 else extent

    def __repr__(self):
        return f"<bound {self.program!r}>"


cdef void enable_vectorcall():
    cdef BoundProgram probe = BoundProgram.__new__(BoundProgram)
    nj_enable_vectorcall(<PyTypeObject *>BoundProgram, <char *>&probe.vectorcall - <char *><PyObject *>probe)


enable_vectorcall()
