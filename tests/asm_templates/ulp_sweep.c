/* Holds vector functions against the C library, in units in the last place of the exact result.
 *
 * f32 against libm in double, f64 against libm in long double (64 bits of mantissa): both references err by
 * less than 1/500 of a unit. A result that is NaN, infinite or zero of a sign where the reference is not
 * (or the other way round) counts as an infinite error; but an infinite result close to overflow counts as
 * 2^128 (f64: 2^1024). Plain C11: gcc -O2 -shared -fPIC ulp_sweep.c -lm. */
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef int64_t (*kernel)(void *const *buffers, int64_t n);
typedef struct {
    double worst;  /* in units in the last place */
    double at;     /* the argument */
    int64_t count; /* of arguments */
} sweep_result;

enum { EXP, LOG, TANH, SIGMOID, ERF, ELU, SILU, GELU, GELU_TANH };
enum { BLOCK = 4096 };

/* Defined once for each precision. u / 2 of GELU_TANH is sqrt(2 / pi) (x + 0.044715 x^3). */
#define DEFINE_REFERENCE(NAME, T, F)                                                                     \
    static T NAME(int function, T x, T alpha)                                                            \
    {                                                                                                    \
        switch (function) {                                                                              \
        case EXP: return exp##F(x);                                                                      \
        case LOG: return log##F(x);                                                                      \
        case TANH: return tanh##F(x);                                                                    \
        case SIGMOID: return x < 0 ? exp##F(x) / (1 + exp##F(x)) : 1 / (1 + exp##F(-x));                 \
        case ERF: return erf##F(x);                                                                      \
        case ELU: return x > 0 ? x : alpha * expm1##F(x);                                                \
        case SILU: return x == -(T)INFINITY ? -(T)0 : x / (1 + exp##F(-x));                              \
        case GELU: return x == -(T)INFINITY ? (T)0 : x * erfc##F(-x * (T)0.70710678118654752440L) / 2;   \
        default: {                                                                                       \
            T u = (T)1.59576912160573071176L * (x + (T)0.044715L * x * x * x);                           \
            return x == -(T)INFINITY ? -(T)0 : x / (1 + exp##F(-u));                                     \
        }                                                                                                \
        }                                                                                                \
    }

DEFINE_REFERENCE(reference_double, double, )
DEFINE_REFERENCE(reference_long, long double, l)

/* The unit that errors count in: the last place of the result, at least that of the least normal number.
 * GELU's are absolute below 0, in units of the last place of x / 2; SILU's, where its sigmoid is denormal,
 * in units of x times the least denormal. */
static long double unit(int function, long double reference, long double x, int digits, int least)
{
    long double magnitude = fabsl(reference);
    if ((function == GELU || function == GELU_TANH) && fabsl(x) / 2 > magnitude)
        magnitude = fabsl(x) / 2;
    int exponent;
    frexpl(magnitude, &exponent); /* magnitude in [1/2, 1) 2^exponent */
    if (magnitude == 0 || exponent < least)
        exponent = least;
    long double last_place = ldexpl(1, exponent - digits);
    long double lost = function == SILU ? fabsl(x) * ldexpl(1, least - digits) : 0;
    return last_place > lost || !isfinite(x) ? last_place : lost;
}

static double error(int function, long double y, long double reference, long double x, int digits, int least,
                    int greatest)
{
    long double beyond = ldexpl(1, greatest);
    if (isnan(reference) || isnan(y))
        return isnan(reference) && isnan(y) ? 0 : INFINITY;
    if (reference == 0 && y == 0)
        return function != GELU && !signbit(reference) != !signbit(y) ? INFINITY : 0;
    reference = fminl(fmaxl(reference, -beyond), beyond);
    y = fminl(fmaxl(y, -beyond), beyond);
    return (double)(fabsl(y - reference) / unit(function, reference, x, digits, least));
}

/* The same for f32 in double, whose exponent field serves for frexp: this one runs 2^32 times. */
static double error_f32(int function, float y, double reference, double x)
{
    const double beyond = 0x1p128;
    if (isnan(reference) || isnan(y))
        return isnan(reference) && isnan(y) ? 0 : INFINITY;
    if (reference == 0 && y == 0)
        return function != GELU && !signbit(reference) != !signbit(y) ? INFINITY : 0;
    double magnitude = fabs(reference), got = y, half = fabs(x) / 2;
    if ((function == GELU || function == GELU_TANH) && half > magnitude)
        magnitude = half;
    magnitude = magnitude < 0x1p-126 ? 0x1p-126 : magnitude > 0x1p127 ? 0x1p127 : magnitude;
    reference = reference > beyond ? beyond : reference < -beyond ? -beyond : reference;
    got = got > beyond ? beyond : got < -beyond ? -beyond : got;
    uint64_t bits;
    memcpy(&bits, &magnitude, sizeof bits);
    bits &= UINT64_C(0x7ff) << 52; /* the power of two below */
    memcpy(&magnitude, &bits, sizeof magnitude);
    double unit_f32 = magnitude * 0x1p-23, lost = function == SILU ? fabs(x) * 0x1p-149 : 0;
    return fabs(got - reference) / (unit_f32 > lost || !isfinite(x) ? unit_f32 : lost);
}

static void record(sweep_result *result, double e, double x)
{
    result->count++;
    if (!(e <= result->worst)) {
        result->worst = e;
        result->at = x;
    }
}

/* All f32 inputs whose bits lie in [first, last]. */
void sweep_f32(kernel f, int function, double alpha, uint32_t first, uint32_t last, sweep_result *result)
{
    static float x[BLOCK], y[BLOCK];
    void *buffers[3] = {0, x, y};
    for (uint64_t block = first; block <= last; block += BLOCK) {
        int64_t n = last - block + 1 < BLOCK ? (int64_t)(last - block + 1) : BLOCK;
        for (int64_t i = 0; i < n; i++) {
            uint32_t bits = (uint32_t)(block + (uint64_t)i);
            memcpy(&x[i], &bits, sizeof bits);
        }
        f(buffers, n);
        for (int64_t i = 0; i < n; i++) {
            double reference = reference_double(function, x[i], alpha);
            record(result, error_f32(function, y[i], reference, x[i]), x[i]);
        }
    }
}

void measure_f32(int function, double alpha, const float *x, const float *y, int64_t n, sweep_result *result)
{
    for (int64_t i = 0; i < n; i++) {
        double reference = reference_double(function, x[i], alpha);
        record(result, error_f32(function, y[i], reference, x[i]), x[i]);
    }
}

void measure_f64(int function, double alpha, const double *x, const double *y, int64_t n, sweep_result *result)
{
    for (int64_t i = 0; i < n; i++) {
        long double reference = reference_long(function, x[i], alpha);
        record(result, error(function, y[i], reference, x[i], 53, -1021, 1024), x[i]);
    }
}

/* How many of all f32 inputs two kernels answer with other bits, NaN aside. */
int64_t differences_f32(kernel f, kernel g)
{
    static float x[BLOCK], y[BLOCK], z[BLOCK];
    void *to_y[3] = {0, x, y}, *to_z[3] = {0, x, z};
    int64_t different = 0;
    for (uint64_t block = 0; block <= UINT32_MAX; block += BLOCK) {
        for (uint32_t i = 0; i < BLOCK; i++) {
            uint32_t bits = (uint32_t)block + i;
            memcpy(&x[i], &bits, sizeof bits);
        }
        f(to_y, BLOCK);
        g(to_z, BLOCK);
        for (int i = 0; i < BLOCK; i++)
            different += memcmp(&y[i], &z[i], sizeof y[i]) != 0 && !(isnan(y[i]) && isnan(z[i]));
    }
    return different;
}
