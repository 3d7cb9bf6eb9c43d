"""The call path of `nj.matmul`: from Python objects to a kernel in a few tens of nanoseconds.

`Matmul` implements the vectorcall protocol itself. The common case (two exact float32 or float64
arrays of one or two dimensions, and an `out` that fits) is decided from the NumPy structs alone:
shape and strides make a key, the key finds a slot, the slot's code runs. Nothing is allocated but the
result, no lock is taken, no Python code runs. Everything else goes to `general`, a Python function
with the whole of numpy.matmul's meaning, which comes back through `products` for the arithmetic.
"""

include "_call.pxi"

from neurojit.runtime._blocked cimport nj_gemm_batch, run_batch


cdef PyObject *matmul_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf,
                                 PyObject *kwnames) noexcept:
    cdef Py_ssize_t nargs = PyVectorcall_NARGS(nargsf)
    cdef PyObject *out = NULL
    cdef PyObject *result
    cdef Call call
    cdef bint compiled
    if kwnames is NULL:
        if nargs == 3:
            out = args[2]
        elif nargs != 2:
            return general_call((<Matmul><object>self).general, args, nargsf, kwnames)
    elif nargs == 2 and PyTuple_GET_SIZE(kwnames) == 1 and PyTuple_GET_ITEM(kwnames, 0) == OUT:
        out = args[2]
    else:
        return general_call((<Matmul><object>self).general, args, nargsf, kwnames)
    if out == c_None:
        out = NULL
    if read_inputs(args[0], args[1], &call) and (out is NULL or read_out(out, &call)):
        result = run(&call, NULL, out, &compiled)
        if compiled:
            return result
    # also compiles, and leaves the kernel in its slot for the next call
    return general_call((<Matmul><object>self).general, args, nargsf, kwnames)


cdef class Matmul:
    """Matrix product of two arrays, as numpy.matmul: `nj.matmul(a, b, out=None)`.

    a: array_like (..., m, k) or (k,); b: array_like (..., k, n) or (k,). Leading dimensions broadcast.
    out: array of the result's shape, written in place; it may overlap the inputs. Further keywords are
    those of numpy.matmul. Returns (..., m, n), without the dimension that a 1-D operand did not have.

    float32 and float64 run machine code compiled for shape and strides on the first call; every other
    dtype gets NumPy's own answer. Each element is one chain of fused multiply-adds in the order of k, or,
    for a vector times a matrix read along its rows, 64 bytes of partial sums: the order depends on shapes
    and strides alone, so kernels give the same bits on every machine and for any number of threads.
    Errors are NumPy's: ValueError for shapes and read-only outputs, TypeError for dtypes; MemoryError,
    with out unchanged, where a large product finds no scratch. Unlike NumPy, no floating-point warnings
    are given.
    """

    cdef vectorcallfunc vectorcall
    cdef object general
    cdef object binder
    cdef readonly object __signature__
    cdef readonly str __name__

    def __cinit__(self, general, signature, binder):
        self.vectorcall = matmul_vectorcall
        self.general = general
        self.binder = binder
        self.__signature__ = signature
        self.__name__ = "matmul"

    def bind(self, a, b, out):
        """A callable without arguments that computes out[...] = a @ b each time and returns out.

        a, b: as for a call; what they hold is read at each call, their shapes and strides now. For
        float32 and float64 arrays of one or two dimensions that `out` does not overlap, a call costs
        about 30 ns and the arithmetic; for all others it costs what nj.matmul costs. Raises now what a
        call would raise for these shapes and dtypes.
        """
        return self.binder(a, b, out)

    def __repr__(self):
        return "<function neurojit.matmul>"

    def __reduce__(self):
        return "matmul"


cdef PyObject *bound_vectorcall(PyObject *callable, PyObject *const *args, size_t nargsf,
                                PyObject *kwnames) noexcept:
    cdef BoundMatmul self = <BoundMatmul>callable
    cdef nj_code *code
    cdef PyThreadState *thread
    cdef void *buffers[4]
    cdef int64_t status
    if PyVectorcall_NARGS(nargsf) != 0 or kwnames is not NULL:
        PyErr_SetString(PyExc_TypeError, "a bound matmul takes no arguments; bind others with nj.matmul.bind")
        return NULL
    code = NULL
    if PyArray_FLAGS(<array_object *>self.arguments[2]) & WRITEABLE:
        code = nj_slot_enter(self.slot)
    if code is NULL:  # evicted: computed, and compiled again; or out has become read-only: raises
        return PyObject_Vectorcall(<PyObject *>self.general, self.arguments, 3, NULL)
    buffers[0] = code.context
    buffers[1], buffers[2], buffers[3] = self.buffers[0], self.buffers[1], self.buffers[2]
    if code.flags & NJ_CODE_RELEASES_GIL:
        thread = PyEval_SaveThread()
        status = code.entry(buffers, 0)
        PyEval_RestoreThread(thread)
    else:
        status = code.entry(buffers, 0)
    nj_slot_leave(self.slot)
    if status != 0:
        set_no_memory()
        return NULL
    c_incref(self.arguments[2])
    return self.arguments[2]


cdef class BoundMatmul:
    """What `nj.matmul.bind` returns: a kernel's slot and the addresses of its operands."""

    cdef vectorcallfunc vectorcall
    cdef nj_slot *slot
    cdef void *buffers[3]
    cdef PyObject *arguments[3]
    cdef object general, a, b, out, views

    def __cinit__(self, *_):
        self.vectorcall = bound_vectorcall

    def __init__(self, general, a, b, out, views):
        """views: a, b and out as matrices, of which there is a published kernel; private to this object,
        so that nobody can give them another shape."""
        cdef Product p
        cdef nj_key key
        x, y, z = views
        cdef array_object *operands[3]
        operands[0], operands[1], operands[2] = <array_object *>x, <array_object *>y, <array_object *>z
        self.general, self.a, self.b, self.out, self.views = general, a, b, out, views
        if product_of(operands[0], operands[1], operands[2], &p) and make_key(&p, &key):
            self.slot = nj_slots_find(TABLE, &key)
        if self.slot is NULL:
            raise ValueError("no kernel was published for these operands")
        for i in range(3):
            self.buffers[i] = PyArray_DATA(operands[i])
        self.arguments[0], self.arguments[1] = <PyObject *>a, <PyObject *>b
        self.arguments[2] = <PyObject *>out

    def __repr__(self):
        return f"<bound neurojit.matmul {self.a.shape} @ {self.b.shape}>"


cdef void enable_vectorcall():
    cdef Matmul probe = Matmul.__new__(Matmul, print, None, None)
    nj_enable_vectorcall(<PyTypeObject *>Matmul, <char *>&probe.vectorcall - <char *><PyObject *>probe)
    cdef BoundMatmul bound = BoundMatmul.__new__(BoundMatmul)
    nj_enable_vectorcall(<PyTypeObject *>BoundMatmul, <char *>&bound.vectorcall - <char *><PyObject *>bound)


enable_vectorcall()


def describe(cnp.ndarray a, cnp.ndarray b, cnp.ndarray c):
    """(key words, fields) of the product of the arrays' last two dimensions, or None if it has no key.

    The fields are m, n, k, the strides a_row, a_column, b_row, b_column, c_row in elements, and the
    element size in bytes.
    """
    cdef Product p
    cdef nj_key key
    if not product_of(<array_object *>a, <array_object *>b, <array_object *>c, &p) or not make_key(&p, &key):
        return None
    return (
        (key.word[0], key.word[1], key.word[2], key.word[3]),
        (p.m, p.n, p.k, p.a_row, p.a_column, p.b_row, p.b_column, p.c_row, p.element),
    )


def products(cnp.ndarray a, cnp.ndarray b, cnp.ndarray c):
    """c[...] = a[...] @ b[...] over the leading dimensions of c, by the kernel in the product's slot.

    All have the same number of dimensions and native float32 or float64 elements; leading extents are
    c's (broadcast with stride 0). Returns False, and c is untouched, when no kernel is published.
    """
    cdef Product p
    cdef nj_key key
    cdef nj_slot *slot
    cdef nj_code *code
    cdef nj_gemm_batch batch
    cdef int64_t status
    cdef double work
    cdef PyThreadState *thread = NULL
    cdef int axis
    cdef array_object *x = <array_object *>a
    cdef array_object *y = <array_object *>b
    cdef array_object *z = <array_object *>c
    if not product_of(x, y, z, &p) or not make_key(&p, &key):
        return False
    slot = nj_slots_find(TABLE, &key)
    code = nj_slot_enter(slot) if slot is not NULL else NULL
    if code is NULL:
        return False
    batch.code, batch.axes, batch.work, batch.besides = code, PyArray_NDIM(z) - 2, p.m * p.n * p.k, 0
    batch.a, batch.b, batch.c = <char *>PyArray_DATA(x), <char *>PyArray_DATA(y), <char *>PyArray_DATA(z)
    batch.extent, batch.c_stride = <const intptr_t *>PyArray_DIMS(z), <const intptr_t *>PyArray_STRIDES(z)
    batch.a_stride = <const intptr_t *>PyArray_STRIDES(x)
    batch.b_stride = <const intptr_t *>PyArray_STRIDES(y)
    work = <double>batch.work
    for axis in range(batch.axes):
        work *= <double>batch.extent[axis]
    if code.flags & NJ_CODE_RELEASES_GIL or work > GIL_WORTH_RELEASING:
        thread = PyEval_SaveThread()
    status = run_batch(&batch)
    if thread is not NULL:
        PyEval_RestoreThread(thread)
    nj_slot_leave(slot)
    if status != 0:
        raise MemoryError("matmul: no memory for packed panels; free some memory and call again")
    return True
