#include "slots.h"

#include <stdlib.h>

#include "lock.h"

#define FIRST_BITS 8 /* of an entry's number */

/* Everything but the index is under the lock. */
struct nj_slots_state {
    nj_lock lock;
    nj_slot *first, **end; /* all slots, in order of insertion */
    nj_slot *hand;         /* where the next sweep begins; NULL: at the first */
    nj_code *retired;
    nj_slots_stats stats;
    nj_slot_table *next_table; /* in `tables`, under `tables_lock` */
};

/* All tables, for the fork handlers. Lock order: tables_lock, then the tables' own. */
static nj_lock tables_lock = NJ_LOCK_INIT;
static nj_slot_table *tables;

#if defined(_WIN32)
static void handle_forks(void) {}
static nj_slot *allocate_slot(void) { return _aligned_malloc(sizeof(nj_slot), NJ_CACHE_LINE); }
static void free_slot(nj_slot *slot) { _aligned_free(slot); }
#else

/* A fork copies the mutexes in whatever state they are, but not the threads that hold them. So the
 * forking thread takes them all first, and both processes start with them free. */
static void before_fork(void)
{
    nj_lock_acquire(&tables_lock);
    for (nj_slot_table *table = tables; table; table = table->state->next_table)
        nj_lock_acquire(&table->state->lock);
}

static void after_fork(void)
{
    for (nj_slot_table *table = tables; table; table = table->state->next_table)
        nj_lock_release(&table->state->lock);
    nj_lock_release(&tables_lock);
}

static void after_fork_in_child(void)
{
    for (nj_slot_table *table = tables; table; table = table->state->next_table) {
        for (nj_slot *slot = table->state->first; slot; slot = slot->next) {
            atomic_store(&slot->callers, 0);
            atomic_store(&slot->claimed, 0);
        }
    }
    after_fork();
}

static void register_fork_handlers(void) { pthread_atfork(before_fork, after_fork, after_fork_in_child); }

static void handle_forks(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_fork_handlers);
}

static nj_slot *allocate_slot(void) { return aligned_alloc(NJ_CACHE_LINE, sizeof(nj_slot)); }
static void free_slot(nj_slot *slot) { free(slot); }
#endif

static nj_slot_index *new_index(unsigned int bits, nj_slot_index *older)
{
    uint64_t entries = UINT64_C(1) << bits;
    nj_slot_index *index = malloc(sizeof *index + entries * sizeof index->entry[0]);
    if (index == NULL) return NULL;
    index->mask = entries - 1;
    index->shift = 64 - bits;
    index->older = older;
    for (uint64_t at = 0; at < entries; at++) atomic_init(&index->entry[at], NULL);
    return index;
}

nj_slot_table *nj_slots_create(void)
{
    handle_forks();
    nj_slot_table *table = malloc(sizeof *table);
    struct nj_slots_state *state = malloc(sizeof *state);
    nj_slot_index *index = new_index(FIRST_BITS, NULL);
    if (!table || !state || !index) {
        free(index);
        free(state);
        free(table);
        return NULL;
    }
    *state = (struct nj_slots_state){.lock = NJ_LOCK_INIT, .end = &state->first};
    atomic_init(&table->index, index);
    table->state = state;

    nj_lock_acquire(&tables_lock);
    state->next_table = tables;
    tables = table;
    nj_lock_release(&tables_lock);
    return table;
}

/* ---- finding and inserting ---- */

static void index_slot(nj_slot_index *index, nj_slot *slot)
{
    uint64_t at = nj_key_hash(&slot->key) >> index->shift;
    while (atomic_load_explicit(&index->entry[at], memory_order_relaxed)) at = (at + 1) & index->mask;
    atomic_store_explicit(&index->entry[at], slot, memory_order_release);
}

/* The index with room for one more slot, grown and published if need be. */
static nj_slot_index *index_with_room(nj_slot_table *table)
{
    struct nj_slots_state *state = table->state;
    nj_slot_index *index = atomic_load_explicit(&table->index, memory_order_relaxed);
    if (2 * (state->stats.slots + 1) <= index->mask + 1) return index;

    nj_slot_index *larger = new_index(64 - index->shift + 2, index);
    if (larger == NULL) return NULL;
    for (nj_slot *slot = state->first; slot; slot = slot->next) index_slot(larger, slot);
    atomic_store_explicit(&table->index, larger, memory_order_release);
    return larger;
}

static nj_slot *insert_locked(nj_slot_table *table, const nj_key *key)
{
    struct nj_slots_state *state = table->state;
    nj_slot *slot = nj_slots_find(table, key); /* another thread may have been first */
    if (slot) return slot;
    nj_slot_index *index = index_with_room(table);
    if (index == NULL) return NULL;
    slot = allocate_slot();
    if (slot == NULL) return NULL;

    slot->key = *key;
    atomic_init(&slot->code, NULL);
    atomic_init(&slot->calls, 0);
    atomic_init(&slot->callers, 0);
    atomic_init(&slot->claimed, 0);
    slot->next = NULL;
    slot->calls_at_sweep = 0;
    *state->end = slot;
    state->end = &slot->next;
    state->stats.slots++;
    index_slot(index, slot);
    return slot;
}

nj_slot *nj_slots_insert(nj_slot_table *table, const nj_key *key)
{
    nj_slot *slot = nj_slots_find(table, key);
    if (slot) return slot;
    nj_lock_acquire(&table->state->lock);
    slot = insert_locked(table, key);
    nj_lock_release(&table->state->lock);
    return slot;
}

/* ---- publishing and retiring ---- */

/* Takes out of the retired list what no caller can be in: the observation R of the proof in slots.h.
 * Everything in the list was exchanged out before, under this same lock. */
static nj_code *take_abandoned(struct nj_slots_state *state)
{
    nj_code *abandoned = NULL;
    nj_code **link = &state->retired;
    while (*link) {
        nj_code *code = *link;
        if (atomic_load(&code->slot->callers) != 0) {
            link = &code->next_retired;
            continue;
        }
        *link = code->next_retired;
        code->next_retired = abandoned;
        abandoned = code;
        state->stats.retired--;
        state->stats.retired_bytes -= code->bytes;
        state->stats.destroyed++;
    }
    return abandoned;
}

/* Without the lock: `destroy` is foreign code. */
static size_t destroy_list(nj_code *code)
{
    size_t destroyed = 0;
    while (code) {
        nj_code *next = code->next_retired;
        code->destroy(code);
        code = next;
        destroyed++;
    }
    return destroyed;
}

/* Exchanges the slot's code and retires what was there; returns the bytes of that. */
static size_t exchange_locked(struct nj_slots_state *state, nj_slot *slot, nj_code *code)
{
    nj_code *old = atomic_exchange(&slot->code, code);
    if (code) {
        state->stats.published++;
        state->stats.live_bytes += code->bytes;
    }
    if (old == NULL) return 0;
    size_t bytes = old->bytes;
    state->stats.published--;
    state->stats.live_bytes -= bytes;
    state->stats.retired++;
    state->stats.retired_bytes += bytes;
    old->next_retired = state->retired;
    state->retired = old;
    return bytes;
}

void nj_slot_publish(nj_slot_table *table, nj_slot *slot, nj_code *code)
{
    struct nj_slots_state *state = table->state;
    code->slot = slot;
    nj_lock_acquire(&state->lock);
    slot->calls_at_sweep = atomic_load(&slot->calls) - 1; /* new code gets its first chance */
    state->stats.publications++;
    exchange_locked(state, slot, code);
    nj_code *abandoned = take_abandoned(state);
    nj_lock_release(&state->lock);
    destroy_list(abandoned);
}

bool nj_slot_evict(nj_slot_table *table, nj_slot *slot)
{
    struct nj_slots_state *state = table->state;
    nj_lock_acquire(&state->lock);
    bool evicted = atomic_load(&slot->code) != NULL; /* only changes under the lock */
    if (evicted) {
        exchange_locked(state, slot, NULL);
        state->stats.evictions++;
    }
    nj_code *abandoned = take_abandoned(state);
    nj_lock_release(&state->lock);
    destroy_list(abandoned);
    return evicted;
}

/* Moves the hand over one slot; returns the bytes that were evicted from it. */
static size_t sweep_one(struct nj_slots_state *state)
{
    nj_slot *slot = state->hand ? state->hand : state->first;
    state->hand = slot->next;

    nj_code *code = atomic_load(&slot->code);
    if (code == NULL || code->bytes == 0) return 0;
    uint64_t calls = atomic_load_explicit(&slot->calls, memory_order_relaxed);
    if (calls != slot->calls_at_sweep) {
        slot->calls_at_sweep = calls;
        return 0;
    }
    state->stats.evictions++;
    return exchange_locked(state, slot, NULL);
}

size_t nj_slots_evict(nj_slot_table *table, size_t bytes)
{
    struct nj_slots_state *state = table->state;
    size_t given_up = 0;
    nj_lock_acquire(&state->lock);
    for (uint64_t left = 2 * state->stats.slots; left > 0 && given_up < bytes; left--)
        given_up += sweep_one(state);
    nj_code *abandoned = take_abandoned(state);
    nj_lock_release(&state->lock);
    destroy_list(abandoned);
    return given_up;
}

size_t nj_slots_evict_keys(nj_slot_table *table, const nj_key *mask, const nj_key *value)
{
    struct nj_slots_state *state = table->state;
    size_t evicted = 0;
    nj_lock_acquire(&state->lock);
    for (nj_slot *slot = state->first; slot; slot = slot->next) {
        uint64_t differs = 0;
        for (int i = 0; i < 4; i++) differs |= (slot->key.word[i] ^ value->word[i]) & mask->word[i];
        if (differs || atomic_load(&slot->code) == NULL) continue;
        exchange_locked(state, slot, NULL);
        state->stats.evictions++;
        evicted++;
    }
    nj_code *abandoned = take_abandoned(state);
    nj_lock_release(&state->lock);
    destroy_list(abandoned);
    return evicted;
}

size_t nj_slots_reclaim(nj_slot_table *table)
{
    nj_lock_acquire(&table->state->lock);
    nj_code *abandoned = take_abandoned(table->state);
    nj_lock_release(&table->state->lock);
    return destroy_list(abandoned);
}

nj_slots_stats nj_slots_statistics(nj_slot_table *table)
{
    nj_lock_acquire(&table->state->lock);
    nj_slots_stats stats = table->state->stats;
    nj_lock_release(&table->state->lock);
    return stats;
}

/* ---- the end ---- */

static void unlink_table(nj_slot_table *table)
{
    nj_slot_table **link = &tables;
    while (*link != table) link = &(*link)->state->next_table;
    *link = table->state->next_table;
}

/* Retires all code and takes the table from the fork handlers, unless a caller is inside. */
static bool close_table(nj_slot_table *table)
{
    struct nj_slots_state *state = table->state;
    for (nj_slot *slot = state->first; slot; slot = slot->next)
        if (atomic_load(&slot->callers) != 0) return false;
    for (nj_slot *slot = state->first; slot; slot = slot->next) exchange_locked(state, slot, NULL);
    unlink_table(table);
    return true;
}

bool nj_slots_destroy(nj_slot_table *table)
{
    struct nj_slots_state *state = table->state;
    nj_lock_acquire(&tables_lock);
    nj_lock_acquire(&state->lock);
    bool closed = close_table(table);
    nj_lock_release(&state->lock);
    nj_lock_release(&tables_lock);
    if (!closed) return false;

    destroy_list(state->retired); /* whoever uses the table no more has left its kernels too */
    for (nj_slot *slot = state->first, *next; slot; slot = next) {
        next = slot->next;
        free_slot(slot);
    }
    nj_slot_index *index = atomic_load(&table->index);
    while (index) {
        nj_slot_index *older = index->older;
        free(index);
        index = older;
    }
    free(state);
    free(table);
    return true;
}
