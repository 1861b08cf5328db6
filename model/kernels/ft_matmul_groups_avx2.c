#include "model/kernels/ft_matmul.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "model/kernels/ft_simd_avx2.h"

enum {
    SLICES = 2,
    TOKENS = 2,
    FEW = 4,
    LONE = 1,
    PAIR = 1
}; /* 4 whole sums, 4 float ones, 4 of w, 2 of x, 2 for a product: 16 registers */
typedef __m256i whole;
typedef struct some_weights {
    whole low, high; /* four columns each; int8 ones less 128 */
} some_weights;

FT_INLINE whole whole_of(const void *p)
{
    int32_t v;
    memcpy(&v, p, sizeof(v));
    return _mm256_set1_epi32(v);
}

FT_INLINE whole whole_start(int bits, const int32_t *start)
{
    return bits == 8 ? _mm256_setzero_si256() : whole_of(start);
}

FT_INLINE some_weights load_weights(int bits, const char *p)
{
    const whole first = _mm256_loadu_si256((const __m256i *)p), mask = _mm256_set1_epi8(15);
    if (bits == 4)
        return (some_weights){_mm256_and_si256(first, mask), _mm256_and_si256(_mm256_srli_epi16(first, 4), mask)};
    const whole second = _mm256_loadu_si256((const __m256i *)(p + 64)), zero = _mm256_set1_epi8(-128);
    return (some_weights){_mm256_xor_si256(first, zero), _mm256_xor_si256(second, zero)};
}

/* The product of bytes adds pairs in 16 bits and saturates there: int4 weights are at
 * most 15, and int8 ones lend their sign to the input, so that no pair passes
 * 2 * 128 * 127. */
FT_INLINE whole four(int bits, whole w, whole x, whole sum)
{
    const whole pairs =
        bits == 4 ? _mm256_maddubs_epi16(w, x) : _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

FT_INLINE whole whole_dot(int bits, some_weights w, const int8_t *x, whole sum)
{
    return four(bits, w.high, whole_of(x + 4), four(bits, w.low, whole_of(x), sum));
}

FT_INLINE lanes whole_to_lanes(whole v)
{
    return _mm256_cvtepi32_ps(v);
}

FT_INLINE lanes scale_load(const char *p)
{
    return lanes_load_half(p, 0);
}

FT_INLINE lanes scale_by(lanes w, float x)
{
    return lanes_multiply(w, lanes_of(x));
}
#include "model/kernels/ft_lanes_matmul_groups.h"

void ft_matmul_i8_avx2(const ft_matmul *m)
{
    matmul(8, m);
}

void ft_matmul_i4_avx2(const ft_matmul *m)
{
    matmul(4, m);
}
#endif
