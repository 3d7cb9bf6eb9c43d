/* Runs emitted kernels on another machine than the one that emitted them: under qemu-user.
 *
 * Jobs come on stdin, one after the other until it ends, answers go to stdout; both are arrays of
 * little-endian 64-bit words and bytes. A job is six words and what they announce:
 *
 *     kind      0: kernel(buffers, n), checked against the calling convention where csrc has a trampoline
 *               1: micro(a, b, c, n, row stride, buffers of the epilogue)
 *     n         the extent, or the depth of a micro-kernel
 *     stride    between rows of C in bytes, of a micro-kernel
 *     code      how many bytes of machine code follow
 *     buffers   how many operands follow: each three words, its size, its placement and where in it the
 *               kernel's pointer points, then its bytes
 *     0
 *
 * Each operand lies between two pages that must not be touched, flush against the one behind it
 * (placement 0) or before it (1). The answer: the result, violations of the calling convention as bits, and
 * the bytes of all operands. Nothing here knows the architecture; the compiler and csrc do. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abi_check.h"

typedef int64_t (*micro_kernel)(void *, void *, void *, int64_t, int64_t, void *const *);

enum { MOST_BUFFERS = 32 };

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* Reads exactly so many bytes; 0 at the end of the jobs. */
static int take(void *into, size_t size)
{
    size_t got = fread(into, 1, size, stdin);
    if (got == 0 && size > 0 && feof(stdin)) return 0;
    if (got != size) fail("a job ends early");
    return 1;
}

static void give(const void *from, size_t size)
{
    if (fwrite(from, 1, size, stdout) != size) fail("stdout");
}

static size_t whole_pages(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (size + page - 1) / page * page;
}

typedef struct {
    uint8_t *mapping, *data;
    size_t mapped, size, start;
} operand;

static operand read_operand(void)
{
    uint64_t head[3];
    if (!take(head, sizeof head)) fail("operand");
    size_t page = whole_pages(1), inside = whole_pages(head[0] ? head[0] : 1);
    operand o = {.size = head[0], .start = head[2], .mapped = inside + 2 * page};
    o.mapping = mmap(NULL, o.mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (o.mapping == MAP_FAILED) fail("mmap");
    if (mprotect(o.mapping + page, inside, PROT_READ | PROT_WRITE)) fail("mprotect");
    o.data = o.mapping + page + (head[1] == 0 ? inside - o.size : 0);
    if (o.size && !take(o.data, o.size)) fail("operand");
    return o;
}

static void *read_code(size_t size)
{
    void *code = mmap(NULL, whole_pages(size), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED) fail("mmap");
    if (!take(code, size)) fail("code");
    if (mprotect(code, whole_pages(size), PROT_READ | PROT_EXEC)) fail("mprotect");
    __builtin___clear_cache((char *)code, (char *)code + size);
    return code;
}

int main(void)
{
    uint64_t job[6];
    while (take(job, sizeof job)) {
        operand operands[MOST_BUFFERS];
        void *buffers[MOST_BUFFERS];
        nj_abi_report report = {0};
        int64_t answer[2] = {0};
        void *code = read_code(job[3]);
        if (job[4] > MOST_BUFFERS) fail("too many operands");
        for (uint64_t i = 0; i < job[4]; i++) {
            operands[i] = read_operand();
            buffers[i] = operands[i].data + operands[i].start;
        }
        if (job[0] == 0) {
            nj_kernel kernel;
            memcpy(&kernel, &code, sizeof kernel);
            nj_abi_call how = {0};
            if (!nj_call_checked(kernel, buffers, (int64_t)job[1], how, &report))
                report.result = kernel(buffers, (int64_t)job[1]);
        } else {
            micro_kernel kernel;
            memcpy(&kernel, &code, sizeof kernel);
            report.result = kernel(buffers[0], buffers[1], buffers[2], (int64_t)job[1], (int64_t)job[2], buffers + 3);
        }
        answer[0] = report.result;
        answer[1] = report.violations;
        give(answer, sizeof answer);
        for (uint64_t i = 0; i < job[4]; i++) {
            give(operands[i].data, operands[i].size);
            munmap(operands[i].mapping, operands[i].mapped);
        }
        munmap(code, whole_pages(job[3]));
    }
    return 0;
}
