"""The reference kernels seen from Python: what every emitted product is held against, and level O0.

The contract stands in csrc/reference.h. Operands come through the buffer protocol, so not for hot paths.
"""

from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from libc.math cimport erf, erfc
from libc.stdint cimport int64_t


cdef extern from "<stdbool.h>" nogil:
    ctypedef bint bool


cdef extern from "reference.h" nogil:
    void nj_reference_gemm_f32(
        int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_column,
        const float *b, int64_t b_row, int64_t b_column,
        float *c, int64_t c_row, int64_t c_column, bool accumulate)
    void nj_reference_gemm_f64(
        int64_t m, int64_t n, int64_t k, const double *a, int64_t a_row, int64_t a_column,
        const double *b, int64_t b_row, int64_t b_column,
        double *c, int64_t c_row, int64_t c_column, bool accumulate)
    void nj_reference_wide_gemm_f32(
        int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_column,
        const float *b, int64_t b_row, int64_t b_column,
        float *c, int64_t c_row, int64_t c_column, bool accumulate)
    void nj_reference_wide_gemm_f64(
        int64_t m, int64_t n, int64_t k, const double *a, int64_t a_row, int64_t a_column,
        const double *b, int64_t b_row, int64_t b_column,
        double *c, int64_t c_row, int64_t c_column, bool accumulate)
    bool nj_reference_has_fma_instruction()


cdef class Matrix:
    """A 2-D array of f32 or f64, borrowed through the buffer protocol."""

    cdef Py_buffer view
    cdef bint held
    cdef char dtype
    cdef int64_t rows, columns, row_stride, column_stride

    def __cinit__(self, str name, array, bint writable):
        cdef int flags = PyBUF_STRIDES | PyBUF_FORMAT | (PyBUF_WRITABLE if writable else 0)
        PyObject_GetBuffer(array, &self.view, flags)
        self.held = True
        cdef bytes kind = self.view.format
        if kind not in (b"f", b"d", b"=f", b"=d"):  # NumPy writes `=` for unaligned arrays
            raise TypeError(f"{name}: expected native float32 or float64, got {kind.decode()!r}")
        if self.view.ndim != 2:
            raise ValueError(f"{name}: expected 2 dimensions, got {self.view.ndim}")
        self.dtype = kind[len(kind) - 1]
        self.rows, self.columns = self.view.shape[0], self.view.shape[1]
        self.row_stride = self.elements(name, self.view.strides[0])
        self.column_stride = self.elements(name, self.view.strides[1])
        self.elements(name, <Py_ssize_t>self.view.buf)

    cdef int64_t elements(self, str name, Py_ssize_t distance) except? -1:
        if distance % self.view.itemsize != 0:
            raise ValueError(f"{name}: address or stride {distance} is not a multiple of the element size "
                             f"{self.view.itemsize}; pass an aligned copy")
        return distance // self.view.itemsize

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)


ctypedef void (*f32_gemm)(
    int64_t, int64_t, int64_t, const float *, int64_t, int64_t, const float *, int64_t, int64_t,
    float *, int64_t, int64_t, bool) noexcept nogil
ctypedef void (*f64_gemm)(
    int64_t, int64_t, int64_t, const double *, int64_t, int64_t, const double *, int64_t, int64_t,
    double *, int64_t, int64_t, bool) noexcept nogil


def reference_matmul(a, b, out, *, bint accumulate=False, bint wide=False):
    """out = a @ b, or out += a @ b: one fused multiply-add chain for each element, in order of k.

    wide: many columns at a time, for large products; the bits are the same.
    a (M, K), b (K, N), out (M, N): all float32 or all float64, any strides, out overlapping neither input.
    Raises TypeError for other element types, ValueError for shapes that do not fit; out is then untouched.
    """
    cdef Matrix A = Matrix("a", a, False), B = Matrix("b", b, False), C = Matrix("out", out, True)
    if not A.dtype == B.dtype == C.dtype:
        raise TypeError(f"a, b and out differ in type: {chr(A.dtype)}, {chr(B.dtype)}, {chr(C.dtype)}")
    if A.columns != B.rows or A.rows != C.rows or B.columns != C.columns:
        raise ValueError(f"shapes do not fit: a ({A.rows}, {A.columns}), b ({B.rows}, {B.columns}), "
                         f"out ({C.rows}, {C.columns})")
    cdef f32_gemm in_f32 = nj_reference_wide_gemm_f32 if wide else nj_reference_gemm_f32
    cdef f64_gemm in_f64 = nj_reference_wide_gemm_f64 if wide else nj_reference_gemm_f64
    with nogil:
        if A.dtype == c"f":
            in_f32(
                A.rows, B.columns, A.columns, <const float *>A.view.buf, A.row_stride, A.column_stride,
                <const float *>B.view.buf, B.row_stride, B.column_stride,
                <float *>C.view.buf, C.row_stride, C.column_stride, accumulate)
        else:
            in_f64(
                A.rows, B.columns, A.columns, <const double *>A.view.buf, A.row_stride, A.column_stride,
                <const double *>B.view.buf, B.row_stride, B.column_stride,
                <double *>C.view.buf, C.row_stride, C.column_stride, accumulate)


def error_function(const double[::1] x not None, double[::1] y not None, *, bint complement=False):
    """y = erf(x), or 1 - erf(x), of the C library, element by element.

    ValueError: y has another length than x; nothing is written."""
    cdef Py_ssize_t i
    if x.shape[0] != y.shape[0]:
        raise ValueError(f"error_function: y has {y.shape[0]} elements, expected {x.shape[0]} as x")
    with nogil:
        for i in range(x.shape[0]):
            y[i] = erfc(x[i]) if complement else erf(x[i])


def reference_has_fma_instruction():
    """Whether the reference runs on the CPU's FMA instruction; the bits are the same without, but slow."""
    return nj_reference_has_fma_instruction()
