#include "model/kernels/ft_narrow.h"
#include "model/kernels/ft_prepare.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#include "model/kernels/ft_simd_avx512.h"

void ft_prepare_bf16_avx512(void *out, const float *x, size_t n)
{
    ft_narrow_bf16_avx512(out, 1, x, n);
    ft_prepare_pad(out, n);
}

void ft_prepare_i8_avx512(void *out, const float *x, size_t n)
{
    const __m512i magnitude = _mm512_set1_epi32(FT_FLOAT_MAGNITUDE);
    ft_group *group = out;
    for (size_t at = 0; at < n; at += FT_GROUP, group++) {
        const lanes a = lanes_load(x + at), b = lanes_load(x + at + LANES);
        const uint32_t most = _mm512_reduce_max_epu32(_mm512_max_epu32(
            _mm512_and_si512(_mm512_castps_si512(a), magnitude), _mm512_and_si512(_mm512_castps_si512(b), magnitude)));
        *group = (ft_group){.scale = ft_group_scale(most)};
        const float inverse = ft_group_inverse(most);
        if (inverse == 0)
            continue;
        const lanes by = lanes_of(inverse);
        const __m512i p = _mm512_cvtps_epi32(lanes_multiply(a, by)), q = _mm512_cvtps_epi32(lanes_multiply(b, by));
        _mm_storeu_si128((__m128i *)group->q, _mm512_cvtepi32_epi8(p));
        _mm_storeu_si128((__m128i *)(group->q + LANES), _mm512_cvtepi32_epi8(q));
        group->start = -8 * _mm512_reduce_add_epi32(_mm512_add_epi32(p, q));
    }
}
#endif
