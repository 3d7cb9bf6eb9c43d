/* The reference GEMM: level O0, the meaning every emitted kernel is held against.
 *
 * C[i, j] is one chain of fused multiply-adds, a[i, k] * b[k, j] + c for k = 0, 1, ..., begun at 0, or at
 * C[i, j] when accumulating. Every schedule of an emitted kernel keeps this chain and only runs many side
 * by side, so the two agree bit for bit. (Where an input is NaN, which NaN comes out is not specified.)
 *
 * Strides are in elements and may be negative or zero. Without `accumulate` C is never read; with k = 0 it
 * is then set to 0. C overlaps neither A nor B, and its own elements are distinct.
 *
 * Speed is no concern, except that fmaf without an FMA instruction is a slow library call: on x86-64 the
 * same source is compiled a second time for CPUs that have it, and chosen once. The bits are the same.
 */
#ifndef NJ_REFERENCE_H
#define NJ_REFERENCE_H

#include <stdbool.h>
#include <stdint.h>

void nj_reference_gemm_f32(int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_column,
                           const float *b, int64_t b_row, int64_t b_column, float *c, int64_t c_row,
                           int64_t c_column, bool accumulate);

void nj_reference_gemm_f64(int64_t m, int64_t n, int64_t k, const double *a, int64_t a_row, int64_t a_column,
                           const double *b, int64_t b_row, int64_t b_column, double *c, int64_t c_row,
                           int64_t c_column, bool accumulate);

/* The same contract and the same bits, many columns at a time: what publication is checked against, where
 * the plain loops would take longer than the kernel could ever save. Tests hold the two against each other.
 */
void nj_reference_wide_gemm_f32(int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row,
                                int64_t a_column, const float *b, int64_t b_row, int64_t b_column, float *c,
                                int64_t c_row, int64_t c_column, bool accumulate);

void nj_reference_wide_gemm_f64(int64_t m, int64_t n, int64_t k, const double *a, int64_t a_row,
                                int64_t a_column, const double *b, int64_t b_row, int64_t b_column, double *c,
                                int64_t c_row, int64_t c_column, bool accumulate);

/* Whether the reference runs on the CPU's FMA instruction (else: the C library's fma). */
bool nj_reference_has_fma_instruction(void);

#endif
