#include "clock.h"

#include <stdatomic.h>

#if defined(_WIN32)
#include <windows.h>

static void wait_ns(uint64_t ns) { Sleep((DWORD)(ns / 1000000u)); }

uint64_t nj_clock_ns(void)
{
    LARGE_INTEGER count, frequency;
    QueryPerformanceCounter(&count);
    QueryPerformanceFrequency(&frequency);
    uint64_t seconds = (uint64_t)(count.QuadPart / frequency.QuadPart);
    uint64_t rest = (uint64_t)(count.QuadPart % frequency.QuadPart);
    return seconds * 1000000000u + rest * 1000000000u / (uint64_t)frequency.QuadPart;
}
#else
#include <time.h>

static inline void wait_ns(uint64_t ns)
{
    nanosleep(&(struct timespec){.tv_nsec = (long)ns}, NULL); /* a signal may cut it short */
}

uint64_t nj_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
#endif

#if defined(NJ_TICKS_ARE_NANOSECONDS)

static double find_ticks_per_ns(void) { return 1.0; }

#elif defined(__aarch64__)

static double find_ticks_per_ns(void)
{
    uint64_t hertz;
    __asm__ volatile("mrs %0, cntfrq_el0" : "=r"(hertz));
    return (double)hertz * 1e-9;
}

#else

/* Both clocks at one moment. The read that took the fewest ticks was not interrupted. */
static void read_both(uint64_t *ticks, uint64_t *ns)
{
    uint64_t shortest = UINT64_MAX;
    for (int attempt = 0; attempt < 8; attempt++) {
        uint64_t before = nj_ticks();
        uint64_t now = nj_clock_ns();
        uint64_t took = nj_ticks() - before;
        if (took >= shortest) continue;
        shortest = took;
        *ticks = before + took / 2;
        *ns = now;
    }
}

static double find_ticks_per_ns(void)
{
    uint64_t first_ticks = 0, first_ns = 0, ticks = 0, ns = 0;
    read_both(&first_ticks, &first_ns);
    do {
        wait_ns(2000000);
        read_both(&ticks, &ns);
    } while (ns - first_ns < 2000000);
    return (double)(ticks - first_ticks) / (double)(ns - first_ns);
}

#endif

double nj_ticks_per_ns(void)
{
    static _Atomic double known; /* threads that race each measure; the first one's answer stays */
    double found = atomic_load(&known);
    if (found != 0.0) return found;
    found = find_ticks_per_ns();
    double unknown = 0.0;
    return atomic_compare_exchange_strong(&known, &unknown, found) ? found : unknown;
}
