/* Slots under many threads, for the thread and address sanitizers.
 *
 * `CALLERS` threads call kernels by key; a cold key is compiled by whoever claims its slot, while the others
 * go on. At once an evictor takes code out and a swapper replaces it. A kernel reads its context, which
 * `destroy` poisons and frees: whoever ran on destroyed code would be seen by the sanitizer, or by the value.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "slots.h"

enum { CALLERS = 6, KEYS = 1500, SWEEPS = 300 };
#define ALIVE UINT64_C(0x600dc0de)

static nj_slot_table *table;
static _Atomic uint64_t made, destroyed, compiles[KEYS], sweeps, finished;

static void expect(bool held, const char *what)
{
    if (held) return;
    fprintf(stderr, "broken: %s\n", what);
    abort();
}

static int64_t kernel(void *const *buffers, int64_t n)
{
    volatile uint64_t *context = buffers[0];
    expect(context[0] == ALIVE, "the kernel's context is alive on entry");
    if (context[1] % 16 == 0) sched_yield(); /* now and then, let the others go on while we are inside */
    expect(context[0] == ALIVE, "the kernel's context is alive at the end");
    return (int64_t)context[1] + n;
}

static void destroy(nj_code *code)
{
    uint64_t *context = code->context;
    context[0] = 0xdead;
    free(context);
    free(code);
    atomic_fetch_add(&destroyed, 1);
}

static nj_code *compile(uint64_t number)
{
    nj_code *code = calloc(1, sizeof *code);
    uint64_t *context = malloc(2 * sizeof *context);
    expect(code && context, "memory");
    context[0] = ALIVE;
    context[1] = number;
    code->entry = kernel;
    code->context = context;
    code->bytes = 4096;
    code->destroy = destroy;
    atomic_fetch_add(&made, 1);
    return code;
}

static nj_key key_of(uint64_t number) { return (nj_key){{number << 32 | 7, 3, number % 5, 11}}; }

/* What a call from Python does: find or insert, enter, call, leave; compile if cold and unclaimed. */
static void call(uint64_t number)
{
    nj_key key = key_of(number);
    nj_slot *slot = nj_slots_find(table, &key);
    if (slot == NULL) slot = nj_slots_insert(table, &key);
    expect(slot && nj_key_equal(&slot->key, &key), "the slot of the key");
    nj_code *code = nj_slot_enter(slot);
    if (code) {
        void *buffers[] = {code->context};
        expect(code->entry(buffers, 5) == (int64_t)number + 5, "the kernel of the key");
        nj_slot_leave(slot);
    } else if (nj_slot_claim(slot)) {
        if (!nj_slot_is_published(slot)) { /* another may have compiled between our look and our claim */
            atomic_fetch_add(&compiles[number], 1);
            nj_slot_publish(table, slot, compile(number));
        }
        nj_slot_unclaim(slot);
    }
}

static void *caller(void *argument)
{
    uint64_t random = (uint64_t)(uintptr_t)argument * 2654435761u + 1;
    for (uint64_t number = 0; number < KEYS; number++) call(number);
    while (atomic_load(&sweeps) < SWEEPS) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        call((random >> 33) % KEYS);
    }
    atomic_fetch_add(&finished, 1);
    return NULL;
}

static void *evictor(void *argument)
{
    (void)argument;
    while (atomic_load(&finished) < CALLERS) {
        nj_slots_evict(table, 64 * 4096);
        nj_slots_reclaim(table);
        nj_slots_statistics(table);
        atomic_fetch_add(&sweeps, 1);
        usleep(100);
    }
    return NULL;
}

static void *swapper(void *argument)
{
    (void)argument;
    for (uint64_t i = 0; atomic_load(&finished) < CALLERS; i++) {
        nj_key key = key_of(i % 20);
        nj_slot_publish(table, nj_slots_insert(table, &key), compile(i % 20));
        if (i % 7 == 0) nj_slot_evict(table, nj_slots_insert(table, &key));
        usleep(20);
    }
    return NULL;
}

/* One cold key, all threads at once, nobody evicts: one compile. */
static void *rush(void *argument)
{
    pthread_barrier_wait(argument);
    for (int i = 0; i < 100; i++) call(KEYS - 1);
    return NULL;
}

static void one_compile(void)
{
    enum { THREADS = 16 };
    pthread_t threads[THREADS];
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, rush, &start);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&start);
    expect(atomic_load(&compiles[KEYS - 1]) == 1, "one compile of a cold key");
}

int main(void)
{
    table = nj_slots_create();
    expect(table != NULL, "a table");
    one_compile();

    pthread_t threads[CALLERS + 2];
    for (uintptr_t i = 0; i < CALLERS; i++) pthread_create(&threads[i], NULL, caller, (void *)i);
    pthread_create(&threads[CALLERS], NULL, evictor, NULL);
    pthread_create(&threads[CALLERS + 1], NULL, swapper, NULL);
    for (int i = 0; i < CALLERS + 2; i++) pthread_join(threads[i], NULL);

    nj_slots_reclaim(table);
    nj_slots_stats stats = nj_slots_statistics(table);
    expect(stats.slots == KEYS, "as many slots as keys");
    expect(stats.retired == 0 && stats.retired_bytes == 0, "nothing waits without callers");
    expect(stats.publications == atomic_load(&made), "all that was made was published");
    expect(stats.published + atomic_load(&destroyed) == atomic_load(&made), "all else was destroyed once");
    expect(stats.live_bytes == 4096 * stats.published, "bytes are counted");
    expect(stats.evictions > 0, "something was evicted");
    expect(nj_slots_destroy(table), "the table is idle");
    expect(atomic_load(&destroyed) == atomic_load(&made), "nothing is left");
    printf("publications %llu evictions %llu\n", (unsigned long long)stats.publications,
           (unsigned long long)stats.evictions);
    return 0;
}
