#include "model/kernels/ft_float.h"
#include "model/kernels/ft_mix.h"

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#include "model/kernels/ft_simd_avx512.h"

enum { WIDE = 8 }; /* accumulators at once: 128 values, the widest usual head */

FT_INLINE void mix(float *out, const float *p, const float *v, size_t stride, size_t n, int wide)
{
    __m512 sum[WIDE];
    FT_UNROLL
    for (int i = 0; i < wide; i++)
        sum[i] = _mm512_setzero_ps();
    for (size_t j = 0; j < n; j++) {
        const __m512 by = _mm512_set1_ps(p[j]);
        FT_UNROLL
        for (int i = 0; i < wide; i++)
            sum[i] = _mm512_fmadd_ps(by, _mm512_loadu_ps(v + j * stride + (size_t)i * 16), sum[i]);
    }
    FT_UNROLL
    for (int i = 0; i < wide; i++)
        _mm512_storeu_ps(out + (size_t)i * 16, sum[i]);
}

void ft_mix_avx512(float *out, const float *p, const float *v, size_t stride, size_t n, size_t d)
{
    size_t at = 0;
    for (; at + 128 <= d; at += 128)
        mix(out + at, p, v + at, stride, n, 8);
    for (; at + 64 <= d; at += 64)
        mix(out + at, p, v + at, stride, n, 4);
    for (; at < d; at += 16) {
        const __mmask16 mask = ft_mask_avx512(d - at);
        __m512 sum = _mm512_setzero_ps();
        for (size_t j = 0; j < n; j++)
            sum = _mm512_fmadd_ps(_mm512_set1_ps(p[j]), _mm512_maskz_loadu_ps(mask, v + j * stride + at), sum);
        _mm512_mask_storeu_ps(out + at, mask, sum);
    }
}
#endif
