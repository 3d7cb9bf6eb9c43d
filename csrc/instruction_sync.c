#include "instruction_sync.h"

#include <errno.h>
#include <stdatomic.h>

#include "map_strategies.h"

enum { UNDECIDED, EVERY_CORE, FRESH_ADDRESSES };

#if defined(__aarch64__)

static _Atomic int decided = UNDECIDED;

bool nj_addresses_are_reusable(void) { return atomic_load(&decided) != FRESH_ADDRESSES; }
void nj_instruction_sync_reset(void) { atomic_store(&decided, UNDECIDED); }

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_membarrier
#define SYS_membarrier 283
#endif

/* Linux uapi/linux/membarrier.h: MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE and its registration. */
enum { SYNC_CORE = 1 << 5, REGISTER_SYNC_CORE = 1 << 6 };

static int synchronise_cores(void)
{
    const int error = nj_injection(NJ_STEP_SYNCHRONISE);
    if (error) return error;
    if (syscall(SYS_membarrier, SYNC_CORE, 0, 0) == 0) return 0;
    if (errno != EPERM || syscall(SYS_membarrier, REGISTER_SYNC_CORE, 0, 0) != 0) return errno;
    return syscall(SYS_membarrier, SYNC_CORE, 0, 0) == 0 ? 0 : errno;
}
#else
static int synchronise_cores(void) { return ENOSYS; }
#endif

int nj_synchronise_instructions(void *start, size_t size)
{
    __builtin___clear_cache(start, (char *)start + size);
    int before = atomic_load(&decided);
    if (before == FRESH_ADDRESSES) return 0;
    const int error = synchronise_cores();
    if (before == UNDECIDED) { /* threads that race here find the same; the first one's answer stays */
        const int found = error ? FRESH_ADDRESSES : EVERY_CORE;
        if (atomic_compare_exchange_strong(&decided, &before, found)) before = found;
    }
    return before == EVERY_CORE ? error : 0;
}

#else

bool nj_addresses_are_reusable(void) { return true; }
void nj_instruction_sync_reset(void) {}

int nj_synchronise_instructions(void *start, size_t size)
{
    __builtin___clear_cache(start, (char *)start + size);
    return 0;
}

#endif
