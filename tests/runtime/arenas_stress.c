/* Threads take arenas, write their own number all over them, read it back, and give them back. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arenas.h"

enum { THREADS = 8, HELD = 12, TURNS = 2000, BYTES = 640 }; /* 96 at once: more than there are blocks */

static nj_arenas arenas;

static void *work(void *argument)
{
    unsigned char mine = (unsigned char)(1 + *(int *)argument);
    void *block[HELD];
    int number[HELD];
    for (int turn = 0; turn < TURNS; turn++) {
        int held = 1 + turn % HELD;
        for (int i = 0; i < held; i++) {
            block[i] = nj_arenas_take(&arenas, &number[i]);
            if (block[i] == NULL || (size_t)block[i] % NJ_ARENA_ALIGNMENT) abort();
            memset(block[i], mine, BYTES);
        }
        for (int i = 0; i < held; i++) {
            for (int at = 0; at < BYTES; at++) {
                if (((unsigned char *)block[i])[at] != mine) abort();
            }
            nj_arenas_give(&arenas, block[i], number[i]);
        }
    }
    return NULL;
}

int main(void)
{
    pthread_t thread[THREADS];
    int name[THREADS];
    nj_arenas_init(&arenas, BYTES);
    for (int i = 0; i < THREADS; i++) {
        name[i] = i;
        if (pthread_create(&thread[i], NULL, work, &name[i])) return 2;
    }
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    if (atomic_load(&arenas.taken) != 0) {
        fputs("blocks are still taken\n", stdout);
        return 1;
    }

    nj_arena_inject(1);
    int number = 0;
    nj_arenas fresh;
    nj_arenas_init(&fresh, BYTES);
    if (nj_arenas_take(&fresh, &number) != NULL || atomic_load(&fresh.taken) != 0) return 3;
    void *block = nj_arenas_take(&fresh, &number);
    if (block == NULL || number != 0) return 4;
    nj_arenas_give(&fresh, block, number);
    if (nj_arenas_take(&fresh, &number) != block) return 5; /* made once, then found again */
    nj_arenas_free(&fresh);
    nj_arenas_free(&arenas);
    return 0;
}
