/* Loops that call one kernel again and again, so that nothing but the kernel and the call is timed.
 *
 * `time_kernel` calls an emitted kernel by neurojit's ABI: buffers = {no context, A, B, C}, no extent;
 * `time_program` a whole network, buffers = {its arena, inputs, outputs}. With WITH_LIBXSMM there is the same
 * loop for a kernel of LIBXSMM. Its matrices are column-major: the row-major C = A B is the column-major C' =
 * B' A', so the callers pass n first and B before A.
 */
#define _POSIX_C_SOURCE 199309L /* clock_gettime */
#include <stddef.h>
#include <stdint.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef int64_t (*emitted_kernel)(void *const *buffers, int64_t n);

double time_kernel(emitted_kernel kernel, void *a, void *b, void *c, int64_t calls)
{
    void *const buffers[] = {NULL, a, b, c};
    const double start = now();
    for (int64_t i = 0; i < calls; i++) kernel(buffers, 0);
    return now() - start;
}

double time_program(emitted_kernel program, void *const *buffers, int64_t extent, int64_t calls)
{
    const double start = now();
    for (int64_t i = 0; i < calls; i++) program(buffers, extent);
    return now() - start;
}

#ifdef WITH_LIBXSMM
#include <libxsmm.h>

const char *xsmm_version(void) { return LIBXSMM_VERSION; }

/* The instruction set LIBXSMM emits, as it names them: "hsw" is AVX2, "skx" and later AVX-512. */
const char *xsmm_target(void)
{
    libxsmm_init();
    return libxsmm_get_target_arch();
}

/* C = A B, row-major and contiguous. NULL: LIBXSMM has no kernel for the shape. */
libxsmm_smmfunction xsmm_f32(int m, int n, int k)
{
    const float alpha = 1, beta = 0;
    const int flags = LIBXSMM_GEMM_FLAG_NONE, prefetch = LIBXSMM_PREFETCH_NONE;
    return libxsmm_smmdispatch(n, m, k, &n, &k, &n, &alpha, &beta, &flags, &prefetch);
}

libxsmm_dmmfunction xsmm_f64(int m, int n, int k)
{
    const double alpha = 1, beta = 0;
    const int flags = LIBXSMM_GEMM_FLAG_NONE, prefetch = LIBXSMM_PREFETCH_NONE;
    return libxsmm_dmmdispatch(n, m, k, &n, &k, &n, &alpha, &beta, &flags, &prefetch);
}

double time_xsmm_f32(libxsmm_smmfunction kernel, const float *a, const float *b, float *c, int64_t calls)
{
    const double start = now();
    for (int64_t i = 0; i < calls; i++) kernel(b, a, c);
    return now() - start;
}

double time_xsmm_f64(libxsmm_dmmfunction kernel, const double *a, const double *b, double *c, int64_t calls)
{
    const double start = now();
    for (int64_t i = 0; i < calls; i++) kernel(b, a, c);
    return now() - start;
}
#endif
