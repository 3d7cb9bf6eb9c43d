/* AArch64 under Linux: the auxiliary vector's capability words, the SVE vector length, and this core's name.
 *
 * HWCAP bits say that the CPU has a feature and the kernel lets user space use it, in one (Linux
 * Documentation/arch/arm64/elf_hwcaps.rst). MIDR_EL1 names the design. It is in sysfs, for every core;
 * where that is hidden, MRS reads this core's: a privileged instruction, which Linux answers in the CPU's
 * place where HWCAP_CPUID says so (Documentation/arch/arm64/cpu-feature-registers.rst). */
#include "cpu.h"

#if defined(__linux__) && defined(__aarch64__)

#include <sys/auxv.h>
#include <sys/prctl.h>

#ifndef AT_HWCAP2
#define AT_HWCAP2 26
#endif
#ifndef PR_SVE_GET_VL
#define PR_SVE_GET_VL 51
#endif

enum { CPUID = 1 << 11 }; /* of HWCAP */

void nj_cpu_gather_aarch64(struct nj_cpu_raw *raw)
{
    raw->hwcap.known = raw->hwcap2.known = true;
    raw->hwcap.value = getauxval(AT_HWCAP);
    raw->hwcap2.value = getauxval(AT_HWCAP2);

    const int length = prctl(PR_SVE_GET_VL, 0, 0, 0, 0); /* -1 without SVE */
    if (length >= 0) {
        raw->sve_vl.known = true;
        raw->sve_vl.value = (uint64_t)length;
    }
    if (raw->hwcap.value & CPUID) {
        raw->midr.known = true;
        __asm__("mrs %0, midr_el1" : "=r"(raw->midr.value));
    }
}

#endif
