#include "model/kernels/ft_float.h"
#include "model/kernels/ft_mix.h"

#if defined(__AVX2__) && defined(__FMA__)
#include "model/kernels/ft_simd_avx2.h"

enum { WIDE = 8 }; /* accumulators at once: 64 values, a usual head */

FT_INLINE void mix(float *out, const float *p, const float *v, size_t stride, size_t n, int wide)
{
    __m256 sum[WIDE];
    FT_UNROLL
    for (int i = 0; i < wide; i++)
        sum[i] = _mm256_setzero_ps();
    for (size_t j = 0; j < n; j++) {
        const __m256 by = _mm256_set1_ps(p[j]);
        FT_UNROLL
        for (int i = 0; i < wide; i++)
            sum[i] = _mm256_fmadd_ps(by, _mm256_loadu_ps(v + j * stride + (size_t)i * 8), sum[i]);
    }
    FT_UNROLL
    for (int i = 0; i < wide; i++)
        _mm256_storeu_ps(out + (size_t)i * 8, sum[i]);
}

void ft_mix_avx2(float *out, const float *p, const float *v, size_t stride, size_t n, size_t d)
{
    size_t at = 0;
    for (; at + 64 <= d; at += 64)
        mix(out + at, p, v + at, stride, n, 8);
    for (; at + 8 <= d; at += 8)
        mix(out + at, p, v + at, stride, n, 1);
    if (at == d)
        return;
    const __m256i mask = ft_mask_avx2(d - at);
    __m256 sum = _mm256_setzero_ps();
    for (size_t j = 0; j < n; j++)
        sum = _mm256_fmadd_ps(_mm256_set1_ps(p[j]), _mm256_maskload_ps(v + j * stride + at, mask), sum);
    _mm256_maskstore_ps(out + at, mask, sum);
}
#endif
