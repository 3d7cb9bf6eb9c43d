/* An extent cut into parts of at most two sizes. */
#ifndef NJ_CUT_H
#define NJ_CUT_H

#include <stdint.h>

/* count[0] parts of size[0], then count[1] of size[1]. */
typedef struct nj_cut {
    int64_t size[2], count[2];
} nj_cut;

#endif
