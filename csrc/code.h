/* What a kernel is, and who owns it.
 *
 * A kernel is one C function: `buffers[0]` is its context (weights, temporaries, or whatever its maker
 * put there), then the inputs, then the outputs; `n` is the dynamic leading extent; the result is 0, or
 * the number of the assert that failed. Emitted machine code and C drivers look the same through it.
 *
 * An `nj_code` is a kernel with everything needed to call it and to get rid of it. It is written once by
 * its maker, published in a slot (slots.h), and never changed after. Whoever takes it last calls
 * `destroy`, exactly once, from any thread, without the GIL and without any lock held. A maker in another
 * extension module allocates its own and sets its own `destroy`; emitted bytes go through `nj_code_map`.
 */
#ifndef NJ_CODE_H
#define NJ_CODE_H

#include <stddef.h>
#include <stdint.h>

#include "executable_memory.h"

typedef int64_t (*nj_kernel)(void *const *buffers, int64_t n);

enum {
    NJ_CODE_RELEASES_GIL = 1u << 0, /* long enough that its Python caller gives up the GIL around it */
};

typedef struct nj_code {
    nj_kernel entry;
    void *context;  /* the caller puts it in buffers[0] */
    uint32_t flags; /* NJ_CODE_* */
    size_t bytes;   /* what destroying it gives back; eviction leaves code of 0 bytes alone */
    void (*destroy)(struct nj_code *code);
    nj_mapping mapping; /* of emitted code; zeroes elsewhere */

    /* The slot table's, from publication on. */
    struct nj_slot *slot;
    struct nj_code *next_retired;
} nj_code;

/* Maps machine code whose first byte is its entry. A context is copied, 64-byte aligned, and lives as
 * long as the code. Returns 0 and an owned `*code`, or an errno. */
int nj_code_map(nj_code **code, const void *bytes, size_t length, const void *context, size_t context_length,
                uint32_t flags);

#endif
