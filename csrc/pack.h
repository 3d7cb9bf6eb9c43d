/* Packing: one micro-panel of a matrix, copied so that a micro-kernel reads it straight through.
 *
 * A panel has `lanes` lanes and `steps` steps: for A a lane is a row, for B a column, and a step is one
 * value of k. Lane l of step s of the source, at from[l * lane_stride + s * step_stride], goes to
 * to[s * lanes + l]. Strides are in elements and may be any, of any sign.
 *
 * Which code does it depends on the stride that is 1:
 *   lane stride 1   (B row-major, A transposed): each step is a short run to copy;
 *   step stride 1   (A row-major, B transposed): squares are transposed in registers;
 *   neither         element by element.
 * A packer exists per instruction set; `nj_packer_here` picks the best that this CPU can run. All give the
 * same bytes: elements are moved as bits, never as numbers.
 *
 * Invariants. Nothing outside the lanes x steps elements is read, nothing outside the panel is written, so
 * neighbouring panels may be packed by different threads at once. */
#ifndef NJ_PACK_H
#define NJ_PACK_H

#include <stddef.h>
#include <stdint.h>

typedef void (*nj_pack_panel)(void *to, const void *from, int64_t lanes, int64_t steps, int64_t lane_stride,
                              int64_t step_stride);

/* Of elements of 4 and of 8 bytes. */
typedef struct nj_packer {
    const char *name;
    nj_pack_panel panel_4, panel_8;
} nj_packer;

extern const nj_packer nj_packer_portable;

/* An instruction set's packer, or NULL where it is not compiled in or the CPU or the OS lacks it. */
const nj_packer *nj_packer_avx2(void);
const nj_packer *nj_packer_neon(void);

const nj_packer *nj_packer_here(void);

#endif
