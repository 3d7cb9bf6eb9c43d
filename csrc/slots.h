/* Slots: how a call finds its kernel, and how a kernel is replaced while calls are running.
 *
 * The problem. Any thread may call, compile, publish, evict or fork at any time. A call must find its
 * code in a few nanoseconds and without a lock; code must stay mapped until the last call that entered it
 * has left; and nobody may wait for anybody.
 *
 * The idea. A table maps a key to a slot; slots never move and never die before the table, so a caller may
 * keep the pointer. A slot counts the callers between `nj_slot_enter` and `nj_slot_leave`. Publishing (or
 * evicting: publishing nothing) is one exchange of the slot's code. What was there is *retired*: it waits
 * in the table until someone, under the table's lock, sees the slot's count of callers at 0. Leaving
 * callers never free anything; publish, evict and `nj_slots_reclaim` do.
 *
 * Why that is safe. All operations named here are sequentially consistent, so they stand in one order.
 *     caller:     I  callers += 1       publisher:  X  old = exchange(code, new)
 *                 L  load code                      R  load callers, later than X
 *                 ... runs it ...                   destroys old if R read 0
 *                 D  callers -= 1
 * Suppose L read `old`. Then L precedes X, hence I < L < X < R: R sees an increment by this caller, and
 * reads 0 only if it also sees the matching D. D releases and R acquires, so all the caller did with `old`
 * happened before it is destroyed. A caller whose L follows X never had `old`. The count may be one that
 * other calls keep above 0: then `old` merely waits longer.
 *
 * I before L and X before R are a store before a load, which acquire and release do not keep in order, on no
 * machine: with them alone L could read `old` while R still misses I. On x86-64 the locked instructions
 * order them, on AArch64 the pair of a release (LDADDAL, SWPAL, STLXR) and LDAR, which is what compilers
 * make of sequential consistency. What `code` points at needs less: it is written before X, which
 * releases, and read after L, which acquires; its instructions are fetched in order for the reasons in
 * instruction_sync.h.
 *
 * Invariants.
 *   - A slot's key never changes. `code` is NULL or a published, immutable nj_code that the table owns.
 *   - An index of the table has at most half of its entries in use, so probing ends. Growing publishes a
 *     larger copy with one release store; old ones are kept for readers still in them. A reader of an old
 *     one can only miss a newer slot, and a miss ends in `nj_slots_insert`, which looks again.
 *   - All that is not atomic is under the table's mutex. The mutex is a leaf: nothing that blocks, calls
 *     back or needs the GIL happens under it, so a fork waits for it only briefly.
 *   - A forked child has the one thread that forked. It gets an unlocked mutex, and every count of
 *     callers and claim set to 0: the threads they counted do not exist there. Hence nobody may fork
 *     between enter and leave.
 *
 * Known limit: a slot whose calls overlap without a gap is never seen at 0, and keeps what it retired.
 */
#ifndef NJ_SLOTS_H
#define NJ_SLOTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "code.h"

#define NJ_CACHE_LINE 64

/* What a call looks like: dtype, shapes, strides, flags ... packed by the caller. */
typedef struct nj_key {
    uint64_t word[4];
} nj_key;

/* The first cache line is all that a call touches. */
typedef struct nj_slot {
    _Alignas(NJ_CACHE_LINE) nj_key key;
    _Atomic(nj_code *) code;  /* NULL: not compiled */
    _Atomic uint64_t calls;   /* about: increments of racing callers may be lost */
    _Atomic uint32_t callers; /* in flight, exact */
    _Atomic uint32_t claimed; /* someone is compiling for this slot */

    _Alignas(NJ_CACHE_LINE) struct nj_slot *next; /* in order of insertion */
    uint64_t calls_at_sweep;                      /* `calls` when the clock hand last passed */
} nj_slot;

typedef struct nj_slot_index {
    uint64_t mask;      /* entries - 1 */
    unsigned int shift; /* of a hash, to its entry */
    struct nj_slot_index *older;
    _Atomic(nj_slot *) entry[];
} nj_slot_index;

typedef struct nj_slot_table {
    _Atomic(nj_slot_index *) index;
    struct nj_slots_state *state; /* slots.c */
} nj_slot_table;

typedef struct nj_slots_stats {
    uint64_t slots, published;
    uint64_t live_bytes;             /* of published code */
    uint64_t retired, retired_bytes; /* waiting for their last caller */
    uint64_t publications, evictions, destroyed;
} nj_slots_stats;

/* NULL without memory. */
nj_slot_table *nj_slots_create(void);

/* Destroys all code, slots and the table. False, and everything left alone, while a caller is inside. */
bool nj_slots_destroy(nj_slot_table *table);

/* The slot of `key`, made if need be; NULL without memory. */
nj_slot *nj_slots_insert(nj_slot_table *table, const nj_key *key);

/* The table takes `code` over, and hands out the new kernel from now on. */
void nj_slot_publish(nj_slot_table *table, nj_slot *slot, nj_code *code);

/* Takes the kernel out; returns whether there was one. Its code is destroyed when its last caller left. */
bool nj_slot_evict(nj_slot_table *table, nj_slot *slot);

/* Evicts what was not called since the last sweep, until `bytes` are given up. Second chance: the hand
 * goes round at most twice, so kernels that are called meanwhile stay, and less may be given up than
 * asked. Returns the bytes given up. */
size_t nj_slots_evict(nj_slot_table *table, size_t bytes);

/* Evicts every slot whose key equals `value` in the bits of `mask`: something in those keys is to mean
 * something else from now on. Returns how many. */
size_t nj_slots_evict_keys(nj_slot_table *table, const nj_key *mask, const nj_key *value);

/* Destroys the retired code whose callers have left; returns how many. */
size_t nj_slots_reclaim(nj_slot_table *table);

nj_slots_stats nj_slots_statistics(nj_slot_table *table);

/* One thread at a time compiles for a slot: true for the one that may, until it unclaims. It looks first
 * whether the slot is still unpublished: another may have come and gone between a miss and the claim. The
 * others need not wait; the reference answers their calls. */
static inline bool nj_slot_claim(nj_slot *slot)
{
    uint32_t unclaimed = 0;
    return atomic_compare_exchange_strong(&slot->claimed, &unclaimed, 1);
}

static inline void nj_slot_unclaim(nj_slot *slot) { atomic_store(&slot->claimed, 0); }

/* Multilinear hashing: the high bits of the sum are well mixed, so an index takes its entry from there.
 * Four independent multiplications; the constants are digits of pi, made odd. */
static inline uint64_t nj_key_hash(const nj_key *key)
{
    return key->word[0] * 0x243f6a8885a308d3u + key->word[1] * 0x13198a2e03707345u +
           key->word[2] * 0xa4093822299f31d1u + key->word[3] * 0x082efa98ec4e6c89u;
}

static inline bool nj_key_equal(const nj_key *a, const nj_key *b)
{
    return ((a->word[0] ^ b->word[0]) | (a->word[1] ^ b->word[1]) | (a->word[2] ^ b->word[2]) |
            (a->word[3] ^ b->word[3])) == 0;
}

/* The slot of `key`, or NULL. Any thread, no lock. */
static inline nj_slot *nj_slots_find(const nj_slot_table *table, const nj_key *key)
{
    const nj_slot_index *index = atomic_load_explicit(&table->index, memory_order_acquire);
    for (uint64_t at = nj_key_hash(key) >> index->shift;; at = (at + 1) & index->mask) {
        nj_slot *slot = atomic_load_explicit(&index->entry[at], memory_order_acquire);
        if (slot == NULL || nj_key_equal(&slot->key, key)) return slot;
    }
}

static inline uint64_t nj_slot_calls(nj_slot *slot)
{
    return atomic_load_explicit(&slot->calls, memory_order_relaxed);
}

/* Whether there was code a moment ago. To run it, enter. */
static inline bool nj_slot_is_published(nj_slot *slot) { return atomic_load(&slot->code) != NULL; }

static inline void nj_slot_leave(nj_slot *slot) { atomic_fetch_sub(&slot->callers, 1); }

/* The slot's code, which stays mapped until `nj_slot_leave`; or NULL, and there is nothing to leave. */
static inline nj_code *nj_slot_enter(nj_slot *slot)
{
    atomic_fetch_add(&slot->callers, 1);
    nj_code *code = atomic_load(&slot->code);
    if (code == NULL) {
        nj_slot_leave(slot);
        return NULL;
    }
    uint64_t calls = atomic_load_explicit(&slot->calls, memory_order_relaxed);
    atomic_store_explicit(&slot->calls, calls + 1, memory_order_relaxed); /* not a locked add: see `calls` */
    return code;
}

#endif
