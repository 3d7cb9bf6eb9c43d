#include "arenas.h"

#include <stdlib.h>
#include <string.h>

enum { NO_NUMBER = -1 };

static _Atomic int failures_to_come;

void nj_arena_inject(int count) { atomic_store(&failures_to_come, count); }

static int fails(void)
{
    int left = atomic_load_explicit(&failures_to_come, memory_order_relaxed);
    while (left > 0) {
        if (atomic_compare_exchange_weak(&failures_to_come, &left, left - 1)) return 1;
    }
    return 0;
}

void *nj_arena_make(size_t bytes)
{
    if (fails() || bytes > PTRDIFF_MAX - NJ_ARENA_ALIGNMENT) return NULL;
    size_t rounded = (bytes + NJ_ARENA_ALIGNMENT - 1) / NJ_ARENA_ALIGNMENT * NJ_ARENA_ALIGNMENT;
    void *block = aligned_alloc(NJ_ARENA_ALIGNMENT, rounded ? rounded : NJ_ARENA_ALIGNMENT);
    if (block != NULL) memset(block, 0, rounded);
    return block;
}

void nj_arenas_init(nj_arenas *arenas, size_t bytes)
{
    memset(arenas->block, 0, sizeof arenas->block);
    atomic_init(&arenas->taken, 0);
    arenas->bytes = bytes;
}

void nj_arenas_free(nj_arenas *arenas)
{
    for (int i = 0; i < NJ_ARENAS; i++) free(arenas->block[i]);
}

void *nj_arenas_take(nj_arenas *arenas, int *number)
{
    uint64_t taken = atomic_load_explicit(&arenas->taken, memory_order_relaxed);
    while (taken != UINT64_MAX) {
        uint64_t lowest = ~taken & (taken + 1);
        if (!atomic_compare_exchange_weak_explicit(&arenas->taken, &taken, taken | lowest,
                                                   memory_order_acquire, memory_order_relaxed)) {
            continue;
        }
        int mine = 0;
        while (lowest >> mine != 1) mine++;
        if (arenas->block[mine] == NULL) arenas->block[mine] = nj_arena_make(arenas->bytes);
        void *block = arenas->block[mine];
        if (block == NULL) nj_arenas_give(arenas, NULL, mine);
        *number = mine;
        return block;
    }
    *number = NO_NUMBER;
    return nj_arena_make(arenas->bytes);
}

void nj_arenas_give(nj_arenas *arenas, void *block, int number)
{
    if (number == NO_NUMBER) {
        free(block);
        return;
    }
    atomic_fetch_and_explicit(&arenas->taken, ~(UINT64_C(1) << number), memory_order_release);
}
