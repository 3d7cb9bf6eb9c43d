/* A batch: c[i] = a[i] @ b[i] for every index i of some leading axes, by one kernel, its epilogue included.
 *
 * The problem. Attention multiplies thousands of small matrices: one call of Python, or of a kernel's
 * usual surroundings, for each would cost more than the arithmetic.
 *
 * The idea. An odometer walks the axes and adds strides. Where the whole batch is worth several threads
 * and one product is not, chunks of consecutive products are shared among the pool; where one product is
 * worth them, the products follow each other and each uses the pool by itself.
 *
 * Invariants. The products of a batch do not overlap in c (the caller has seen to that), so their order
 * does not matter. Every member has its scratch before the first product begins, or does not take part:
 * a batch is computed as a whole or not at all. */
#ifndef NJ_GEMM_BATCH_H
#define NJ_GEMM_BATCH_H

#include <stdint.h>

#include "beside.h"
#include "code.h"

typedef struct nj_gemm_batch {
    const nj_code *code;
    const char *a, *b;
    char *c;
    int besides; /* operands after C */
    const char *beside[NJ_MOST_BESIDE];
    int axes;
    const intptr_t *extent;                         /* of each axis, all positive */
    const intptr_t *a_stride, *b_stride, *c_stride; /* in bytes, of each axis */
    const intptr_t *beside_stride[NJ_MOST_BESIDE];
    int64_t work; /* multiply-adds of one product */
} nj_gemm_batch;

/* Returns 0, or NJ_GEMM_NO_MEMORY and c is untouched. */
int64_t nj_gemm_batch_run(const nj_gemm_batch *batch);

#endif
