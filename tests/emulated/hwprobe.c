/* Preloaded into emulated RISC-V programs: what Linux says about the CPU, where qemu does not know the question.
 *
 * riscv_hwprobe came with Linux 6.4, PR_RISCV_V_GET_CONTROL with 6.5, and with qemu 9: older ones refuse both,
 * though the CPU that they emulate has vectors. This answers the two as that kernel would on a CPU with IMAFDC
 * and V 1.0, and hands everything else on, so that detection runs in an emulated Python as it is written. The
 * children of a program start through the same runner: LD_PRELOAD, which the host would read, is taken away. */
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

enum { PRCTL = 167, HWPROBE = 258, GET_CONTROL = 70, CONTROL_ON = 2 };
enum { BASE_BEHAVIOR = 3, IMA_EXT_0 = 4, IMA = 1, FD = 1 << 0, C = 1 << 1, V = 1 << 2 };

__attribute__((constructor)) static void leave_no_trace(void) { unsetenv("LD_PRELOAD"); }

struct pair {
    int64_t key;
    uint64_t value;
};

extern int *__errno_location(void);

static long system_call(long number, const long *with)
{
    register long a0 __asm__("a0") = with[0], a1 __asm__("a1") = with[1], a2 __asm__("a2") = with[2];
    register long a3 __asm__("a3") = with[3], a4 __asm__("a4") = with[4], a5 __asm__("a5") = with[5];
    register long a7 __asm__("a7") = number;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5), "r"(a7) : "memory");
    if (a0 >= -4095 && a0 < 0) {
        *__errno_location() = (int)-a0;
        return -1;
    }
    return a0;
}

static void take(va_list list, long *with)
{
    for (int i = 0; i < 6; i++) with[i] = va_arg(list, long);
}

long syscall(long number, ...)
{
    long with[6];
    va_list list;
    va_start(list, number);
    take(list, with);
    va_end(list);
    if (number != HWPROBE) return system_call(number, with);
    struct pair *pairs = (struct pair *)with[0];
    for (long i = 0; i < with[1]; i++) {
        const int64_t key = pairs[i].key;
        pairs[i].value = key == BASE_BEHAVIOR ? IMA : key == IMA_EXT_0 ? FD | C | V : 0;
        if (key > IMA_EXT_0) pairs[i].key = -1; /* as for a key that the kernel does not know */
    }
    return 0;
}

int prctl(int operation, ...)
{
    long with[6] = {operation};
    va_list list;
    va_start(list, operation);
    for (int i = 1; i < 5; i++) with[i] = va_arg(list, long);
    va_end(list);
    return operation == GET_CONTROL ? CONTROL_ON : (int)system_call(PRCTL, with);
}
