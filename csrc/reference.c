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

/* The same chains, WIDE adjacent columns at a time, which a compiler turns into vectors by itself. */
enum { WIDE = 16 };
#define DEFINE_WIDE_GEMM(NAME, T, FMA)                                                                       \
    static void NAME(PARAMETERS(T))                                                                          \
    {                                                                                                        \
        for (int64_t i = 0; i < m; i++) {                                                                    \
            for (int64_t j = 0; j < n; j += WIDE) {                                                          \
                T *elements = c + i * c_row + j * c_column, sums[WIDE] = {0};                                \
                int64_t width = n - j < WIDE ? n - j : WIDE;                                                 \
                for (int64_t l = 0; accumulate && l < width; l++) sums[l] = elements[l * c_column];          \
                for (int64_t p = 0; p < k; p++) {                                                            \
                    const T x = a[i * a_row + p * a_column], *row = b + p * b_row + j * b_column;            \
                    if (width == WIDE && b_column == 1) {                                                    \
                        for (int l = 0; l < WIDE; l++) sums[l] = FMA(x, row[l], sums[l]);                    \
                    } else {                                                                                 \
                        for (int64_t l = 0; l < width; l++) sums[l] = FMA(x, row[l * b_column], sums[l]);    \
                    }                                                                                        \
                }                                                                                            \
                for (int64_t l = 0; l < width; l++) elements[l * c_column] = sums[l];                        \
            }                                                                                                \
        }                                                                                                    \
    }

DEFINE_GEMM(gemm_f32, float, fmaf)
DEFINE_GEMM(gemm_f64, double, fma)
DEFINE_WIDE_GEMM(wide_f32, float, fmaf)
DEFINE_WIDE_GEMM(wide_f64, double, fma)

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))

__attribute__((target("fma"))) DEFINE_GEMM(gemm_f32_fma, float, fmaf) __attribute__((target("fma")))
DEFINE_GEMM(gemm_f64_fma, double, fma) __attribute__((target("fma")))
DEFINE_WIDE_GEMM(wide_f32_fma, float, fmaf) __attribute__((target("fma")))
DEFINE_WIDE_GEMM(wide_f64_fma, double, fma)

    bool nj_reference_has_fma_instruction(void)
{
    return __builtin_cpu_supports("fma"); /* CPUID and XCR0: the system saves ymm registers */
}

#else

#define gemm_f32_fma gemm_f32
#define gemm_f64_fma gemm_f64
#define wide_f32_fma wide_f32
#define wide_f64_fma wide_f64

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

void nj_reference_wide_gemm_f32(PARAMETERS(float))
{
    (nj_reference_has_fma_instruction() ? wide_f32_fma : wide_f32)(ARGUMENTS);
}

void nj_reference_wide_gemm_f64(PARAMETERS(double))
{
    (nj_reference_has_fma_instruction() ? wide_f64_fma : wide_f64)(ARGUMENTS);
}
