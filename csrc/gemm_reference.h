/* Level O0 as a kernel: the reference in plain C loops, for one shape, behind the kernel ABI.
 *
 * Nothing is emitted, so nothing needs an ISA or executable memory. The order of additions is that of the
 * emitted kernels: one chain of fused multiply-adds for each element; or, with `lanes`, so many partial sums,
 * number l for k = l, l + lanes, ..., added in halves at the end (neurojit/plan/gemv.py). */
#ifndef NJ_GEMM_REFERENCE_H
#define NJ_GEMM_REFERENCE_H

#include <stdint.h>

enum { NJ_REFERENCE_MOST_LANES = 16 };

typedef struct nj_reference_plan {
    int64_t m, n, k;
    int64_t a_row, a_column, b_row, b_column, c_row; /* strides in elements; columns of C are adjacent */
    int64_t element_size;                            /* 4 or 8 */
    int64_t lanes;                                   /* 0 for one chain; else a power of two */
} nj_reference_plan;

/* Has the kernel ABI: buffers = {plan, a, b, c}. Returns 0. */
int64_t nj_gemm_reference_run(void *const *buffers, int64_t n);

#endif
