/* Linux: the sealed memfd, then mprotect. */
#include "map_strategies.h"

#if defined(__linux__)

#include <errno.h>
#include <fcntl.h>
#include <string.h>
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

/* Writes the code and so many traps behind it: in one call where a page has 4 KiB. */
static int write_padded(int fd, const unsigned char *code, size_t length, size_t padding)
{
    unsigned char traps[4096];
    memset(traps, NJ_TRAP_BYTE, sizeof traps);
    while (length + padding > 0) {
        struct iovec parts[] = {
            {.iov_base = (void *)(uintptr_t)code, .iov_len = length},
            {.iov_base = traps, .iov_len = padding < sizeof traps ? padding : sizeof traps},
        };
        int error = nj_injection(NJ_STEP_MEMFD_WRITE);
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
    int error = nj_injection(NJ_STEP_MEMFD_CREATE);
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

static nj_outcome map_file(int fd, nj_mapping *mapping, const void *code, size_t length)
{
    int error = write_padded(fd, code, length, mapping->size - length);
    if (error) return nj_failed(NJ_STEP_MEMFD_WRITE, error);

    error = nj_injection(NJ_STEP_MEMFD_SEAL);
    if (!error && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        error = errno;
    if (error) return nj_failed(NJ_STEP_MEMFD_SEAL, error);

    error = nj_injection(NJ_STEP_MEMFD_MAP);
    void *address = error ? MAP_FAILED : mmap(NULL, mapping->size, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    if (address == MAP_FAILED) return nj_failed(NJ_STEP_MEMFD_MAP, error ? error : errno);
    mapping->address = address;
    return (nj_outcome){0};
}

nj_outcome nj_map_memfd(nj_mapping *mapping, const void *code, size_t length)
{
    int fd = -1;
    int error = create_memfd(&fd);
    if (error) return nj_failed(NJ_STEP_MEMFD_CREATE, error);
    nj_outcome result = map_file(fd, mapping, code, length);
    close(fd); /* the mapping keeps the file */
    return result;
}

nj_outcome nj_map_mprotect(nj_mapping *mapping, const void *code, size_t length)
{
    int error = nj_injection(NJ_STEP_ANONYMOUS_MAP);
    unsigned char *address =
        error ? MAP_FAILED
              : mmap(NULL, mapping->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED) return nj_failed(NJ_STEP_ANONYMOUS_MAP, error ? error : errno);
    memcpy(address, code, length);
    memset(address + length, NJ_TRAP_BYTE, mapping->size - length);

    error = nj_injection(NJ_STEP_ANONYMOUS_PROTECT);
    if (!error && mprotect(address, mapping->size, PROT_READ | PROT_EXEC) != 0) error = errno;
    if (error) {
        munmap(address, mapping->size);
        return nj_failed(NJ_STEP_ANONYMOUS_PROTECT, error);
    }
    mapping->address = address;
    return (nj_outcome){0};
}

int nj_give_back(void *address, size_t size, int reusable)
{
    /* The range is exactly what one mmap returned: there is nothing to split, and nothing to fail. */
    if (reusable) return munmap(address, size) == 0 ? 0 : errno;
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
    return mmap(address, size, PROT_NONE, flags, -1, 0) == MAP_FAILED ? errno : 0;
}

#endif
