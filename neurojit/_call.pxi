# How a call is read and run: from Python objects to a key, a slot and its code. Included by the modules
# that make callables of it (_matmul, _dense), since what stands here is inlined into each hot path.

include "_arrays.pxi"

from libc.string cimport memset

from neurojit.runtime._blocked cimport nj_gemm_batch, run_batch
from neurojit.runtime._runtime cimport (
    NJ_CODE_RELEASES_GIL, SlotTable, nj_code, nj_key, nj_slot, nj_slot_enter, nj_slot_leave, nj_slot_table,
    nj_slot_is_published, nj_slots_find,
)

from neurojit._packed cimport PackedWeights

from neurojit._packed import PackedWeights as _PackedWeights
from neurojit.runtime import SLOTS

# Multiply-adds of about 10 us: below, giving up the GIL costs more than it gives.
cdef int64_t GIL_WORTH_RELEASING = 500_000

# A dense layer has the key of its product, with the number of its epilogue in a place whose value is known
# then: that of C's row stride, which is n, or that of A's column stride, which is 1. Such numbers are so
# negative that no stride has them.
cdef int64_t EPILOGUES = INT32_MIN
cdef int64_t MOST_EPILOGUES = 1 << 16

cdef enum:
    MOST_BESIDE = 2            # operands after C: a bias, a residual
    MOST_BUFFERS = 4 + MOST_BESIDE  # context, A, B, C and those

# Packed weights have these in place of strides: see neurojit/plan/panels.py. Arrays with such strides get no
# kernel.
cdef int64_t PACKED = INT32_MIN
cdef int64_t MOST_STORAGES = 16

# One product as the key sees it. Strides in elements.
cdef struct Product:
    int64_t m, n, k
    int64_t a_row, a_column, b_row, b_column, c_row
    int element  # 4 or 8 bytes: float32 or float64

cdef void *FLOAT32 = PyArray_DescrFromType(cnp.NPY_FLOAT32)
cdef void *FLOAT64 = PyArray_DescrFromType(cnp.NPY_FLOAT64)
cdef PyObject *PACKED_WEIGHTS = <PyObject *>_PackedWeights
cdef intptr_t NO_STEPS[64]
memset(NO_STEPS, 0, sizeof(NO_STEPS))
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
    int b_ndim
    int ndim
    cnp.npy_intp dims[2]


cdef inline bint read_inputs(PyObject *left, PyObject *right, Call *call) noexcept:
    """Exact arrays of one native float type, one or two dimensions, not both of one; the second may be packed
    weights. Else False."""
    cdef array_object *a
    cdef array_object *b
    cdef PackedWeights w
    cdef bint packed = <PyObject *>Py_TYPE(right) == PACKED_WEIGHTS
    cdef Product *p = &call.p
    cdef cnp.npy_intp *extents
    cdef int a_ndim, b_ndim
    if Py_TYPE(left) != array_type or not (packed or Py_TYPE(right) == array_type):
        return False
    a, b = <array_object *>left, <array_object *>right
    call.descr = PyArray_DESCR(a)
    if not packed and call.descr != PyArray_DESCR(b):
        return False
    if call.descr == FLOAT32:
        p.element = 4
    elif call.descr == FLOAT64:
        p.element = 8
    else:
        return False
    a_ndim, b_ndim = PyArray_NDIM(a), 2 if packed else PyArray_NDIM(b)
    if a_ndim == 2:
        if b_ndim != 2 and b_ndim != 1:
            return False
    elif a_ndim != 1 or b_ndim != 2:
        return False

    extents = PyArray_DIMS(a)
    p.m = extents[0] if a_ndim == 2 else 1
    p.k = extents[a_ndim - 1]
    if packed:
        w = <PackedWeights><object>right
        if w.element != p.element or w.k != p.k:
            return False
        p.n, p.b_row, p.b_column = w.n, w.row, w.column
        call.b = w.data
    else:
        extents = PyArray_DIMS(b)
        p.n = extents[1] if b_ndim == 2 else 1
        if p.k != extents[0]:
            return False
        call.b = PyArray_DATA(b)
    if p.m == 0 or p.n == 0 or p.k == 0:
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
    if packed:
        pass
    elif PyArray_FLAGS(b) & C_CONTIGUOUS:
        p.b_row, p.b_column = p.n, 1
    else:
        if not strides_of(b, p.element, &p.b_row, &p.b_column):
            return False
        if p.k == 1:
            p.b_row = p.n
        if p.n == 1:
            p.b_column = 1
        if p.b_column < PACKED + MOST_STORAGES:
            return False
    p.c_row = p.n
    call.a = PyArray_DATA(a)
    call.b_ndim = b_ndim
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
    if p.b_column < PACKED + MOST_STORAGES:
        return True  # packed weights share their memory with nobody
    span(<char *>call.b, p.k, p.n, p.b_row, p.b_column, p.element, &low, &high)
    return not (low < c_high and c_low < high)


cdef inline int64_t run_code(nj_code *code, void **buffers) noexcept:
    """Code that was entered, on its operands from buffers[1] on; without the GIL where that is worth it."""
    cdef PyThreadState *thread
    cdef int64_t status
    buffers[0] = code.context
    if code.flags & NJ_CODE_RELEASES_GIL:
        thread = PyEval_SaveThread()
        status = code.entry(buffers, 0)
        PyEval_RestoreThread(thread)
    else:
        status = code.entry(buffers, 0)
    return status


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
    buffers[1], buffers[2] = call.a, call.b
    buffers[3], buffers[4] = PyArray_DATA(<array_object *>result), beside
    status = run_code(code, buffers)
    nj_slot_leave(slot)
    if status != 0:  # NJ_GEMM_NO_MEMORY: only the blocked driver needs any
        Py_DECREF(result)
        set_no_memory()
        return NULL
    return result


cdef void set_no_memory() noexcept:
    PyErr_SetString(PyExc_MemoryError,
                    "no memory for packed panels, out is unchanged; free some memory and call again")


cdef inline void *data_of(object x) noexcept:
    """Where an array's elements or packed weights begin."""
    return (<PackedWeights>x).data if type(x) is _PackedWeights else PyArray_DATA(<array_object *>x)


cdef inline const intptr_t *strides_over(object x) noexcept:
    """Of its leading dimensions; packed weights are the same for all."""
    if type(x) is _PackedWeights:
        return NO_STEPS
    return <const intptr_t *>PyArray_STRIDES(<array_object *>x)


cdef inline bint product_of(array_object *a, object right, array_object *c, Product *p) except -1:
    """The product of the last two dimensions of three arrays with at least two each, or of packed weights."""
    cdef int da = PyArray_NDIM(a), db, dc = PyArray_NDIM(c)
    cdef int64_t c_column
    cdef array_object *b
    cdef PackedWeights w
    p.element = 4 if cnp.PyArray_ITEMSIZE(<cnp.ndarray><object>c) == 4 else 8
    p.m, p.k = PyArray_DIMS(a)[da - 2], PyArray_DIMS(a)[da - 1]
    p.a_row, p.a_column = PyArray_STRIDES(a)[da - 2], PyArray_STRIDES(a)[da - 1]
    if type(right) is _PackedWeights:
        w = right
        p.n, p.b_row, p.b_column = w.n, w.row * p.element, w.column * p.element
    elif isinstance(right, cnp.ndarray):
        b = <array_object *>right
        db = PyArray_NDIM(b)
        p.n = PyArray_DIMS(b)[db - 1]
        p.b_row, p.b_column = PyArray_STRIDES(b)[db - 2], PyArray_STRIDES(b)[db - 1]
        if p.b_column < (PACKED + MOST_STORAGES) * p.element:
            return False
    else:
        raise TypeError(f"right operand: expected an array or packed weights, got {type(right).__name__}")
    p.c_row, c_column = PyArray_STRIDES(c)[dc - 2], PyArray_STRIDES(c)[dc - 1]
    if (p.a_row | p.a_column | p.b_row | p.b_column | p.c_row) & (p.element - 1):
        return False
    p.a_row //= p.element
    p.a_column //= p.element
    p.b_row //= p.element
    p.b_column //= p.element
    p.c_row //= p.element
    if p.k == 1:
        p.a_column = 1
    if p.m == 1:
        p.a_row, p.c_row = p.k, p.n
    if p.n == 1:
        c_column = p.element
    if p.b_column >= PACKED + MOST_STORAGES:
        if p.k == 1:
            p.b_row = p.n
        if p.n == 1:
            p.b_column = 1
    if p.a_column < EPILOGUES + MOST_EPILOGUES:
        return False
    return c_column == p.element and p.c_row >= p.n


cdef inline int run_products(const Product *p, cnp.ndarray a, b, cnp.ndarray c,
                             tuple besides) except -1:
    """c[...] = a[...] @ b[...] over the leading dimensions of c, by the kernel in the slot of p's key.

    All have the same number of dimensions; leading extents are c's (broadcast with stride 0). besides: the
    operands after C, with the same leading dimensions. 0, and c is untouched, when no kernel is published.
    """
    cdef nj_key key
    cdef nj_slot *slot
    cdef nj_code *code
    cdef nj_gemm_batch batch
    cdef int64_t status
    cdef double work
    cdef PyThreadState *thread = NULL
    cdef int axis, i
    cdef array_object *x = <array_object *>a
    cdef array_object *z = <array_object *>c
    if not make_key(p, &key):
        return 0
    batch.axes, batch.work, batch.besides = PyArray_NDIM(z) - 2, p.m * p.n * p.k, <int>len(besides)
    for i in range(batch.besides):
        batch.beside[i] = <const char *>PyArray_DATA(<array_object *>besides[i])
        batch.beside_stride[i] = <const intptr_t *>PyArray_STRIDES(<array_object *>besides[i])
    batch.a, batch.b, batch.c = <char *>PyArray_DATA(x), <char *>data_of(b), <char *>PyArray_DATA(z)
    batch.extent, batch.c_stride = <const intptr_t *>PyArray_DIMS(z), <const intptr_t *>PyArray_STRIDES(z)
    batch.a_stride = <const intptr_t *>PyArray_STRIDES(x)
    batch.b_stride = strides_over(b)
    work = <double>batch.work
    for axis in range(batch.axes):
        work *= <double>batch.extent[axis]
    slot = nj_slots_find(TABLE, &key)
    code = nj_slot_enter(slot) if slot is not NULL else NULL
    if code is NULL:
        return 0
    batch.code = code
    if code.flags & NJ_CODE_RELEASES_GIL or work > GIL_WORTH_RELEASING:
        thread = PyEval_SaveThread()
    status = run_batch(&batch)
    if thread is not NULL:
        PyEval_RestoreThread(thread)
    nj_slot_leave(slot)
    if status != 0:
        set_no_memory()
        return -1
    return 1
