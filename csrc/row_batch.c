#include "row_batch.h"

#include <stdatomic.h>

#include "thread_pool.h"

enum {
    SHARES = 2, /* pieces that a member's part of what is left is worth */
};

typedef struct {
    const nj_row_batch *batch;
    int members;
    atomic_llong next;   /* the first row that nobody has taken */
    atomic_llong failed; /* the least number of an assert that failed; 0: none */
} row_job;

/* Rows [*first, *first + result) are the caller's; 0: none are left. */
static int64_t take(row_job *job, int64_t *first)
{
    const nj_row_batch *batch = job->batch;
    long long next = atomic_load_explicit(&job->next, memory_order_relaxed);
    int64_t count;
    do {
        const int64_t left = batch->rows - next;
        if (left <= 0) return 0;
        count = left / (SHARES * job->members) / batch->unit * batch->unit;
        if (count < batch->least) count = batch->least;
        if (count > left) count = left;
    } while (!atomic_compare_exchange_weak_explicit(&job->next, &next, next + count, memory_order_relaxed,
                                                    memory_order_relaxed));
    *first = next;
    return count;
}

static void note_failure(row_job *job, long long number)
{
    long long known = atomic_load(&job->failed);
    while ((known == 0 || number < known) && !atomic_compare_exchange_weak(&job->failed, &known, number)) {
    }
}

static void run_member(void *argument, int member)
{
    row_job *job = argument;
    const nj_row_batch *batch = job->batch;
    void *buffers[1 + NJ_MOST_ROW_OPERANDS] = {batch->arenas[member]};
    int64_t first, count;
    while ((count = take(job, &first)) > 0) {
        for (int i = 0; i < batch->operands; i++) {
            buffers[1 + i] = (char *)batch->buffers[1 + i] + first * batch->row_bytes[i];
        }
        const int64_t status = batch->code->entry(buffers, count);
        if (status != 0) note_failure(job, status);
    }
}

int64_t nj_row_batch_run(const nj_row_batch *batch, int members)
{
    row_job job = {batch, nj_pool_reserve(members), 0, 0};
    nj_pool_run(run_member, &job, job.members);
    return atomic_load(&job.failed);
}
