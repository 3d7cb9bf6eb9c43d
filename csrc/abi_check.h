/* The ABI check: does a kernel give its caller's machine state back?
 *
 * The problem. A kernel that clobbers a callee-saved register, leaves the direction flag set, MXCSR
 * changed or the upper vector halves dirty returns the right numbers, and breaks something else, later.
 *
 * The idea. A trampoline loads known patterns into everything the caller may rely on, calls the kernel on
 * a stack whose alignment it chooses, with canaries right above the return address, and afterwards puts
 * down what it finds. It keeps its own state in static memory, so that it finds its way back whatever
 * the kernel did to registers, stack pointer and caller's frame; hence one check at a time, under a lock.
 * It cannot survive a kernel that does not return to it.
 *
 * What is checked on x86-64 (System V): rbx, rbp, r12-r15 and rsp; 512 bytes of the caller's frame; the
 * direction flag; the control bits of MXCSR (the exception flags are the kernel's to raise) and of the
 * x87; that the x87 stack is empty; that bits 128 and up of vector registers 0-15 are zero, and that
 * the CPU knows it (XINUSE, where the CPU tracks it), which is what vzeroupper is for.
 */
#ifndef NJ_ABI_CHECK_H
#define NJ_ABI_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "code.h"

typedef enum nj_abi_violation {
    NJ_ABI_RBX,
    NJ_ABI_RBP,
    NJ_ABI_R12,
    NJ_ABI_R13,
    NJ_ABI_R14,
    NJ_ABI_R15,
    NJ_ABI_RSP,
    NJ_ABI_CALLER_FRAME,
    NJ_ABI_DIRECTION_FLAG,
    NJ_ABI_MXCSR,
    NJ_ABI_X87_CONTROL,
    NJ_ABI_X87_STACK,
    NJ_ABI_VECTOR_UPPER, /* not zero */
    NJ_ABI_VECTOR_DIRTY, /* zero, but no vzeroupper said so */
    NJ_ABI_VIOLATION_COUNT
} nj_abi_violation;

typedef struct nj_abi_report {
    int64_t result;      /* of the kernel */
    uint32_t violations; /* bit v: nj_abi_violation v */
} nj_abi_report;

/* How the kernel is called. */
typedef struct nj_abi_call {
    unsigned int stack_offset; /* of the caller's stack pointer below a multiple of 64: 0, 16, 32 or 48 */
    uint32_t mxcsr;            /* the caller's; 0: this thread's own */
} nj_abi_call;

/* Calls the kernel and fills in the report; false, and nothing called, where no trampoline is written. */
bool nj_call_checked(nj_kernel kernel, void *const *buffers, int64_t n, nj_abi_call how,
                     nj_abi_report *report);

const char *nj_abi_violation_name(nj_abi_violation violation);

#endif
