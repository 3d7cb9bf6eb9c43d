from libc.stdint cimport int64_t, intptr_t

from neurojit.runtime._runtime cimport nj_code

cdef extern from "gemm_batch.h":
    ctypedef struct nj_gemm_batch:
        const nj_code *code
        const char *a
        const char *b
        char *c
        int besides
        const char *beside[4]
        int axes
        const intptr_t *extent
        const intptr_t *a_stride
        const intptr_t *b_stride
        const intptr_t *c_stride
        const intptr_t *beside_stride[4]
        int64_t work

# The pool has one owner, this module: others reach it through this function.
cdef int64_t run_batch(const nj_gemm_batch *batch) noexcept nogil
