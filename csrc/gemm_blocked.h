/* Blocked GEMM: C = A @ B for operands that do not fit the inner caches, or with any strides.
 *
 * The problem. An emitted micro-kernel runs at the FMA ceiling only while its operands come from L1
 * and L2, at unit stride; and one core is not all there is.
 *
 * The idea (Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008): cut k into
 * steps of KC, and for each copy the rows of A and the columns of B into micro-panels that the
 * micro-kernel reads straight through. C is cut into tiles, tiles are grouped into *units*: a panel of B,
 * which stays in L2, times the panels of A below each other, which stream by.
 *
 *     for each block of columns, of k, of rows:
 *         phase 1   pack the block's panels of B, and of A  a unit is one panel
 *         phase 2   multiply                                a unit is a group of tiles of C
 *
 * A whose rows are contiguous needs no packing: a tile reads a few rows straight through, each of them the
 * better part of a page. What copying them would cost is lost in a large product, and shows in a small one.
 *
 * Threads. All units of all phases stand in one sequence; a member of the pool takes the next number from
 * a counter, waits until all units of earlier phases are complete (another counter), does the unit, and
 * takes the next. Hence panels are packed once whoever reads them, members may join late or not at all,
 * and a slow core takes fewer units.
 *
 * Invariants.
 * - Every element of C is one chain of fused multiply-adds in the order of k: a later block of k starts
 *   from the C that the earlier one stored, which loses nothing. k is never divided among members. So the
 *   bits are the same for all blocks, all tiles and every number of threads.
 * - C is written only inside m x n, and never read for the first block of k.
 * - An epilogue is part of the micro-kernels of the last block of k, which know the finished sums. One that
 *   reads C finds it as it was: if there are several blocks of k, their sums lie in scratch until the last.
 * - The last unit of a phase is complete before any of the next begins: `complete` can reach the number of
 *   a phase's first unit only when all before it are done.
 * - Scratch for all members is allocated before anything is written, by the caller, which keeps it. */
#ifndef NJ_GEMM_BLOCKED_H
#define NJ_GEMM_BLOCKED_H

#include <stddef.h>
#include <stdint.h>

#include "beside.h"
#include "cut.h"

/* c[height x width] (+)= a @ b over k steps; b points at a packed micro-panel, and so does a, or at the first
 * element of rows as far apart as the kernel was made for. beside: the addresses, at
 * this tile, of the operands of its epilogue, and of its partial sums; not read by a kernel that has none. */
typedef int64_t (*nj_micro_kernel)(const void *a, const void *b, void *c, int64_t k,
                                   int64_t row_stride_c_bytes, void *const *beside);

enum { NJ_GEMM_NO_MEMORY = -12 }; /* what nj_gemm_blocked_run returns when scratch cannot grow */

typedef struct nj_gemm_plan {
    int64_t m, n, k;
    int64_t a_row_stride, a_column_stride; /* in elements, any value */
    int64_t b_row_stride, b_column_stride;
    int64_t c_row_stride;              /* columns of C are adjacent */
    size_t element_size;               /* 4 or 8 */
    nj_cut rows, columns;              /* of C, into tiles */
    int64_t kc;                        /* steps of k in a block */
    int64_t block_rows, block_columns; /* tiles packed at a time */
    int64_t unit_rows, unit_columns;   /* tiles multiplied as one unit */
    int64_t member_work;               /* multiply-adds that are worth one more member */
    int a_in_place;                    /* the micro-kernels read the rows of A where they lie */
    nj_micro_kernel micro[2][2][2];    /* [accumulates][which size of rows][which size of columns] */

    /* An epilogue, if there is one. */
    nj_micro_kernel last[2][2]; /* for the last block of k; NULL without, and for sizes that no tile has */
    int besides;                /* operands after C, and their steps from row to row, column to column */
    int64_t beside_row_step[NJ_MOST_BESIDE], beside_column_step[NJ_MOST_BESIDE];
    int keeps_c; /* it reads C, which must not hold sums until then: they go to scratch */
} nj_gemm_plan;

/* Has the kernel ABI: buffers = {plan, a, b, c, operands beside}. Returns 0 or NJ_GEMM_NO_MEMORY, then C is
 * untouched. */
int64_t nj_gemm_blocked_run(void *const *buffers, int64_t n);

/* The scratch of this thread, large enough for the plan; or NULL. A run after it cannot fail. */
void *nj_gemm_blocked_scratch(const nj_gemm_plan *plan);

#endif
