#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* sched_getcpu and affinity; before any header */
#endif

#include "thread_pool.h"

#include <stdatomic.h>
#include <stdbool.h>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#define NJ_HAVE_PTHREAD 1
#endif

static atomic_int limit = 1;
static atomic_int injected_failures;

void nj_threads_set_limit(int threads)
{
    atomic_store(&limit, threads < 1 ? 1 : threads > NJ_MOST_THREADS ? NJ_MOST_THREADS : threads);
}

int nj_threads_limit(void) { return atomic_load_explicit(&limit, memory_order_relaxed); }

void nj_pool_inject(int count) { atomic_store(&injected_failures, count); }

int nj_members_worth(double work, int64_t member_work)
{
    const int most = nj_threads_limit();
    const double worth = work / (double)member_work;
    return worth >= most ? most : worth < 1 ? 1 : (int)worth;
}

typedef struct {
    void (*unit)(void *job, int64_t u);
    void *job;
    int64_t units;
    int members;
    atomic_llong next;   /* of many units, the one to be taken next */
    atomic_ullong taken; /* of few, a bit for each that was */
} shared_units;

enum { FEW_UNITS = 64 };

/* Few units: each member begins at its share and goes round. So of a series of like jobs a core finds what it
 * read in its own caches, and takes another's only when it is through with its own. */
static void take_own_units_first(shared_units *shared, int member)
{
    const int64_t units = shared->units, first = units * member / shared->members;
    for (int64_t i = 0; i < units; i++) {
        const int64_t u = first + i < units ? first + i : first + i - units;
        const uint64_t bit = UINT64_C(1) << u;
        if (!(atomic_load_explicit(&shared->taken, memory_order_relaxed) & bit) &&
            !(atomic_fetch_or_explicit(&shared->taken, bit, memory_order_relaxed) & bit)) {
            shared->unit(shared->job, u);
        }
    }
}

static void take_units(void *argument, int member)
{
    shared_units *shared = argument;
    if (shared->units <= FEW_UNITS) {
        take_own_units_first(shared, member);
        return;
    }
    int64_t u;
    while ((u = atomic_fetch_add_explicit(&shared->next, 1, memory_order_relaxed)) < shared->units) {
        shared->unit(shared->job, u);
    }
}

void nj_pool_share(void (*unit)(void *job, int64_t u), void *job, int64_t units, int members)
{
    shared_units shared = {unit, job, units, members, 0, 0};
    nj_pool_run(take_units, &shared, members);
}

#ifdef NJ_HAVE_PTHREAD

enum {
    SPINS = 400, /* turns before parking: some 10 us */
    SPINS_BEFORE_YIELD =
        2000, /* turns of a wait for a member that runs, before the core is offered to others */
    STACK_BYTES = 256 << 10, /* of a worker: kernels are leaves and keep nothing there */
};

enum { IDLE, POSTED, RUNNING };

typedef struct worker {
    _Alignas(128) atomic_int state;
    atomic_int parked;
    pthread_mutex_t lock; /* of the parking alone */
    pthread_cond_t wake;
    pthread_t thread;
#ifdef __linux__
    atomic_int core, moved;
    cpu_set_t cores; /* that it may use, while it is `moved` */
#endif
} worker;

static struct {
    atomic_int reserved;
    atomic_int workers; /* workers[0 .. workers) exist; grows only while reserved */
    nj_task task;       /* of the job; written before a worker is posted, read after it has begun */
    void *job;
} pool;

static worker workers[NJ_MOST_THREADS - 1];

static inline void pause_core(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

int nj_pool_relax(int turn)
{
    if (turn < SPINS_BEFORE_YIELD) {
        pause_core();
        return turn + 1;
    }
    sched_yield();
    return turn;
}

/* Places ------------------------------------------------------------------------------------------ */

/* Linux wakes a thread where it last ran. A worker that parked on the caller's core would wait there until
 * the caller is done, which then has taken its job back; and because such a worker hardly ever runs, no load
 * is seen to be balanced, and it stays for as long as the series of jobs lasts. So whoever posts a worker
 * that is parked on the poster's core bars it from that core, and once it runs elsewhere it lifts the bar. */
#ifdef __linux__

static void note_core(worker *w) { atomic_store(&w->core, sched_getcpu()); }

static void forget_core(worker *w)
{
    atomic_store(&w->core, -1);
    atomic_store(&w->moved, 0);
}

/* The worker is parked, and not posted by anybody else. */
static void keep_off_this_core(worker *w)
{
    const int here = sched_getcpu();
    if (here < 0 || atomic_load(&w->core) != here || atomic_load(&w->moved) ||
        pthread_getaffinity_np(w->thread, sizeof w->cores, &w->cores) != 0) {
        return;
    }
    cpu_set_t others = w->cores;
    CPU_CLR((size_t)here, &others);
    if (CPU_COUNT(&others) > 0 && pthread_setaffinity_np(w->thread, sizeof others, &others) == 0) {
        atomic_store(&w->moved, 1);
    }
}

static void lift_bar(worker *w)
{
    if (atomic_load(&w->moved)) {
        pthread_setaffinity_np(w->thread, sizeof w->cores, &w->cores);
        atomic_store(&w->moved, 0);
    }
}

#else
static void note_core(worker *w) { (void)w; }

static void forget_core(worker *w) { (void)w; }

static void keep_off_this_core(worker *w) { (void)w; }

static void lift_bar(worker *w) { (void)w; }
#endif

/* Returns once the worker is posted. The poster stores `state`, then loads `parked`; this stores `parked`,
 * then loads `state`, both sequentially consistent: one of the two sees the other's store. */
static void await_post(worker *w)
{
    for (int turn = 0; turn < SPINS; turn++) {
        if (atomic_load(&w->state) == POSTED) {
            return;
        }
        pause_core();
    }
    pthread_mutex_lock(&w->lock);
    note_core(w);
    atomic_store(&w->parked, 1);
    while (atomic_load(&w->state) != POSTED) {
        pthread_cond_wait(&w->wake, &w->lock);
        lift_bar(w);
        note_core(w);
    }
    atomic_store(&w->parked, 0);
    pthread_mutex_unlock(&w->lock);
}

static void *work(void *argument)
{
    worker *w = argument;
    const int member = (int)(w - workers) + 1;
    for (;;) {
        await_post(w);
        int posted = POSTED;
        if (atomic_compare_exchange_strong(&w->state, &posted, RUNNING)) { /* else taken back meanwhile */
            pool.task(pool.job, member);
            atomic_store(&w->state, IDLE);
        }
    }
    return NULL;
}

static void post(worker *w)
{
    atomic_store(&w->state, POSTED);
    if (atomic_load(&w->parked)) {
        keep_off_this_core(w);
        pthread_mutex_lock(&w->lock);
        pthread_cond_signal(&w->wake);
        pthread_mutex_unlock(&w->lock);
    }
}

/* Take the job back from a worker that has not begun, or wait for its end. */
static void finish(worker *w)
{
    int posted = POSTED;
    if (atomic_compare_exchange_strong(&w->state, &posted, IDLE)) {
        return;
    }
    for (int turn = 0; atomic_load(&w->state) != IDLE;) {
        turn = nj_pool_relax(turn);
    }
}

/* Creating --------------------------------------------------------------------------------------- */

static bool injected_failure(void)
{
    int failures = atomic_load(&injected_failures);
    return failures > 0 && atomic_compare_exchange_strong(&injected_failures, &failures, failures - 1);
}

static bool create_worker(worker *w)
{
    if (injected_failure()) {
        return false;
    }
    atomic_store(&w->state, IDLE);
    atomic_store(&w->parked, 0);
    forget_core(w);
    if (pthread_mutex_init(&w->lock, NULL) != 0 || pthread_cond_init(&w->wake, NULL) != 0) {
        return false;
    }
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) {
        return false;
    }
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES); /* refused: the default, which is larger */
    /* Signals from outside go to other threads. A fault is the worker's own: blocked, it would kill the
     * process without the handler that says where (faulthandler's). Inherited by the worker. */
    static const int OWN[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT};
    sigset_t foreign, before;
    sigfillset(&foreign);
    for (size_t i = 0; i < sizeof OWN / sizeof *OWN; i++) sigdelset(&foreign, OWN[i]);
    pthread_sigmask(SIG_SETMASK, &foreign, &before);
    const bool created = pthread_create(&w->thread, &attributes, work, w) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return created;
}

static void forget_workers(void)
{
    atomic_store(&pool.workers, 0);
    atomic_store(&pool.reserved, 0);
}

static void handle_forks(void) { pthread_atfork(NULL, NULL, forget_workers); }

/* Reserving and running --------------------------------------------------------------------------- */

int nj_pool_reserve(int wanted)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    int unreserved = 0;
    if (wanted <= 1 || !atomic_compare_exchange_strong(&pool.reserved, &unreserved, 1)) {
        return 1;
    }
    pthread_once(&once, handle_forks);
    wanted = wanted < NJ_MOST_THREADS ? wanted : NJ_MOST_THREADS;
    int existing = atomic_load(&pool.workers);
    while (existing < wanted - 1 && create_worker(&workers[existing])) {
        atomic_store(&pool.workers, ++existing);
    }
    const int members = existing < wanted - 1 ? existing + 1 : wanted;
    if (members == 1) {
        atomic_store(&pool.reserved, 0);
    }
    return members;
}

void nj_pool_release(int members)
{
    if (members > 1) {
        atomic_store(&pool.reserved, 0);
    }
}

void nj_pool_run(nj_task task, void *job, int members)
{
    if (members > 1) {
        pool.task = task;
        pool.job = job;
    }
    for (int member = 1; member < members; member++) {
        post(&workers[member - 1]);
    }
    task(job, 0);
    for (int member = 1; member < members; member++) {
        finish(&workers[member - 1]);
    }
    nj_pool_release(members);
}

int nj_pool_workers(void) { return atomic_load(&pool.workers); }

#else /* no POSIX threads: every job has one member */

int nj_pool_relax(int turn) { return turn; }

int nj_pool_reserve(int wanted)
{
    (void)wanted;
    return 1;
}

void nj_pool_release(int members) { (void)members; }

void nj_pool_run(nj_task task, void *job, int members)
{
    (void)members;
    task(job, 0);
}

int nj_pool_workers(void) { return 0; }

#endif
