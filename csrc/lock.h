/* A mutex, statically initialised, on POSIX and Windows: C11's <threads.h> is missing on macOS. */
#ifndef NJ_LOCK_H
#define NJ_LOCK_H

#if defined(_WIN32)
#include <windows.h>
typedef SRWLOCK nj_lock;
#define NJ_LOCK_INIT SRWLOCK_INIT
static inline void nj_lock_acquire(nj_lock *lock) { AcquireSRWLockExclusive(lock); }
static inline void nj_lock_release(nj_lock *lock) { ReleaseSRWLockExclusive(lock); }
#else
#include <pthread.h>
typedef pthread_mutex_t nj_lock;
#define NJ_LOCK_INIT PTHREAD_MUTEX_INITIALIZER
static inline void nj_lock_acquire(nj_lock *lock) { pthread_mutex_lock(lock); }
static inline void nj_lock_release(nj_lock *lock) { pthread_mutex_unlock(lock); }
#endif

#endif
