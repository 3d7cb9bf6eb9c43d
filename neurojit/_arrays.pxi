# Python's and NumPy's structs as C sees them, for callables that read their arguments without creating a
# Python object. Included by the modules that define such.

from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport INT32_MAX, INT32_MIN, int64_t, intptr_t, uint32_t, uint64_t, uintptr_t

cimport numpy as cnp

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
    PyObject *PyTuple_New(Py_ssize_t) noexcept
    void PyTuple_SET_ITEM(PyObject *, Py_ssize_t, PyObject *) noexcept
    void Py_DECREF(PyObject *) noexcept
    void c_incref "Py_INCREF"(PyObject *) noexcept
    PyObject *c_None "Py_None"
    void PyErr_SetString(PyObject *, const char *) noexcept
    void PyErr_SetObject(PyObject *, PyObject *) noexcept
    PyObject *PyExc_MemoryError
    PyObject *PyExc_RuntimeError
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

cdef object _OUT = "out"
cdef PyObject *OUT = <PyObject *>_OUT


cdef inline PyObject *general_call(object general, PyObject *const *args, size_t nargsf,
                                   PyObject *kwnames) noexcept:
    """Everything that is not the common case. `args` is passed on as it came."""
    return PyObject_Vectorcall(<PyObject *>general, args, PyVectorcall_NARGS(nargsf), kwnames)
