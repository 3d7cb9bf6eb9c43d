#include "gemm_blocked.h"

#include <stdatomic.h>

#include "pack.h"
#include "scratch.h"
#include "thread_pool.h"

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Cuts ---------------------------------------------------------------------------------------------- */

static int64_t tiles_of(const nj_cut *cut) { return cut->count[0] + cut->count[1]; }

static int second_size(const nj_cut *cut, int64_t tile) { return tile >= cut->count[0]; }

/* The first row, or column, of a tile; of the tile past the last, the extent. */
static int64_t start_of(const nj_cut *cut, int64_t tile)
{
    const int64_t second = tile - cut->count[0];
    return second <= 0 ? tile * cut->size[0] : cut->count[0] * cut->size[0] + second * cut->size[1];
}

static int64_t size_of(const nj_cut *cut, int64_t tile) { return cut->size[second_size(cut, tile)]; }

/* The most rows, or columns, in any `tiles` tiles that begin at a multiple of `tiles`: the larger size
 * comes first wherever there are two. */
static int64_t largest_block(const nj_cut *cut, int64_t tiles)
{
    return start_of(cut, least(tiles, tiles_of(cut)));
}

/* A job and its blocks ------------------------------------------------------------------------------ */

typedef struct {
    const nj_gemm_plan *plan;
    const char *a, *b;
    char *c;
    char *packed_a, *packed_b;
    char *partial;       /* sums of all blocks of k but the last, n columns a row; or NULL: in C */
    void *const *beside; /* operands of the epilogue */
    nj_pack_panel pack;
    _Alignas(128) atomic_llong next;     /* the unit to be taken next */
    _Alignas(128) atomic_llong complete; /* units done */
} gemm_job;

/* What is packed at a time: tiles [row, row_end) x [column, column_end), steps [s, s + k) of k. */
typedef struct {
    int64_t row, row_end, column, column_end, s, k;
} block;

static void pack_a(const gemm_job *job, const block *at, int64_t tile)
{
    const nj_gemm_plan *p = job->plan;
    const int64_t size = (int64_t)p->element_size;
    const int64_t first = start_of(&p->rows, tile), before = first - start_of(&p->rows, at->row);
    job->pack(job->packed_a + before * at->k * size,
              job->a + (first * p->a_row_stride + at->s * p->a_column_stride) * size, size_of(&p->rows, tile),
              at->k, p->a_row_stride, p->a_column_stride);
}

static void pack_b(const gemm_job *job, const block *at, int64_t tile)
{
    const nj_gemm_plan *p = job->plan;
    const int64_t size = (int64_t)p->element_size;
    const int64_t first = start_of(&p->columns, tile), before = first - start_of(&p->columns, at->column);
    job->pack(job->packed_b + before * at->k * size,
              job->b + (at->s * p->b_row_stride + first * p->b_column_stride) * size,
              size_of(&p->columns, tile), at->k, p->b_column_stride, p->b_row_stride);
}

/* One tile of C, over the last block of k, with the epilogue. x, y: its first row and column. */
static void finish_tile(const gemm_job *job, nj_micro_kernel kernel, const char *a, const char *b, int64_t k,
                        int64_t x, int64_t y)
{
    const nj_gemm_plan *p = job->plan;
    const int64_t size = (int64_t)p->element_size, stride = p->c_row_stride * size;
    void *beside[NJ_MOST_BESIDE + 1];
    for (int i = 0; i < p->besides; i++) {
        beside[i] = (char *)job->beside[i] + x * p->beside_row_step[i] + y * p->beside_column_step[i];
    }
    if (job->partial != NULL) {
        beside[p->besides] = job->partial + (x * p->n + y) * size;
    }
    kernel(a, b, job->c + x * stride + y * size, k, stride, beside);
}

/* Multiply tiles [row, row_end) x [column, column_end) of a block: each panel of B by all of the rows. */
static void multiply(const gemm_job *job, const block *at, int64_t row, int64_t row_end, int64_t column,
                     int64_t column_end)
{
    const nj_gemm_plan *p = job->plan;
    const int64_t size = (int64_t)p->element_size, k = at->k;
    const int64_t top = start_of(&p->rows, at->row), left = start_of(&p->columns, at->column);
    const int last = at->s + k == p->k;
    /* the tiles' rows of A: one after the other in scratch, or where they lie */
    const char *rows =
        p->a_in_place ? job->a + (top * p->a_row_stride + at->s * p->a_column_stride) * size : job->packed_a;
    const int64_t from_row_to_row = (p->a_in_place ? p->a_row_stride : k) * size;
    char *sums = job->partial != NULL ? job->partial : job->c;
    const int64_t stride = (job->partial != NULL ? p->n : p->c_row_stride) * size;
    for (int64_t j = column; j < column_end; j++) {
        const int64_t y = start_of(&p->columns, j);
        const char *b = job->packed_b + (y - left) * k * size;
        for (int64_t i = row; i < row_end; i++) {
            const int64_t x = start_of(&p->rows, i);
            const char *a = rows + (x - top) * from_row_to_row;
            const int low = second_size(&p->rows, i), narrow = second_size(&p->columns, j);
            if (last && p->last[low][narrow] != NULL) {
                finish_tile(job, p->last[low][narrow], a, b, k, x, y);
            } else {
                p->micro[at->s > 0][low][narrow](a, b, sums + x * stride + y * size, k, stride, NULL);
            }
        }
    }
}

/* Members ------------------------------------------------------------------------------------------- */

static void await(const gemm_job *job, int64_t units)
{
    for (int turn = 0; atomic_load_explicit(&job->complete, memory_order_acquire) < units;) {
        turn = nj_pool_relax(turn);
    }
}

/* This member's part of a phase whose first unit is number `first`: while the unit it has taken lies in the
 * phase, do it and take the next. */
#define FOR_EACH_UNIT(JOB, TAKEN, FIRST, COUNT, UNIT)                                                        \
    for (int64_t UNIT; (UNIT = (TAKEN) - (FIRST)) < (COUNT) && (await(JOB, FIRST), 1);                       \
         atomic_fetch_add_explicit(&(JOB)->complete, 1, memory_order_release),                               \
         (TAKEN) = atomic_fetch_add_explicit(&(JOB)->next, 1, memory_order_relaxed))

static void run_member(void *argument, int member)
{
    (void)member;
    gemm_job *job = argument;
    const nj_gemm_plan *p = job->plan;
    const int64_t rows = tiles_of(&p->rows), columns = tiles_of(&p->columns);
    int64_t first = 0, taken = atomic_fetch_add_explicit(&job->next, 1, memory_order_relaxed);
    for (int64_t j = 0; j < columns; j += p->block_columns) {
        for (int64_t s = 0; s < p->k; s += p->kc) {
            for (int64_t i = 0; i < rows; i += p->block_rows) {
                const block at = {i, least(i + p->block_rows, rows), j, least(j + p->block_columns, columns),
                                  s, least(p->kc, p->k - s)};
                const int64_t tall = at.row_end - i, wide = at.column_end - j;
                const int64_t of_b = i == 0 ? wide : 0; /* kept for the blocks of rows below */
                const int64_t of_a = p->a_in_place ? 0 : tall;
                FOR_EACH_UNIT(job, taken, first, of_b + of_a, unit)
                {
                    if (unit < of_b) {
                        pack_b(job, &at, j + unit);
                    } else {
                        pack_a(job, &at, i + unit - of_b);
                    }
                }
                first += of_b + of_a;
                const int64_t across = ceil_div(wide, p->unit_columns), down = ceil_div(tall, p->unit_rows);
                FOR_EACH_UNIT(job, taken, first, across * down, unit)
                {
                    const int64_t row = i + unit / across * p->unit_rows;
                    const int64_t column = j + unit % across * p->unit_columns;
                    multiply(job, &at, row, least(row + p->unit_rows, at.row_end), column,
                             least(column + p->unit_columns, at.column_end));
                }
                first += across * down;
            }
        }
    }
}

/* Running ------------------------------------------------------------------------------------------- */

static int64_t deepest(const nj_gemm_plan *p) { return least(p->kc, p->k); }

static int64_t aligned(const nj_gemm_plan *p, int64_t elements)
{
    return ceil_div(elements * (int64_t)p->element_size, NJ_SCRATCH_ALIGNMENT) * NJ_SCRATCH_ALIGNMENT;
}

/* Bytes of a block's panels of B; those of A follow them, then the partial sums. */
static int64_t bytes_of_b(const nj_gemm_plan *p)
{
    return aligned(p, largest_block(&p->columns, p->block_columns) * deepest(p));
}

static int64_t bytes_of_a(const nj_gemm_plan *p)
{
    return p->a_in_place ? 0 : aligned(p, largest_block(&p->rows, p->block_rows) * deepest(p));
}

static int64_t bytes_of_partial(const nj_gemm_plan *p)
{
    return p->keeps_c && p->k > p->kc ? p->m * p->n * (int64_t)p->element_size : 0;
}

void *nj_gemm_blocked_scratch(const nj_gemm_plan *p)
{
    return nj_thread_scratch((size_t)(bytes_of_b(p) + bytes_of_a(p) + bytes_of_partial(p)));
}

int64_t nj_gemm_blocked_run(void *const *buffers, int64_t extent)
{
    (void)extent;
    const nj_gemm_plan *p = buffers[0];
    char *scratch = nj_gemm_blocked_scratch(p);
    if (scratch == NULL) {
        return NJ_GEMM_NO_MEMORY;
    }
    const nj_packer *packer = nj_packer_here();
    gemm_job job = {
        .plan = p,
        .a = buffers[1],
        .b = buffers[2],
        .c = buffers[3],
        .packed_a = scratch + bytes_of_b(p),
        .packed_b = scratch,
        .partial = bytes_of_partial(p) ? scratch + bytes_of_b(p) + bytes_of_a(p) : NULL,
        .beside = buffers + 4,
        .pack = p->element_size == 4 ? packer->panel_4 : packer->panel_8,
    };
    const double work = (double)p->m * (double)p->n * (double)p->k;
    nj_pool_run(run_member, &job, nj_pool_reserve(nj_members_worth(work, p->member_work)));
    return 0;
}
