/* A batch of rows: one program over a dynamic extent, its rows shared among the members of the thread pool.
 *
 * The problem. Every row of a program whose extent is dynamic is computed alone, so a long batch is as many
 * independent pieces of work as it has rows. A program runs in an arena, which two members cannot share, and
 * one core may be slower than the other, or come late.
 *
 * The idea. Each member calls the program's own function for the next rows that nobody has taken yet, with an
 * arena of its own and with the addresses of inputs and outputs moved on to those rows. What a member takes
 * is a part of what is left, so pieces grow shorter towards the end, and all members end at about the same
 * time. Pieces are whole parts of the program's tallest height but for the last one.
 *
 * Invariants. Rows of the outputs are disjoint, and a row has the same bits in whatever piece it is computed:
 * so the number of members changes nothing. If asserts fail, the answer is the least of their numbers, which
 * is what one thread would have given. Nothing is allocated, nothing can fail. */
#ifndef NJ_ROW_BATCH_H
#define NJ_ROW_BATCH_H

#include <stdint.h>

#include "code.h"

enum { NJ_MOST_ROW_OPERANDS = 16 };

typedef struct nj_row_batch {
    const nj_code *code;
    int operands;             /* inputs and outputs, at most NJ_MOST_ROW_OPERANDS */
    void *const *buffers;     /* as the code takes them: the operands from 1 on */
    const int64_t *row_bytes; /* from one row of each operand to the next; 0 where all rows share it */
    void *const *arenas;      /* one for each member that may take part */
    int64_t rows, unit;       /* unit: the height that pieces are multiples of */
    int64_t least;            /* rows of a piece, at least */
} nj_row_batch;

/* Runs all rows on up to `members` members, as far as the pool has them. Returns 0, or the number of the
 * assert that failed. */
int64_t nj_row_batch_run(const nj_row_batch *batch, int members);

#endif
