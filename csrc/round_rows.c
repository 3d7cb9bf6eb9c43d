#include "round_rows.h"

#include <math.h>
#include <string.h>

#include "beside.h"
#include "gemm_blocked.h"
#include "scratch.h"
#include "thread_pool.h"

enum {
    MOST = 127,
    PIECE = 256,           /* elements gathered at a time, where they are not adjacent */
    SHARED_WORK = 1 << 18, /* elements to round that are worth a second thread */
    BITS_OF_INFINITY = 0x7f800000,
};

/* The largest |x| as its bits, which are ordered as the numbers are: infinities and NaN come last. */
static inline uint32_t most_of(uint32_t most, const float *x, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bits &= 0x7fffffff;
        most = bits > most ? bits : most;
    }
    return most;
}

/* x * inverse to the nearest integer, of two the even one: the sum with 1.5 * 2^23 has no room for a
 * fraction. */
static inline int32_t rounded(float x, float inverse)
{
    const float shifted = x * inverse + 12582912.0f;
    int32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    return bits - 0x4b400000;
}

/* offset: what is added to each integer. */
static inline void to_bytes(uint8_t *to, const float *x, int64_t count, float inverse, int32_t offset)
{
    for (int64_t i = 0; i < count; i++) to[i] = (uint8_t)(rounded(x[i], inverse) + offset);
}

static inline void to_words(int16_t *to, const float *x, int64_t count, float inverse)
{
    for (int64_t i = 0; i < count; i += 4) {
        to[i] = (int16_t)rounded(x[i], inverse);
        to[i + 1] = (int16_t)rounded(x[i + 2], inverse);
        to[i + 2] = (int16_t)rounded(x[i + 1], inverse);
        to[i + 3] = (int16_t)rounded(x[i + 3], inverse);
    }
}

/* The nearest bf16 as the float32 it stands for. Rounding could carry the payload of a NaN out of its
 * fraction, so a NaN is cut off, and made quiet. */
static inline uint32_t nearest_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint32_t nearest = bits + 0x7fff + (bits >> 16 & 1), quiet = bits | 0x400000;
    return ((bits & 0x7fffffff) > BITS_OF_INFINITY ? quiet : nearest) & 0xffff0000;
}

static inline void to_pairs(uint16_t *to, const float *x, int64_t count)
{
    for (int64_t i = 0; i < count; i++) to[i] = (uint16_t)(nearest_bf16(x[i]) >> 16);
}

static inline void to_wide(uint32_t *to, const float *x, int64_t count)
{
    for (int64_t i = 0; i < count; i++) to[i] = nearest_bf16(x[i]);
}

static const float *gather(float *piece, const float *from, int64_t count, int64_t stride)
{
    for (int64_t i = 0; i < count; i++) piece[i] = from[i * stride];
    for (int64_t i = count; i & 3; i++) piece[i] = 0;
    return piece;
}

static inline void round_to_bf16(void *to, const float *from, int64_t k, int64_t stride, int format)
{
    float piece[PIECE];
    const int64_t most = stride == 1 ? k : PIECE;
    for (int64_t i = 0; i < k; i += most) {
        const int64_t count = k - i < most ? k - i : most;
        const float *x = stride == 1 ? from + i : gather(piece, from + i * stride, count, stride);
        if (format == NJ_ROWS_OF_PAIRS) {
            to_pairs((uint16_t *)to + i, x, count);
        } else {
            to_wide((uint32_t *)to + i, x, count);
        }
    }
    const int64_t size = format == NJ_ROWS_OF_PAIRS ? 2 : 4;
    if (k & 1) memset((char *)to + k * size, 0, (size_t)size);
}

/* Compiled more than once: compilers make vectors of these loops. */
#define DEFINE_ROUND_ROW(NAME)                                                                               \
    static void NAME(void *to, const float *from, int64_t k, int64_t stride, int format)                     \
    {                                                                                                        \
        if (format >= NJ_ROWS_OF_PAIRS) {                                                                    \
            round_to_bf16(to, from, k, stride, format);                                                      \
            return;                                                                                          \
        }                                                                                                    \
        float piece[PIECE];                                                                                  \
        uint32_t bits = 0;                                                                                   \
        for (int64_t i = 0; i < k; i += PIECE) {                                                             \
            const int64_t count = k - i < PIECE ? k - i : PIECE;                                             \
            bits = stride == 1 ? most_of(bits, from + i, count)                                              \
                               : most_of(bits, gather(piece, from + i * stride, count, stride), count);      \
        }                                                                                                    \
        float most, scale, inverse;                                                                          \
        memcpy(&most, &bits, sizeof most);                                                                   \
        scale = most / MOST;                                                                                 \
        inverse = MOST / most;                                                                               \
        if (bits >= BITS_OF_INFINITY) {                                                                      \
            scale = NAN;                                                                                     \
            inverse = 0;                                                                                     \
        } else if (!(inverse <= 3.4028234663852886e38f)) { /* zero, or so small that it has no inverse */    \
            scale = 0;                                                                                       \
            inverse = 0;                                                                                     \
        }                                                                                                    \
        const int64_t padded = (k + 3) / 4 * 4, size = format == NJ_ROWS_OF_WORDS ? 2 : 1;                   \
        for (int64_t i = 0; i < padded; i += PIECE) {                                                        \
            const int64_t left = k - i, count = left < PIECE ? left : PIECE;                                 \
            const int64_t whole = (count + 3) / 4 * 4;                                                       \
            const float *x = from + i;                                                                       \
            if (stride != 1 || whole > left || bits >= BITS_OF_INFINITY) {                                   \
                x = gather(piece, from + i * stride, count, stride);                                         \
            }                                                                                                \
            if (bits >= BITS_OF_INFINITY) memset(piece, 0, sizeof piece);                                    \
            if (format != NJ_ROWS_OF_WORDS) {                                                                \
                to_bytes((uint8_t *)to + i, x, whole, inverse, format == NJ_ROWS_OF_BYTES ? 128 : 0);        \
            } else {                                                                                         \
                to_words((int16_t *)to + i, x, whole, inverse);                                              \
            }                                                                                                \
        }                                                                                                    \
        memcpy((char *)to + padded * size, &scale, sizeof scale);                                            \
    }

DEFINE_ROUND_ROW(round_row_baseline)

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
__attribute__((target("avx2"))) DEFINE_ROUND_ROW(round_row_avx2)

    void nj_round_row(void *to, const float *from, int64_t k, int64_t stride, int format)
{
    (__builtin_cpu_supports("avx2") ? round_row_avx2 : round_row_baseline)(to, from, k, stride, format);
}
#else
void nj_round_row(void *to, const float *from, int64_t k, int64_t stride, int format)
{
    round_row_baseline(to, from, k, stride, format);
}
#endif

typedef struct {
    const nj_rounded_product *product;
    const float *a;
    char *rows;
} rounding_job;

static void round_one(void *argument, int64_t row)
{
    const rounding_job *job = argument;
    const nj_rounded_product *p = job->product;
    nj_round_row(job->rows + row * p->row_bytes, job->a + row * p->row_stride, p->k, p->column_stride,
                 p->format);
}

void *nj_rounded_product_scratch(const nj_rounded_product *product)
{
    return nj_thread_scratch((size_t)(product->m * product->row_bytes));
}

int64_t nj_rounded_product_run(void *const *buffers, int64_t n)
{
    const nj_rounded_product *p = buffers[0];
    rounding_job job = {p, buffers[1], nj_rounded_product_scratch(p)};
    if (job.rows == NULL) return NJ_GEMM_NO_MEMORY;
    const int members = nj_pool_reserve(nj_members_worth((double)p->m * (double)p->k, SHARED_WORK));
    nj_pool_share(round_one, &job, p->m, members);
    void *inner[4 + NJ_MOST_BESIDE];
    inner[0] = p->inner->context;
    inner[1] = job.rows;
    for (int i = 2; i <= p->operands; i++) inner[i] = buffers[i];
    return p->inner->entry(inner, n);
}
