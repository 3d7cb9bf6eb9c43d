#include "scratch.h"

#include <stdatomic.h>
#include <stdlib.h>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <sys/mman.h>
#define NJ_HAVE_PTHREAD 1
#endif

enum { HUGE_PAGE = 2 << 20 };

typedef struct {
    void *memory;
    size_t size;
} scratch;

static _Thread_local scratch thread_scratch;
static atomic_int injected_failures;

void nj_thread_scratch_inject(int count) { atomic_store(&injected_failures, count); }

static size_t round_up(size_t size, size_t unit) { return (size + unit - 1) / unit * unit; }

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
    /* From a quarter of a huge page on, a whole one: the rest of it stays untouched address space. */
    size_t alignment = *size >= HUGE_PAGE / 4 ? HUGE_PAGE : NJ_SCRATCH_ALIGNMENT;
    void *memory = NULL;
    *size = round_up(*size, alignment);
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

static void free_scratch(void *memory) { free(memory); }
#else /* Windows: what a thread has is not freed when it ends */
#include <malloc.h>

static void adopt_scratch(void *memory) { (void)memory; }

static void *allocate_scratch(size_t *size)
{
    *size = round_up(*size, NJ_SCRATCH_ALIGNMENT);
    return _aligned_malloc(*size, NJ_SCRATCH_ALIGNMENT);
}

static void free_scratch(void *memory) { _aligned_free(memory); }
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
    free_scratch(thread_scratch.memory);
    thread_scratch = (scratch){memory, bytes};
    adopt_scratch(memory);
    return memory;
}
