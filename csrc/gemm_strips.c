#include "gemm_strips.h"

#include "thread_pool.h"

/* The first row or column of strip number `strip`; `second` tells which size it has. */
static int64_t first_of(const nj_cut *cut, int64_t strip, int *second)
{
    *second = strip >= cut->count[0];
    return *second ? cut->count[0] * cut->size[0] + (strip - cut->count[0]) * cut->size[1]
                   : strip * cut->size[0];
}

static void run_part(void *job, int64_t part)
{
    void *const *buffers = job;
    const nj_gemm_strips *p = buffers[0];
    const int64_t across = p->columns.count[0] + p->columns.count[1];
    int lower, right;
    const int64_t row = first_of(&p->rows, part / across, &lower);
    const int64_t column = first_of(&p->columns, part % across, &right);
    const nj_code *kernel = p->kernel[lower][right];
    void *of_part[4 + NJ_MOST_BESIDE] = {kernel->context};
    for (int i = 0; i < p->operands; i++) {
        of_part[1 + i] = (char *)buffers[1 + i] + row * p->step[i].row + column * p->step[i].column;
    }
    kernel->entry(of_part, 0);
}

int64_t nj_gemm_strips_run(void *const *buffers, int64_t n)
{
    (void)n;
    const nj_gemm_strips *p = buffers[0];
    const int members = nj_pool_reserve(nj_members_worth((double)p->work, p->member_work));
    if (members == 1 && p->whole != NULL) {
        void *of_whole[4 + NJ_MOST_BESIDE] = {p->whole->context};
        for (int i = 1; i <= p->operands; i++) of_whole[i] = buffers[i];
        return p->whole->entry(of_whole, 0);
    }
    const int64_t down = p->rows.count[0] + p->rows.count[1];
    const int64_t across = p->columns.count[0] + p->columns.count[1];
    nj_pool_share(run_part, (void *)buffers, down * across, members);
    return 0;
}
