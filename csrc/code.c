#include "code.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CONTEXT_ALIGNMENT 64

/* One block: the struct, then the context, aligned within it. */
static void destroy_mapped(nj_code *code)
{
    nj_unmap(&code->mapping);
    free(code);
}

int nj_code_map(nj_code **code, const void *bytes, size_t length, const void *context, size_t context_length,
                uint32_t flags)
{
    size_t room = sizeof(nj_code) + (context_length ? CONTEXT_ALIGNMENT - 1 : 0);
    if (context_length > PTRDIFF_MAX - room) return ENOMEM;
    nj_code *made = calloc(1, room + context_length);
    if (made == NULL) return ENOMEM;

    int error = nj_map(&made->mapping, bytes, length);
    if (error) {
        free(made);
        return error;
    }
    if (context_length) {
        uintptr_t after = (uintptr_t)(made + 1);
        made->context = (void *)((after + CONTEXT_ALIGNMENT - 1) & ~(uintptr_t)(CONTEXT_ALIGNMENT - 1));
        memcpy(made->context, context, context_length);
    }
    /* ISO C has no cast from an object to a function; POSIX promises that the two look alike. */
    memcpy(&made->entry, &made->mapping.address, sizeof made->entry);
    made->flags = flags;
    made->bytes = made->mapping.size + context_length;
    made->destroy = destroy_mapped;
    *code = made;
    return 0;
}
