#include "pack.h"

#include <string.h>

#include "pack_copy.h"

/* Four lanes at a time, so that each line of `to` is touched a quarter as often as with one. The compiler
 * sees both stride classes: with a constant stride of 1 it may do better than one by one. */
#define DEFINE_GATHER(NAME, TYPE)                                                                            \
    static inline void NAME(TYPE *restrict to, const TYPE *restrict from, int64_t lanes, int64_t steps,      \
                            int64_t lane_stride, int64_t step_stride)                                        \
    {                                                                                                        \
        int64_t l = 0;                                                                                       \
        for (; l + 4 <= lanes; l += 4) {                                                                     \
            const TYPE *f0 = from + l * lane_stride, *f1 = f0 + lane_stride;                                 \
            const TYPE *f2 = f1 + lane_stride, *f3 = f2 + lane_stride;                                       \
            for (int64_t s = 0; s < steps; s++) {                                                            \
                TYPE *t = to + s * lanes + l;                                                                \
                const int64_t o = s * step_stride;                                                           \
                t[0] = f0[o], t[1] = f1[o], t[2] = f2[o], t[3] = f3[o];                                      \
            }                                                                                                \
        }                                                                                                    \
        for (; l < lanes; l++) {                                                                             \
            for (int64_t s = 0; s < steps; s++) {                                                            \
                to[s * lanes + l] = from[l * lane_stride + s * step_stride];                                 \
            }                                                                                                \
        }                                                                                                    \
    }

DEFINE_GATHER(gather_4, uint32_t)
DEFINE_GATHER(gather_8, uint64_t)

static void panel_4(void *to, const void *from, int64_t lanes, int64_t steps, int64_t lane_stride,
                    int64_t step_stride)
{
    if (lane_stride == 1) {
        nj_copy_steps(to, from, lanes * 4, steps, step_stride * 4);
    } else if (step_stride == 1) {
        gather_4(to, from, lanes, steps, lane_stride, 1);
    } else {
        gather_4(to, from, lanes, steps, lane_stride, step_stride);
    }
}

static void panel_8(void *to, const void *from, int64_t lanes, int64_t steps, int64_t lane_stride,
                    int64_t step_stride)
{
    if (lane_stride == 1) {
        nj_copy_steps(to, from, lanes * 8, steps, step_stride * 8);
    } else if (step_stride == 1) {
        gather_8(to, from, lanes, steps, lane_stride, 1);
    } else {
        gather_8(to, from, lanes, steps, lane_stride, step_stride);
    }
}

const nj_packer nj_packer_portable = {"portable", panel_4, panel_8};

const nj_packer *nj_packer_here(void)
{
    const nj_packer *packer = nj_packer_avx2();
    if (packer == NULL) packer = nj_packer_neon();
    return packer ? packer : &nj_packer_portable;
}
