"""Kernels that are more than one emitted function, and the threads they share.

    publish_blocked   packed panels and micro-kernels (csrc/gemm_blocked.h) as a kernel in a slot
    strips_code       strips of C, each by an emitted kernel (csrc/gemm_strips.h)
    rounded_code      a product whose activations are rounded first (csrc/round_rows.h)
    reference_code    level O0, plain C loops (csrc/gemm_reference.h)
    run_batch         one kernel over leading axes (csrc/gemm_batch.h), for other extension modules
"""

from libc.stdint cimport int64_t, uintptr_t
from libc.stdlib cimport calloc, free

from neurojit.runtime._runtime cimport NJ_CODE_RELEASES_GIL, Code, Slot, SlotTable, nj_code

from neurojit.runtime._runtime import SLOTS

cdef extern from "Python.h":
    void Py_INCREF(object)

cdef extern from "gemm_blocked.h":
    enum:
        NJ_MOST_BESIDE
    ctypedef int64_t (*nj_micro_kernel)(const void *, const void *, void *, int64_t, int64_t,
                                        void *const *) noexcept nogil
    ctypedef struct nj_cut:
        int64_t size[2]
        int64_t count[2]
    ctypedef struct nj_gemm_plan:
        int64_t m, n, k
        int64_t a_row_stride, a_column_stride, b_row_stride, b_column_stride, c_row_stride
        size_t element_size
        nj_cut rows, columns
        int64_t kc, block_rows, block_columns, unit_rows, unit_columns, member_work
        int a_in_place
        nj_micro_kernel micro[2][2][2]
        nj_micro_kernel last[2][2]
        int besides
        int64_t beside_row_step[4]
        int64_t beside_column_step[4]
        int keeps_c
    int64_t nj_gemm_blocked_run(void *const *, int64_t) noexcept nogil

cdef extern from "gemm_strips.h":
    ctypedef struct nj_step:
        int64_t row, column
    ctypedef struct nj_gemm_strips:
        nj_cut rows, columns
        int operands
        nj_step step[7]
        int64_t work, member_work
        nj_code *kernel[2][2]
        nj_code *whole
    int64_t nj_gemm_strips_run(void *const *, int64_t) noexcept nogil

cdef extern from "round_rows.h":
    ctypedef struct nj_rounded_product:
        int64_t m, k, row_stride, column_stride, row_bytes
        int format, operands
        nj_code *inner
    int64_t nj_rounded_product_run(void *const *, int64_t) noexcept nogil
    void nj_round_row(void *, const float *, int64_t, int64_t, int) noexcept nogil

cdef extern from "gemm_batch.h":
    int64_t nj_gemm_batch_run(const nj_gemm_batch *) noexcept nogil

cdef extern from "row_batch.h":
    int64_t nj_row_batch_run(const nj_row_batch *, int members) noexcept nogil

cdef extern from "thread_pool.h":
    void nj_threads_set_limit(int) noexcept nogil
    int nj_threads_limit() noexcept nogil
    int nj_members_worth(double work, int64_t member_work) noexcept nogil
    int nj_pool_workers() noexcept nogil
    void nj_pool_inject(int) noexcept nogil

cdef extern from "scratch.h":
    void nj_thread_scratch_inject(int) noexcept nogil


# A plan of the blocked driver, published like a kernel: the plan follows its nj_code in memory. It owns the
# micro-kernels that are nobody else's: those of its epilogue, and those made for its rows of A.
cdef struct BlockedCode:
    nj_code code
    nj_gemm_plan plan
    nj_code *owned[12]


cdef void destroy_blocked(nj_code *code) noexcept nogil:
    cdef nj_code **owned = (<BlockedCode *>code).owned
    cdef int i
    for i in range(12):
        if owned[i] is not NULL:
            owned[i].destroy(owned[i])
    free(code)


cdef nj_micro_kernel micro_kernel_of(BlockedCode *blocked, int place, kernel) except? NULL:
    """A kernel's entry: an address, 0 for none, or a Code that is taken over into `owned[place]`."""
    if kernel is None:
        return NULL
    if not isinstance(kernel, Code):
        return <nj_micro_kernel><uintptr_t>kernel
    blocked.code.bytes += (<Code>kernel).owned().bytes
    address = <uintptr_t>kernel.address
    blocked.owned[place] = (<Code>kernel).give_up()
    return <nj_micro_kernel><uintptr_t>address


cdef int count_of_besides(tuple steps) except -1:
    if len(steps) > NJ_MOST_BESIDE:
        raise ValueError(f"a kernel has at most {NJ_MOST_BESIDE} operands beside C, got {len(steps)}")
    return <int>len(steps)


cdef nj_cut cut_of(cut):
    """A plan's Cut: (size, of_size, rest, of_rest)."""
    cdef nj_cut made
    made.size[0], made.count[0], made.size[1], made.count[1] = cut
    return made


def publish_blocked(Slot slot not None, tuple fields not None, tuple blocks not None, tuple micro not None,
                    bint release_gil, tuple last not None=(), tuple besides not None=(), bint keeps_c=False):
    """Publish the blocked driver in a slot.

    fields: as `describe` gives them. blocks: a Blocking (plan/blocking.py). micro: the eight micro-kernels
    [accumulates][rows][columns] for the two sizes of rows and of columns, None where the shape needs none:
    Codes, taken over here, or addresses, which whoever owns them keeps mapped for good.

    With an epilogue, last: the four micro-kernels [rows][columns] for the last block of k. besides: for each
    operand after C, the bytes from one row of C to the next, and from one column to the next. keeps_c: the
    epilogue reads C.
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
        (rows, columns, plan.kc, plan.block_rows, plan.block_columns, plan.unit_rows, plan.unit_columns,
         plan.member_work, plan.a_in_place) = blocks
        plan.rows, plan.columns = cut_of(rows), cut_of(columns)
        blocked.code.bytes = sizeof(BlockedCode)
        for i in range(8):
            plan.micro[i >> 2][i >> 1 & 1][i & 1] = micro_kernel_of(blocked, i, micro[i])
        plan.keeps_c, plan.besides = keeps_c, count_of_besides(besides)
        for i in range(plan.besides):
            plan.beside_row_step[i], plan.beside_column_step[i] = besides[i]
        for i in range(<int>len(last)):
            plan.last[i >> 1][i & 1] = micro_kernel_of(blocked, 8 + i, last[i])
    except BaseException:
        destroy_blocked(&blocked.code)
        raise
    blocked.code.entry = nj_gemm_blocked_run
    blocked.code.context = plan
    blocked.code.flags = NJ_CODE_RELEASES_GIL if release_gil else 0
    blocked.code.destroy = destroy_blocked
    (<SlotTable>SLOTS).publish_code(slot.slot, &blocked.code)


# A product in strips, published like a kernel; it owns the kernels of its strips.
cdef struct StripsCode:
    nj_code code
    nj_gemm_strips strips


cdef void destroy_strips(nj_code *code) noexcept nogil:
    cdef nj_gemm_strips *strips = &(<StripsCode *>code).strips
    cdef nj_code *kernel
    cdef int i
    for i in range(4):
        kernel = strips.kernel[i >> 1][i & 1]
        if kernel is not NULL:
            kernel.destroy(kernel)
    if strips.whole is not NULL:
        strips.whole.destroy(strips.whole)
    free(code)


def strips_code(strips, tuple steps not None, tuple kernels not None, int64_t work,
                int64_t member_work, Code whole=None):
    """A product in strips as a Code, which takes over the strips' kernels.

    strips: a Strips (plan/blocking.py). steps: for A, B, C and each operand beside C, the bytes from one
    row of C to the next, and from one column to the next. kernels: a Code for each size of rows and of
    columns, [rows][columns], or None. work: multiply-adds of the whole. whole: a kernel for that, taken over
    too.
    """
    cdef StripsCode *made = <StripsCode *>calloc(1, sizeof(StripsCode))
    cdef nj_gemm_strips *plan
    cdef int i
    if made is NULL:
        raise MemoryError("matmul: no memory for a plan")
    plan = &made.strips
    made.code.bytes = sizeof(StripsCode)
    try:
        rows, columns = strips
        plan.rows, plan.columns = cut_of(rows), cut_of(columns)
        plan.operands = 3 + count_of_besides(steps[3:])
        for i in range(plan.operands):
            plan.step[i].row, plan.step[i].column = steps[i]
        plan.work, plan.member_work = work, member_work
        for i in range(4):
            if kernels[i] is not None:
                made.code.bytes += (<Code?>kernels[i]).owned().bytes
                plan.kernel[i >> 1][i & 1] = (<Code>kernels[i]).give_up()
        if whole is not None:
            made.code.bytes += whole.owned().bytes
            plan.whole = whole.give_up()
    except BaseException:
        destroy_strips(&made.code)
        raise
    made.code.entry = nj_gemm_strips_run
    made.code.context = plan
    made.code.flags = NJ_CODE_RELEASES_GIL
    made.code.destroy = destroy_strips
    return own(&made.code)


cdef Code own(nj_code *code):
    cdef Code made = Code.__new__(Code)
    made.code = code
    return made


# A product of rounded activations; it owns the product of what they are rounded to.
cdef struct RoundedCode:
    nj_code code
    nj_rounded_product product


cdef void destroy_rounded(nj_code *code) noexcept nogil:
    cdef nj_code *inner = (<RoundedCode *>code).product.inner
    inner.destroy(inner)
    free(code)


def rounded_code(tuple shape not None, tuple strides not None, tuple row not None, int besides,
                 Code inner not None, bint release_gil):
    """A Code that rounds the rows of A into scratch, and runs `inner` on them, which it takes over.

    shape: (m, k) of A. strides: of A, in elements. row: bytes and format of a rounded one. besides: operands
    after C."""
    cdef RoundedCode *made = <RoundedCode *>calloc(1, sizeof(RoundedCode))
    if made is NULL:
        raise MemoryError("matmul: no memory for a plan")
    try:
        made.product.m, made.product.k = shape
        made.product.row_stride, made.product.column_stride = strides
        made.product.row_bytes, made.product.format = row
        made.product.operands = 3 + besides
        made.code.bytes = sizeof(RoundedCode) + inner.owned().bytes
        made.product.inner = inner.give_up()
    except BaseException:
        free(made)
        raise
    made.code.entry = nj_rounded_product_run
    made.code.context = &made.product
    made.code.flags = NJ_CODE_RELEASES_GIL if release_gil else 0
    made.code.destroy = destroy_rounded
    return own(&made.code)


def round_row(uintptr_t to, uintptr_t source, int64_t k, int64_t stride, int format):
    """Round one row, for its tests. Addresses; the stride in elements; a format of round_rows.h."""
    nj_round_row(<void *>to, <const float *>source, k, stride, format)


cdef extern from "gemm_reference.h":
    ctypedef struct nj_reference_plan:
        int64_t m, n, k, a_row, a_column, b_row, b_column, c_row, element_size, lanes
    int64_t nj_gemm_reference_run(void *const *, int64_t) noexcept nogil


# The reference for one shape, published like a kernel.
cdef struct ReferenceCode:
    nj_code code
    nj_reference_plan plan


cdef void destroy_reference(nj_code *code) noexcept nogil:
    free(code)


def reference_code(tuple fields not None, int64_t lanes, bint release_gil):
    """The reference for one product, as a Code.

    fields: as `describe` gives them. lanes: partial sums of each element, or 0 for one chain."""
    cdef ReferenceCode *made = <ReferenceCode *>calloc(1, sizeof(ReferenceCode))
    cdef nj_reference_plan *plan
    if made is NULL:
        raise MemoryError("matmul: no memory for a plan")
    plan = &made.plan
    try:
        (plan.m, plan.n, plan.k, plan.a_row, plan.a_column, plan.b_row, plan.b_column, plan.c_row,
         plan.element_size) = fields
    except BaseException:
        free(made)
        raise
    plan.lanes = lanes
    made.code.entry = nj_gemm_reference_run
    made.code.context = plan
    made.code.flags = NJ_CODE_RELEASES_GIL if release_gil else 0
    made.code.bytes = sizeof(ReferenceCode)
    made.code.destroy = destroy_reference
    return own(&made.code)


cdef int64_t run_batch(const nj_gemm_batch *batch) noexcept nogil:
    return nj_gemm_batch_run(batch)


cdef int64_t run_rows(const nj_row_batch *batch, int members) noexcept nogil:
    return nj_row_batch_run(batch, members)


cdef int members_worth(double work, int64_t member_work) noexcept nogil:
    return nj_members_worth(work, member_work)


def call_micro_kernel(
    uintptr_t address, uintptr_t a, uintptr_t b, uintptr_t c, int64_t k, int64_t row_stride, tuple beside=()
):
    """Run one micro-kernel, for its validation. Addresses of packed panels, of C, and of the operands beside;
    bytes."""
    cdef void *others[8]
    cdef int i
    if len(beside) > 8:
        raise ValueError(f"a micro-kernel has at most 8 operands beside C, got {len(beside)}")
    for i in range(<int>len(beside)):
        others[i] = <void *><uintptr_t>beside[i]
    return (<nj_micro_kernel>address)(<const void *>a, <const void *>b, <void *>c, k, row_stride, others)


cdef extern from "pack.h":
    ctypedef void (*nj_pack_panel)(void *, const void *, int64_t, int64_t, int64_t, int64_t) noexcept nogil
    ctypedef struct nj_packer:
        const char *name
        nj_pack_panel panel_4
        nj_pack_panel panel_8
    const nj_packer nj_packer_portable
    const nj_packer *nj_packer_here() noexcept nogil


def packer():
    """The name of the packing code that this CPU runs."""
    return nj_packer_here().name.decode()


def pack_panel(bint portable, int element_size, uintptr_t to, uintptr_t source, int64_t lanes, int64_t steps,
               int64_t lane_stride, int64_t step_stride):
    """Pack one micro-panel, for its tests. Addresses; strides in elements."""
    cdef const nj_packer *chosen = &nj_packer_portable if portable else nj_packer_here()
    (chosen.panel_4 if element_size == 4 else chosen.panel_8)(
        <void *>to, <const void *>source, lanes, steps, lane_stride, step_stride)


def keep_mapped(code not None):
    """Keep a micro-kernel's Code alive until the process is gone, beyond the end of the interpreter: a
    daemon thread may be inside it, without the GIL, while Python tears its modules down."""
    Py_INCREF(code)


def inject_scratch_failure(int count):
    """Fault injection: the next `count` growths of the blocked driver's scratch fail."""
    nj_thread_scratch_inject(count)


def set_thread_limit(int threads):
    """How many threads a product may use from now on, the calling one included; at least 1."""
    nj_threads_set_limit(threads)


def thread_limit():
    return nj_threads_limit()


def workers():
    """Threads of the pool that exist, parked or not."""
    return nj_pool_workers()


def inject_thread_failure(int count):
    """Fault injection: the next `count` creations of a thread fail."""
    nj_pool_inject(count)
