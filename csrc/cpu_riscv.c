/* RISC-V: riscv_hwprobe, and the vector length where there is a vector unit to ask.
 *
 * Not HWCAP: its single bit per letter cannot tell V 1.0 from the 0.7.1 drafts that some vendor
 * kernels announced with the same bit (Linux Documentation/arch/riscv/hwprobe.rst). */
#include "cpu.h"

#if defined(__linux__) && defined(__riscv) && __riscv_xlen == 64

#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Numbers of the kernel's interface, for C libraries with older headers. */
#ifndef __NR_riscv_hwprobe
#define __NR_riscv_hwprobe 258
#endif
#ifndef PR_RISCV_V_GET_CONTROL
#define PR_RISCV_V_GET_CONTROL 70
#endif

enum { KEY_IMA_EXT_0 = 4, IMA_V = 1 << 2, CONTROL_CURRENT = 3, CONTROL_OFF = 1 };

static const int64_t KEYS[] = {
    0,             /* MVENDORID */
    1,             /* MARCHID */
    2,             /* MIMPID */
    3,             /* BASE_BEHAVIOR */
    KEY_IMA_EXT_0, /* extensions */
    5,             /* CPUPERF_0: misaligned scalar access */
    9,             /* MISALIGNED_SCALAR_PERF */
    10,            /* MISALIGNED_VECTOR_PERF */
};

void nj_cpu_gather_riscv(struct nj_cpu_raw *raw)
{
    raw->hwcap.known = true;
    raw->hwcap.value = getauxval(AT_HWCAP);

    const size_t count = sizeof KEYS / sizeof KEYS[0];
    for (size_t i = 0; i < count; i++) raw->hwprobe[i].key = KEYS[i];
    if (syscall(__NR_riscv_hwprobe, raw->hwprobe, count, 0, NULL, 0) != 0)
        return; /* Linux before 6.4: nothing is known, so nothing is used */
    raw->hwprobe_count = count;

    const int control = prctl(PR_RISCV_V_GET_CONTROL, 0, 0, 0, 0);
    if (control >= 0) {
        raw->vector_control.known = true;
        raw->vector_control.value = (uint64_t)control;
    }

    bool vector = false;
    for (size_t i = 0; i < count; i++)
        vector = vector || (raw->hwprobe[i].key == KEY_IMA_EXT_0 && (raw->hwprobe[i].value & IMA_V));
    if (vector && (control < 0 || (control & CONTROL_CURRENT) != CONTROL_OFF)) {
        uint64_t vlenb;
        __asm__ volatile("csrr %0, 0xc22" : "=r"(vlenb)); /* vlenb, by number: old assemblers */
        raw->vlenb.known = true;
        raw->vlenb.value = vlenb;
    }
}

#endif
