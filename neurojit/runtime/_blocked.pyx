"""The blocked GEMM driver (csrc/gemm_blocked.h) as a kernel in a slot."""

from libc.stdint cimport int64_t, uintptr_t
from libc.stdlib cimport calloc, free

from neurojit.runtime._runtime cimport NJ_CODE_RELEASES_GIL, Slot, SlotTable, nj_code

from neurojit.runtime._runtime import SLOTS

cdef extern from "Python.h":
    void Py_INCREF(object)

cdef extern from "gemm_blocked.h":
    ctypedef int64_t (*nj_micro_kernel)(const void *, const void *, void *, int64_t, int64_t) noexcept nogil
    ctypedef struct nj_gemm_plan:
        int64_t m, n, k
        int64_t a_row_stride, a_column_stride, b_row_stride, b_column_stride, c_row_stride
        int64_t mc, nc, kc, mr, nr
        size_t element_size
        nj_micro_kernel micro[2][2][2]
    int64_t nj_gemm_blocked_run(void *const *, int64_t) noexcept nogil
    void nj_thread_scratch_inject(int) noexcept nogil


# A plan of the blocked driver, published like a kernel: the plan follows its nj_code in memory.
cdef struct BlockedCode:
    nj_code code
    nj_gemm_plan plan


cdef void destroy_blocked(nj_code *code) noexcept nogil:
    free(code)


def publish_blocked(Slot slot not None, tuple fields not None, tuple blocks not None, tuple micro not None,
                    bint release_gil):
    """Publish the blocked driver in a slot.

    fields: as `describe` gives them. blocks: (mc, nc, kc, mr, nr). micro: the addresses of the eight
    micro-kernels [accumulates][last rows][last columns], 0 where the shape needs none; whoever owns
    them keeps them mapped for good.
    """
    cdef BlockedCode *blocked = <BlockedCode *>calloc(1, sizeof(BlockedCode))
    cdef nj_gemm_plan *plan
    cdef int i
    if blocked is NULL:
        raise MemoryError("matmul: no memory for a plan")
    plan = &blocked.plan
    try:
        if len(micro) != 8:
            raise ValueError(f"a plan has 8 micro-kernels, got {len(micro)}")
        # unpacking counts the items, which indexing would not: bounds checks are off
        (plan.m, plan.n, plan.k, plan.a_row_stride, plan.a_column_stride, plan.b_row_stride,
         plan.b_column_stride, plan.c_row_stride, plan.element_size) = fields
        plan.mc, plan.nc, plan.kc, plan.mr, plan.nr = blocks
        for i in range(8):
            plan.micro[i >> 2][i >> 1 & 1][i & 1] = <nj_micro_kernel><uintptr_t>micro[i]
    except BaseException:
        free(blocked)
        raise
    blocked.code.entry = nj_gemm_blocked_run
    blocked.code.context = plan
    blocked.code.flags = NJ_CODE_RELEASES_GIL if release_gil else 0
    blocked.code.bytes = sizeof(BlockedCode)
    blocked.code.destroy = destroy_blocked
    (<SlotTable>SLOTS).publish_code(slot.slot, &blocked.code)


def call_micro_kernel(
    uintptr_t address, uintptr_t a, uintptr_t b, uintptr_t c, int64_t k, int64_t row_stride
):
    """Run one micro-kernel, for its validation. Addresses of packed panels and of C; bytes."""
    return (<nj_micro_kernel>address)(<const void *>a, <const void *>b, <void *>c, k, row_stride)


def keep_mapped(code not None):
    """Keep a micro-kernel's Code alive until the process is gone, beyond the end of the interpreter: a
    daemon thread may be inside it, without the GIL, while Python tears its modules down."""
    Py_INCREF(code)


def inject_scratch_failure(int count):
    """Fault injection: the next `count` growths of the blocked driver's scratch fail."""
    nj_thread_scratch_inject(count)
