#include "model/kernels/ft_softmax.h"

#if defined(__AVX2__) && defined(__FMA__)
#include "model/kernels/ft_simd_avx2.h"

void ft_softmax_avx2(float *x, size_t n, float scale)
{
    const __m256 lowest = _mm256_set1_ps(-INFINITY), by = _mm256_set1_ps(scale);
    __m256 max = lowest;
    for (size_t i = 0; i < n; i += 8) {
        const __m256i mask = ft_mask_avx2(n - i);
        const __m256 v = _mm256_mul_ps(_mm256_maskload_ps(x + i, mask), by);
        _mm256_maskstore_ps(x + i, mask, v);
        max = _mm256_max_ps(max, _mm256_blendv_ps(lowest, v, _mm256_castsi256_ps(mask)));
    }
    float lanes[8];
    _mm256_storeu_ps(lanes, max);
    for (int i = 1; i < 8; i++)
        lanes[0] = lanes[i] > lanes[0] ? lanes[i] : lanes[0];
    const __m256 top = _mm256_set1_ps(lanes[0]);
    __m256 sum = _mm256_setzero_ps();
    for (size_t i = 0; i < n; i += 8) {
        const __m256i mask = ft_mask_avx2(n - i);
        const __m256 e = ft_exp_avx2(_mm256_sub_ps(_mm256_maskload_ps(x + i, mask), top));
        _mm256_maskstore_ps(x + i, mask, e);
        sum = _mm256_add_ps(sum, _mm256_and_ps(e, _mm256_castsi256_ps(mask)));
    }
    const __m256 share = _mm256_set1_ps(1 / ft_sum_avx2(sum));
    for (size_t i = 0; i < n; i += 8) {
        const __m256i mask = ft_mask_avx2(n - i);
        _mm256_maskstore_ps(x + i, mask, _mm256_mul_ps(_mm256_maskload_ps(x + i, mask), share));
    }
}
#endif
