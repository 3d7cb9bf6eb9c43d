/* The thread pool: a job's units of work, shared by the calling thread and parked workers.
 *
 * The problem. A product of some ten microseconds is worth two cores only if the second one joins at once,
 * is never waited for when it does not, and costs nothing when there is no work. Calls come from any
 * Python thread, processes fork, the machine may refuse a thread, and other programs use the cores.
 *
 * The idea. A *job* is one function that every member of the pool runs: the caller as member 0, workers as
 * 1, 2, ... How the work is divided is the job's own affair, usually a counter of units from which each
 * member takes the next: then it does not matter who joins, or how late. The caller never waits for a
 * worker that has not begun: when its own share is done it takes the job back from those.
 *
 *     worker state   IDLE --post--> POSTED --begin--> RUNNING --end--> IDLE
 *                      ^---take back---'
 *
 * Each worker spins for some microseconds after a job, for the next one of a series, then parks on its
 * condition variable. On Linux one that parked on the core of whoever posts it next is sent to another first:
 * woken there it would wait for the caller to be done. Workers are created when a job first wants them and
 * live as long as the process.
 *
 * Invariants.
 * - One job at a time. Whoever finds the pool reserved gets 1 member, itself, and waits for nobody.
 * - A job must be complete when member 0 has returned and every member that began has: it may not rely on
 *   the others to begin at all.
 * - The job's memory is no longer touched once `nj_pool_run` has returned.
 * - A forked child has no workers and an unreserved pool, whatever the parent's other threads were doing.
 *   Workers block all signals, so handlers run on the threads they always ran on.
 * - Nothing here allocates or fails: a thread that cannot be created is a member less. */
#ifndef NJ_THREAD_POOL_H
#define NJ_THREAD_POOL_H

#include <stdint.h>

enum { NJ_MOST_THREADS = 256 };

typedef void (*nj_task)(void *job, int member);

/* How many members a job may have, the caller included: 1 to NJ_MOST_THREADS, process-wide, 1 at first.
 * A job that runs keeps the members it has. */
void nj_threads_set_limit(int threads);
int nj_threads_limit(void);

/* Reserve the pool for up to `wanted` members; returns how many it will have, at least 1. What is reserved
 * (any answer above 1) is given back by exactly one nj_pool_run or nj_pool_release. */
int nj_pool_reserve(int wanted);
void nj_pool_release(int members);

/* Run task(job, member) on the caller as member 0 and on up to `members` - 1 workers. */
void nj_pool_run(nj_task task, void *job, int members);

/* Run unit(job, u) once for every u below `units`, shared among up to `members`: a unit takes no notice of
 * the others. The pool must be reserved for `members`. */
void nj_pool_share(void (*unit)(void *job, int64_t u), void *job, int64_t units, int members);

/* How many members so many multiply-adds are worth, if one more is worth `member_work` of them. */
int nj_members_worth(double work, int64_t member_work);

/* One turn, number `turn` from 0 on, of a wait for another running member; returns the next turn's number.
 * After some turns the core is offered to other threads in each. */
int nj_pool_relax(int turn);

/* Workers that exist. */
int nj_pool_workers(void);

/* Make the next `count` creations of threads fail: for tests. */
void nj_pool_inject(int count);

#endif
