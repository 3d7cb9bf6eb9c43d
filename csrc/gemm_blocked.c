#include "gemm_blocked.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <sys/mman.h>
#define NJ_HAVE_PTHREAD 1
#endif

/* Scratch ----------------------------------------------------------------------------------------- */

enum { SCRATCH_ALIGNMENT = 64, HUGE_PAGE = 2 << 20 };

typedef struct {
    void *memory;
    size_t size;
} scratch;

static _Thread_local scratch thread_scratch;
static atomic_int injected_failures;

void nj_thread_scratch_inject(int count) { atomic_store(&injected_failures, count); }

#ifdef NJ_HAVE_PTHREAD
static pthread_key_t scratch_key;
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;
static int scratch_key_made;

static void make_scratch_key(void) { scratch_key_made = pthread_key_create(&scratch_key, free) == 0; }

/* Have the memory freed when the thread ends. */
static void adopt_scratch(void *memory)
{
    pthread_once(&scratch_once, make_scratch_key);
    if (scratch_key_made) {
        pthread_setspecific(scratch_key, memory);
    }
}

static void *allocate_scratch(size_t *size)
{
    size_t alignment = SCRATCH_ALIGNMENT;
    if (*size >= HUGE_PAGE) { /* panels of megabytes: the TLB is what hurts */
        alignment = HUGE_PAGE;
        *size = (*size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    }
    void *memory = NULL;
    if (posix_memalign(&memory, alignment, *size) != 0) {
        return NULL;
    }
#ifdef MADV_HUGEPAGE
    if (alignment == HUGE_PAGE) {
        madvise(memory, *size, MADV_HUGEPAGE);
    }
#endif
    return memory;
}
#else
static void adopt_scratch(void *memory) { (void)memory; }
static void *allocate_scratch(size_t *size)
{
    return aligned_alloc(SCRATCH_ALIGNMENT,
                         (*size + SCRATCH_ALIGNMENT - 1) / SCRATCH_ALIGNMENT * SCRATCH_ALIGNMENT);
}
#endif

void *nj_thread_scratch(size_t bytes)
{
    if (bytes <= thread_scratch.size) {
        return thread_scratch.memory;
    }
    int failures = atomic_load(&injected_failures);
    if (failures > 0) {
        atomic_store(&injected_failures, failures - 1);
        return NULL;
    }
    void *memory = allocate_scratch(&bytes);
    if (memory == NULL) {
        return NULL;
    }
    free(thread_scratch.memory);
    thread_scratch = (scratch){memory, bytes};
    adopt_scratch(memory);
    return memory;
}

/* Packing ----------------------------------------------------------------------------------------- */

/* A block of `length` steps by `width` lanes into panels of `panel` lanes: lane l of step s of the
 * source, at s * step_stride + l * lane_stride, goes to panel[s * panel + l]. For A a lane is a row,
 * for B a column. One body, for both element types and with the strides known where that helps. */
#define PACK_PANEL(NAME, TYPE)                                                                               \
    static inline void NAME##_panel(TYPE *restrict to, const TYPE *restrict from, int64_t lanes,             \
                                    int64_t length, int64_t panel, int64_t lane_stride, int64_t step_stride) \
    {                                                                                                        \
        if (lane_stride == 1) {                                                                              \
            for (int64_t s = 0; s < length; s++) {                                                           \
                memcpy(to + s * panel, from + s * step_stride, (size_t)lanes * sizeof(TYPE));                \
            }                                                                                                \
            return;                                                                                          \
        }                                                                                                    \
        int64_t l = 0;                                                                                       \
        for (; l + 4 <= lanes;                                                                               \
             l += 4) { /* four lanes at a time: each line of `to` is touched a quarter as */                 \
            const TYPE *f0 = from + l * lane_stride, *f1 = f0 + lane_stride;                                 \
            const TYPE *f2 = f1 + lane_stride, *f3 = f2 + lane_stride;                                       \
            for (int64_t s = 0; s < length; s++) { /* often as with one */                                   \
                TYPE *t = to + s * panel + l;                                                                \
                int64_t o = s * step_stride;                                                                 \
                t[0] = f0[o], t[1] = f1[o], t[2] = f2[o], t[3] = f3[o];                                      \
            }                                                                                                \
        }                                                                                                    \
        for (; l < lanes; l++) {                                                                             \
            for (int64_t s = 0; s < length; s++) {                                                           \
                to[s * panel + l] = from[s * step_stride + l * lane_stride];                                 \
            }                                                                                                \
        }                                                                                                    \
    }                                                                                                        \
    static void NAME(void *to, const void *from, int64_t width, int64_t length, int64_t panel,               \
                     int64_t lane_stride, int64_t step_stride)                                               \
    {                                                                                                        \
        for (int64_t l = 0; l < width; l += panel) {                                                         \
            int64_t lanes = width - l < panel ? width - l : panel;                                           \
            NAME##_panel((TYPE *)to + l * length, (const TYPE *)from + l * lane_stride, lanes, length,       \
                         panel, lane_stride, step_stride);                                                   \
        }                                                                                                    \
    }

/* Elements are only moved, so integers of their size serve: no float is ever touched. NumPy's arrays
 * may lie at any byte. */
#if defined(__GNUC__) || defined(__clang__)
typedef uint32_t __attribute__((aligned(1), may_alias)) element_4;
typedef uint64_t __attribute__((aligned(1), may_alias)) element_8;
#else
typedef uint32_t element_4;
typedef uint64_t element_8;
#endif
PACK_PANEL(pack_4, element_4)
PACK_PANEL(pack_8, element_8)

/* The loops --------------------------------------------------------------------------------------- */

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

/* One packed block of A times one packed block of B into C. */
static void run_block(const nj_gemm_plan *p, const char *a, const char *b, char *c, int64_t m, int64_t n,
                      int64_t k, int accumulates)
{
    const int64_t size = (int64_t)p->element_size;
    for (int64_t j = 0; j < n; j += p->nr) {
        for (int64_t i = 0; i < m; i += p->mr) {
            nj_micro_kernel micro = p->micro[accumulates][m - i < p->mr][n - j < p->nr];
            micro(a + i * k * size, b + j * k * size, c + (i * p->c_row_stride + j) * size, k,
                  p->c_row_stride * size);
        }
    }
}

int64_t nj_gemm_blocked_run(void *const *buffers, int64_t extent)
{
    (void)extent;
    const nj_gemm_plan *p = buffers[0];
    const char *a = buffers[1], *b = buffers[2];
    char *c = buffers[3];
    const int64_t size = (int64_t)p->element_size;
    void (*pack)(void *, const void *, int64_t, int64_t, int64_t, int64_t, int64_t) =
        size == 4 ? pack_4 : pack_8;

    const int64_t kc = least(p->kc, p->k);
    const int64_t block_b = round_up(round_up(least(p->nc, p->n), p->nr) * kc * size, SCRATCH_ALIGNMENT);
    const int64_t block_a = round_up(least(p->mc, p->m), p->mr) * kc * size;
    char *packed_b = nj_thread_scratch((size_t)(block_a + block_b));
    if (packed_b == NULL) {
        return NJ_GEMM_NO_MEMORY;
    }
    char *packed_a = packed_b + block_b;

    for (int64_t j = 0; j < p->n; j += p->nc) {
        const int64_t n = least(p->nc, p->n - j);
        for (int64_t s = 0; s < p->k; s += p->kc) {
            const int64_t k = least(p->kc, p->k - s);
            pack(packed_b, b + (s * p->b_row_stride + j * p->b_column_stride) * size, n, k, p->nr,
                 p->b_column_stride, p->b_row_stride);
            for (int64_t i = 0; i < p->m; i += p->mc) {
                const int64_t m = least(p->mc, p->m - i);
                pack(packed_a, a + (i * p->a_row_stride + s * p->a_column_stride) * size, m, k, p->mr,
                     p->a_row_stride, p->a_column_stride);
                run_block(p, packed_a, packed_b, c + (i * p->c_row_stride + j) * size, m, n, k, s > 0);
            }
        }
    }
    return 0;
}
