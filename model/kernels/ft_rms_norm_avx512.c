#include "model/kernels/ft_rms_norm.h"

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#include "model/kernels/ft_simd_avx512.h"

void ft_rms_norm_avx512(float *out, const float *x, const float *w, size_t n, double eps)
{
    /* Squares of float32 are exact in float64 and do not overflow there. */
    __m512d low = _mm512_setzero_pd(), high = _mm512_setzero_pd();
    for (size_t i = 0; i < n; i += 16) {
        const __m512 v = _mm512_maskz_loadu_ps(tail_of(n - i), x + i);
        const __m512d a = _mm512_cvtps_pd(_mm512_castps512_ps256(v)), b = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
        low = _mm512_fmadd_pd(a, a, low);
        high = _mm512_fmadd_pd(b, b, high);
    }
    double l[8];
    _mm512_storeu_pd(l, _mm512_add_pd(low, high));
    const double sum = ((l[0] + l[1]) + (l[2] + l[3])) + ((l[4] + l[5]) + (l[6] + l[7]));
    const lanes scale = lanes_of(ft_rms_norm_scale(sum, n, eps));
    for (size_t i = 0; i < n; i += LANES) {
        const tail t = tail_of(n - i);
        lanes_store_tail(out + i, t,
                         lanes_multiply(lanes_load_tail(w + i, t), lanes_multiply(lanes_load_tail(x + i, t), scale)));
    }
}
#endif
