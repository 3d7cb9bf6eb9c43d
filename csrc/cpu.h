/* The raw facts this CPU and its OS give about themselves: gathered here, decoded in Python.
 *
 * Nothing in these files interprets a bit beyond what gathering needs (which leaf exists, whether
 * XGETBV may be executed), so that facts recorded on another machine decode the same way as these.
 */
#ifndef NEUROJIT_CPU_H
#define NEUROJIT_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NJ_CPUID_MAX 64
#define NJ_HWPROBE_MAX 16
#define NJ_SYSCTL_MAX 32

struct nj_cpuid {
    uint32_t leaf, subleaf, eax, ebx, ecx, edx;
};

struct nj_hwprobe {
    int64_t key; /* the kernel answers -1 for a key it does not know */
    uint64_t value;
};

struct nj_sysctl {
    const char *name;
    uint64_t value;
};

/* A value that the machine may not have: `known` is false where it could not be asked. */
struct nj_word {
    bool known;
    uint64_t value;
};

struct nj_cpu_raw {
    const char *architecture; /* "x86_64", "aarch64", "riscv64", or "unknown" */

    size_t cpuid_count; /* x86-64 */
    struct nj_cpuid cpuid[NJ_CPUID_MAX];
    struct nj_word xcr0; /* unknown unless the OS has set CR4.OSXSAVE */

    struct nj_word hwcap, hwcap2; /* AArch64, RISC-V: the auxiliary vector's words */
    struct nj_word sve_vl;        /* AArch64: prctl(PR_SVE_GET_VL) */
    struct nj_word midr;          /* AArch64: MIDR_EL1 of the core this ran on */

    size_t sysctl_count; /* macOS */
    struct nj_sysctl sysctl[NJ_SYSCTL_MAX];
    char brand[64]; /* macOS: machdep.cpu.brand_string */

    size_t hwprobe_count; /* RISC-V */
    struct nj_hwprobe hwprobe[NJ_HWPROBE_MAX];
    struct nj_word vector_control; /* RISC-V: prctl(PR_RISCV_V_GET_CONTROL) */
    struct nj_word vlenb;          /* RISC-V: bytes of a vector register */
};

/* Fills *raw, whatever the platform. Does not fail: what cannot be asked stays unknown. */
void nj_cpu_gather(struct nj_cpu_raw *raw);

/* One per architecture, each in its own file; only the one of this build exists. */
void nj_cpu_gather_x86(struct nj_cpu_raw *raw);
void nj_cpu_gather_aarch64(struct nj_cpu_raw *raw);
void nj_cpu_gather_riscv(struct nj_cpu_raw *raw);
void nj_cpu_gather_apple(struct nj_cpu_raw *raw);

#endif
