"""The call path of `nj.linear`: that of `nj.matmul`, with a bias beside and an activation found by hash.

What is done to a product, besides adding a bias, has a *number*, which stands in the key of its kernels.
Numbers are few and are given again: to something else, when nobody has asked for what they meant lately and
no kernel in the slots of their keys is left. A `Number` holds one; what is held keeps its meaning.

A call of the fast path holds none: from the look-up to the slot it has entered nothing else runs that needs
the GIL, and giving a number again needs it.
"""

include "_call.pxi"

from libc.stdint cimport uint8_t

cdef enum:
    NUMBERS = 1024  # so many are kept
    BIASES = 8      # codes of one number: the kinds of bias, and room for more

BIAS_KINDS = ("none", "row", "column")

cdef dict _NUMBERS = {None: 0}   # what `linear` may be given as an activation, and keys of more -> number
cdef list _NAMES = [[None]]      # number -> those of its names in _NUMBERS
cdef uint8_t RECENT[NUMBERS]     # asked for since the hand last passed
cdef int HOLDERS[NUMBERS]
cdef int hand = 0
cdef PyObject *ACTIVATIONS = <PyObject *>_NUMBERS
cdef object _B = "b", _ACTIVATION = "activation"
cdef PyObject *B = <PyObject *>_B
cdef PyObject *ACTIVATION = <PyObject *>_ACTIVATION


cdef int free_number() except -2:
    """A number that means nothing, held once; -1 where all are held. Finalizers may run in here, and whatever
    they call: so it is held before anything else."""
    global hand
    cdef int number, _
    cdef uint32_t code
    if len(_NAMES) < NUMBERS:
        _NAMES.append([])
        number = <int>len(_NAMES) - 1
        HOLDERS[number] += 1
        return number
    for _ in range(2 * NUMBERS):  # the second time round, nothing is recent
        hand = hand + 1 if hand + 1 < NUMBERS else 1  # 0 is the identity's for good
        number = hand
        if HOLDERS[number] != 0 or RECENT[number]:
            RECENT[number] = 0
            continue
        HOLDERS[number] += 1
        for name in _NAMES[number]:
            if _NUMBERS.get(name) == number:
                del _NUMBERS[name]
        _NAMES[number] = []
        code = <uint32_t>(EPILOGUES + BIASES * number)
        mask = 0xFFFFFFFF - (BIASES - 1)
        SLOTS.evict_keys((0, 0, mask, 0), (0, 0, code, 0))  # in the place of A's column stride,
        SLOTS.evict_keys((0, 0, 0, mask << 32), (0, 0, 0, <uint64_t>code << 32))  # and of C's row stride
        return number
    return -1


cdef class Number:
    """Holds the number of `key`, any hashable. `name`, unless None, is another that means the same, by which
    the fast path finds it. `given`: whether it meant something else before. `number` is -1 where all are
    held."""

    cdef readonly int number
    cdef readonly bint given

    def __cinit__(self, key, name=None):
        self.number = -1
        known = _NUMBERS.get(key)
        if known is None:
            self.given = len(_NAMES) == NUMBERS
            self.number = free_number()
            if self.number < 0:
                return
            _NUMBERS[key] = self.number
            _NAMES[self.number].append(key)
        else:
            self.number = known
            HOLDERS[self.number] += 1
        RECENT[self.number] = 1
        if name is not None and name not in _NUMBERS:
            _NUMBERS[name] = self.number
            _NAMES[self.number].append(name)

    def __dealloc__(self):
        if self.number >= 0:
            HOLDERS[self.number] -= 1


cdef inline bint name_epilogue(Product *p, int64_t number, int64_t bias) noexcept nogil:
    """Put the epilogue into the product's key; False where there is no place for it."""
    cdef int64_t code = EPILOGUES + BIASES * number + bias
    if number == 0 and bias == 0:
        return True
    if p.c_row == p.n:
        p.c_row = code
    elif p.a_column == 1:
        p.a_column = code
    else:
        return False
    return True


cdef inline int read_bias(PyObject *bias, PyObject *out, const Call *call) noexcept nogil:
    """The kind of bias: n adjacent elements are a row, (m, 1) of them a column. 0 for what is neither, or
    overlapped by `out`."""
    cdef array_object *b = <array_object *>bias
    cdef uintptr_t low, high, c_low, c_high
    cdef int kind = PyArray_NDIM(b) if Py_TYPE(bias) == array_type else 0
    cdef int64_t length = call.p.n
    if (kind != 1 and kind != 2) or PyArray_DESCR(b) != call.descr or not PyArray_FLAGS(b) & C_CONTIGUOUS:
        return 0
    if kind == 2:
        length = call.p.m
        if call.ndim != 2 or PyArray_DIMS(b)[1] != 1:
            return 0
    if PyArray_DIMS(b)[0] != length:
        return 0
    if out is not NULL:
        span(<char *>PyArray_DATA(<array_object *>out), call.p.m, call.p.n, call.p.c_row, 1, call.p.element,
             &c_low, &c_high)
        span(<char *>PyArray_DATA(b), 1, length, length, 1, call.p.element, &low, &high)
        if low < c_high and c_low < high:
            return 0
    return kind


cdef PyObject *linear_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf,
                                 PyObject *kwnames) noexcept:
    cdef Py_ssize_t nargs = PyVectorcall_NARGS(nargsf), i, named
    cdef PyObject *given[3]
    cdef PyObject *name
    cdef PyObject *found
    cdef PyObject *result
    cdef void *bias = NULL
    cdef int kind = 0
    cdef long number = 0
    cdef Call call
    cdef bint compiled
    cdef object general = (<Linear><object>self).general
    given[0] = given[1] = given[2] = NULL  # b, activation, out
    named = 0 if kwnames is NULL else PyTuple_GET_SIZE(kwnames)
    if nargs < 2 or nargs > 5:
        return general_call(general, args, nargsf, kwnames)
    for i in range(2, nargs):
        given[i - 2] = args[i]
    for i in range(named):
        name = PyTuple_GET_ITEM(kwnames, i)
        if name == ACTIVATION and nargs < 4:
            given[1] = args[nargs + i]
        elif name == OUT and nargs < 5:
            given[2] = args[nargs + i]
        elif name == B and nargs == 2:
            given[0] = args[nargs + i]
        else:
            return general_call(general, args, nargsf, kwnames)
    for i in range(3):
        if given[i] == c_None:
            given[i] = NULL
    if (not read_inputs(args[0], args[1], &call) or call.b_ndim != 2
            or (given[2] is not NULL and not read_out(given[2], &call))):
        return general_call(general, args, nargsf, kwnames)
    if given[0] is not NULL:
        kind = read_bias(given[0], given[2], &call)
        if kind == 0:
            return general_call(general, args, nargsf, kwnames)
        bias = PyArray_DATA(<array_object *>given[0])
    if given[1] is not NULL:
        found = PyDict_GetItemWithError(ACTIVATIONS, given[1])
        if found is NULL:
            PyErr_Clear()  # an unhashable one: `general` says what is wrong with it
            return general_call(general, args, nargsf, kwnames)
        number = PyLong_AsLong(found)
        RECENT[number] = 1
    if name_epilogue(&call.p, number, kind):
        result = run(&call, bias, given[2], &compiled)
        if compiled:
            return result
    return general_call(general, args, nargsf, kwnames)


cdef class Linear:
    """A dense layer: activation(alpha x @ w + beta out + b + residual), as one kernel.

    `nj.linear(x, w, b=None, activation=None, out=None, *, alpha=1.0, beta=0.0, residual=None)`

    x: (..., m, k) or (k,) array; w: (k, n) array. b: (n,), one element for each column of the result, or
    (m, 1), one for each row; or None. residual: array that broadcasts to the result's shape, or None. All of
    one dtype, float32 or float64. out: array of the result's shape (..., m, n) or (n,), written in place; it
    may overlap the inputs. alpha, beta: numbers; out is read only if beta is not 0, and then there must be
    one. activation: None; a name: identity, exp, log, tanh, sigmoid, erf, relu, leaky_relu (slope 0.01), elu
    (alpha 1), silu, gelu (the erf form), gelu_tanh; or a tuple of name and parameters: ("leaky_relu", slope),
    ("elu", alpha), ("clamp", low, high). Returns out, or a new array.

    Rounding: x @ w as nj.matmul, then each product and each sum, from left to right, to the dtype; alpha = 1
    and beta = 1 multiply nothing. So up to the activation the bits are those of the same steps in NumPy on
    nj.matmul's result, for any number of threads. identity, relu, leaky_relu and clamp are exact, the other
    functions within 2.4 units in the last place (neurojit.functions has the bound of each).

    A call costs some 80 ns and its arithmetic, one with alpha, beta, residual or more than two dimensions
    some microseconds; `bind` makes any of them cheaper. Raises ValueError for shapes, activations and numbers
    that do not fit, TypeError for dtypes, MemoryError where a large product finds no scratch; out is then
    untouched.
    """

    cdef vectorcallfunc vectorcall
    cdef object general
    cdef object binder
    cdef readonly object __signature__
    cdef readonly str __name__

    def __cinit__(self, general, signature, binder):
        self.vectorcall = linear_vectorcall
        self.general = general
        self.binder = binder
        self.__signature__ = signature
        self.__name__ = "linear"

    def bind(self, x, w, b=None, activation=None, out=None, *, alpha=1.0, beta=0.0, residual=None):
        """A callable without arguments that computes the layer into `out` each time, and returns `out`.

        Arguments as for a call, but `out` must be given. What arrays hold is read at each call, their shapes
        and strides now. A call costs about 30 ns and the arithmetic where all of it is one kernel on the
        arrays themselves: their last dimension contiguous, the others evenly spaced, nothing overlapped by
        `out`; for all others it costs what nj.linear costs. Raises now what a call would raise.
        """
        return self.binder(x, w, b, activation, out, alpha=alpha, beta=beta, residual=residual)

    def __repr__(self):
        return "<function neurojit.linear>"

    @property
    def __module__(self):
        return "neurojit"  # pickle would look for it in every module that there is

    def __reduce__(self):
        return "linear"


cdef bint read_layer(cnp.ndarray x, w, cnp.ndarray y, int number, int bias, Product *p) except -1:
    return (product_of(<array_object *>x, w, <array_object *>y, p)
            and name_epilogue(p, number, bias))


def describe_layer(cnp.ndarray x, w, cnp.ndarray y, int number, int bias):
    """As `_matmul.describe`, for an epilogue by its number and the index of its bias in BIAS_KINDS: (key
    words, fields of the product), or None if it has no key."""
    cdef Product p
    cdef nj_key key
    if not read_layer(x, w, y, number, bias, &p) or not make_key(&p, &key):
        return None
    words = key.word[0], key.word[1], key.word[2], key.word[3]
    product_of(<array_object *>x, w, <array_object *>y, &p)  # without the name
    return words, (p.m, p.n, p.k, p.a_row, p.a_column, p.b_row, p.b_column, p.c_row, p.element)


def layers(cnp.ndarray x, w, cnp.ndarray y, int number, int bias, tuple besides not None):
    """y[...] = epilogue(x[...] @ w[...]) over the leading dimensions of y, as _matmul.products. besides: the
    epilogue's operands, with those dimensions too. False, and y is untouched, when no kernel is published."""
    cdef Product p
    if not read_layer(x, w, y, number, bias, &p):
        return False
    return run_products(&p, x, w, y, besides) != 0


cdef void enable_vectorcall():
    cdef Linear layer = Linear.__new__(Linear, print, None, None)
    nj_enable_vectorcall(<PyTypeObject *>Linear, <char *>&layer.vectorcall - <char *><PyObject *>layer)


enable_vectorcall()
