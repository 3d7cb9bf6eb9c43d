#include "reference.h"

#include <math.h>

#define PARAMETERS(T)                                                                                        \
    int64_t m, int64_t n, int64_t k, const T *a, int64_t a_row, int64_t a_column, const T *b, int64_t b_row, \
        int64_t b_column, T *c, int64_t c_row, int64_t c_column, bool accumulate
#define ARGUMENTS m, n, k, a, a_row, a_column, b, b_row, b_column, c, c_row, c_column, accumulate

/* One definition, compiled for each element type and instruction set. */
#define DEFINE_GEMM(NAME, T, FMA)                                                                            \
    static void NAME(PARAMETERS(T))                                                                          \
    {                                                                                                        \
        for (int64_t i = 0; i < m; i++) {                                                                    \
            for (int64_t j = 0; j < n; j++) {                                                                \
                T *element = c + i * c_row + j * c_column;                                                   \
                T sum = accumulate ? *element : 0;                                                           \
                for (int64_t p = 0; p < k; p++)                                                              \
                    sum = FMA(a[i * a_row + p * a_column], b[p * b_row + j * b_column], sum);                \
                *element = sum;                                                                              \
            }                                                                                                \
        }                                                                                                    \
    }

DEFINE_GEMM(gemm_f32, float, fmaf)
DEFINE_GEMM(gemm_f64, double, fma)

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))

__attribute__((target("fma"))) DEFINE_GEMM(gemm_f32_fma, float, fmaf) __attribute__((target("fma")))
DEFINE_GEMM(gemm_f64_fma, double, fma)

    bool nj_reference_has_fma_instruction(void)
{
    return __builtin_cpu_supports("fma"); /* CPUID and XCR0: the system saves ymm registers */
}

#else

#define gemm_f32_fma gemm_f32
#define gemm_f64_fma gemm_f64

bool nj_reference_has_fma_instruction(void)
{
#if defined(__FP_FAST_FMA)
    return true; /* AArch64, RISC-V with D: in the baseline */
#else
    return false;
#endif
}

#endif

void nj_reference_gemm_f32(PARAMETERS(float))
{
    (nj_reference_has_fma_instruction() ? gemm_f32_fma : gemm_f32)(ARGUMENTS);
}

void nj_reference_gemm_f64(PARAMETERS(double))
{
    (nj_reference_has_fma_instruction() ? gemm_f64_fma : gemm_f64)(ARGUMENTS);
}
