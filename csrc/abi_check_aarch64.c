/* The AArch64 trampoline of the ABI check: see abi_check.h. Rules: AAPCS64 (Arm IHI 0055), 6.1.1 and 6.1.2.
 */
#include "abi_check.h"

#include <stddef.h>

#include "lock.h"

#ifdef NJ_ABI_CHECK_AARCH64

enum {
    CANARIES = 64,
    GENERAL = NJ_ABI_X29 - NJ_ABI_X18 + 1, /* x18 to x29 */
    VECTORS = NJ_ABI_D15 - NJ_ABI_D8 + 1,  /* the lower halves of v8 to v15 */
};
#define CANARY UINT64_C(0xca7ab1ecafe5a1ad)

/* Shared with the assembly below, which knows the offsets. */
struct nj_abi_frame {
    /* in */
    nj_kernel kernel;
    void *const *buffers;
    int64_t n;
    uint64_t stack_offset;
    uint64_t canary;
    uint64_t fpcr;
    uint64_t pattern[GENERAL];
    uint64_t vector_pattern[VECTORS];
    /* out, 208 */
    int64_t result;
    uint64_t sp_before, sp_after;
    uint64_t fpcr_after;
    uint64_t saved[GENERAL];
    uint64_t vector_saved[VECTORS];
    /* the trampoline's own, 400 */
    uint64_t host[GENERAL];
    uint64_t host_vector[VECTORS];
    uint64_t host_sp, host_link, host_fpcr;
    /* out again: too large for a pair of registers to reach beyond */
    uint64_t frame[CANARIES];
};

#define AT(FIELD, OFFSET) _Static_assert(offsetof(struct nj_abi_frame, FIELD) == (OFFSET), #FIELD " moved")
AT(kernel, 0);
AT(buffers, 8);
AT(n, 16);
AT(stack_offset, 24);
AT(canary, 32);
AT(fpcr, 40);
AT(pattern, 48);
AT(vector_pattern, 144);
AT(result, 208);
AT(sp_before, 216);
AT(sp_after, 224);
AT(fpcr_after, 232);
AT(saved, 240);
AT(vector_saved, 336);
AT(host, 400);
AT(host_vector, 496);
AT(host_sp, 560);
AT(host_link, 568);
AT(host_fpcr, 576);
AT(frame, 584);

__attribute__((visibility("hidden"), used)) struct nj_abi_frame nj_abi_frame;
__attribute__((visibility("hidden"))) void nj_abi_trampoline(void);

/* The frame's address is made anew, from the program counter, wherever the kernel may have lost it.
 * FRAME(reg) makes it; GENERAL_PAIRS and VECTOR_PAIRS store ("stp") or load ("ldp") a whole set at [x10]. */
#define FRAME(REGISTER)                                                                                      \
    "    adrp " REGISTER ", nj_abi_frame\n"                                                                  \
    "    add " REGISTER ", " REGISTER ", :lo12:nj_abi_frame\n"
#define GENERAL_PAIRS(INSTRUCTION)                                                                           \
    "    " INSTRUCTION " x18, x19, [x10]\n"                                                                  \
    "    " INSTRUCTION " x20, x21, [x10, #16]\n"                                                             \
    "    " INSTRUCTION " x22, x23, [x10, #32]\n"                                                             \
    "    " INSTRUCTION " x24, x25, [x10, #48]\n"                                                             \
    "    " INSTRUCTION " x26, x27, [x10, #64]\n"                                                             \
    "    " INSTRUCTION " x28, x29, [x10, #80]\n"
#define VECTOR_PAIRS(INSTRUCTION)                                                                            \
    "    " INSTRUCTION " d8, d9, [x10]\n"                                                                    \
    "    " INSTRUCTION " d10, d11, [x10, #16]\n"                                                             \
    "    " INSTRUCTION " d12, d13, [x10, #32]\n"                                                             \
    "    " INSTRUCTION " d14, d15, [x10, #48]\n"

/* clang-format off */
__asm__(
    "    .pushsection .text\n"
    "    .hidden nj_abi_trampoline\n"
    "    .globl nj_abi_trampoline\n"
    "    .type nj_abi_trampoline, %function\n"
    "    .balign 4\n"
    "nj_abi_trampoline:\n"
    "    hint #34\n" /* bti c */
    FRAME("x9")
    "    add x10, x9, #400\n"
    GENERAL_PAIRS("stp")
    "    add x10, x9, #496\n"
    VECTOR_PAIRS("stp")
    "    mov x11, sp\n"
    "    str x11, [x9, #560]\n"
    "    str x30, [x9, #568]\n"
    "    mrs x12, fpcr\n"
    "    str x12, [x9, #576]\n"
    /* The stack the kernel is called on: aligned as asked, canaries from sp up. */
    "    sub x11, x11, #4096\n"
    "    and x11, x11, #-64\n"
    "    ldr x12, [x9, #24]\n"
    "    sub x11, x11, x12\n"
    "    mov sp, x11\n"
    "    str x11, [x9, #216]\n"
    "    ldr x12, [x9, #32]\n"
    "    mov x13, #64\n"
    "1:  str x12, [x11], #8\n"
    "    subs x13, x13, #1\n"
    "    b.ne 1b\n"
    /* Garbage wherever the kernel may expect nothing, patterns where the caller expects something. */
    "    .irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
    "    movi v\\i\\().16b, #255\n"
    "    .endr\n"
    "    .irp i, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31\n"
    "    movi v\\i\\().16b, #255\n"
    "    .endr\n"
    "    add x10, x9, #144\n"
    VECTOR_PAIRS("ldp")
    "    add x10, x9, #48\n"
    GENERAL_PAIRS("ldp")
    "    ldr x10, [x9, #40]\n"
    "    msr fpcr, x10\n"
    "    ldp x16, x0, [x9]\n"
    "    ldr x1, [x9, #16]\n"
    "    .irp i, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 17\n"
    "    mov x\\i, x12\n"
    "    .endr\n"
    "    blr x16\n"
    /* Put down what the kernel left. */
    FRAME("x9")
    "    str x0, [x9, #208]\n"
    "    mov x10, sp\n"
    "    str x10, [x9, #224]\n"
    "    mrs x10, fpcr\n"
    "    str x10, [x9, #232]\n"
    "    add x10, x9, #240\n"
    GENERAL_PAIRS("stp")
    "    add x10, x9, #336\n"
    VECTOR_PAIRS("stp")
    "    ldr x11, [x9, #216]\n"
    "    add x10, x9, #584\n"
    "    mov x13, #64\n"
    "2:  ldr x12, [x11], #8\n"
    "    str x12, [x10], #8\n"
    "    subs x13, x13, #1\n"
    "    b.ne 2b\n"
    /* The caller's state back. */
    "    add x10, x9, #400\n"
    GENERAL_PAIRS("ldp")
    "    add x10, x9, #496\n"
    VECTOR_PAIRS("ldp")
    "    ldr x12, [x9, #576]\n"
    "    msr fpcr, x12\n"
    "    ldr x11, [x9, #560]\n"
    "    mov sp, x11\n"
    "    ldr x30, [x9, #568]\n"
    "    ret\n"
    "    .size nj_abi_trampoline, . - nj_abi_trampoline\n"
    "    .popsection\n");
/* clang-format on */

static bool are_canaries(const uint64_t *words)
{
    for (int i = 0; i < CANARIES; i++)
        if (words[i] != CANARY) return false;
    return true;
}

static uint64_t violations(const struct nj_abi_frame *f)
{
    uint64_t found = 0;
#define CHECK(OK, VIOLATION) found |= (uint64_t) !(OK) << (VIOLATION)
    CHECK(are_canaries(f->frame), NJ_ABI_CALLER_FRAME);
    for (int i = 0; i < GENERAL; i++) CHECK(f->saved[i] == f->pattern[i], NJ_ABI_X18 + i);
    CHECK(f->sp_after == f->sp_before, NJ_ABI_SP);
    for (int i = 0; i < VECTORS; i++) CHECK(f->vector_saved[i] == f->vector_pattern[i], NJ_ABI_D8 + i);
    CHECK(f->fpcr_after == f->fpcr, NJ_ABI_FPCR);
#undef CHECK
    return found;
}

static uint64_t read_fpcr(void)
{
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    return fpcr;
}

bool nj_call_checked(nj_kernel kernel, void *const *buffers, int64_t n, nj_abi_call how,
                     nj_abi_report *report)
{
    static nj_lock one_at_a_time = NJ_LOCK_INIT;
    nj_lock_acquire(&one_at_a_time);
    struct nj_abi_frame *f = &nj_abi_frame;
    *f = (struct nj_abi_frame){
        .kernel = kernel,
        .buffers = buffers,
        .n = n,
        .stack_offset = how.stack_offset & 48,
        .canary = CANARY,
        .fpcr = how.float_control ? how.float_control : read_fpcr(),
    };
    for (uint64_t i = 0; i < GENERAL; i++) f->pattern[i] = 0x0101010101010101u * (0x12 + i);
    for (uint64_t i = 0; i < VECTORS; i++) f->vector_pattern[i] = 0x1010101010101010u * (8 + i) | i;
    nj_abi_trampoline();
    *report = (nj_abi_report){.result = f->result, .violations = violations(f)};
    nj_lock_release(&one_at_a_time);
    return true;
}

#endif
