/* ft_simd_avx2: eight lanes of float32, under the names that the kernels written
 * for lanes (ft_lanes_*.h) use. ft_simd_avx512.h gives the same names sixteen. */
#ifndef FT_SIMD_AVX2_H
#define FT_SIMD_AVX2_H
#include "model/kernels/ft_float.h"

#include <immintrin.h>

#define FT_INLINE static inline __attribute__((always_inline))

enum { LANES = 8 };
typedef __m256 lanes;
typedef __m256i tail; /* which lanes take part at the end of a row */

/* Lanes 0 … left-1. */
FT_INLINE tail tail_of(size_t left)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(left > LANES ? LANES : (int)left), lane);
}

FT_INLINE lanes lanes_of(float x)
{
    return _mm256_set1_ps(x);
}

FT_INLINE lanes lanes_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

/* Zero in the lanes that do not take part; their memory is not touched. */
FT_INLINE lanes lanes_load_tail(const float *p, tail t)
{
    return _mm256_maskload_ps(p, t);
}

FT_INLINE void lanes_store(float *p, lanes v)
{
    _mm256_storeu_ps(p, v);
}

FT_INLINE void lanes_store_tail(float *p, tail t, lanes v)
{
    _mm256_maskstore_ps(p, t, v);
}

/* `v` where the lane takes part, else `otherwise`. */
FT_INLINE lanes lanes_choose(tail t, lanes v, lanes otherwise)
{
    return _mm256_blendv_ps(otherwise, v, _mm256_castsi256_ps(t));
}

FT_INLINE lanes lanes_add(lanes a, lanes b)
{
    return _mm256_add_ps(a, b);
}

FT_INLINE lanes lanes_subtract(lanes a, lanes b)
{
    return _mm256_sub_ps(a, b);
}

FT_INLINE lanes lanes_multiply(lanes a, lanes b)
{
    return _mm256_mul_ps(a, b);
}

FT_INLINE lanes lanes_divide(lanes a, lanes b)
{
    return _mm256_div_ps(a, b);
}

/* a b + c in one rounding. */
FT_INLINE lanes lanes_fma(lanes a, lanes b, lanes c)
{
    return _mm256_fmadd_ps(a, b, c);
}

FT_INLINE lanes lanes_min(lanes a, lanes b)
{
    return _mm256_min_ps(a, b);
}

FT_INLINE lanes lanes_max(lanes a, lanes b)
{
    return _mm256_max_ps(a, b);
}

FT_INLINE lanes lanes_round(lanes a)
{
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* 2^n for whole numbers n. */
FT_INLINE lanes lanes_power_of_two(lanes n)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}

/* Sum of the lanes in an order that is ours, not the compiler's: halves, quarters, … */
FT_INLINE float lanes_sum(lanes v)
{
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}

FT_INLINE lanes lanes_widen(__m128i h, int is_bf16)
{
    if (!is_bf16)
        return _mm256_cvtph_ps(h);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

/* 16-bit weights, widened exactly. */
FT_INLINE lanes lanes_load_half(const char *p, int is_bf16)
{
    return lanes_widen(_mm_loadu_si128((const __m128i *)p), is_bf16);
}

FT_INLINE lanes lanes_load_half_tail(const char *p, size_t left, int is_bf16)
{
    uint16_t some[LANES] = {0};
    memcpy(some, p, left * sizeof(*some));
    return lanes_widen(_mm_loadu_si128((const __m128i *)some), is_bf16);
}
#endif
