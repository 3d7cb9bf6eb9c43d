/* Executable memory: bytes in, sealed machine code out, one owner for each mapping.
 *
 * The problem. A page that is writable and executable at once is what an attacker needs, and what
 * hardened systems (PR_SET_MDWE, SELinux execmem, seccomp) refuse. No single way to avoid it works
 * everywhere, and a sandbox may take one away while the process runs.
 *
 * The idea. A few ways, tried in this order for every mapping; no page is ever both:
 *   memfd      write the code into an anonymous file, seal the file against any further write, map
 *              it private, readable and executable. The mapping was never writable, so systems that
 *              forbid *making* memory executable still allow it.
 *   mprotect   map anonymous memory readable and writable, copy, then turn it readable and executable.
 *   MAP_JIT    macOS on Apple silicon: each thread sees a page writable or executable, never both.
 * If neither works there is no JIT ("none"); everything above stays correct through the reference.
 *
 * A refusal (EPERM, EACCES, ENOSYS ...) closes a strategy: it is not asked again. A shortage (no file
 * descriptors, no memory, a file size limit) only fails this mapping, for it may pass. Either way the
 * step and its errno are kept, and `nj_strategy_failure` tells them.
 *
 * Invariants.
 *   - A failed `nj_map` leaves no descriptor, no mapping and no accounting behind.
 *   - After `nj_map` returned, every core that learns the address afterwards executes the new bytes:
 *     the instructions are synchronised (instruction_sync.h) before the address is handed out.
 *   - All state is a handful of atomics: there is no lock, so nothing to repair in a forked child,
 *     which may map and unmap at once (mappings are private, so neither process sees the other's).
 */
#ifndef NJ_EXECUTABLE_MEMORY_H
#define NJ_EXECUTABLE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum nj_strategy {
    NJ_STRATEGY_UNTRIED, /* nothing has been mapped yet */
    NJ_STRATEGY_MEMFD,
    NJ_STRATEGY_MPROTECT,
    NJ_STRATEGY_JIT,  /* MAP_JIT */
    NJ_STRATEGY_NONE, /* the last mapping failed every way */
    NJ_STRATEGY_COUNT
} nj_strategy;

typedef enum nj_map_step {
    NJ_STEP_PLATFORM, /* not written for this operating system */
    NJ_STEP_MEMFD_CREATE,
    NJ_STEP_MEMFD_WRITE,
    NJ_STEP_MEMFD_SEAL,
    NJ_STEP_MEMFD_MAP,
    NJ_STEP_ANONYMOUS_MAP,
    NJ_STEP_ANONYMOUS_PROTECT,
    NJ_STEP_JIT_MAP,
    NJ_STEP_SYNCHRONISE, /* every core with the new instructions */
    NJ_STEP_COUNT
} nj_map_step;

/* One executable mapping. Whoever holds the struct owns the pages and must `nj_unmap` it once. */
typedef struct nj_mapping {
    void *address;
    size_t size; /* bytes mapped: whole pages */
    nj_strategy strategy;
} nj_mapping;

/* The last failure of one strategy. */
typedef struct nj_map_failure {
    int error;        /* errno; 0: it never failed */
    nj_map_step step; /* what answered with it */
    int closed;       /* a refusal: not asked again */
} nj_map_failure;

typedef struct nj_memory_usage {
    uint64_t live_bytes;
    uint64_t live_mappings;
    uint64_t total_mappings; /* since the start of the process */
} nj_memory_usage;

/* Maps a copy of `length` bytes of code; the rest of the last page traps. Returns 0 or an errno,
 * the last strategy's; `*mapping` is written only on success. */
int nj_map(nj_mapping *mapping, const void *code, size_t length);

/* Gives the pages back. No thread may be executing them. Clears `*mapping`; harmless on a cleared one. */
void nj_unmap(nj_mapping *mapping);

/* What the latest nj_map used. */
nj_strategy nj_current_strategy(void);
nj_map_failure nj_strategy_failure(nj_strategy strategy);
nj_memory_usage nj_executable_memory_usage(void);

/* Whether this system has the strategy, even if it refuses it. */
bool nj_strategy_exists(nj_strategy strategy);

const char *nj_strategy_name(nj_strategy strategy);
const char *nj_step_name(nj_map_step step);

/* Fault injection: the next `times` visits of `step` fail with `error` instead of being made. */
void nj_executable_memory_inject(nj_map_step step, int error, int times);

/* Forgets refusals and injections: every strategy is asked again. */
void nj_executable_memory_reset(void);

#endif
