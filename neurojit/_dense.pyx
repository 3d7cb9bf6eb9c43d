"""The call path of `nj.linear`: that of `nj.matmul`, with a bias beside and an activation found by hash."""

include "_call.pxi"


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
    cdef void *bias = NULL
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
            and call.b_ndim == 2
            and (given[2] is NULL or read_out(given[2], &call))
            and (given[0] is NULL or read_bias(given[0], given[2], &call))):
        if given[1] is not NULL:
            number = PyDict_GetItemWithError(ACTIVATIONS, given[1])
            if number is NULL:
                PyErr_Clear()  # an unhashable one: `general` says what is wrong with it
                return general_call(general, args, nargsf, kwnames)
        if name_epilogue(&call, 0 if number is NULL else PyLong_AsLong(number), given[0] is not NULL):
            if given[0] is not NULL:
                bias = PyArray_DATA(<array_object *>given[0])
            result = run(&call, bias, given[2], &compiled)
            if compiled:
                return result
    return general_call(general, args, nargsf, kwnames)


cdef class Linear:
    """A dense layer: `nj.linear(x, w, b=None, activation=None, out=None)` is activation(x @ w + b).

    x: (..., k) array; w: (k, n) array; b: (n,) array or None; all float32 or all float64. out: array of
    the result's shape (..., n), which may overlap the inputs. activation: None; a name: identity, exp,
    log, tanh, sigmoid, erf, relu, leaky_relu (slope 0.01), elu (alpha 1), silu, gelu (the erf form),
    gelu_tanh; or a tuple of name and parameters: ("leaky_relu", slope), ("elu", alpha), ("clamp", low,
    high).

    The product, the bias and the activation are one kernel while w stays in cache, and several passes
    beyond; the bits are the same. Functions are within 2.4 units in the last place (neurojit.functions
    has the bound of each). Raises ValueError for shapes and activations that do not fit, TypeError for
    dtypes; out is then untouched.
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


def describe_linear(cnp.ndarray x, w, cnp.ndarray out, int64_t activation, bint biased):
    """As `describe`, for a dense layer on matrices: (key words, fields of the product), or None."""
    cdef Call call
    cdef nj_key key
    if not product_of(<array_object *>x, w, <array_object *>out, &call.p):
        return None
    if not name_epilogue(&call, activation, biased) or not make_key(&call.p, &key):
        return None
    return (
        (key.word[0], key.word[1], key.word[2], key.word[3]),
        (call.p.m, call.p.n, call.p.k, call.p.a_row, 1, call.p.b_row, call.p.b_column, call.p.c_row,
         call.p.element),
    )


cdef void enable_vectorcall():
    cdef Linear layer = Linear.__new__(Linear, print, None)
    nj_enable_vectorcall(<PyTypeObject *>Linear, <char *>&layer.vectorcall - <char *><PyObject *>layer)


enable_vectorcall()
