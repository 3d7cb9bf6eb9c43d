/* Products whose activations are rounded to int8 or bf16: each row of A is rounded into scratch, then a
 * kernel runs on it.
 *
 * The problem. Instructions that multiply int8 by int8, or bf16 by bf16, do several times the work of those
 * for float32, and need both operands small.
 *
 * The idea. A number of bf16 stands for itself. For int8 a row is a = q * scale with scale = max|a| / 127 and
 * q the nearest integer, so one number a row makes integers of it; the sums of products of integers are exact
 * whatever instruction computes them. A rounded row carries its scale behind its integers, so that the kernel
 * needs no operand more.
 *
 * Formats of a row of int8, in groups of four steps of k, the last one filled up with zeros, then one
 * float32, the scale:
 *
 *   bytes   q + 128, as vpdpbusd takes its unsigned operand; the kernel takes off 128 times the weights' sum
 *
 *   signed  q, as sdot takes it
 *
 *   words   q of steps 0, 2, 1, 3 as 16-bit integers, as two vpmaddwd or their like take them
 *
 * and of a row of bf16, in groups of two:
 *
 *   pairs   its 16 bits, as vdpbf16ps and bfdot take them
 *
 *   wide    the same number as a float32, for multiply-adds
 *
 * Invariants. All ways to compile this give the same bits. bf16 is the nearest number, of two the even one;
 * infinities and NaN are kept, NaN quiet. int8 takes maximum, one division, one product and one rounding to
 * nearest even; a row with a number that is not finite has the scale NaN, and so has its whole result. */
#ifndef NJ_ROUND_ROWS_H
#define NJ_ROUND_ROWS_H

#include <stdint.h>

#include "code.h"

enum { NJ_ROWS_OF_BYTES, NJ_ROWS_OF_SIGNED, NJ_ROWS_OF_WORDS, NJ_ROWS_OF_PAIRS, NJ_ROWS_OF_WIDE };

typedef struct nj_rounded_product {
    int64_t m, k;
    int64_t row_stride, column_stride; /* of A, in elements, any value */
    int64_t row_bytes;
    int format;
    int operands;   /* A, B, C and those beside C */
    nj_code *inner; /* the product of the rounded rows, with the kernel ABI; owned */
} nj_rounded_product;

/* One row of k elements, `stride` apart. */
void nj_round_row(void *to, const float *from, int64_t k, int64_t stride, int format);

/* Has the kernel ABI: buffers = {product, a, b, c, operands beside}. Returns 0, or NJ_GEMM_NO_MEMORY when
 * scratch cannot grow; then C is untouched. */
int64_t nj_rounded_product_run(void *const *buffers, int64_t n);

/* The scratch of this thread, large enough; or NULL. A run after it cannot fail. */
void *nj_rounded_product_scratch(const nj_rounded_product *product);

#endif
