#include "model/kernels/ft_softmax.h"

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#include "model/kernels/ft_simd_avx512.h"

void ft_softmax_avx512(float *x, size_t n, float scale)
{
    const __m512 by = _mm512_set1_ps(scale);
    __m512 max = _mm512_set1_ps(-INFINITY);
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 mask = ft_mask_avx512(n - i);
        const __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), by);
        _mm512_mask_storeu_ps(x + i, mask, v);
        max = _mm512_mask_max_ps(max, mask, max, v);
    }
    const __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(max)); /* a maximum is the same in any order */
    __m512 sum = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 mask = ft_mask_avx512(n - i);
        const __m512 e = ft_exp_avx512(_mm512_sub_ps(_mm512_maskz_loadu_ps(mask, x + i), top));
        _mm512_mask_storeu_ps(x + i, mask, e);
        sum = _mm512_mask_add_ps(sum, mask, sum, e);
    }
    const __m512 share = _mm512_set1_ps(1 / ft_sum_avx512(sum));
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 mask = ft_mask_avx512(n - i);
        _mm512_mask_storeu_ps(x + i, mask, _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), share));
    }
}
#endif
