/* Blocked GEMM: C = A @ B for operands that do not fit the inner caches, or with any strides.
 *
 * The problem. An emitted micro-kernel runs at the FMA ceiling only while its operands come from L1
 * and L2, at unit stride.
 *
 * The idea (Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008): cut k
 * into KC, n into NC, m into MC; copy a KC x NC block of B and an MC x KC block of A into micro-panels
 * that the micro-kernel reads straight through; let it sweep the block tile by tile.
 *
 * Invariants.
 * - Every element of C is one chain of fused multiply-adds in the order of k: a later block of k
 *   starts from the C that the earlier one stored, which loses nothing.
 * - C is written only inside m x n, and never read for the first block of k.
 * - Packed panels keep the full panel's stride at the edges; the micro-kernels for edges do not read
 *   the elements beyond, so nothing is padded.
 * - Running allocates nothing once the thread's scratch has grown to the plan's size. */
#ifndef NJ_GEMM_BLOCKED_H
#define NJ_GEMM_BLOCKED_H

#include <stddef.h>
#include <stdint.h>

/* c[height x width] (+)= a @ b over k steps; a and b point at packed micro-panels. */
typedef int64_t (*nj_micro_kernel)(const void *a, const void *b, void *c, int64_t k,
                                   int64_t row_stride_c_bytes);

enum { NJ_GEMM_NO_MEMORY = -12 }; /* what nj_gemm_blocked_run returns when scratch cannot grow */

typedef struct nj_gemm_plan {
    int64_t m, n, k;
    int64_t a_row_stride, a_column_stride; /* in elements, any value */
    int64_t b_row_stride, b_column_stride;
    int64_t c_row_stride; /* columns of C are adjacent */
    int64_t mc, nc, kc;   /* cache blocks; mc is a multiple of mr, nc of nr */
    int64_t mr, nr;       /* micro-tile */
    size_t element_size;  /* 4 or 8 */
    /* [accumulates][is the last, shorter row of tiles][is the last, narrower column of tiles] */
    nj_micro_kernel micro[2][2][2];
} nj_gemm_plan;

/* Has the kernel ABI: buffers = {plan, a, b, c}. Returns 0 or NJ_GEMM_NO_MEMORY, then C is untouched. */
int64_t nj_gemm_blocked_run(void *const *buffers, int64_t n);

/* This thread's scratch of at least `bytes`, 64-byte aligned, kept until the thread ends; or NULL. */
void *nj_thread_scratch(size_t bytes);

/* Make the next `count` growths of scratch fail, on any thread: for tests. */
void nj_thread_scratch_inject(int count);

#endif
