/* ft_simd_avx512: what the AVX-512 kernels share. */
#ifndef FT_SIMD_AVX512_H
#define FT_SIMD_AVX512_H
#include "model/kernels/ft_exp.h"

#include <immintrin.h>

#define FT_INLINE static inline __attribute__((always_inline))

/* Sum of the lanes in an order that is ours, not the compiler's: halves, quarters, … */
FT_INLINE float ft_sum_avx512(__m512 v)
{
    const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}

FT_INLINE __mmask16 ft_mask_avx512(size_t left)
{
    return left >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << left) - 1);
}

/* ft_exp (ft_exp.h) on 16 lanes. */
FT_INLINE __m512 ft_exp_avx512(__m512 x)
{
    x = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(FT_EXP_LOW)), _mm512_set1_ps(FT_EXP_HIGH));
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(FT_LOG2_E)),
                                          _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(FT_LN2_HIGH), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(FT_LN2_LOW), r);
    __m512 p = _mm512_set1_ps(FT_EXP_C5);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(FT_EXP_C4));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(FT_EXP_C3));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(FT_EXP_C2));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(FT_EXP_C1));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(FT_EXP_C0));
    p = _mm512_add_ps(_mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r), _mm512_set1_ps(1));
    const __m512i power = _mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23);
    return _mm512_mul_ps(p, _mm512_castsi512_ps(power));
}
#endif
