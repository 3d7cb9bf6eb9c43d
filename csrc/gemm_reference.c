#include "gemm_reference.h"

#include "reference.h"

#define DEFINE_IN_HALVES(NAME, T, GEMM)                                                                      \
    static void NAME(const nj_reference_plan *p, const T *a, const T *b, T *c)                               \
    {                                                                                                        \
        const int64_t lanes = p->lanes;                                                                      \
        for (int64_t i = 0; i < p->m; i++) {                                                                 \
            for (int64_t j = 0; j < p->n; j++) {                                                             \
                T partial[NJ_REFERENCE_MOST_LANES] = {0};                                                    \
                for (int64_t l = 0; l < lanes && l < p->k; l++)                                              \
                    GEMM(1, 1, (p->k - l + lanes - 1) / lanes, a + i * p->a_row + l * p->a_column, 0,        \
                         lanes * p->a_column, b + j * p->b_column + l * p->b_row, lanes * p->b_row, 0,       \
                         partial + l, 0, 0, false);                                                          \
                for (int64_t half = lanes / 2; half > 0; half /= 2)                                          \
                    for (int64_t l = 0; l < half; l++) partial[l] += partial[l + half];                      \
                c[i * p->c_row + j] = partial[0];                                                            \
            }                                                                                                \
        }                                                                                                    \
    }

DEFINE_IN_HALVES(in_halves_f32, float, nj_reference_gemm_f32)
DEFINE_IN_HALVES(in_halves_f64, double, nj_reference_gemm_f64)

int64_t nj_gemm_reference_run(void *const *buffers, int64_t n)
{
    const nj_reference_plan *p = buffers[0];
    (void)n;
    if (p->element_size == 4 && p->lanes)
        in_halves_f32(p, buffers[1], buffers[2], buffers[3]);
    else if (p->element_size == 4)
        nj_reference_gemm_f32(p->m, p->n, p->k, buffers[1], p->a_row, p->a_column, buffers[2], p->b_row,
                              p->b_column, buffers[3], p->c_row, 1, false);
    else if (p->lanes)
        in_halves_f64(p, buffers[1], buffers[2], buffers[3]);
    else
        nj_reference_gemm_f64(p->m, p->n, p->k, buffers[1], p->a_row, p->a_column, buffers[2], p->b_row,
                              p->b_column, buffers[3], p->c_row, 1, false);
    return 0;
}
