/* What csrc/cpu_riscv.c makes of the kernel's answers, given them one after the other: compiled for RISC-V with
 * `syscall` and `prctl` replaced, run by qemu-riscv64, whose V unit is real enough to be asked its length.
 * Arguments: hwprobe's result, IMA_EXT_0, the prctl's result. Prints what was gathered. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "cpu.h"

static long probe_result;
static uint64_t extensions;
static int control;

long fake_syscall(long number, ...)
{
    va_list arguments;
    va_start(arguments, number);
    struct nj_hwprobe *rows = va_arg(arguments, struct nj_hwprobe *);
    const size_t count = va_arg(arguments, size_t);
    va_end(arguments);
    if (number != 258) abort();
    for (size_t i = 0; i < count && probe_result == 0; i++) {
        const int64_t key = rows[i].key;
        if (key == 10) rows[i].key = -1; /* as a kernel that does not know the key */
        rows[i].value = key == 4 ? extensions : (uint64_t)key + 100;
    }
    return probe_result;
}

int fake_prctl(int option, ...)
{
    if (option != 70) abort();
    return control;
}

int main(int count, char **argument)
{
    if (count != 4) return 2;
    probe_result = strtol(argument[1], NULL, 0);
    extensions = strtoull(argument[2], NULL, 0);
    control = (int)strtol(argument[3], NULL, 0);
    struct nj_cpu_raw raw;
    nj_cpu_gather(&raw);
    printf("%s\n", raw.architecture);
    for (size_t i = 0; i < raw.hwprobe_count; i++)
        printf("%lld %llu\n", (long long)raw.hwprobe[i].key, (unsigned long long)raw.hwprobe[i].value);
    if (raw.vector_control.known) printf("control %llu\n", (unsigned long long)raw.vector_control.value);
    if (raw.vlenb.known) printf("vlenb %llu\n", (unsigned long long)raw.vlenb.value);
    return 0;
}
