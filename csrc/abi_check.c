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
};

const char *nj_abi_violation_name(nj_abi_violation violation) { return names[violation]; }

#if !defined(NJ_ABI_CHECK_X86) && !defined(NJ_ABI_CHECK_AARCH64)

bool nj_call_checked(nj_kernel kernel, void *const *buffers, int64_t n, nj_abi_call how,
                     nj_abi_report *report)
{
    (void)kernel, (void)buffers, (void)n, (void)how, (void)report;
    return false;
}

#endif
