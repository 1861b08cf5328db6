/* ft_simd_avx2: what the AVX2 kernels share. */
#ifndef FT_SIMD_AVX2_H
#define FT_SIMD_AVX2_H
#include "model/kernels/ft_exp.h"

#include <immintrin.h>

#define FT_INLINE static inline __attribute__((always_inline))

/* Sum of the lanes in an order that is ours, not the compiler's. */
FT_INLINE float ft_sum_avx2(__m256 v)
{
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}

/* Lanes 0 … left-1 set. */
FT_INLINE __m256i ft_mask_avx2(size_t left)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(left > 8 ? 8 : (int)left), lane);
}

/* ft_exp (ft_exp.h) on 8 lanes. */
FT_INLINE __m256 ft_exp_avx2(__m256 x)
{
    x = _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(FT_EXP_LOW)), _mm256_set1_ps(FT_EXP_HIGH));
    const __m256 n =
        _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(FT_LOG2_E)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(FT_LN2_HIGH), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(FT_LN2_LOW), r);
    __m256 p = _mm256_set1_ps(FT_EXP_C5);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(FT_EXP_C4));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(FT_EXP_C3));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(FT_EXP_C2));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(FT_EXP_C1));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(FT_EXP_C0));
    p = _mm256_add_ps(_mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r), _mm256_set1_ps(1));
    const __m256i power = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(p, _mm256_castsi256_ps(power));
}
#endif
