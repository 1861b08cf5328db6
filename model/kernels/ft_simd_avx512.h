/* ft_simd_avx512: sixteen lanes of float32, under the same names as
 * ft_simd_avx2.h, which says what each does. */
#ifndef FT_SIMD_AVX512_H
#define FT_SIMD_AVX512_H
#include "model/kernels/ft_float.h"

#include <immintrin.h>

#define FT_INLINE static inline __attribute__((always_inline))

enum { LANES = 16 };
typedef __m512 lanes;
typedef __mmask16 tail;

FT_INLINE tail tail_of(size_t left)
{
    return left >= LANES ? (__mmask16)0xffff : (__mmask16)((1u << left) - 1);
}

FT_INLINE lanes lanes_of(float x)
{
    return _mm512_set1_ps(x);
}

FT_INLINE lanes lanes_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

FT_INLINE lanes lanes_load_tail(const float *p, tail t)
{
    return _mm512_maskz_loadu_ps(t, p);
}

FT_INLINE void lanes_store(float *p, lanes v)
{
    _mm512_storeu_ps(p, v);
}

FT_INLINE void lanes_store_tail(float *p, tail t, lanes v)
{
    _mm512_mask_storeu_ps(p, t, v);
}

FT_INLINE lanes lanes_choose(tail t, lanes v, lanes otherwise)
{
    return _mm512_mask_blend_ps(t, otherwise, v);
}

FT_INLINE lanes lanes_add(lanes a, lanes b)
{
    return _mm512_add_ps(a, b);
}

FT_INLINE lanes lanes_subtract(lanes a, lanes b)
{
    return _mm512_sub_ps(a, b);
}

FT_INLINE lanes lanes_multiply(lanes a, lanes b)
{
    return _mm512_mul_ps(a, b);
}

FT_INLINE lanes lanes_divide(lanes a, lanes b)
{
    return _mm512_div_ps(a, b);
}

FT_INLINE lanes lanes_fma(lanes a, lanes b, lanes c)
{
    return _mm512_fmadd_ps(a, b, c);
}

FT_INLINE lanes lanes_min(lanes a, lanes b)
{
    return _mm512_min_ps(a, b);
}

FT_INLINE lanes lanes_max(lanes a, lanes b)
{
    return _mm512_max_ps(a, b);
}

FT_INLINE lanes lanes_round(lanes a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

FT_INLINE lanes lanes_power_of_two(lanes n)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}

FT_INLINE __m128 lanes_quarter(lanes v)
{
    const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    return _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
}

FT_INLINE float lanes_sum(lanes v)
{
    __m128 q = lanes_quarter(v);
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}

FT_INLINE void lanes_sum_4(float *out, lanes a, lanes b, lanes c, lanes d)
{
    __m128 p = lanes_quarter(a), q = lanes_quarter(b), r = lanes_quarter(c), s = lanes_quarter(d);
    _MM_TRANSPOSE4_PS(p, q, r, s);
    _mm_storeu_ps(out, _mm_add_ps(_mm_add_ps(p, r), _mm_add_ps(q, s)));
}

FT_INLINE lanes lanes_widen(__m256i h, int is_bf16)
{
    if (!is_bf16)
        return _mm512_cvtph_ps(h);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

FT_INLINE lanes lanes_load_half(const char *p, int is_bf16)
{
    return lanes_widen(_mm256_loadu_si256((const __m256i *)p), is_bf16);
}

FT_INLINE lanes lanes_load_half_tail(const char *p, size_t left, int is_bf16)
{
    return lanes_widen(_mm256_maskz_loadu_epi16(tail_of(left), p), is_bf16);
}

FT_INLINE void lanes_store_half(uint16_t *p, lanes v, int is_bf16)
{
    __m256i h;
    if (is_bf16) {
        const __m512i bits = _mm512_castps_si512(v), one = _mm512_set1_epi32(1);
        const __m512i even = _mm512_and_si512(_mm512_srli_epi32(bits, 16), one);
        __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), even);
        const __mmask16 is_nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
        rounded = _mm512_mask_or_epi32(rounded, is_nan, bits, _mm512_set1_epi32(0x400000));
        h = _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
    } else
        h = _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm256_storeu_si256((__m256i *)p, h);
}

FT_INLINE lanes lanes_shifted(lanes v)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(v), 16));
}

FT_INLINE lanes lanes_upper(lanes v)
{
    return _mm512_and_ps(v, _mm512_castsi512_ps(_mm512_set1_epi32((int)0xffff0000u)));
}
#endif
