#include "abi_check.h"

static const char *const names[NJ_ABI_VIOLATION_COUNT] = {
    [NJ_ABI_CALLER_FRAME] = "caller's frame",
    [NJ_ABI_RBX] = "rbx",
    [NJ_ABI_RBP] = "rbp",
    [NJ_ABI_R12] = "r12",
    [NJ_ABI_R13] = "r13",
    [NJ_ABI_R14] = "r14",
    [NJ_ABI_R15] = "r15",
    [NJ_ABI_RSP] = "rsp",
    [NJ_ABI_DIRECTION_FLAG] = "direction flag",
    [NJ_ABI_MXCSR] = "mxcsr control",
    [NJ_ABI_X87_CONTROL] = "x87 control",
    [NJ_ABI_X87_STACK] = "x87 stack",
    [NJ_ABI_VECTOR_UPPER] = "vector upper halves",
    [NJ_ABI_VECTOR_DIRTY] = "vzeroupper",
    [NJ_ABI_X18] = "x18",
    [NJ_ABI_X18 + 1] = "x19",
    [NJ_ABI_X18 + 2] = "x20",
    [NJ_ABI_X18 + 3] = "x21",
    [NJ_ABI_X18 + 4] = "x22",
    [NJ_ABI_X18 + 5] = "x23",
    [NJ_ABI_X18 + 6] = "x24",
    [NJ_ABI_X18 + 7] = "x25",
    [NJ_ABI_X18 + 8] = "x26",
    [NJ_ABI_X18 + 9] = "x27",
    [NJ_ABI_X18 + 10] = "x28",
    [NJ_ABI_X29] = "x29",
    [NJ_ABI_SP] = "sp",
    [NJ_ABI_D8] = "d8",
    [NJ_ABI_D8 + 1] = "d9",
    [NJ_ABI_D8 + 2] = "d10",
    [NJ_ABI_D8 + 3] = "d11",
    [NJ_ABI_D8 + 4] = "d12",
    [NJ_ABI_D8 + 5] = "d13",
    [NJ_ABI_D8 + 6] = "d14",
    [NJ_ABI_D15] = "d15",
    [NJ_ABI_FPCR] = "fpcr",
    [NJ_ABI_S0 + 0] = "s0",
    [NJ_ABI_S0 + 1] = "s1",
    [NJ_ABI_S0 + 2] = "s2",
    [NJ_ABI_S0 + 3] = "s3",
    [NJ_ABI_S0 + 4] = "s4",
    [NJ_ABI_S0 + 5] = "s5",
    [NJ_ABI_S0 + 6] = "s6",
    [NJ_ABI_S0 + 7] = "s7",
    [NJ_ABI_S0 + 8] = "s8",
    [NJ_ABI_S0 + 9] = "s9",
    [NJ_ABI_S0 + 10] = "s10",
    [NJ_ABI_S0 + 11] = "s11",
    [NJ_ABI_FS0 + 0] = "fs0",
    [NJ_ABI_FS0 + 1] = "fs1",
    [NJ_ABI_FS0 + 2] = "fs2",
    [NJ_ABI_FS0 + 3] = "fs3",
    [NJ_ABI_FS0 + 4] = "fs4",
    [NJ_ABI_FS0 + 5] = "fs5",
    [NJ_ABI_FS0 + 6] = "fs6",
    [NJ_ABI_FS0 + 7] = "fs7",
    [NJ_ABI_FS0 + 8] = "fs8",
    [NJ_ABI_FS0 + 9] = "fs9",
    [NJ_ABI_FS0 + 10] = "fs10",
    [NJ_ABI_FS0 + 11] = "fs11",
    [NJ_ABI_FRM] = "rounding mode",
    [NJ_ABI_GP_TP] = "gp or tp",
};

const char *nj_abi_violation_name(nj_abi_violation violation) { return names[violation]; }

#if !defined(NJ_ABI_CHECK_X86) && !defined(NJ_ABI_CHECK_AARCH64) && !defined(NJ_ABI_CHECK_RISCV)

bool nj_call_checked(nj_kernel kernel, void *const *buffers, int64_t n, nj_abi_call how,
                     nj_abi_report *report)
{
    (void)kernel, (void)buffers, (void)n, (void)how, (void)report;
    return false;
}

#endif
