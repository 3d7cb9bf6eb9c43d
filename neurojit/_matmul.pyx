"""The call path of `nj.matmul`: from Python objects to a kernel in a few tens of nanoseconds.

`Matmul` implements the vectorcall protocol itself. The common case (two exact float32 or float64
arrays of one or two dimensions, and an `out` that fits) is decided from the NumPy structs alone:
shape and strides make a key, the key finds a slot, the slot's code runs. Nothing is allocated but the
result, no lock is taken, no Python code runs. Everything else goes to `general`, a Python function
with the whole of numpy.matmul's meaning, which comes back through `products` for the arithmetic.
"""

include "_call.pxi"


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

    def bind(self, a, b, out, level=None):
        """A callable without arguments that computes out[...] = a @ b each time and returns out.

        a, b: as for a call; what they hold is read at each call, their shapes and strides now. For
        float32 and float64 arrays of one or two dimensions that `out` does not overlap, a call costs
        about 30 ns and the arithmetic; for all others it costs what nj.matmul costs. Raises now what a
        call would raise for these shapes and dtypes.

        level: "O0" to "O3", or None for NEUROJIT_LEVEL: how much is done to make such a call quick, never
        what it computes. ValueError for any other.
        """
        return self.binder(a, b, out, level)

    def __repr__(self):
        return "<function neurojit.matmul>"

    @property
    def __module__(self):
        return "neurojit"  # pickle would look for it in every module that there is

    def __reduce__(self):
        return "matmul"


cdef void enable_vectorcall():
    cdef Matmul probe = Matmul.__new__(Matmul, print, None, None)
    nj_enable_vectorcall(<PyTypeObject *>Matmul, <char *>&probe.vectorcall - <char *><PyObject *>probe)


enable_vectorcall()


def describe(cnp.ndarray a, b, cnp.ndarray c):
    """(key words, fields) of the product of the arrays' last two dimensions, or None if it has no key.

    The fields are m, n, k, the strides a_row, a_column, b_row, b_column, c_row in elements, and the
    element size in bytes.
    """
    cdef Product p
    cdef nj_key key
    if not product_of(<array_object *>a, b, <array_object *>c, &p) or not make_key(&p, &key):
        return None
    return (
        (key.word[0], key.word[1], key.word[2], key.word[3]),
        (p.m, p.n, p.k, p.a_row, p.a_column, p.b_row, p.b_column, p.c_row, p.element),
    )


def products(cnp.ndarray a, b, cnp.ndarray c):
    """c[...] = a[...] @ b[...] over the leading dimensions of c, by the kernel in the product's slot.

    All have the same number of dimensions and native float32 or float64 elements; leading extents are
    c's (broadcast with stride 0). Returns False, and c is untouched, when no kernel is published.
    """
    cdef Product p
    if not product_of(<array_object *>a, b, <array_object *>c, &p):
        return False
    return run_products(&p, a, b, c, ()) != 0
