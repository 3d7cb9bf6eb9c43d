/* A product in strips: C = A @ B cut by rows or by columns, each strip by a kernel that reads its operands
 * in place.
 *
 * The problem. From some ten microseconds of work a second core pays, long before packing does.
 *
 * The idea. The rows of C are cut into strips of equal height, each a product of its own with the same B;
 * or, where rows are few, the columns with the same A. One emitted kernel serves all strips of a size; the
 * members of the thread pool take strip after strip. Operands of an epilogue are cut along with C.
 *
 * Invariants. Strips write disjoint parts of C, and each element is the same chain of multiply-adds as in one
 * kernel for all of C: the same bits for every number of threads. Nothing is allocated, nothing can fail. */
#ifndef NJ_GEMM_STRIPS_H
#define NJ_GEMM_STRIPS_H

#include <stdint.h>

#include "beside.h"
#include "code.h"

typedef struct nj_gemm_strips {
    int64_t size[2], count[2]; /* count[0] strips of size[0] rows or columns, then count[1] of size[1] */
    int64_t a_step, b_step,
        c_step;  /* bytes from one row or column to the next; 0 for what all strips share */
    int besides; /* operands after C, and their steps */
    int64_t beside_step[NJ_MOST_BESIDE];
    int64_t work, member_work; /* multiply-adds of the whole, and those worth one more member */
    nj_code *kernel[2];        /* for each size; NULL where count is 0 */
} nj_gemm_strips;

/* Has the kernel ABI: buffers = {strips, a, b, c, operands beside}. Returns 0. */
int64_t nj_gemm_strips_run(void *const *buffers, int64_t n);

#endif
