/* Included before cpu_riscv.c: the kernel's interface as the C library declares it, then in its place ours. */
#include <sys/prctl.h>
#include <unistd.h>

long fake_syscall(long number, ...);
int fake_prctl(int option, ...);

#define syscall fake_syscall
#define prctl fake_prctl
