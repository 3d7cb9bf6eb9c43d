/* The ABI check: does a kernel give its caller's machine state back?
 *
 * The problem. A kernel that clobbers a callee-saved register, changes the floating-point control or leaves
 * dirt where the caller expects none returns the right numbers, and breaks something else, later.
 *
 * The idea. A trampoline loads known patterns into everything the caller may rely on, calls the kernel on
 * a stack whose alignment it chooses, with canaries right above the return address, and afterwards puts
 * down what it finds. It keeps its own state in static memory, so that it finds its way back whatever
 * the kernel did to registers, stack pointer and caller's frame; hence one check at a time, under a lock.
 * It cannot survive a kernel that does not return to it.
 *
 * What is checked everywhere: the stack pointer, 512 bytes of the caller's frame, and
 *   x86-64 (System V)   rbx, rbp, r12-r15; the direction flag; the control bits of MXCSR (the exception
 *                       flags are the kernel's to raise) and of the x87; that the x87 stack is empty; that
 *                       bits 128 and up of vector registers 0-15 are zero, and that the CPU knows it
 *                       (XINUSE, where the CPU tracks it), which is what vzeroupper is for;
 *   AArch64 (AAPCS64)   x19-x29; the lower halves of v8-v15; FPCR; and x18, which some systems keep for
 *                       themselves, so that no kernel may touch it;
 *   RISC-V (LP64D)      s0-s11, fs0-fs11, gp and tp; the rounding mode.
 */
#ifndef NJ_ABI_CHECK_H
#define NJ_ABI_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "code.h"

#if defined(__x86_64__) && defined(__ELF__)
#define NJ_ABI_CHECK_X86 1
#elif defined(__aarch64__) && defined(__ELF__)
#define NJ_ABI_CHECK_AARCH64 1
#elif defined(__riscv) && __riscv_xlen == 64 && defined(__riscv_float_abi_double)
#define NJ_ABI_CHECK_RISCV 1
#endif

typedef enum nj_abi_violation {
    NJ_ABI_CALLER_FRAME,
    /* x86-64 */
    NJ_ABI_RBX,
    NJ_ABI_RBP,
    NJ_ABI_R12,
    NJ_ABI_R13,
    NJ_ABI_R14,
    NJ_ABI_R15,
    NJ_ABI_RSP,
    NJ_ABI_DIRECTION_FLAG,
    NJ_ABI_MXCSR,
    NJ_ABI_X87_CONTROL,
    NJ_ABI_X87_STACK,
    NJ_ABI_VECTOR_UPPER, /* not zero */
    NJ_ABI_VECTOR_DIRTY, /* zero, but no vzeroupper said so */
    /* AArch64 */
    NJ_ABI_X18,
    NJ_ABI_X29 = NJ_ABI_X18 + 11,
    NJ_ABI_SP,
    NJ_ABI_D8,
    NJ_ABI_D15 = NJ_ABI_D8 + 7,
    NJ_ABI_FPCR,
    /* RISC-V; its sp is NJ_ABI_SP */
    NJ_ABI_S0,
    NJ_ABI_S11 = NJ_ABI_S0 + 11,
    NJ_ABI_FS0,
    NJ_ABI_FS11 = NJ_ABI_FS0 + 11,
    NJ_ABI_FRM,
    NJ_ABI_GP_TP,
    NJ_ABI_VIOLATION_COUNT
} nj_abi_violation;

typedef struct nj_abi_report {
    int64_t result;      /* of the kernel */
    uint64_t violations; /* bit v: nj_abi_violation v */
} nj_abi_report;

/* How the kernel is called. */
typedef struct nj_abi_call {
    unsigned int stack_offset; /* of the caller's stack pointer below a multiple of 64: 0, 16, 32 or 48 */
    uint32_t float_control;    /* the caller's MXCSR or FPCR; 0: this thread's own */
} nj_abi_call;

/* Calls the kernel and fills in the report; false, and nothing called, where no trampoline is written. */
bool nj_call_checked(nj_kernel kernel, void *const *buffers, int64_t n, nj_abi_call how,
                     nj_abi_report *report);

const char *nj_abi_violation_name(nj_abi_violation violation);

#endif
