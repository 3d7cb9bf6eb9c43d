/* Runs one kernel of whatever ISA this is compiled for, on operands between forbidden pages.
 *
 * Read from standard input, all little-endian: `struct request`, then a `struct operand` for each operand,
 * then the code, then the operands' bytes. Written to standard output: `struct answer`, then the operands'
 * bytes; to standard error, what a kernel that is checked broke. An operand's last byte is the last before a
 * page that cannot be touched; what lies before its first byte in the page must stay as it was. Whoever
 * emulates the ISA needs no other program, and no Python, on it. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abi_check.h"

enum { KERNEL, CHECKED_KERNEL, MICRO_KERNEL };
enum { MOST_OPERANDS = 16, FILL = 0xA5 };

struct request {
    uint64_t call; /* one of the above */
    uint64_t code_bytes, operands;
    int64_t n;          /* the extent of a kernel, the depth of a micro-kernel */
    int64_t row_stride; /* of a micro-kernel's C, in bytes */
};

struct operand {
    uint64_t bytes, offset; /* where in them the kernel is pointed at */
};

struct answer {
    int64_t result;
    uint64_t violations; /* of a checked kernel: bits of nj_abi_violation */
    uint64_t checked;    /* 0 where no check is written for this ISA */
    uint64_t strayed;    /* operands before whose first byte something was written: a bit each */
};

typedef int64_t (*micro_kernel)(const void *, const void *, void *, int64_t, int64_t, void *const *);

static void fail(const char *what)
{
    fprintf(stderr, "kernel_runner: %s\n", what);
    exit(3);
}

static void take(void *to, size_t bytes)
{
    if (bytes && fread(to, 1, bytes, stdin) != bytes) fail("the request ends early");
}

static void give(const void *from, size_t bytes)
{
    if (bytes && fwrite(from, 1, bytes, stdout) != bytes) fail("the answer cannot be written");
}

static size_t page(void) { return (size_t)sysconf(_SC_PAGESIZE); }

static size_t whole_pages(size_t bytes) { return (bytes / page() + 1) * page(); }

/* Room for `bytes`, flush against a page that cannot be touched; *start is the mapping. */
static uint8_t *fenced(size_t bytes, uint8_t **start)
{
    const size_t room = whole_pages(bytes);
    uint8_t *map = mmap(NULL, room + page(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || mprotect(map + room, page(), PROT_NONE)) fail("no memory for an operand");
    memset(map, FILL, room);
    *start = map;
    return map + room - bytes;
}

int main(void)
{
    struct request request;
    take(&request, sizeof request);
    if (request.operands > MOST_OPERANDS) fail("too many operands");
    struct operand operands[MOST_OPERANDS];
    take(operands, request.operands * sizeof operands[0]);

    uint8_t *code = mmap(NULL, whole_pages(request.code_bytes), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED) fail("no memory for the code");
    take(code, request.code_bytes);
    if (mprotect(code, whole_pages(request.code_bytes), PROT_READ | PROT_EXEC)) fail("code cannot be sealed");
    __builtin___clear_cache((char *)code, (char *)code + request.code_bytes);

    uint8_t *starts[MOST_OPERANDS], *bytes[MOST_OPERANDS];
    void *buffers[MOST_OPERANDS + 1] = {NULL}; /* the first is the context */
    for (uint64_t i = 0; i < request.operands; i++) {
        bytes[i] = fenced(operands[i].bytes, &starts[i]);
        take(bytes[i], operands[i].bytes);
        buffers[i + 1] = bytes[i] + operands[i].offset;
    }

    struct answer answer = {0};
    nj_abi_report report = {0};
    const nj_kernel kernel = (nj_kernel)(uintptr_t)code;
    if (request.call == MICRO_KERNEL)
        answer.result = ((micro_kernel)(uintptr_t)code)(buffers[1], buffers[2], buffers[3], request.n,
                                                        request.row_stride, buffers + 4);
    else if (request.call == CHECKED_KERNEL &&
             nj_call_checked(kernel, buffers, request.n, (nj_abi_call){0}, &report)) {
        answer.result = report.result;
        answer.violations = report.violations;
        for (int v = 0; v < NJ_ABI_VIOLATION_COUNT; v++)
            if (report.violations >> v & 1) fprintf(stderr, "%s\n", nj_abi_violation_name(v));
        answer.checked = 1;
    } else
        answer.result = kernel(buffers, request.n);

    for (uint64_t i = 0; i < request.operands; i++)
        for (const uint8_t *at = starts[i]; at < bytes[i]; at++)
            if (*at != FILL) answer.strayed |= UINT64_C(1) << i;
    give(&answer, sizeof answer);
    for (uint64_t i = 0; i < request.operands; i++) give(bytes[i], operands[i].bytes);
    return fflush(stdout) ? 3 : 0;
}
