#include "executable_memory.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

static const char *const strategy_names[NJ_STRATEGY_COUNT] = {"untried", "memfd", "mprotect", "none"};
static const char *const step_names[NJ_STEP_COUNT] = {
    "platform",         "memfd_create",         "write",         "fcntl(F_ADD_SEALS)",
    "mmap(memfd, R|X)", "mmap(anonymous, R|W)", "mprotect(R|X)",
};

const char *nj_strategy_name(nj_strategy strategy) { return strategy_names[strategy]; }
const char *nj_step_name(nj_map_step step) { return step_names[step]; }

static _Atomic int current_strategy = NJ_STRATEGY_UNTRIED;
static _Atomic uint64_t live_bytes, live_mappings, total_mappings;

/* A failure is one word, so that reading it needs no lock: closed bit, step, errno. */
static _Atomic uint32_t failures[NJ_STRATEGY_COUNT];
#define FAILURE_CLOSED (1u << 31)

static struct {
    _Atomic int error, times;
} injected[NJ_STEP_COUNT];

nj_strategy nj_current_strategy(void) { return (nj_strategy)atomic_load(&current_strategy); }

nj_map_failure nj_strategy_failure(nj_strategy strategy)
{
    uint32_t word = atomic_load(&failures[strategy]);
    return (nj_map_failure){
        .error = (int)(word & 0xffff),
        .step = (nj_map_step)(word >> 16 & 0xff),
        .closed = (word & FAILURE_CLOSED) != 0,
    };
}

nj_memory_usage nj_executable_memory_usage(void)
{
    return (nj_memory_usage){
        .live_bytes = atomic_load(&live_bytes),
        .live_mappings = atomic_load(&live_mappings),
        .total_mappings = atomic_load(&total_mappings),
    };
}

void nj_executable_memory_inject(nj_map_step step, int error, int times)
{
    atomic_store(&injected[step].error, error);
    atomic_store(&injected[step].times, times);
}

void nj_executable_memory_reset(void)
{
    for (int step = 0; step < NJ_STEP_COUNT; step++) nj_executable_memory_inject((nj_map_step)step, 0, 0);
    for (int strategy = 0; strategy < NJ_STRATEGY_COUNT; strategy++) atomic_store(&failures[strategy], 0);
}

/* What went wrong where; error 0 is success. */
typedef struct outcome {
    nj_map_step step;
    int error;
} outcome;

#if defined(__linux__)

#include <fcntl.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Kernel interface values that older C libraries do not have. */
#ifndef MFD_CLOEXEC
#define MFD_CLOEXEC 0x1u
#define MFD_ALLOW_SEALING 0x2u
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x8u
#endif
#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#define F_SEAL_SEAL 0x1
#define F_SEAL_SHRINK 0x2
#define F_SEAL_GROW 0x4
#define F_SEAL_WRITE 0x8
#endif

/* The errno injected for this visit of `step`, or 0. */
static int injection(nj_map_step step)
{
    int times = atomic_load_explicit(&injected[step].times, memory_order_relaxed);
    while (times > 0) {
        if (atomic_compare_exchange_weak(&injected[step].times, &times, times - 1))
            return atomic_load(&injected[step].error);
    }
    return 0;
}

static outcome failed(nj_map_step step, int error) { return (outcome){step, error}; }

/* The tail of the last page. Zeroes are an undefined instruction on AArch64 and RISC-V, but an `add`
 * to memory on x86-64, where int3 is wanted: whoever runs off the end stops there. */
#if defined(__x86_64__)
#define TRAP_BYTE 0xcc
#else
#define TRAP_BYTE 0
#endif

/* Writes the code and so many traps behind it: in one call where a page has 4 KiB. */
static int write_padded(int fd, const unsigned char *code, size_t length, size_t padding)
{
    unsigned char traps[4096];
    memset(traps, TRAP_BYTE, sizeof traps);
    while (length + padding > 0) {
        struct iovec parts[] = {
            {.iov_base = (void *)(uintptr_t)code, .iov_len = length},
            {.iov_base = traps, .iov_len = padding < sizeof traps ? padding : sizeof traps},
        };
        int error = injection(NJ_STEP_MEMFD_WRITE);
        ssize_t written = error ? -1 : writev(fd, parts, 2);
        if (written < 0) {
            if (!error) error = errno;
            if (error == EINTR) continue; /* a signal storm must not cost us the strategy */
            return error;
        }
        if (written == 0) return ENOSPC;
        size_t of_code = (size_t)written < length ? (size_t)written : length;
        code += of_code;
        length -= of_code;
        padding -= (size_t)written - of_code;
    }
    return 0;
}

static int create_memfd(int *fd)
{
    int error = injection(NJ_STEP_MEMFD_CREATE);
    if (error) return error;
    /* The file itself is never run, only mapped, so it takes the flag that vm.memfd_noexec=2 demands.
     * Kernels before 6.3 do not know it. */
    const unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    long got = syscall(SYS_memfd_create, "neurojit", flags | MFD_NOEXEC_SEAL);
    if (got < 0 && errno == EINVAL) got = syscall(SYS_memfd_create, "neurojit", flags);
    if (got < 0) return errno;
    *fd = (int)got;
    return 0;
}

static outcome map_file(int fd, nj_mapping *mapping, const void *code, size_t length)
{
    int error = write_padded(fd, code, length, mapping->size - length);
    if (error) return failed(NJ_STEP_MEMFD_WRITE, error);

    error = injection(NJ_STEP_MEMFD_SEAL);
    if (!error && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        error = errno;
    if (error) return failed(NJ_STEP_MEMFD_SEAL, error);

    error = injection(NJ_STEP_MEMFD_MAP);
    void *address = error ? MAP_FAILED : mmap(NULL, mapping->size, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    if (address == MAP_FAILED) return failed(NJ_STEP_MEMFD_MAP, error ? error : errno);
    mapping->address = address;
    return (outcome){0};
}

static outcome map_memfd(nj_mapping *mapping, const void *code, size_t length)
{
    int fd = -1;
    int error = create_memfd(&fd);
    if (error) return failed(NJ_STEP_MEMFD_CREATE, error);
    outcome result = map_file(fd, mapping, code, length);
    close(fd); /* the mapping keeps the file */
    return result;
}

static outcome map_mprotect(nj_mapping *mapping, const void *code, size_t length)
{
    int error = injection(NJ_STEP_ANONYMOUS_MAP);
    unsigned char *address =
        error ? MAP_FAILED
              : mmap(NULL, mapping->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED) return failed(NJ_STEP_ANONYMOUS_MAP, error ? error : errno);
    memcpy(address, code, length);
    memset(address + length, TRAP_BYTE, mapping->size - length);

    error = injection(NJ_STEP_ANONYMOUS_PROTECT);
    if (!error && mprotect(address, mapping->size, PROT_READ | PROT_EXEC) != 0) error = errno;
    if (error) {
        munmap(address, mapping->size);
        return failed(NJ_STEP_ANONYMOUS_PROTECT, error);
    }
    mapping->address = address;
    return (outcome){0};
}

/* Makes every core fetch the new bytes. The address may have held other code before, which a core
 * could still have in its instruction cache or pipeline. */
static void synchronise_instructions(const nj_mapping *mapping)
{
    char *start = mapping->address;
    __builtin___clear_cache(start, start + mapping->size);
#if defined(__aarch64__) && defined(SYS_membarrier)
    /* Cache maintenance reaches all cores, but each must also throw away what it already fetched: an
     * ISB there, which the kernel issues for us. Before anyone is told the address, so that no thread
     * can come between. A process registers once; a forked child may find itself unregistered. */
    enum { REGISTER_SYNC_CORE = 1 << 6, SYNC_CORE = 1 << 5 };
    if (syscall(SYS_membarrier, SYNC_CORE, 0, 0) != 0 && errno == EPERM) {
        syscall(SYS_membarrier, REGISTER_SYNC_CORE, 0, 0);
        syscall(SYS_membarrier, SYNC_CORE, 0, 0);
    }
#endif
}

typedef outcome map_function(nj_mapping *mapping, const void *code, size_t length);
static map_function *const strategies[NJ_STRATEGY_COUNT] = {
    [NJ_STRATEGY_MEMFD] = map_memfd,
    [NJ_STRATEGY_MPROTECT] = map_mprotect,
};

static bool is_shortage(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOMEM || error == EAGAIN || error == EFBIG ||
           error == ENOSPC || error == EDQUOT;
}

static void record(nj_strategy strategy, outcome result)
{
    uint32_t word = (uint32_t)result.error | (uint32_t)result.step << 16;
    if (!is_shortage(result.error)) word |= FAILURE_CLOSED;
    atomic_store(&failures[strategy], word);
}

int nj_map(nj_mapping *mapping, const void *code, size_t length)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (length == 0) return EINVAL;
    if (length > PTRDIFF_MAX - page) return ENOMEM;

    int error = ENOTSUP;
    nj_mapping made = {.size = (length + page - 1) & ~(page - 1)};
    for (nj_strategy strategy = NJ_STRATEGY_MEMFD; strategy < NJ_STRATEGY_NONE; strategy++) {
        nj_map_failure before = nj_strategy_failure(strategy);
        error = before.error;
        if (before.closed) continue;
        outcome result = strategies[strategy](&made, code, length);
        error = result.error;
        if (error) {
            record(strategy, result);
            continue;
        }
        synchronise_instructions(&made);
        made.strategy = strategy;
        atomic_store(&current_strategy, (int)strategy);
        atomic_fetch_add(&live_bytes, made.size);
        atomic_fetch_add(&live_mappings, 1);
        atomic_fetch_add(&total_mappings, 1);
        *mapping = made;
        return 0;
    }
    atomic_store(&current_strategy, NJ_STRATEGY_NONE);
    return error;
}

void nj_unmap(nj_mapping *mapping)
{
    if (mapping->address == NULL) return;
    /* The range is exactly what one mmap returned, so there is nothing to split and nothing to fail;
     * if the kernel disagrees, the pages are still there and stay counted. */
    if (munmap(mapping->address, mapping->size) == 0) {
        atomic_fetch_sub(&live_bytes, mapping->size);
        atomic_fetch_sub(&live_mappings, 1);
    }
    *mapping = (nj_mapping){0};
}

#else /* not implemented on this platform: macOS wants MAP_JIT, Windows VirtualProtect */

int nj_map(nj_mapping *mapping, const void *code, size_t length)
{
    (void)mapping, (void)code, (void)length;
    uint32_t word = (uint32_t)ENOSYS | (uint32_t)NJ_STEP_PLATFORM << 16 | FAILURE_CLOSED;
    atomic_store(&failures[NJ_STRATEGY_MEMFD], word);
    atomic_store(&failures[NJ_STRATEGY_MPROTECT], word);
    atomic_store(&current_strategy, NJ_STRATEGY_NONE);
    return ENOSYS;
}

void nj_unmap(nj_mapping *mapping) { *mapping = (nj_mapping){0}; }

#endif
