# Which arrays a program takes in the common case. Included by the modules that read the arguments of a
# program without creating a Python object, since what stands here is inlined into each hot path.

include "_arrays.pxi"

from neurojit._program cimport MOST_OPERANDS, Argument, Program


cdef inline bint fits(PyObject *given, const Argument *expected, int64_t *extent) noexcept nogil:
    """An exact, contiguous array of the expected type and shape; a dynamic extent is learned, then kept."""
    cdef array_object *x = <array_object *>given
    cdef cnp.npy_intp *dims
    cdef int axis, first = 0
    if (Py_TYPE(given) != array_type or PyArray_DESCR(x) != expected.descr
            or PyArray_NDIM(x) != expected.ndim or not PyArray_FLAGS(x) & C_CONTIGUOUS):
        return False
    dims = PyArray_DIMS(x)
    if expected.dims[0] < 0:
        if extent[0] < 0:
            extent[0] = dims[0]
        elif extent[0] != dims[0]:
            return False
        first = 1
    for axis in range(first, expected.ndim):
        if dims[axis] != expected.dims[axis]:
            return False
    return True
