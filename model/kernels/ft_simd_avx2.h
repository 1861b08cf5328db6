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

/* Sums of four lanes each, the halves added until four are left. */
FT_INLINE __m128 lanes_quarter(lanes v)
{
    return _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
}

/* Sum of the lanes in an order that is ours, not the compiler's: halves, quarters, … */
FT_INLINE float lanes_sum(lanes v)
{
    __m128 q = lanes_quarter(v);
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}

/* The sums of four, in the same order. */
FT_INLINE void lanes_sum_4(float *out, lanes a, lanes b, lanes c, lanes d)
{
    __m128 p = lanes_quarter(a), q = lanes_quarter(b), r = lanes_quarter(c), s = lanes_quarter(d);
    _MM_TRANSPOSE4_PS(p, q, r, s);
    _mm_storeu_ps(out, _mm_add_ps(_mm_add_ps(p, r), _mm_add_ps(q, s)));
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

/* Rounded to 16 bits as ft_bf16_of and ft_f16_of do. */
FT_INLINE void lanes_store_half(uint16_t *p, lanes v, int is_bf16)
{
    __m128i h;
    if (is_bf16) {
        const __m256i bits = _mm256_castps_si256(v), one = _mm256_set1_epi32(1);
        const __m256i even = _mm256_and_si256(_mm256_srli_epi32(bits, 16), one);
        __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), even);
        const __m256 is_nan = _mm256_cmp_ps(v, v, _CMP_UNORD_Q);
        const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
        rounded = _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(is_nan));
        rounded = _mm256_packus_epi32(_mm256_srli_epi32(rounded, 16), _mm256_setzero_si256());
        h = _mm256_castsi256_si128(_mm256_permute4x64_epi64(rounded, 0x08));
    } else
        h = _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm_storeu_si128((__m128i *)p, h);
}

/* Pairs of bfloat16 in a lane's bits: the low one, and the high one, as float32. */
FT_INLINE lanes lanes_shifted(lanes v)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(v), 16));
}

FT_INLINE lanes lanes_upper(lanes v)
{
    return _mm256_and_ps(v, _mm256_castsi256_ps(_mm256_set1_epi32((int)0xffff0000u)));
}
#endif
