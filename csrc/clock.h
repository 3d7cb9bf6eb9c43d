/* Two clocks. `nj_clock_ns` is the system's monotonic clock, about 20 ns to read. `nj_ticks` is the CPU's
 * own constant-rate counter (TSC, CNTVCT, RISC-V time): a few nanoseconds to read, not ordered with the
 * instructions around it, and in units that `nj_ticks_per_ns` measures. Where the compiler or the CPU has
 * no such counter, ticks are nanoseconds of the system's clock. (x86-64 CPUs older than the invariant TSC,
 * 2008, also lack all that neurojit emits.)
 */
#ifndef NJ_CLOCK_H
#define NJ_CLOCK_H

#include <stdint.h>

uint64_t nj_clock_ns(void);

/* Measured (for 2 ms) or read from the CPU at the first call; the same for the life of the process. */
double nj_ticks_per_ns(void);

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
static inline uint64_t nj_ticks(void) { return __builtin_ia32_rdtsc(); }
#elif defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
static inline uint64_t nj_ticks(void)
{
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
}
#elif defined(__riscv) && __riscv_xlen == 64
static inline uint64_t nj_ticks(void)
{
    uint64_t ticks;
    __asm__ volatile("rdtime %0" : "=r"(ticks));
    return ticks;
}
#else
#define NJ_TICKS_ARE_NANOSECONDS 1
static inline uint64_t nj_ticks(void) { return nj_clock_ns(); }
#endif

#endif
