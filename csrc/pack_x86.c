/* Packing with AVX2, compiled for the baseline and entered only behind a CPUID check.
 *
 * A square of lanes x steps is transposed in registers: its rows are loaded along the steps, where the
 * source is contiguous, and leave as columns, where the panel is. Panels 6, 12 or 14 lanes wide are cut
 * into squares of 8, 4 and 2 lanes (of 4 bytes) or 4 and 2 (of 8), and single lanes. */
#include "pack.h"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))

#include <immintrin.h>

#include "pack_copy.h"

#define AVX2 __attribute__((target("avx2")))
#define AVX2_INLINE static inline __attribute__((target("avx2"), always_inline))

/* How far ahead, in bytes, the rows of the source are asked for: they lie a whole row of the matrix apart,
 * often one per page, where hardware prefetching starts anew. */
enum { AHEAD = 256 };

AVX2_INLINE __m256 row_8(const float *from) { return _mm256_loadu_ps(from); }

/* 8 lanes by 8 steps of 4 bytes. */
AVX2_INLINE void square_8x8(float *to, int64_t lanes, const float *from, int64_t stride)
{
    const __m256 r0 = row_8(from), r1 = row_8(from + stride);
    const __m256 r2 = row_8(from + 2 * stride), r3 = row_8(from + 3 * stride);
    const __m256 r4 = row_8(from + 4 * stride), r5 = row_8(from + 5 * stride);
    const __m256 r6 = row_8(from + 6 * stride), r7 = row_8(from + 7 * stride);
    const __m256 t0 = _mm256_unpacklo_ps(r0, r1), t1 = _mm256_unpackhi_ps(r0, r1);
    const __m256 t2 = _mm256_unpacklo_ps(r2, r3), t3 = _mm256_unpackhi_ps(r2, r3);
    const __m256 t4 = _mm256_unpacklo_ps(r4, r5), t5 = _mm256_unpackhi_ps(r4, r5);
    const __m256 t6 = _mm256_unpacklo_ps(r6, r7), t7 = _mm256_unpackhi_ps(r6, r7);
    const __m256 u0 = _mm256_shuffle_ps(t0, t2, 0x44), u1 = _mm256_shuffle_ps(t0, t2, 0xee);
    const __m256 u2 = _mm256_shuffle_ps(t1, t3, 0x44), u3 = _mm256_shuffle_ps(t1, t3, 0xee);
    const __m256 u4 = _mm256_shuffle_ps(t4, t6, 0x44), u5 = _mm256_shuffle_ps(t4, t6, 0xee);
    const __m256 u6 = _mm256_shuffle_ps(t5, t7, 0x44), u7 = _mm256_shuffle_ps(t5, t7, 0xee);
    _mm256_storeu_ps(to, _mm256_permute2f128_ps(u0, u4, 0x20));
    _mm256_storeu_ps(to + lanes, _mm256_permute2f128_ps(u1, u5, 0x20));
    _mm256_storeu_ps(to + 2 * lanes, _mm256_permute2f128_ps(u2, u6, 0x20));
    _mm256_storeu_ps(to + 3 * lanes, _mm256_permute2f128_ps(u3, u7, 0x20));
    _mm256_storeu_ps(to + 4 * lanes, _mm256_permute2f128_ps(u0, u4, 0x31));
    _mm256_storeu_ps(to + 5 * lanes, _mm256_permute2f128_ps(u1, u5, 0x31));
    _mm256_storeu_ps(to + 6 * lanes, _mm256_permute2f128_ps(u2, u6, 0x31));
    _mm256_storeu_ps(to + 7 * lanes, _mm256_permute2f128_ps(u3, u7, 0x31));
}

/* 4 lanes by 4 steps of 4 bytes. */
AVX2_INLINE void square_4x4(float *to, int64_t lanes, const float *from, int64_t stride)
{
    const __m128 r0 = _mm_loadu_ps(from), r1 = _mm_loadu_ps(from + stride);
    const __m128 r2 = _mm_loadu_ps(from + 2 * stride), r3 = _mm_loadu_ps(from + 3 * stride);
    const __m128 t0 = _mm_unpacklo_ps(r0, r1), t1 = _mm_unpackhi_ps(r0, r1);
    const __m128 t2 = _mm_unpacklo_ps(r2, r3), t3 = _mm_unpackhi_ps(r2, r3);
    _mm_storeu_ps(to, _mm_movelh_ps(t0, t2));
    _mm_storeu_ps(to + lanes, _mm_movehl_ps(t2, t0));
    _mm_storeu_ps(to + 2 * lanes, _mm_movelh_ps(t1, t3));
    _mm_storeu_ps(to + 3 * lanes, _mm_movehl_ps(t3, t1));
}

/* 2 lanes by 4 steps of 4 bytes. */
AVX2_INLINE void square_2x4(float *to, int64_t lanes, const float *from, int64_t stride)
{
    const __m128 r0 = _mm_loadu_ps(from), r1 = _mm_loadu_ps(from + stride);
    const __m128 low = _mm_unpacklo_ps(r0, r1), high = _mm_unpackhi_ps(r0, r1);
    _mm_storel_pi((__m64 *)to, low);
    _mm_storeh_pi((__m64 *)(to + lanes), low);
    _mm_storel_pi((__m64 *)(to + 2 * lanes), high);
    _mm_storeh_pi((__m64 *)(to + 3 * lanes), high);
}

/* 4 lanes by 4 steps of 8 bytes. */
AVX2_INLINE void square_4x4_wide(double *to, int64_t lanes, const double *from, int64_t stride)
{
    const __m256d r0 = _mm256_loadu_pd(from), r1 = _mm256_loadu_pd(from + stride);
    const __m256d r2 = _mm256_loadu_pd(from + 2 * stride), r3 = _mm256_loadu_pd(from + 3 * stride);
    const __m256d t0 = _mm256_unpacklo_pd(r0, r1), t1 = _mm256_unpackhi_pd(r0, r1);
    const __m256d t2 = _mm256_unpacklo_pd(r2, r3), t3 = _mm256_unpackhi_pd(r2, r3);
    _mm256_storeu_pd(to, _mm256_permute2f128_pd(t0, t2, 0x20));
    _mm256_storeu_pd(to + lanes, _mm256_permute2f128_pd(t1, t3, 0x20));
    _mm256_storeu_pd(to + 2 * lanes, _mm256_permute2f128_pd(t0, t2, 0x31));
    _mm256_storeu_pd(to + 3 * lanes, _mm256_permute2f128_pd(t1, t3, 0x31));
}

/* 2 lanes by 2 steps of 8 bytes. */
AVX2_INLINE void square_2x2_wide(double *to, int64_t lanes, const double *from, int64_t stride)
{
    const __m128d r0 = _mm_loadu_pd(from), r1 = _mm_loadu_pd(from + stride);
    _mm_storeu_pd(to, _mm_unpacklo_pd(r0, r1));
    _mm_storeu_pd(to + lanes, _mm_unpackhi_pd(r0, r1));
}

AVX2_INLINE void ask_ahead(const void *from, int64_t stride_bytes, int rows)
{
    for (int row = 0; row < rows; row++) {
        _mm_prefetch((const char *)from + row * stride_bytes + AHEAD, _MM_HINT_T0);
    }
}

AVX2 static void transpose_4(float *to, const float *from, int64_t lanes, int64_t steps, int64_t stride)
{
    int64_t l = 0;
    for (; l + 8 <= lanes; l += 8) {
        const float *f = from + l * stride;
        float *t = to + l;
        int64_t s = 0;
        for (; s + 16 <= steps; s += 16) { /* a cache line of each row */
            ask_ahead(f + s, stride * 4, 8);
            square_8x8(t + s * lanes, lanes, f + s, stride);
            square_8x8(t + (s + 8) * lanes, lanes, f + s + 8, stride);
        }
        for (; s + 8 <= steps; s += 8) square_8x8(t + s * lanes, lanes, f + s, stride);
        for (; s < steps; s++)
            for (int64_t i = 0; i < 8; i++) t[s * lanes + i] = f[i * stride + s];
    }
    for (; l + 4 <= lanes; l += 4) {
        const float *f = from + l * stride;
        float *t = to + l;
        int64_t s = 0;
        for (; s + 16 <= steps; s += 16) {
            ask_ahead(f + s, stride * 4, 4);
            for (int64_t q = s; q < s + 16; q += 4) square_4x4(t + q * lanes, lanes, f + q, stride);
        }
        for (; s + 4 <= steps; s += 4) square_4x4(t + s * lanes, lanes, f + s, stride);
        for (; s < steps; s++)
            for (int64_t i = 0; i < 4; i++) t[s * lanes + i] = f[i * stride + s];
    }
    for (; l + 2 <= lanes; l += 2) {
        const float *f = from + l * stride;
        float *t = to + l;
        int64_t s = 0;
        for (; s + 4 <= steps; s += 4) square_2x4(t + s * lanes, lanes, f + s, stride);
        for (; s < steps; s++) t[s * lanes] = f[s], t[s * lanes + 1] = f[stride + s];
    }
    if (l < lanes) {
        for (int64_t s = 0; s < steps; s++) to[s * lanes + l] = from[l * stride + s];
    }
}

AVX2 static void transpose_8(double *to, const double *from, int64_t lanes, int64_t steps, int64_t stride)
{
    int64_t l = 0;
    for (; l + 4 <= lanes; l += 4) {
        const double *f = from + l * stride;
        double *t = to + l;
        int64_t s = 0;
        for (; s + 8 <= steps; s += 8) {
            ask_ahead(f + s, stride * 8, 4);
            square_4x4_wide(t + s * lanes, lanes, f + s, stride);
            square_4x4_wide(t + (s + 4) * lanes, lanes, f + s + 4, stride);
        }
        for (; s + 4 <= steps; s += 4) square_4x4_wide(t + s * lanes, lanes, f + s, stride);
        for (; s < steps; s++)
            for (int64_t i = 0; i < 4; i++) t[s * lanes + i] = f[i * stride + s];
    }
    for (; l + 2 <= lanes; l += 2) {
        const double *f = from + l * stride;
        double *t = to + l;
        int64_t s = 0;
        for (; s + 2 <= steps; s += 2) square_2x2_wide(t + s * lanes, lanes, f + s, stride);
        if (s < steps) t[s * lanes] = f[s], t[s * lanes + 1] = f[stride + s];
    }
    if (l < lanes) {
        for (int64_t s = 0; s < steps; s++) to[s * lanes + l] = from[l * stride + s];
    }
}

/* Loads, shuffles and stores of SSE and AVX move any bits unchanged, signalling NaNs too; scalar
 * assignments compile to moves. */
AVX2 static void panel_4(void *to, const void *from, int64_t lanes, int64_t steps, int64_t lane_stride,
                         int64_t step_stride)
{
    if (lane_stride == 1) {
        nj_copy_steps(to, from, lanes * 4, steps, step_stride * 4);
    } else if (step_stride == 1) {
        transpose_4(to, from, lanes, steps, lane_stride);
    } else {
        nj_packer_portable.panel_4(to, from, lanes, steps, lane_stride, step_stride);
    }
}

AVX2 static void panel_8(void *to, const void *from, int64_t lanes, int64_t steps, int64_t lane_stride,
                         int64_t step_stride)
{
    if (lane_stride == 1) {
        nj_copy_steps(to, from, lanes * 8, steps, step_stride * 8);
    } else if (step_stride == 1) {
        transpose_8(to, from, lanes, steps, lane_stride);
    } else {
        nj_packer_portable.panel_8(to, from, lanes, steps, lane_stride, step_stride);
    }
}

static const nj_packer avx2 = {"avx2", panel_4, panel_8};

const nj_packer *nj_packer_avx2(void)
{
    __builtin_cpu_init(); /* reads CPUID and XCR0 the first time, then nothing */
    return __builtin_cpu_supports("avx2") ? &avx2 : NULL;
}

#else

const nj_packer *nj_packer_avx2(void) { return NULL; }

#endif
