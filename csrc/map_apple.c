/* macOS on Apple silicon: MAP_JIT. Compiled against Apple's headers; NOT YET RUN on such a machine.
 *
 * There is no sealed file to map, and a page that was written cannot be made executable. Instead the system
 * has pages of which each thread sees one side only: writable or executable, switched for all of them at
 * once by pthread_jit_write_protect_np. So no thread can ever do both, which is what "never writable and
 * executable" is for; other threads go on executing while this one writes. (Apple, "Porting just-in-time
 * compilers to Apple silicon".) A hardened process needs the entitlement com.apple.security.cs.allow-jit;
 * without it mmap refuses, and NumPy answers. */
#include "map_strategies.h"

#if defined(__APPLE__) && defined(__aarch64__)

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

nj_outcome nj_map_jit(nj_mapping *mapping, const void *code, size_t length)
{
    int error = nj_injection(NJ_STEP_JIT_MAP);
    if (!error && !pthread_jit_write_protect_supported_np()) error = ENOTSUP;
    unsigned char *address = error ? MAP_FAILED
                                   : mmap(NULL, mapping->size, PROT_READ | PROT_WRITE | PROT_EXEC,
                                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_JIT, -1, 0);
    if (address == MAP_FAILED) return nj_failed(NJ_STEP_JIT_MAP, error ? error : errno);
    pthread_jit_write_protect_np(0); /* no code of ours runs on this thread until the next switch */
    memcpy(address, code, length);
    memset(address + length, NJ_TRAP_BYTE, mapping->size - length);
    pthread_jit_write_protect_np(1);
    mapping->address = address;
    return (nj_outcome){0};
}

int nj_give_back(void *address, size_t size, int reusable)
{
    if (reusable) return munmap(address, size) == 0 ? 0 : errno;
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    return mmap(address, size, PROT_NONE, flags, -1, 0) == MAP_FAILED ? errno : 0;
}

#endif
