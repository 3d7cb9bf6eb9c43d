/* AArch64: the auxiliary vector's capability words and the SVE vector length. MIDR_EL1 is in sysfs.
 *
 * HWCAP bits say that the CPU has a feature and the kernel lets user space use it, in one
 * (Linux Documentation/arch/arm64/elf_hwcaps.rst). */
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
}

#endif
