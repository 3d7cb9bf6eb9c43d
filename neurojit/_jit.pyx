"""The call path of `nj.jit`: from arrays to the program that was compiled for their shapes and dtypes.

A `Jit` keeps the programs that were called last. A call whose arguments are all exact, positional arrays is
compared with these, shape by shape, in C, and handed on as it came. Everything else (keywords, numbers, other
array types, new shapes) is answered by the specialiser, a Python object with the whole meaning of a call.
"""

import functools

include "_operands.pxi"

cdef enum:
    MOST_RECENT = 8


cdef inline bint takes(Program program, PyObject *const *args, Py_ssize_t count) noexcept:
    """Whether the program was made for arrays like these."""
    cdef array_object *x
    cdef const Argument *expected
    cdef int i, axis
    if program.inputs != count or count + program.outputs > MOST_OPERANDS:
        return False
    for i in range(<int>count):
        expected, x = &program.arguments[i], <array_object *>args[i]
        if (Py_TYPE(args[i]) != array_type or PyArray_DESCR(x) != expected.descr
                or PyArray_NDIM(x) != expected.ndim):
            return False
        for axis in range(expected.ndim):
            if PyArray_DIMS(x)[axis] != expected.dims[axis]:
                return False
    return True


cdef PyObject *jit_vectorcall(PyObject *callable, PyObject *const *args, size_t nargsf,
                              PyObject *kwnames) noexcept:
    cdef Jit self = <Jit>callable
    cdef Py_ssize_t nargs = PyVectorcall_NARGS(nargsf)
    cdef PyObject *program
    cdef PyObject *result
    cdef int i
    if kwnames is NULL:
        for i in range(self.count):
            program = self.recent[i]
            if takes(<Program>program, args, nargs):
                c_incref(program)  # another thread may forget it while this call has given up the GIL
                result = (<vectorcallfunc>(<Program>program).vectorcall)(program, args, nargsf, NULL)
                Py_DECREF(program)
                return result
    return general_call(self.answer, args, nargsf, kwnames)


cdef class Jit:
    """What `nj.jit` makes of a function: call it like the function."""

    cdef void *vectorcall
    cdef PyObject *recent[MOST_RECENT]
    cdef int count, next
    cdef readonly object specialiser
    cdef object answer
    cdef dict __dict__
    cdef object __weakref__

    def __cinit__(self, *_):
        self.vectorcall = <void *>jit_vectorcall

    def __init__(self, specialiser):
        """specialiser: `answer(jit)` gives what answers calls in general, and `remember`s programs here."""
        self.specialiser, self.answer = specialiser, specialiser.answer
        functools.update_wrapper(self, specialiser.function)

    def __dealloc__(self):
        cdef int i
        for i in range(self.count):
            Py_DECREF(self.recent[i])

    def remember(self, Program program not None):
        """Calls with arrays of this program's shapes and dtypes are its own from now on. The oldest of more
        than MOST_RECENT is forgotten."""
        cdef PyObject *forgotten = NULL
        if self.count == MOST_RECENT:
            forgotten = self.recent[self.next]
        else:
            self.count += 1
        c_incref(<PyObject *>program)
        self.recent[self.next] = <PyObject *>program
        self.next = (self.next + 1) % MOST_RECENT
        if forgotten is not NULL:
            Py_DECREF(forgotten)

    @property
    def function(self):
        """The function that was traced."""
        return self.specialiser.function

    @property
    def programs(self):
        """The program of each specialisation, the oldest first."""
        return self.specialiser.programs

    def program(self, /, *arguments, **keywords):
        """The program for arguments like these, compiled if need be, not called."""
        return self.specialiser.program(*arguments, **keywords)

    def __get__(self, instance, owner):
        return self if instance is None else functools.partial(self, instance)

    def __repr__(self):
        return f"<nj.jit {self.specialiser.function.__qualname__}: {len(self.programs)} programs>"


cdef void enable_vectorcall():
    cdef Jit probe = Jit.__new__(Jit)
    nj_enable_vectorcall(<PyTypeObject *>Jit, <char *>&probe.vectorcall - <char *><PyObject *>probe)


enable_vectorcall()
