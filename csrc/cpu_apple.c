/* macOS on Apple silicon: what sysctl tells. Compiled against Apple's headers; NOT YET RUN on such a machine.
 *
 * MIDR_EL1 cannot be read there, and there is no HWCAP: instead each feature has a name, `hw.optional.arm.
 * FEAT_...`, and each cluster of cores (level 0: the performance cores) its caches. A name that this macOS
 * does not know is left out. (Apple, "Determining instruction set characteristics".) */
#include "cpu.h"

#if defined(__APPLE__) && defined(__aarch64__)

#include <string.h>
#include <sys/sysctl.h>
#include <sys/types.h>

static const char *const NAMES[] = {
    "hw.cpufamily",
    "hw.physicalcpu",
    "hw.logicalcpu",
    "hw.cachelinesize",
    "hw.perflevel0.physicalcpu",
    "hw.perflevel0.l1dcachesize",
    "hw.perflevel0.l1icachesize",
    "hw.perflevel0.l2cachesize",
    "hw.perflevel0.cpusperl2",
    "hw.optional.arm.FEAT_LSE",
    "hw.optional.arm.FEAT_FP16",
    "hw.optional.arm.FEAT_RDM",
    "hw.optional.arm.FEAT_FCMA",
    "hw.optional.arm.FEAT_DotProd",
    "hw.optional.arm.FEAT_FHM",
    "hw.optional.arm.FEAT_I8MM",
    "hw.optional.arm.FEAT_BF16",
    "hw.optional.arm.FEAT_BTI",
    "hw.optional.arm.FEAT_SME",
    "hw.optional.arm.FEAT_SME2",
};
_Static_assert(sizeof NAMES / sizeof *NAMES <= NJ_SYSCTL_MAX, "a row for each name");

void nj_cpu_gather_apple(struct nj_cpu_raw *raw)
{
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        uint64_t value = 0; /* some are of 32 bits, and little-endian */
        size_t size = sizeof value;
        if (sysctlbyname(NAMES[i], &value, &size, NULL, 0) != 0) continue;
        raw->sysctl[raw->sysctl_count].name = NAMES[i];
        raw->sysctl[raw->sysctl_count++].value = value;
    }
    size_t room = sizeof raw->brand;
    if (sysctlbyname("machdep.cpu.brand_string", raw->brand, &room, NULL, 0) != 0) raw->brand[0] = 0;
    raw->brand[sizeof raw->brand - 1] = 0;
}

#endif
