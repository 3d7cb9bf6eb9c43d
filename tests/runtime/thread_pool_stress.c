/* The thread pool under many callers, for the thread and address sanitizers.
 *
 * `CALLERS` threads run jobs at once, with every number of members, while another changes the limit and
 * makes creations of threads fail. A job counts each of its units in its caller's frame: a unit done twice or
 * not at all is seen in the counts, a member that touches a job after its end by the sanitizers. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "thread_pool.h"

enum { CALLERS = 4, JOBS = 400, MOST_UNITS = 64, MOST_MEMBERS = 6 };

static _Atomic int finished;
static _Atomic long long joined; /* units done by workers */

static void expect(bool held, const char *what)
{
    if (held) return;
    fprintf(stderr, "broken: %s\n", what);
    abort();
}

typedef struct {
    int done[MOST_UNITS]; /* not atomic: each unit is one member's, and is read after the job */
    pthread_t caller;
} counted;

static void count_unit(void *job, int64_t unit)
{
    counted *c = job;
    c->done[unit]++;
    if (!pthread_equal(pthread_self(), c->caller)) atomic_fetch_add(&joined, 1);
    if (unit % 8 == 0) usleep(20); /* let the others join */
}

static void run_job(int units, int wanted)
{
    counted job = {.caller = pthread_self()};
    int members = nj_pool_reserve(wanted);
    expect(members >= 1 && members <= (wanted > 1 ? wanted : 1), "no more members than wanted");
    nj_pool_share(count_unit, &job, units, members);
    for (int unit = 0; unit < MOST_UNITS; unit++) expect(job.done[unit] == (unit < units), "each unit once");
    memset(&job, 0xff, sizeof job);
}

static void *caller(void *argument)
{
    unsigned random = (unsigned)(uintptr_t)argument * 2654435761u + 1;
    for (int job = 0; job < JOBS; job++) {
        random = random * 1664525u + 1013904223u;
        run_job((int)(random >> 16) % MOST_UNITS + 1, (int)(random >> 8) % MOST_MEMBERS + 1);
        if (job % 50 == 0) nj_pool_release(nj_pool_reserve(3));
    }
    atomic_fetch_add(&finished, 1);
    return NULL;
}

static void *meddler(void *argument)
{
    (void)argument;
    for (int turn = 0; atomic_load(&finished) < CALLERS; turn++) {
        nj_threads_set_limit(turn % 9);
        expect(nj_threads_limit() >= 1, "the limit is at least 1");
        if (turn % 3 == 0) nj_pool_inject(turn % 5);
        usleep(50);
    }
    return NULL;
}

/* A child has no workers, whatever they were doing, and makes its own. */
static void fork_and_run(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        alarm(20);
        if (nj_pool_workers() != 0) _exit(2);
        for (int job = 0; job < 20; job++) run_job(MOST_UNITS, 3);
        _exit(nj_pool_workers() == 2 ? 0 : 3);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    expect(status == 0, "the child works");
}

int main(int count, char **arguments)
{
    nj_pool_inject(100);
    run_job(8, 4);
    expect(nj_pool_workers() == 0, "without threads the caller works alone");
    nj_pool_inject(0);
    run_job(MOST_UNITS, 2);
    expect(nj_pool_workers() == 1, "one worker");
    if (count > 1 && strcmp(arguments[1], "fork") == 0) fork_and_run();

    pthread_t threads[CALLERS + 1];
    for (uintptr_t i = 0; i < CALLERS; i++) pthread_create(&threads[i], NULL, caller, (void *)i);
    pthread_create(&threads[CALLERS], NULL, meddler, NULL);
    for (int i = 0; i <= CALLERS; i++) pthread_join(threads[i], NULL);

    nj_pool_inject(0);
    for (int job = 0; job < 200 || atomic_load(&joined) == 0; job++) run_job(MOST_UNITS, MOST_MEMBERS);
    expect(nj_pool_workers() == MOST_MEMBERS - 1, "as many workers as were ever wanted");
    return 0;
}
