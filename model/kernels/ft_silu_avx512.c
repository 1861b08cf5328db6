#include "model/kernels/ft_silu.h"

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#include "model/kernels/ft_simd_avx512.h"

void ft_silu_avx512(float *gate, const float *up, size_t n)
{
    const __m512 one = _mm512_set1_ps(1), sign = _mm512_set1_ps(-0.0f);
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 mask = ft_mask_avx512(n - i);
        const __m512 g = _mm512_maskz_loadu_ps(mask, gate + i), u = _mm512_maskz_loadu_ps(mask, up + i);
        const __m512 below = _mm512_add_ps(one, ft_exp_avx512(_mm512_xor_ps(g, sign)));
        _mm512_mask_storeu_ps(gate + i, mask, _mm512_mul_ps(_mm512_div_ps(g, below), u));
    }
}
#endif
