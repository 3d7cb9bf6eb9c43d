/* The ways of making bytes executable, each in the file of its system; executable_memory.c tries them.
 *
 * A strategy maps a copy of `length` bytes in `mapping->size` bytes, whole pages, fills the rest with
 * NJ_TRAP_BYTE and sets `mapping->address`. When it fails it leaves nothing behind, and says at which step.
 */
#ifndef NJ_MAP_STRATEGIES_H
#define NJ_MAP_STRATEGIES_H

#include "executable_memory.h"

/* What went wrong where; error 0 is success. */
typedef struct nj_outcome {
    nj_map_step step;
    int error;
} nj_outcome;

typedef nj_outcome nj_map_function(nj_mapping *mapping, const void *code, size_t length);

#if defined(__linux__)
#define NJ_MAPS_CODE 1
nj_map_function nj_map_memfd, nj_map_mprotect;
#elif defined(__APPLE__) && defined(__aarch64__)
#define NJ_MAPS_CODE 1
nj_map_function nj_map_jit;
#endif

/* Gives the pages back, and their addresses too if `reusable`; otherwise those stay taken, and empty.
 * Returns 0 or an errno. */
int nj_give_back(void *address, size_t size, int reusable);

/* The errno injected for this visit of `step`, or 0. */
int nj_injection(nj_map_step step);

static inline nj_outcome nj_failed(nj_map_step step, int error) { return (nj_outcome){step, error}; }

/* Whoever runs off the end of the code stops there. Zeroes are an undefined instruction on AArch64 and
 * RISC-V, but an `add` to memory on x86-64, where int3 is wanted. */
#if defined(__x86_64__)
#define NJ_TRAP_BYTE 0xcc
#else
#define NJ_TRAP_BYTE 0
#endif

#endif
