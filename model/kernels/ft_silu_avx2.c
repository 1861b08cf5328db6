#include "model/kernels/ft_silu.h"

#if defined(__AVX2__) && defined(__FMA__)
#include "model/kernels/ft_simd_avx2.h"

void ft_silu_avx2(float *gate, const float *up, size_t n)
{
    const __m256 one = _mm256_set1_ps(1), sign = _mm256_set1_ps(-0.0f);
    for (size_t i = 0; i < n; i += 8) {
        const __m256i mask = ft_mask_avx2(n - i);
        const __m256 g = _mm256_maskload_ps(gate + i, mask), u = _mm256_maskload_ps(up + i, mask);
        const __m256 below = _mm256_add_ps(one, ft_exp_avx2(_mm256_xor_ps(g, sign)));
        _mm256_maskstore_ps(gate + i, mask, _mm256_mul_ps(_mm256_div_ps(g, below), u));
    }
}
#endif
