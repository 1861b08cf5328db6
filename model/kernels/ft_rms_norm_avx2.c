#include "model/kernels/ft_rms_norm.h"

#if defined(__AVX2__) && defined(__FMA__)
#include "model/kernels/ft_simd_avx2.h"

void ft_rms_norm_avx2(float *out, const float *x, const float *w, size_t n, double eps)
{
    /* Squares of float32 are exact in float64 and do not overflow there. */
    __m256d low = _mm256_setzero_pd(), high = _mm256_setzero_pd();
    for (size_t i = 0; i < n; i += 8) {
        const __m256 v = _mm256_maskload_ps(x + i, ft_mask_avx2(n - i));
        const __m256d a = _mm256_cvtps_pd(_mm256_castps256_ps128(v)), b = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
        low = _mm256_fmadd_pd(a, a, low);
        high = _mm256_fmadd_pd(b, b, high);
    }
    double lanes[4];
    _mm256_storeu_pd(lanes, _mm256_add_pd(low, high));
    const double sum = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
    const __m256 scale = _mm256_set1_ps(ft_rms_norm_scale(sum, n, eps));
    for (size_t i = 0; i < n; i += 8) {
        const __m256i mask = ft_mask_avx2(n - i);
        const __m256 v = _mm256_mul_ps(_mm256_maskload_ps(x + i, mask), scale);
        _mm256_maskstore_ps(out + i, mask, _mm256_mul_ps(_mm256_maskload_ps(w + i, mask), v));
    }
}
#endif
