#include "executable_memory.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "instruction_sync.h"
#include "map_strategies.h"

static const char *const strategy_names[NJ_STRATEGY_COUNT] = {"untried", "memfd", "mprotect", "MAP_JIT",
                                                              "none"};
static const char *const step_names[NJ_STEP_COUNT] = {
    "platform",           "memfd_create",     "write",
    "fcntl(F_ADD_SEALS)", "mmap(memfd, R|X)", "mmap(anonymous, R|W)",
    "mprotect(R|X)",      "mmap(MAP_JIT)",    "membarrier(SYNC_CORE)",
};

const char *nj_strategy_name(nj_strategy strategy) { return strategy_names[strategy]; }
const char *nj_step_name(nj_map_step step) { return step_names[step]; }

static _Atomic int current_strategy = NJ_STRATEGY_UNTRIED;
static _Atomic uint64_t live_bytes, live_mappings, total_mappings;

/* A failure is one word, so that reading it needs no lock: closed bit, step, errno. */
static _Atomic uint32_t failures[NJ_STRATEGY_COUNT];
#define FAILURE_CLOSED (1u << 31)

static struct {
    _Atomic int error, times;
} injected[NJ_STEP_COUNT];

nj_strategy nj_current_strategy(void) { return (nj_strategy)atomic_load(&current_strategy); }

nj_map_failure nj_strategy_failure(nj_strategy strategy)
{
    uint32_t word = atomic_load(&failures[strategy]);
    return (nj_map_failure){
        .error = (int)(word & 0xffff),
        .step = (nj_map_step)(word >> 16 & 0xff),
        .closed = (word & FAILURE_CLOSED) != 0,
    };
}

nj_memory_usage nj_executable_memory_usage(void)
{
    return (nj_memory_usage){
        .live_bytes = atomic_load(&live_bytes),
        .live_mappings = atomic_load(&live_mappings),
        .total_mappings = atomic_load(&total_mappings),
    };
}

void nj_executable_memory_inject(nj_map_step step, int error, int times)
{
    atomic_store(&injected[step].error, error);
    atomic_store(&injected[step].times, times);
}

void nj_executable_memory_reset(void)
{
    for (int step = 0; step < NJ_STEP_COUNT; step++) nj_executable_memory_inject((nj_map_step)step, 0, 0);
    for (int strategy = 0; strategy < NJ_STRATEGY_COUNT; strategy++) atomic_store(&failures[strategy], 0);
    nj_instruction_sync_reset();
}

int nj_injection(nj_map_step step)
{
    int times = atomic_load_explicit(&injected[step].times, memory_order_relaxed);
    while (times > 0) {
        if (atomic_compare_exchange_weak(&injected[step].times, &times, times - 1))
            return atomic_load(&injected[step].error);
    }
    return 0;
}

#ifdef NJ_MAPS_CODE
#include <unistd.h>

static nj_map_function *const strategies[NJ_STRATEGY_COUNT] = {
#if defined(__linux__)
    [NJ_STRATEGY_MEMFD] = nj_map_memfd,
    [NJ_STRATEGY_MPROTECT] = nj_map_mprotect,
#else
    [NJ_STRATEGY_JIT] = nj_map_jit,
#endif
};

bool nj_strategy_exists(nj_strategy strategy) { return strategies[strategy] != NULL; }

static bool is_shortage(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOMEM || error == EAGAIN || error == EFBIG ||
           error == ENOSPC || error == EDQUOT;
}

static void record(nj_strategy strategy, nj_outcome result)
{
    uint32_t word = (uint32_t)result.error | (uint32_t)result.step << 16;
    if (!is_shortage(result.error)) word |= FAILURE_CLOSED;
    atomic_store(&failures[strategy], word);
}

int nj_map(nj_mapping *mapping, const void *code, size_t length)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (length == 0) return EINVAL;
    if (length > PTRDIFF_MAX - page) return ENOMEM;

    int error = ENOTSUP;
    nj_mapping made = {.size = (length + page - 1) & ~(page - 1)};
    for (nj_strategy strategy = NJ_STRATEGY_MEMFD; strategy < NJ_STRATEGY_NONE; strategy++) {
        if (strategies[strategy] == NULL) continue;
        nj_map_failure before = nj_strategy_failure(strategy);
        error = before.error;
        if (before.closed) continue;
        nj_outcome result = strategies[strategy](&made, code, length);
        if (!result.error) {
            result = nj_failed(NJ_STEP_SYNCHRONISE, nj_synchronise_instructions(made.address, made.size));
            if (result.error) nj_give_back(made.address, made.size, nj_addresses_are_reusable());
        }
        error = result.error;
        if (error) {
            record(strategy, result);
            continue;
        }
        made.strategy = strategy;
        atomic_store(&current_strategy, (int)strategy);
        atomic_fetch_add(&live_bytes, made.size);
        atomic_fetch_add(&live_mappings, 1);
        atomic_fetch_add(&total_mappings, 1);
        *mapping = made;
        return 0;
    }
    atomic_store(&current_strategy, NJ_STRATEGY_NONE);
    return error;
}

void nj_unmap(nj_mapping *mapping)
{
    if (mapping->address == NULL) return;
    /* If the kernel refuses, the pages are still there and stay counted. */
    if (nj_give_back(mapping->address, mapping->size, nj_addresses_are_reusable()) == 0) {
        atomic_fetch_sub(&live_bytes, mapping->size);
        atomic_fetch_sub(&live_mappings, 1);
    }
    *mapping = (nj_mapping){0};
}

#else /* not written for this platform: Windows wants VirtualProtect */

bool nj_strategy_exists(nj_strategy strategy) { return strategy == NJ_STRATEGY_MPROTECT; }

int nj_map(nj_mapping *mapping, const void *code, size_t length)
{
    (void)mapping, (void)code, (void)length;
    uint32_t word = (uint32_t)ENOSYS | (uint32_t)NJ_STEP_PLATFORM << 16 | FAILURE_CLOSED;
    atomic_store(&failures[NJ_STRATEGY_MPROTECT], word);
    atomic_store(&current_strategy, NJ_STRATEGY_NONE);
    return ENOSYS;
}

void nj_unmap(nj_mapping *mapping) { *mapping = (nj_mapping){0}; }

#endif
