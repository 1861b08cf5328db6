#include "model/kernels/ft_rms_norm.h"

#if defined(__AVX2__) && defined(__FMA__)
#include "model/kernels/ft_simd_avx2.h"

void ft_rms_norm_avx2(float *out, const float *x, const float *w, size_t n, double eps)
{
    /* Squares of float32 are exact in float64 and do not overflow there. */
    __m256d low = _mm256_setzero_pd(), high = _mm256_setzero_pd();
    for (size_t i = 0; i < n; i += 8) {
        const __m256 v = _mm256_maskload_ps(x + i, tail_of(n - i));
        const __m256d a = _mm256_cvtps_pd(_mm256_castps256_ps128(v)), b = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
        low = _mm256_fmadd_pd(a, a, low);
        high = _mm256_fmadd_pd(b, b, high);
    }
    double l[4];
    _mm256_storeu_pd(l, _mm256_add_pd(low, high));
    const double sum = (l[0] + l[1]) + (l[2] + l[3]);
    const lanes scale = lanes_of(ft_rms_norm_scale(sum, n, eps));
    for (size_t i = 0; i < n; i += LANES) {
        const tail t = tail_of(n - i);
        lanes_store_tail(out + i, t,
                         lanes_multiply(lanes_load_tail(w + i, t), lanes_multiply(lanes_load_tail(x + i, t), scale)));
    }
}
#endif
