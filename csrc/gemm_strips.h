/* A product in strips: C = A @ B cut into rows, columns or both, each part by a kernel that reads its
 * operands in place, or B in packed panels.
 *
 * The problem. From some ten microseconds of work a second core pays, long before packing does. And a kernel
 * for all of a large product takes long to validate.
 *
 * The idea. The columns of C are cut into strips, each a product of its own with the same A, and its rows
 * where that does not give parts enough, or B is packed already. One emitted kernel serves all parts of a
 * size; the members of the thread pool take part after part, those of one strip of rows one after the other,
 * so that their rows of A stay in L2 while the narrower parts of B pass by. Operands of an epilogue are cut
 * along with C. A few rows times a large B are bound by reading B, in runs as long as can be: where one
 * thread computes them, one kernel does it whole.
 *
 * Invariants. Parts of C are disjoint, and each element is the same chain of multiply-adds as in one
 * kernel for all of C: the same bits for every number of threads. Nothing is allocated, nothing can fail. */
#ifndef NJ_GEMM_STRIPS_H
#define NJ_GEMM_STRIPS_H

#include <stdint.h>

#include "beside.h"
#include "code.h"
#include "cut.h"

/* Bytes from one row of C to the next, and from one column to the next, in an operand; 0 where all share. */
typedef struct nj_step {
    int64_t row, column;
} nj_step;

typedef struct nj_gemm_strips {
    nj_cut rows, columns;
    int operands;                     /* A, B, C and those beside C */
    nj_step step[3 + NJ_MOST_BESIDE]; /* of each */
    int64_t work, member_work;        /* multiply-adds of the whole, and those worth one more member */
    nj_code *kernel[2][2];            /* for each size of rows and of columns; NULL where there is none */
    nj_code *whole; /* what a single thread runs instead; NULL where it takes the parts too */
} nj_gemm_strips;

/* Has the kernel ABI: buffers = {strips, a, b, c, operands beside}. Returns 0. */
int64_t nj_gemm_strips_run(void *const *buffers, int64_t n);

#endif
