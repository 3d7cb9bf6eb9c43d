#include "gemm_batch.h"

#include <stdatomic.h>

#include "gemm_blocked.h"
#include "round_rows.h"
#include "thread_pool.h"

enum {
    CHUNK_WORK = 1 << 17,  /* multiply-adds in a chunk, at least: some microseconds */
    MEMBER_WORK = 1 << 19, /* multiply-adds worth one more member */
    CHUNKS_PER_MEMBER = 8, /* at most: enough that a slow core takes fewer */
    MOST_AXES = 64,
};

typedef struct {
    const nj_gemm_batch *batch;
    int64_t products, chunk;
    atomic_llong next; /* the product to be taken next */
} batch_job;

/* Every operand `steps` further along an axis. buffers: of the kernel. */
static void step(const nj_gemm_batch *batch, void **buffers, int axis, intptr_t steps)
{
    buffers[1] = (char *)buffers[1] + steps * batch->a_stride[axis];
    buffers[2] = (char *)buffers[2] + steps * batch->b_stride[axis];
    buffers[3] = (char *)buffers[3] + steps * batch->c_stride[axis];
    for (int i = 0; i < batch->besides; i++) {
        buffers[4 + i] = (char *)buffers[4 + i] + steps * batch->beside_stride[i][axis];
    }
}

/* Products [first, end), one after the other. */
static int64_t run_products(const nj_gemm_batch *batch, int64_t first, int64_t end)
{
    intptr_t index[MOST_AXES];
    void *buffers[4 + NJ_MOST_BESIDE] = {batch->code->context, (void *)batch->a, (void *)batch->b, batch->c};
    for (int i = 0; i < batch->besides; i++) {
        buffers[4 + i] = (void *)batch->beside[i];
    }
    int64_t rest = first;
    for (int axis = batch->axes - 1; axis >= 0; axis--) {
        index[axis] = (intptr_t)(rest % batch->extent[axis]);
        rest /= batch->extent[axis];
        step(batch, buffers, axis, index[axis]);
    }
    for (int64_t product = first; product < end; product++) {
        const int64_t status = batch->code->entry(buffers, 0);
        if (status != 0) {
            return status;
        }
        for (int axis = batch->axes - 1; axis >= 0; axis--) { /* the odometer: one step on, carrying */
            step(batch, buffers, axis, 1);
            if (++index[axis] < batch->extent[axis]) {
                break;
            }
            step(batch, buffers, axis, -batch->extent[axis]);
            index[axis] = 0;
        }
    }
    return 0;
}

/* Whether this thread has what the kernel allocates; then the kernel cannot fail on it. */
static int is_provided(const nj_code *code)
{
    if (code->entry == nj_rounded_product_run) return nj_rounded_product_scratch(code->context) != NULL;
    return code->entry != nj_gemm_blocked_run || nj_gemm_blocked_scratch(code->context) != NULL;
}

static void run_member(void *argument, int member)
{
    batch_job *job = argument;
    if (member > 0 && !is_provided(job->batch->code)) {
        return;
    }
    int64_t first;
    while ((first = atomic_fetch_add_explicit(&job->next, job->chunk, memory_order_relaxed)) <
           job->products) {
        const int64_t end = first + job->chunk;
        run_products(job->batch, first, end < job->products ? end : job->products);
    }
}

int64_t nj_gemm_batch_run(const nj_gemm_batch *batch)
{
    int64_t products = 1;
    for (int axis = 0; axis < batch->axes; axis++) {
        products *= batch->extent[axis];
    }
    if (!is_provided(batch->code)) {
        return NJ_GEMM_NO_MEMORY;
    }
    int wanted = nj_members_worth((double)batch->work * (double)products, MEMBER_WORK);
    if (products < 2 * wanted && nj_members_worth((double)batch->work, MEMBER_WORK) > 1) {
        wanted = 1; /* few and large: each product uses the pool by itself */
    }
    const int members = nj_pool_reserve(wanted);
    if (members == 1) {
        return run_products(batch, 0, products);
    }
    const int64_t fine = products / ((int64_t)members * CHUNKS_PER_MEMBER), least = CHUNK_WORK / batch->work;
    const int64_t chunk = fine > least ? fine : least;
    batch_job job = {batch, products, chunk > 0 ? chunk : 1, 0};
    nj_pool_run(run_member, &job, members);
    return 0;
}
