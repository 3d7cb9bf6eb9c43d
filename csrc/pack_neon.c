/* Packing with NEON, which every AArch64 CPU has.
 *
 * As in pack_x86.c, rows are loaded along the steps, where the source is contiguous, and leave as columns:
 * squares of 4 and 2 lanes by 4 steps (of 4 bytes), of 2 by 2 (of 8), and single lanes. */
#include "pack.h"

#if defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))

#include <arm_neon.h>

#include "pack_copy.h"

/* How far ahead, in bytes, the rows of the source are asked for: a row of the matrix apart, they are too many
 * for the hardware to follow. */
enum { AHEAD = 256, LINE = 64 };

NJ_COPY_INLINE void ask_ahead(const void *from, int64_t stride_bytes, int rows)
{
    for (int row = 0; row < rows; row++) __builtin_prefetch((const char *)from + row * stride_bytes + AHEAD);
}

/* r0[0] r1[0] r2[0] r3[0], then the same of [1], [2], [3]. */
NJ_COPY_INLINE void square_4x4(uint32_t *to, int64_t lanes, const uint32_t *from, int64_t stride)
{
    const uint32x4_t r0 = vld1q_u32(from), r1 = vld1q_u32(from + stride);
    const uint32x4_t r2 = vld1q_u32(from + 2 * stride), r3 = vld1q_u32(from + 3 * stride);
    const uint64x2_t even01 = vreinterpretq_u64_u32(vtrn1q_u32(r0, r1)); /* r0[0] r1[0] r0[2] r1[2] */
    const uint64x2_t even23 = vreinterpretq_u64_u32(vtrn1q_u32(r2, r3));
    const uint64x2_t odd01 = vreinterpretq_u64_u32(vtrn2q_u32(r0, r1)); /* r0[1] r1[1] r0[3] r1[3] */
    const uint64x2_t odd23 = vreinterpretq_u64_u32(vtrn2q_u32(r2, r3));
    vst1q_u32(to, vreinterpretq_u32_u64(vtrn1q_u64(even01, even23)));
    vst1q_u32(to + lanes, vreinterpretq_u32_u64(vtrn1q_u64(odd01, odd23)));
    vst1q_u32(to + 2 * lanes, vreinterpretq_u32_u64(vtrn2q_u64(even01, even23)));
    vst1q_u32(to + 3 * lanes, vreinterpretq_u32_u64(vtrn2q_u64(odd01, odd23)));
}

NJ_COPY_INLINE void square_2x4(uint32_t *to, int64_t lanes, const uint32_t *from, int64_t stride)
{
    const uint32x4_t r0 = vld1q_u32(from), r1 = vld1q_u32(from + stride);
    const uint32x4_t even = vtrn1q_u32(r0, r1), odd = vtrn2q_u32(r0, r1);
    vst1_u32(to, vget_low_u32(even));
    vst1_u32(to + lanes, vget_low_u32(odd));
    vst1_u32(to + 2 * lanes, vget_high_u32(even));
    vst1_u32(to + 3 * lanes, vget_high_u32(odd));
}

NJ_COPY_INLINE void square_2x2_wide(uint64_t *to, int64_t lanes, const uint64_t *from, int64_t stride)
{
    const uint64x2_t r0 = vld1q_u64(from), r1 = vld1q_u64(from + stride);
    vst1q_u64(to, vtrn1q_u64(r0, r1));
    vst1q_u64(to + lanes, vtrn2q_u64(r0, r1));
}

static void transpose_4(uint32_t *to, const uint32_t *from, int64_t lanes, int64_t steps, int64_t stride)
{
    int64_t l = 0;
    for (; l + 4 <= lanes; l += 4) {
        const uint32_t *f = from + l * stride;
        uint32_t *t = to + l;
        int64_t s = 0;
        for (; s + 4 <= steps; s += 4) {
            if (s % (LINE / 4) == 0) ask_ahead(f + s, stride * 4, 4);
            square_4x4(t + s * lanes, lanes, f + s, stride);
        }
        for (; s < steps; s++)
            for (int64_t i = 0; i < 4; i++) t[s * lanes + i] = f[i * stride + s];
    }
    for (; l + 2 <= lanes; l += 2) {
        const uint32_t *f = from + l * stride;
        uint32_t *t = to + l;
        int64_t s = 0;
        for (; s + 4 <= steps; s += 4) square_2x4(t + s * lanes, lanes, f + s, stride);
        for (; s < steps; s++) t[s * lanes] = f[s], t[s * lanes + 1] = f[stride + s];
    }
    if (l < lanes) {
        for (int64_t s = 0; s < steps; s++) to[s * lanes + l] = from[l * stride + s];
    }
}

static void transpose_8(uint64_t *to, const uint64_t *from, int64_t lanes, int64_t steps, int64_t stride)
{
    int64_t l = 0;
    for (; l + 2 <= lanes; l += 2) {
        const uint64_t *f = from + l * stride;
        uint64_t *t = to + l;
        int64_t s = 0;
        for (; s + 2 <= steps; s += 2) {
            if (s % (LINE / 8) == 0) ask_ahead(f + s, stride * 8, 2);
            square_2x2_wide(t + s * lanes, lanes, f + s, stride);
        }
        if (s < steps) t[s * lanes] = f[s], t[s * lanes + 1] = f[stride + s];
    }
    if (l < lanes) {
        for (int64_t s = 0; s < steps; s++) to[s * lanes + l] = from[l * stride + s];
    }
}

static void panel_4(void *to, const void *from, int64_t lanes, int64_t steps, int64_t lane_stride,
                    int64_t step_stride)
{
    if (step_stride == 1 && lane_stride != 1) {
        transpose_4(to, from, lanes, steps, lane_stride);
    } else {
        nj_packer_portable.panel_4(to, from, lanes, steps, lane_stride, step_stride);
    }
}

static void panel_8(void *to, const void *from, int64_t lanes, int64_t steps, int64_t lane_stride,
                    int64_t step_stride)
{
    if (step_stride == 1 && lane_stride != 1) {
        transpose_8(to, from, lanes, steps, lane_stride);
    } else {
        nj_packer_portable.panel_8(to, from, lanes, steps, lane_stride, step_stride);
    }
}

static const nj_packer neon = {"neon", panel_4, panel_8};

const nj_packer *nj_packer_neon(void) { return &neon; }

#else

const nj_packer *nj_packer_neon(void) { return NULL; }

#endif
