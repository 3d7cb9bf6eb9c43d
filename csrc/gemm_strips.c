#include "gemm_strips.h"

#include "thread_pool.h"

static void run_strip(void *job, int64_t strip)
{
    void *const *buffers = job;
    const nj_gemm_strips *p = buffers[0];
    const int second = strip >= p->count[0];
    const int64_t first =
        second ? p->count[0] * p->size[0] + (strip - p->count[0]) * p->size[1] : strip * p->size[0];
    const nj_code *kernel = p->kernel[second];
    void *of_strip[4 + NJ_MOST_BESIDE] = {kernel->context, (char *)buffers[1] + first * p->a_step,
                                          (char *)buffers[2] + first * p->b_step,
                                          (char *)buffers[3] + first * p->c_step};
    for (int i = 0; i < p->besides; i++) {
        of_strip[4 + i] = (char *)buffers[4 + i] + first * p->beside_step[i];
    }
    kernel->entry(of_strip, 0);
}

int64_t nj_gemm_strips_run(void *const *buffers, int64_t n)
{
    (void)n;
    const nj_gemm_strips *p = buffers[0];
    const int members = nj_pool_reserve(nj_members_worth((double)p->work, p->member_work));
    nj_pool_share(run_strip, (void *)buffers, p->count[0] + p->count[1], members);
    return 0;
}
