/* The RISC-V trampoline of the ABI check: see abi_check.h. Rules: RISC-V psABI, chapter 1 (LP64D).
 */
#include "abi_check.h"

#include <stddef.h>

#include "lock.h"

#ifdef NJ_ABI_CHECK_RISCV

enum { CANARIES = 64, SAVED = NJ_ABI_S11 - NJ_ABI_S0 + 1 };
#define CANARY UINT64_C(0xca7ab1ecafe5a1ad)

/* Shared with the assembly below, which knows the offsets. */
struct nj_abi_frame {
    /* in */
    nj_kernel kernel;
    void *const *buffers;
    int64_t n;
    uint64_t stack_offset;
    uint64_t canary;
    uint64_t fcsr;
    uint64_t pattern[SAVED];
    uint64_t float_pattern[SAVED];
    /* out, 240 */
    int64_t result;
    uint64_t sp_before, sp_after;
    uint64_t fcsr_after;
    uint64_t saved[SAVED];
    uint64_t float_saved[SAVED];
    uint64_t gp_after, tp_after;
    /* the trampoline's own, 480 */
    uint64_t host[SAVED];
    uint64_t host_float[SAVED];
    uint64_t host_sp, host_link, host_fcsr, host_gp, host_tp;
    /* out again */
    uint64_t frame[CANARIES];
};

#define AT(FIELD, OFFSET) _Static_assert(offsetof(struct nj_abi_frame, FIELD) == (OFFSET), #FIELD " moved")
AT(kernel, 0);
AT(buffers, 8);
AT(n, 16);
AT(stack_offset, 24);
AT(canary, 32);
AT(fcsr, 40);
AT(pattern, 48);
AT(float_pattern, 144);
AT(result, 240);
AT(sp_before, 248);
AT(sp_after, 256);
AT(fcsr_after, 264);
AT(saved, 272);
AT(float_saved, 368);
AT(gp_after, 464);
AT(tp_after, 472);
AT(host, 480);
AT(host_float, 576);
AT(host_sp, 672);
AT(host_link, 680);
AT(host_fcsr, 688);
AT(host_gp, 696);
AT(host_tp, 704);
AT(frame, 712);

__attribute__((visibility("hidden"), used)) struct nj_abi_frame nj_abi_frame;
__attribute__((visibility("hidden"))) void nj_abi_trampoline(void);

/* A whole set, stored or loaded from OFFSET(t0); the frame's address is made anew from the program counter.
 */
#define EACH(INSTRUCTION, PREFIX, OFFSET)                                                                    \
    "    .set at, " OFFSET "\n"                                                                              \
    "    .irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11\n"                                                     \
    "    " INSTRUCTION " " PREFIX "\\i, at(t0)\n"                                                            \
    "    .set at, at + 8\n"                                                                                  \
    "    .endr\n"

/* clang-format off */
__asm__(
    "    .pushsection .text\n"
    "    .option push\n"
    "    .option norelax\n"
    "    .hidden nj_abi_trampoline\n"
    "    .globl nj_abi_trampoline\n"
    "    .type nj_abi_trampoline, @function\n"
    "    .balign 4\n"
    "nj_abi_trampoline:\n"
    "    lla t0, nj_abi_frame\n"
    EACH("sd", "s", "480")
    EACH("fsd", "fs", "576")
    "    sd sp, 672(t0)\n"
    "    sd ra, 680(t0)\n"
    "    frcsr t1\n"
    "    sd t1, 688(t0)\n"
    "    sd gp, 696(t0)\n"
    "    sd tp, 704(t0)\n"
    /* The stack the kernel is called on: aligned as asked, canaries from sp up. */
    "    li t1, 4096\n"
    "    sub t1, sp, t1\n"
    "    andi t1, t1, -64\n"
    "    ld t2, 24(t0)\n"
    "    sub sp, t1, t2\n"
    "    sd sp, 248(t0)\n"
    "    ld t2, 32(t0)\n"
    "    mv t1, sp\n"
    "    addi t3, sp, 512\n"
    "1:  sd t2, 0(t1)\n"
    "    addi t1, t1, 8\n"
    "    bltu t1, t3, 1b\n"
    /* Patterns where the caller expects something, garbage in what the kernel may use. */
    EACH("ld", "s", "48")
    EACH("fld", "fs", "144")
    "    .irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11\n"
    "    fmv.d.x ft\\i, t2\n"
    "    .endr\n"
    "    .irp i, 0, 1, 2, 3, 4, 5, 6, 7\n"
    "    fmv.d.x fa\\i, t2\n"
    "    .endr\n"
    "    ld t1, 40(t0)\n"
    "    fscsr t1\n"
    "    ld t1, 0(t0)\n"
    "    ld a0, 8(t0)\n"
    "    ld a1, 16(t0)\n"
    "    .irp r, a2, a3, a4, a5, a6, a7, t0, t3, t4, t5, t6\n"
    "    mv \\r, t2\n"
    "    .endr\n"
    "    jalr ra, 0(t1)\n"
    /* Put down what the kernel left. */
    "    lla t0, nj_abi_frame\n"
    "    sd a0, 240(t0)\n"
    "    sd sp, 256(t0)\n"
    "    frcsr t1\n"
    "    sd t1, 264(t0)\n"
    "    sd gp, 464(t0)\n"
    "    sd tp, 472(t0)\n"
    EACH("sd", "s", "272")
    EACH("fsd", "fs", "368")
    "    ld t1, 248(t0)\n"
    "    addi t2, t1, 512\n"
    "    addi t3, t0, 712\n"
    "2:  ld t4, 0(t1)\n"
    "    sd t4, 0(t3)\n"
    "    addi t1, t1, 8\n"
    "    addi t3, t3, 8\n"
    "    bltu t1, t2, 2b\n"
    /* The caller's state back. */
    EACH("ld", "s", "480")
    EACH("fld", "fs", "576")
    "    ld sp, 672(t0)\n"
    "    ld ra, 680(t0)\n"
    "    ld t1, 688(t0)\n"
    "    fscsr t1\n"
    "    ld gp, 696(t0)\n"
    "    ld tp, 704(t0)\n"
    "    ret\n"
    "    .size nj_abi_trampoline, . - nj_abi_trampoline\n"
    "    .option pop\n"
    "    .popsection\n");
/* clang-format on */

#define ROUNDING_MODE 0xe0u /* frm, in fcsr; the rest are flags, which are the kernel's to raise */

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
    CHECK(f->sp_after == f->sp_before, NJ_ABI_SP);
    for (int i = 0; i < SAVED; i++) CHECK(f->saved[i] == f->pattern[i], NJ_ABI_S0 + i);
    for (int i = 0; i < SAVED; i++) CHECK(f->float_saved[i] == f->float_pattern[i], NJ_ABI_FS0 + i);
    CHECK(((f->fcsr_after ^ f->fcsr) & ROUNDING_MODE) == 0, NJ_ABI_FRM);
    CHECK(f->gp_after == f->host_gp && f->tp_after == f->host_tp, NJ_ABI_GP_TP);
#undef CHECK
    return found;
}

static uint64_t read_fcsr(void)
{
    uint64_t fcsr;
    __asm__ volatile("frcsr %0" : "=r"(fcsr));
    return fcsr;
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
        .fcsr = how.float_control ? how.float_control : read_fcsr(),
    };
    for (uint64_t i = 0; i < SAVED; i++) {
        f->pattern[i] = UINT64_C(0x0101010101010101) * (0x20 + i);
        f->float_pattern[i] = UINT64_C(0x1010101010101010) * 3 + i;
    }
    nj_abi_trampoline();
    *report = (nj_abi_report){.result = f->result, .violations = violations(f)};
    nj_lock_release(&one_at_a_time);
    return true;
}

#endif
