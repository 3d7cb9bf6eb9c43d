/* The lane-stride-1 half of packing, compiled once per instruction set: a run of `bytes` per step.
 *
 * The run of a full panel has one of a few lengths. With the length a constant, the compiler unrolls the
 * copy into the widest moves that the including function may use; with a variable it would call memcpy
 * once a step, which costs more than the copy. */
#ifndef NJ_PACK_COPY_H
#define NJ_PACK_COPY_H

#include <stdint.h>
#include <string.h>

#define NJ_COPY_INLINE static inline __attribute__((always_inline))

NJ_COPY_INLINE void nj_copy_runs(char *restrict to, const char *restrict from, int64_t bytes, int64_t steps,
                                 int64_t stride)
{
    for (int64_t s = 0; s < steps; s++) {
        for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(from + (s + 12) * stride + at);
        memcpy(to + s * bytes, from + s * stride, (size_t)bytes);
    }
}

/* Runs of no usual length, without a call: pieces of 32, 16, 8 and 4 bytes. */
NJ_COPY_INLINE void nj_copy_odd_runs(char *restrict to, const char *restrict from, int64_t bytes,
                                     int64_t steps, int64_t stride)
{
    for (int64_t s = 0; s < steps; s++, to += bytes, from += stride) {
        int64_t at = 0;
        for (; at + 32 <= bytes; at += 32) memcpy(to + at, from + at, 32);
        if (bytes & 16) memcpy(to + at, from + at, 16), at += 16;
        if (bytes & 8) memcpy(to + at, from + at, 8), at += 8;
        if (bytes & 4) memcpy(to + at, from + at, 4);
    }
}

/* Strides in bytes; `bytes` is a multiple of 4. */
NJ_COPY_INLINE void nj_copy_steps(char *restrict to, const char *restrict from, int64_t bytes, int64_t steps,
                                  int64_t stride)
{
    switch (bytes) { /* the widths and heights of micro-tiles: 6, 8, 12, 14, 16, 32, 48, 64 of 4 or 8 bytes */
    case 24: nj_copy_runs(to, from, 24, steps, stride); break;
    case 32: nj_copy_runs(to, from, 32, steps, stride); break;
    case 48: nj_copy_runs(to, from, 48, steps, stride); break;
    case 56: nj_copy_runs(to, from, 56, steps, stride); break;
    case 64: nj_copy_runs(to, from, 64, steps, stride); break;
    case 96: nj_copy_runs(to, from, 96, steps, stride); break;
    case 112: nj_copy_runs(to, from, 112, steps, stride); break;
    case 128: nj_copy_runs(to, from, 128, steps, stride); break;
    case 192: nj_copy_runs(to, from, 192, steps, stride); break;
    case 256: nj_copy_runs(to, from, 256, steps, stride); break;
    default: nj_copy_odd_runs(to, from, bytes, steps, stride); break;
    }
}

#endif
