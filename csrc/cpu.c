/* Which architecture this is, and who knows how to ask it: on Linux, and on macOS with Apple silicon.
 * neurojit maps code on no other system yet, and there says "unknown" rather than half of the truth. */
#include "cpu.h"

#include <string.h>

void nj_cpu_gather(struct nj_cpu_raw *raw)
{
    memset(raw, 0, sizeof *raw);
    raw->architecture = "unknown";
#if defined(__linux__) && defined(__x86_64__) && !defined(__ILP32__)
    raw->architecture = "x86_64";
    nj_cpu_gather_x86(raw);
#elif defined(__linux__) && defined(__aarch64__) && defined(__AARCH64EL__) && !defined(__ILP32__)
    raw->architecture = "aarch64";
    nj_cpu_gather_aarch64(raw);
#elif defined(__linux__) && defined(__riscv) && __riscv_xlen == 64
    raw->architecture = "riscv64";
    nj_cpu_gather_riscv(raw);
#elif defined(__APPLE__) && defined(__aarch64__)
    raw->architecture = "aarch64";
    nj_cpu_gather_apple(raw);
#endif
}
