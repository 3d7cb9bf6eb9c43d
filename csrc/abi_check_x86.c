/* The x86-64 trampoline of the ABI check: see abi_check.h. Rules: System V psABI for AMD64, 3.2.1. */
#include "abi_check.h"

#include <stddef.h>

#include "lock.h"

#ifdef NJ_ABI_CHECK_X86

#define CANARIES 64
#define CANARY UINT64_C(0xca7ab1ecafe5a1ad)

enum { SAVED = 6 }; /* rbx, rbp, r12, r13, r14, r15, as in nj_abi_violation */
static const uint64_t patterns[SAVED] = {
    0x0b0b0b0b0b0b0b01, 0x1d1d1d1d1d1d1d02, 0x1212121212121203,
    0x1313131313131304, 0x1414141414141405, 0x1515151515151506,
};

enum { VECTORS_SSE, VECTORS_AVX, VECTORS_AVX512 };

/* Shared with the assembly below, which knows the offsets. */
struct nj_abi_frame {
    /* in */
    nj_kernel kernel;
    void *const *buffers;
    int64_t n;
    uint64_t stack_offset;
    uint64_t vectors;
    uint64_t has_xinuse;
    uint64_t canary;
    uint32_t mxcsr, pad;
    uint64_t pattern[SAVED];
    /* out, 112 */
    int64_t result;
    uint64_t rsp_before, rsp_after;
    uint64_t flags;
    uint64_t saved[SAVED];
    uint32_t mxcsr_after, pad2;
    uint64_t xinuse_before, xinuse_after;
    uint16_t fpu[16]; /* fnstenv: control word in [0], tags in [4] */
    uint64_t frame[CANARIES];
    uint64_t upper128[16][2];
    uint64_t upper256[16][4];
    /* the trampoline's own, 1536 */
    uint64_t host[7];
    uint32_t host_mxcsr;
    uint16_t host_x87;
};

#define AT(FIELD, OFFSET) _Static_assert(offsetof(struct nj_abi_frame, FIELD) == (OFFSET), #FIELD " moved")
AT(kernel, 0);
AT(buffers, 8);
AT(n, 16);
AT(stack_offset, 24);
AT(vectors, 32);
AT(has_xinuse, 40);
AT(canary, 48);
AT(mxcsr, 56);
AT(pattern, 64);
AT(result, 112);
AT(rsp_before, 120);
AT(rsp_after, 128);
AT(flags, 136);
AT(saved, 144);
AT(mxcsr_after, 192);
AT(xinuse_before, 200);
AT(xinuse_after, 208);
AT(fpu, 216);
AT(frame, 248);
AT(upper128, 760);
AT(upper256, 1016);
AT(host, 1528);
AT(host_mxcsr, 1584);
AT(host_x87, 1588);

__attribute__((visibility("hidden"), used)) struct nj_abi_frame nj_abi_frame;
__attribute__((visibility("hidden"))) void nj_abi_trampoline(void);

/* `F+offset(%rip)` is a field of the frame: reachable whatever the kernel left in the registers. */
/* clang-format off */
__asm__(
    "    .pushsection .text\n"
    "    .hidden nj_abi_trampoline\n"
    "    .globl nj_abi_trampoline\n"
    "    .type nj_abi_trampoline, @function\n"
    "    .set F, nj_abi_frame\n"
    "nj_abi_trampoline:\n"
    "    endbr64\n"
    "    movq %rbx, F+1528(%rip)\n"
    "    movq %rbp, F+1536(%rip)\n"
    "    movq %r12, F+1544(%rip)\n"
    "    movq %r13, F+1552(%rip)\n"
    "    movq %r14, F+1560(%rip)\n"
    "    movq %r15, F+1568(%rip)\n"
    "    movq %rsp, F+1576(%rip)\n"
    "    stmxcsr F+1584(%rip)\n"
    "    fnstcw F+1588(%rip)\n"
    /* The stack the kernel is called on: aligned as asked, canaries from rsp up. */
    "    subq $4096, %rsp\n"
    "    andq $-64, %rsp\n"
    "    subq F+24(%rip), %rsp\n"
    "    movq %rsp, F+120(%rip)\n"
    "    movq %rsp, %rdi\n"
    "    movq F+48(%rip), %rax\n"
    "    movl $64, %ecx\n"
    "    cld\n"
    "    rep stosq\n"
    /* Vector registers: garbage below, clean above, as the ABI's callers leave them. */
    "    cmpq $1, F+32(%rip)\n"
    "    jb 1f\n"
    "    vzeroupper\n"
    "1:  cmpq $0, F+40(%rip)\n"
    "    je 2f\n"
    "    movl $1, %ecx\n"
    "    xgetbv\n"
    "    movl %eax, F+200(%rip)\n"
    "2:\n"
    "    .irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
    "    pcmpeqd %xmm\\i, %xmm\\i\n"
    "    .endr\n"
    "    ldmxcsr F+56(%rip)\n"
    "    movq F+64(%rip), %rbx\n"
    "    movq F+72(%rip), %rbp\n"
    "    movq F+80(%rip), %r12\n"
    "    movq F+88(%rip), %r13\n"
    "    movq F+96(%rip), %r14\n"
    "    movq F+104(%rip), %r15\n"
    "    movq F+8(%rip), %rdi\n"
    "    movq F+16(%rip), %rsi\n"
    "    movq F+48(%rip), %rdx\n" /* scratch registers: garbage */
    "    movq %rdx, %rax\n"
    "    movq %rdx, %rcx\n"
    "    movq %rdx, %r8\n"
    "    movq %rdx, %r9\n"
    "    movq %rdx, %r10\n"
    "    movq %rdx, %r11\n"
    "    call *F(%rip)\n"
    /* Put down what the kernel left. */
    "    movq %rax, F+112(%rip)\n"
    "    movq %rsp, F+128(%rip)\n"
    "    movq %rbx, F+144(%rip)\n"
    "    movq %rbp, F+152(%rip)\n"
    "    movq %r12, F+160(%rip)\n"
    "    movq %r13, F+168(%rip)\n"
    "    movq %r14, F+176(%rip)\n"
    "    movq %r15, F+184(%rip)\n"
    "    movq F+120(%rip), %rsp\n"
    "    pushfq\n"
    "    popq F+136(%rip)\n"
    "    cld\n"
    "    stmxcsr F+192(%rip)\n"
    "    fnstenv F+216(%rip)\n"
    "    movq %rsp, %rsi\n"
    "    leaq F+248(%rip), %rdi\n"
    "    movl $64, %ecx\n"
    "    rep movsq\n"
    "    cmpq $0, F+40(%rip)\n"
    "    je 3f\n"
    "    movl $1, %ecx\n"
    "    xgetbv\n"
    "    movl %eax, F+208(%rip)\n"
    "3:  cmpq $1, F+32(%rip)\n"
    "    jb 4f\n"
    "    .irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
    "    vextractf128 $1, %ymm\\i, F+760+16*\\i(%rip)\n"
    "    .endr\n"
    "    cmpq $2, F+32(%rip)\n"
    "    jb 5f\n"
    "    .irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
    "    vextractf64x4 $1, %zmm\\i, F+1016+32*\\i(%rip)\n"
    "    .endr\n"
    "5:  vzeroupper\n"
    /* The caller's state back. */
    "4:  fninit\n"
    "    fldcw F+1588(%rip)\n"
    "    ldmxcsr F+1584(%rip)\n"
    "    movq F+1528(%rip), %rbx\n"
    "    movq F+1536(%rip), %rbp\n"
    "    movq F+1544(%rip), %r12\n"
    "    movq F+1552(%rip), %r13\n"
    "    movq F+1560(%rip), %r14\n"
    "    movq F+1568(%rip), %r15\n"
    "    movq F+1576(%rip), %rsp\n"
    "    ret\n"
    "    .size nj_abi_trampoline, . - nj_abi_trampoline\n"
    "    .popsection\n");
/* clang-format on */

/* CPUID leaf 0xd, subleaf 1, eax bit 2: XGETBV with ecx = 1 reads which state is in use. */
static bool cpu_has_xinuse(void)
{
    uint32_t eax = 0xd, ecx = 1, ebx, edx;
    if (!__builtin_cpu_supports("avx")) return false;
    __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    return (eax & 4) != 0;
}

#define XINUSE_UPPER (1u << 2 | 1u << 6) /* bits 128-255 of registers 0-15; bits 256-511 of the same */
#define MXCSR_CONTROL 0xffc0u
#define DIRECTION_FLAG 0x400u

static bool all_are(const uint64_t *words, int count, uint64_t value)
{
    for (int i = 0; i < count; i++)
        if (words[i] != value) return false;
    return true;
}

static uint64_t violations(const struct nj_abi_frame *f)
{
    uint64_t found = 0;
#define CHECK(OK, VIOLATION) found |= (uint64_t) !(OK) << (VIOLATION)
    for (int i = 0; i < SAVED; i++) CHECK(f->saved[i] == patterns[i], NJ_ABI_RBX + i);
    CHECK(f->rsp_after == f->rsp_before, NJ_ABI_RSP);
    CHECK(all_are(f->frame, CANARIES, CANARY), NJ_ABI_CALLER_FRAME);
    CHECK((f->flags & DIRECTION_FLAG) == 0, NJ_ABI_DIRECTION_FLAG);
    CHECK(((f->mxcsr_after ^ f->mxcsr) & MXCSR_CONTROL) == 0, NJ_ABI_MXCSR);
    CHECK(f->fpu[0] == f->host_x87, NJ_ABI_X87_CONTROL);
    CHECK(f->fpu[4] == 0xffff, NJ_ABI_X87_STACK);
    bool zero = (f->vectors < VECTORS_AVX || all_are(f->upper128[0], 32, 0)) &&
                (f->vectors < VECTORS_AVX512 || all_are(f->upper256[0], 64, 0));
    bool dirty = (f->xinuse_after & ~f->xinuse_before & XINUSE_UPPER) != 0;
    CHECK(zero, NJ_ABI_VECTOR_UPPER);
    CHECK(!(zero && dirty), NJ_ABI_VECTOR_DIRTY);
#undef CHECK
    return found;
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
        .vectors = __builtin_cpu_supports("avx512f") ? VECTORS_AVX512
                   : __builtin_cpu_supports("avx")   ? VECTORS_AVX
                                                     : VECTORS_SSE,
        .has_xinuse = cpu_has_xinuse(),
        .canary = CANARY,
        .mxcsr = how.float_control ? how.float_control : __builtin_ia32_stmxcsr(),
    };
    for (int i = 0; i < SAVED; i++) f->pattern[i] = patterns[i];
    nj_abi_trampoline();
    *report = (nj_abi_report){.result = f->result, .violations = violations(f)};
    nj_lock_release(&one_at_a_time);
    return true;
}

#endif
