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

cdef extern from "row_batch.h":
    enum: NJ_MOST_ROW_OPERANDS
    ctypedef struct nj_row_batch:
        const nj_code *code
        int operands
        void *const *buffers
        const int64_t *row_bytes
        void *const *arenas
        int64_t rows
        int64_t unit
        int64_t least

# The pool has one owner, this module: others reach it through these functions.
cdef int64_t run_batch(const nj_gemm_batch *batch) noexcept nogil
cdef int64_t run_rows(const nj_row_batch *batch, int members) noexcept nogil
cdef int members_worth(double work, int64_t member_work) noexcept nogil
