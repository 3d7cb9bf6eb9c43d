/* A product in strips: C = A @ B cut by rows, each strip by a kernel that reads its operands in place.
 *
 * The problem. From some ten microseconds of work a second core pays, long before packing does.
 *
 * The idea. The rows of C are cut into strips of equal height, each a product of its own with the same B.
 * One emitted kernel serves all strips of a height; members of the thread pool take strip after strip.
 *
 * Invariants. Strips write disjoint rows, and each element is the same chain of multiply-adds as in one
 * kernel for all rows: the same bits for every number of threads. Nothing is allocated, nothing can fail. */
#ifndef NJ_GEMM_STRIPS_H
#define NJ_GEMM_STRIPS_H

#include <stdint.h>

#include "code.h"

typedef struct nj_gemm_strips {
    int64_t height[2], count[2]; /* count[0] strips of height[0] rows, then count[1] of height[1] */
    int64_t a_row_bytes, c_row_bytes; /* from row to row */
    int64_t work, member_work;        /* multiply-adds of the whole, and those worth one more member */
    nj_code *kernel[2];               /* for each height; NULL where count is 0 */
} nj_gemm_strips;

/* Has the kernel ABI: buffers = {strips, a, b, c}. Returns 0. */
int64_t nj_gemm_strips_run(void *const *buffers, int64_t n);

#endif
