/* Arenas: a block of memory for each concurrent call of one compiled program.
 *
 * The problem. A program writes its temporaries into one block that is laid out at compile time. Two calls at
 * the same time need two blocks, no call may wait for another, and a call must not allocate once it has been
 * made before.
 *
 * The idea. A word of 64 bits says which of 64 blocks are in use. Taking one is setting its bit, the lowest
 * that is clear; giving it back clears the bit. Whoever holds the bit owns the block, and makes it the first
 * time. So a program has as many blocks as ever ran at once. A 65th call at the same time gets a block of
 * its own that is freed after it: slower, never wrong.
 *
 * Invariants. block[i] is read and written only by the holder of bit i: setting acquires, clearing releases.
 * Nothing waits and nothing locks. In a forked child, blocks of calls that ran in other threads stay taken:
 * they are lost to it, no more. */
#ifndef NJ_ARENAS_H
#define NJ_ARENAS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { NJ_ARENA_ALIGNMENT = 64, NJ_ARENAS = 64 };

typedef struct nj_arenas {
    size_t bytes; /* of each block */
    _Atomic uint64_t taken;
    void *block[NJ_ARENAS];
} nj_arenas;

/* A zeroed block of so many bytes, aligned; NULL: no memory. free() gives it back. */
void *nj_arena_make(size_t bytes);

void nj_arenas_init(nj_arenas *arenas, size_t bytes);

/* Frees every block. No call may be running. */
void nj_arenas_free(nj_arenas *arenas);

/* A block that is the caller's until it gives it back under the same number; NULL: no memory. Its contents
 * are those of its last call. */
void *nj_arenas_take(nj_arenas *arenas, int *number);
void nj_arenas_give(nj_arenas *arenas, void *block, int number);

/* Make the next `count` blocks fail to be made, on any thread: for tests. */
void nj_arena_inject(int count);

#endif
