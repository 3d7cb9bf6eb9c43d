"""The call path of `nj.matmul`: from Python objects to a kernel in a few tens of nanoseconds.

`Matmul` implements the vectorcall protocol itself. The common case (two exact float32 or float64
arrays of one or two dimensions, and an `out` that fits) is decided from the NumPy structs alone:
shape and strides make a key, the key finds a slot, the slot's code runs. Nothing is allocated but the
result, no lock is taken, no Python code runs. Everything else goes to `general`, a Python function
with the whole of numpy.matmul's meaning, which comes back through `products` for the arithmetic.
"""

from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport INT32_MAX, INT32_MIN, int64_t, intptr_t, uint32_t, uint64_t, uintptr_t

cimport numpy as cnp

from neurojit.runtime._runtime cimport (
    NJ_CODE_RELEASES_GIL, SlotTable, nj_code, nj_key, nj_slot, nj_slot_enter, nj_slot_leave, nj_slot_table,
    nj_slot_is_published, nj_slots_find,
)
from neurojit.runtime._blocked cimport nj_gemm_batch, run_batch

from neurojit.runtime import SLOTS

cnp.import_array()

cdef extern from "Python.h":
    ctypedef struct PyThreadState
    PyThreadState *PyEval_SaveThread() noexcept
    void PyEval_RestoreThread(PyThreadState *) noexcept
    ctypedef PyObject *(*vectorcallfunc)(PyObject *, PyObject *const *, size_t, PyObject *) noexcept
    Py_ssize_t PyVectorcall_NARGS(size_t) noexcept nogil
    PyObject *PyVectorcall_Call(PyObject *, PyObject *, PyObject *) noexcept
    PyObject *PyObject_Vectorcall(PyObject *, PyObject *const *, size_t, PyObject *) noexcept
    void PyType_Modified(PyTypeObject *) noexcept
    PyTypeObject *Py_TYPE(PyObject *) noexcept nogil
    PyObject *PyTuple_GET_ITEM(PyObject *, Py_ssize_t) noexcept nogil
    PyObject *PyDict_GetItemWithError(PyObject *, PyObject *) noexcept
    long PyLong_AsLong(PyObject *) noexcept
    void PyErr_Clear() noexcept
    Py_ssize_t PyTuple_GET_SIZE(PyObject *) noexcept nogil
    void Py_DECREF(PyObject *) noexcept
    void c_incref "Py_INCREF"(PyObject *) noexcept
    PyObject *c_None "Py_None"
    void PyErr_SetString(PyObject *, const char *) noexcept
    PyObject *PyExc_MemoryError
    PyObject *PyExc_TypeError

cdef extern from *:
    """
    /* The slots Cython's PyTypeObject declaration leaves out. */
    static void nj_enable_vectorcall(PyTypeObject *type, Py_ssize_t offset) {
        type->tp_vectorcall_offset = offset;
        type->tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL;
        type->tp_call = PyVectorcall_Call;
        PyType_Modified(type);
    }
    """
    void nj_enable_vectorcall(PyTypeObject *type, Py_ssize_t offset) noexcept

cdef extern from "numpy/arrayobject.h":
    PyTypeObject *array_type "&PyArray_Type"
    ctypedef struct array_object "PyArrayObject":
        pass
    int PyArray_NDIM(array_object *) noexcept nogil
    int PyArray_FLAGS(array_object *) noexcept nogil
    void *PyArray_DATA(array_object *) noexcept nogil
    cnp.npy_intp *PyArray_DIMS(array_object *) noexcept nogil
    cnp.npy_intp *PyArray_STRIDES(array_object *) noexcept nogil
    void *PyArray_DESCR(array_object *) noexcept nogil
    void *PyArray_DescrFromType(int) noexcept
    PyObject *PyArray_NewFromDescr(PyTypeObject *, void *, int, cnp.npy_intp *, cnp.npy_intp *, void *, int,
                                   PyObject *) noexcept

cdef enum:
    C_CONTIGUOUS = 0x0001  # NPY_ARRAY_C_CONTIGUOUS
    WRITEABLE = 0x0400     # NPY_ARRAY_WRITEABLE

# Multiply-adds of about 10 us: below, giving up the GIL costs more than it gives.
cdef int64_t GIL_WORTH_RELEASING = 500_000

# A dense layer is the product of its key, with the number of its epilogue where A's column stride, always
# 1 here, would stand: negative numbers so large that no stride has them.
cdef int64_t EPILOGUES = INT32_MIN
cdef int64_t MOST_EPILOGUES = 1 << 16

# One product as the key sees it. Strides in elements.
cdef struct Product:
    int64_t m, n, k
    int64_t a_row, a_column, b_row, b_column, c_row
    int element  # 4 or 8 bytes: float32 or float64

cdef void *FLOAT32 = PyArray_DescrFromType(cnp.NPY_FLOAT32)
cdef void *FLOAT64 = PyArray_DescrFromType(cnp.NPY_FLOAT64)
cdef object _OUT = "out"
cdef PyObject *OUT = <PyObject *>_OUT
cdef nj_slot_table *TABLE = (<SlotTable>SLOTS).table


cdef inline bint fits32(int64_t value) noexcept nogil:
    return INT32_MIN <= value <= INT32_MAX


cdef inline bint make_key(const Product *p, nj_key *key) noexcept nogil:
    """False when an extent or a stride does not fit the key's 32-bit fields."""
    if not (fits32(p.m) and fits32(p.n) and fits32(p.k) and fits32(p.a_row) and fits32(p.a_column)
            and fits32(p.b_row) and fits32(p.b_column) and fits32(p.c_row)):
        return False
    # extents are positive, so bit 31 of the first is free for the element type
    key.word[0] = <uint64_t>p.m | <uint64_t>(p.element == 8) << 31 | <uint64_t>p.n << 32
    key.word[1] = <uint64_t>p.k | <uint64_t>p.a_row << 32
    key.word[2] = <uint64_t><uint32_t>p.a_column | <uint64_t>p.b_row << 32
    key.word[3] = <uint64_t><uint32_t>p.b_column | <uint64_t>p.c_row << 32
    return True


cdef inline bint strides_of(array_object *x, int element, int64_t *row, int64_t *column) noexcept nogil:
    """Strides of a matrix or a vector in elements; False when they are no whole number of elements."""
    cdef cnp.npy_intp *strides = PyArray_STRIDES(x)
    cdef int64_t outer = strides[0], inner = strides[PyArray_NDIM(x) - 1]
    if (outer | inner) & (element - 1):
        return False
    row[0] = outer // element  # exact: with cdivision, a signed division by a power of two
    column[0] = inner // element
    return True


cdef inline void span(const char *data, int64_t rows, int64_t columns, int64_t row, int64_t column,
                      int element, uintptr_t *low, uintptr_t *high) noexcept nogil:
    """The lowest address of a matrix and the first one behind it."""
    cdef int64_t down = (rows - 1) * row * element, across = (columns - 1) * column * element
    low[0] = <uintptr_t>data + (down if down < 0 else 0) + (across if across < 0 else 0)
    high[0] = <uintptr_t>data + (down if down > 0 else 0) + (across if across > 0 else 0) + element


# A call in the common case: what it computes, and what its result looks like.
cdef struct Call:
    Product p
    void *descr
    void *a
    void *b
    int ndim
    cnp.npy_intp dims[2]


cdef inline bint read_inputs(PyObject *left, PyObject *right, Call *call) noexcept nogil:
    """Exact arrays of one native float type, one or two dimensions, not both of one; else False."""
    cdef array_object *a
    cdef array_object *b
    cdef Product *p = &call.p
    cdef cnp.npy_intp *extents
    cdef int a_ndim, b_ndim
    if Py_TYPE(left) != array_type or Py_TYPE(right) != array_type:
        return False
    a, b = <array_object *>left, <array_object *>right
    call.descr = PyArray_DESCR(a)
    if call.descr != PyArray_DESCR(b):
        return False
    if call.descr == FLOAT32:
        p.element = 4
    elif call.descr == FLOAT64:
        p.element = 8
    else:
        return False
    a_ndim, b_ndim = PyArray_NDIM(a), PyArray_NDIM(b)
    if a_ndim == 2:
        if b_ndim != 2 and b_ndim != 1:
            return False
    elif a_ndim != 1 or b_ndim != 2:
        return False

    extents = PyArray_DIMS(a)
    p.m = extents[0] if a_ndim == 2 else 1
    p.k = extents[a_ndim - 1]
    extents = PyArray_DIMS(b)
    p.n = extents[1] if b_ndim == 2 else 1
    if p.k != extents[0] or p.m == 0 or p.n == 0 or p.k == 0:
        return False

    # Strides. An extent of 1 has none that matter: it gets the contiguous one, for one key.
    if PyArray_FLAGS(a) & C_CONTIGUOUS:
        p.a_row, p.a_column = p.k, 1
    else:
        if not strides_of(a, p.element, &p.a_row, &p.a_column):
            return False
        if p.m == 1:
            p.a_row = p.k
        if p.k == 1:
            p.a_column = 1
        if p.a_column < EPILOGUES + MOST_EPILOGUES:
            return False  # such keys are those of epilogues
    if PyArray_FLAGS(b) & C_CONTIGUOUS:
        p.b_row, p.b_column = p.n, 1
    else:
        if not strides_of(b, p.element, &p.b_row, &p.b_column):
            return False
        if p.k == 1:
            p.b_row = p.n
        if p.n == 1:
            p.b_column = 1
    p.c_row = p.n
    call.a, call.b = PyArray_DATA(a), PyArray_DATA(b)
    call.ndim = 0
    if a_ndim == 2:
        call.dims[0] = p.m
        call.ndim = 1
    if b_ndim == 2:
        call.dims[call.ndim] = p.n
        call.ndim += 1
    return True


cdef inline bint read_out(PyObject *out, Call *call) noexcept nogil:
    """Exactly the result's shape and type, adjacent columns, rows apart, no overlap; else False."""
    cdef array_object *c = <array_object *>out
    cdef Product *p = &call.p
    cdef cnp.npy_intp *extents
    cdef int last = call.ndim - 1
    cdef uintptr_t low, high, c_low, c_high
    if (Py_TYPE(out) != array_type or PyArray_DESCR(c) != call.descr or PyArray_NDIM(c) != call.ndim
            or not PyArray_FLAGS(c) & WRITEABLE):
        return False
    extents = PyArray_DIMS(c)
    if extents[0] != call.dims[0] or extents[last] != call.dims[last]:
        return False
    if not PyArray_FLAGS(c) & C_CONTIGUOUS:
        if last != 1 or PyArray_STRIDES(c)[1] != p.element or PyArray_STRIDES(c)[0] & (p.element - 1):
            return False
        p.c_row = PyArray_STRIDES(c)[0] // p.element
        if p.c_row < p.n:
            return False
    span(<char *>PyArray_DATA(c), p.m, p.n, p.c_row, 1, p.element, &c_low, &c_high)
    span(<char *>call.a, p.m, p.k, p.a_row, p.a_column, p.element, &low, &high)
    if low < c_high and c_low < high:
        return False
    span(<char *>call.b, p.k, p.n, p.b_row, p.b_column, p.element, &low, &high)
    return not (low < c_high and c_low < high)


cdef inline PyObject *run(const Call *call, void *beside, PyObject *out, bint *compiled) noexcept:
    """The product by the kernel in its slot; `beside` is the kernel's operand after C, if it has one.

    NULL with compiled[0] false: there is no kernel. NULL with it true: an exception is set.
    """
    cdef nj_key key
    cdef nj_slot *slot
    cdef nj_code *code
    cdef PyObject *result
    cdef void *buffers[5]
    cdef int64_t status
    cdef PyThreadState *thread
    compiled[0] = False
    if not make_key(&call.p, &key):
        return NULL
    slot = nj_slots_find(TABLE, &key)
    if slot is NULL or not nj_slot_is_published(slot):
        return NULL
    # The result first: nothing that could run other code may stand between entering and leaving.
    if out is NULL:
        c_incref(<PyObject *>call.descr)
        result = PyArray_NewFromDescr(
            array_type, call.descr, call.ndim, <cnp.npy_intp *>call.dims, NULL, NULL, 0, NULL)
        if result is NULL:
            compiled[0] = True
            return NULL
    else:
        result = out
        c_incref(result)
    code = nj_slot_enter(slot)
    if code is NULL:  # evicted in between
        Py_DECREF(result)
        return NULL
    compiled[0] = True
    buffers[0], buffers[1], buffers[2] = code.context, call.a, call.b
    buffers[3], buffers[4] = PyArray_DATA(<array_object *>result), beside
    if code.flags & NJ_CODE_RELEASES_GIL:
        thread = PyEval_SaveThread()
        status = code.entry(buffers, 0)
        PyEval_RestoreThread(thread)
    else:
        status = code.entry(buffers, 0)
    nj_slot_leave(slot)
    if status != 0:  # NJ_GEMM_NO_MEMORY: only the blocked driver needs any
        Py_DECREF(result)
        set_no_memory()
        return NULL
    return result


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


cdef dict _ACTIVATIONS = {None: 0}
cdef PyObject *ACTIVATIONS = <PyObject *>_ACTIVATIONS
cdef object _B = "b", _ACTIVATION = "activation"
cdef PyObject *B = <PyObject *>_B
cdef PyObject *ACTIVATION = <PyObject *>_ACTIVATION


def number_activation(activation):
    """The number of an activation as `linear` is given it (a name, a tuple, an Activation); made if need be.

    The fast path finds it by hash, in one look-up."""
    return _ACTIVATIONS.setdefault(activation, len(_ACTIVATIONS))


cdef inline bint name_epilogue(Call *call, int64_t activation, bint biased) noexcept nogil:
    """Put the epilogue into the key's place; False where there is none for it."""
    if call.p.a_column != 1 or activation >= MOST_EPILOGUES // 2:
        return False
    if activation or biased:
        call.p.a_column = EPILOGUES + 2 * activation + biased
    return True


cdef inline bint read_bias(PyObject *bias, PyObject *out, const Call *call) noexcept nogil:
    """One row of n adjacent elements that `out` does not overlap."""
    cdef array_object *b = <array_object *>bias
    cdef uintptr_t low, high, c_low, c_high
    if (Py_TYPE(bias) != array_type or PyArray_DESCR(b) != call.descr or PyArray_NDIM(b) != 1
            or PyArray_DIMS(b)[0] != call.p.n or not PyArray_FLAGS(b) & C_CONTIGUOUS):
        return False
    if out is not NULL:
        span(<char *>PyArray_DATA(<array_object *>out), call.p.m, call.p.n, call.p.c_row, 1, call.p.element,
             &c_low, &c_high)
        span(<char *>PyArray_DATA(b), 1, call.p.n, call.p.n, 1, call.p.element, &low, &high)
        return not (low < c_high and c_low < high)
    return True


cdef PyObject *linear_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf,
                                 PyObject *kwnames) noexcept:
    cdef Py_ssize_t nargs = PyVectorcall_NARGS(nargsf), i, named
    cdef PyObject *given[3]
    cdef PyObject *name
    cdef PyObject *number = NULL
    cdef PyObject *result
    cdef Call call
    cdef bint compiled
    cdef object general = (<Linear><object>self).general
    given[0] = given[1] = given[2] = NULL  # b, activation, out
    named = 0 if kwnames is NULL else PyTuple_GET_SIZE(kwnames)
    if nargs == 3:
        given[0] = args[2]
    elif nargs != 2:
        return general_call(general, args, nargsf, kwnames)
    for i in range(named):
        name = PyTuple_GET_ITEM(kwnames, i)
        if name == ACTIVATION:
            given[1] = args[nargs + i]
        elif name == OUT:
            given[2] = args[nargs + i]
        elif name == B and nargs == 2:
            given[0] = args[nargs + i]
        else:
            return general_call(general, args, nargsf, kwnames)
    for i in range(3):
        if given[i] == c_None:
            given[i] = NULL
    if (read_inputs(args[0], args[1], &call)
            and PyArray_NDIM(<array_object *>args[1]) == 2
            and (given[2] is NULL or read_out(given[2], &call))
            and (given[0] is NULL or read_bias(given[0], given[2], &call))):
        if given[1] is not NULL:
            number = PyDict_GetItemWithError(ACTIVATIONS, given[1])
            if number is NULL:
                PyErr_Clear()  # an unhashable one: `general` says what is wrong with it
                return general_call(general, args, nargsf, kwnames)
        if name_epilogue(&call, 0 if number is NULL else PyLong_AsLong(number), given[0] is not NULL):
            result = run(&call, NULL if given[0] is NULL else PyArray_DATA(<array_object *>given[0]), given[2],
                         &compiled)
            if compiled:
                return result
    return general_call(general, args, nargsf, kwnames)


cdef class Linear:
    """A dense layer: `nj.linear(x, w, b=None, activation=None, out=None)` is activation(x @ w + b).

    x: (..., k) array; w: (k, n) array; b: (n,) array or None; all float32 or all float64. out: array of the
    result's shape (..., n), which may overlap the inputs. activation: None; a name: identity, exp, log, tanh,
    sigmoid, erf, relu, leaky_relu (slope 0.01), elu (alpha 1), silu, gelu (the erf form), gelu_tanh; or a
    tuple of name and parameters: ("leaky_relu", slope), ("elu", alpha), ("clamp", low, high).

    The product, the bias and the activation are one kernel while w stays in cache, and passes of their own
    beyond; the bits are the same. Functions are within 2.4 units in the last place (see neurojit.functions).
    Raises ValueError for shapes and activations that do not fit, TypeError for dtypes; out is then untouched.
    """

    cdef vectorcallfunc vectorcall
    cdef object general
    cdef readonly object __signature__
    cdef readonly str __name__

    def __cinit__(self, general, signature):
        self.vectorcall = linear_vectorcall
        self.general = general
        self.__signature__ = signature
        self.__name__ = "linear"

    def __repr__(self):
        return "<function neurojit.linear>"

    def __reduce__(self):
        return "linear"


def describe_linear(cnp.ndarray x, cnp.ndarray w, cnp.ndarray out, int64_t activation, bint biased):
    """As `describe`, for a dense layer on matrices: (key words, fields of the product), or None."""
    cdef Call call
    cdef nj_key key
    if not product_of(<array_object *>x, <array_object *>w, <array_object *>out, &call.p):
        return None
    if not name_epilogue(&call, activation, biased) or not make_key(&call.p, &key):
        return None
    return (
        (key.word[0], key.word[1], key.word[2], key.word[3]),
        (call.p.m, call.p.n, call.p.k, call.p.a_row, 1, call.p.b_row, call.p.b_column, call.p.c_row,
         call.p.element),
    )


cdef inline PyObject *general_call(object general, PyObject *const *args, size_t nargsf,
                                   PyObject *kwnames) noexcept:
    """Everything that is not the common case. `args` is passed on as it came."""
    return PyObject_Vectorcall(<PyObject *>general, args, PyVectorcall_NARGS(nargsf), kwnames)


cdef void set_no_memory() noexcept:
    PyErr_SetString(PyExc_MemoryError,
                    "matmul: no memory for packed panels, out is unchanged; free some memory and call again")


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
    cdef Linear layer = Linear.__new__(Linear, print, None)
    nj_enable_vectorcall(<PyTypeObject *>Linear, <char *>&layer.vectorcall - <char *><PyObject *>layer)
    cdef BoundMatmul bound = BoundMatmul.__new__(BoundMatmul)
    nj_enable_vectorcall(<PyTypeObject *>BoundMatmul, <char *>&bound.vectorcall - <char *><PyObject *>bound)


enable_vectorcall()


cdef bint product_of(array_object *a, array_object *b, array_object *c, Product *p) noexcept:
    """The product of the last two dimensions of three arrays with at least two each."""
    cdef int da = PyArray_NDIM(a), db = PyArray_NDIM(b), dc = PyArray_NDIM(c)
    cdef int64_t c_column
    p.element = 4 if cnp.PyArray_ITEMSIZE(<cnp.ndarray><object>c) == 4 else 8
    p.m, p.k, p.n = PyArray_DIMS(a)[da - 2], PyArray_DIMS(a)[da - 1], PyArray_DIMS(b)[db - 1]
    p.a_row, p.a_column = PyArray_STRIDES(a)[da - 2], PyArray_STRIDES(a)[da - 1]
    p.b_row, p.b_column = PyArray_STRIDES(b)[db - 2], PyArray_STRIDES(b)[db - 1]
    p.c_row, c_column = PyArray_STRIDES(c)[dc - 2], PyArray_STRIDES(c)[dc - 1]
    if (p.a_row | p.a_column | p.b_row | p.b_column | p.c_row) & (p.element - 1):
        return False
    p.a_row //= p.element
    p.a_column //= p.element
    p.b_row //= p.element
    p.b_column //= p.element
    p.c_row //= p.element
    if p.k == 1:
        p.a_column, p.b_row = 1, p.n
    if p.m == 1:
        p.a_row, p.c_row = p.k, p.n
    if p.n == 1:
        p.b_column, c_column = 1, p.element
    if p.a_column < EPILOGUES + MOST_EPILOGUES:
        return False
    return c_column == p.element and p.c_row >= p.n


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
    batch.code, batch.axes, batch.work = code, PyArray_NDIM(z) - 2, p.m * p.n * p.k
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
