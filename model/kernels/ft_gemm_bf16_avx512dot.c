#include "model/kernels/ft_gemm_tile.h"

#if defined(__AVX512BF16__)
#include "model/kernels/ft_simd_avx512.h"

typedef __m512i operand;

FT_INLINE operand operand_load(const uint32_t *p)
{
    return _mm512_loadu_si512(p);
}

FT_INLINE operand operand_spread(const uint32_t *p)
{
    return _mm512_set1_epi32((int)*p);
}

FT_INLINE lanes operand_product(operand w, operand x, lanes sum)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)x);
}

enum { TILE_ROWS = 12 }; /* 24 accumulators, 2 of b, 1 of a */
#include "model/kernels/ft_lanes_gemm.h"

void ft_gemm_bf16_avx512dot(const ft_gemm_tile *t)
{
    gemm(t);
}

void ft_gemm_pairs_avx512dot(uint32_t *out, const float *x, size_t k)
{
    size_t i = 0;
    for (; i + 2 * LANES <= k; i += 2 * LANES)
        _mm512_storeu_si512(out + i / 2, (__m512i)_mm512_cvtne2ps_pbh(lanes_load(x + i + LANES), lanes_load(x + i)));
    if (i < k) {
        const size_t left = k - i;
        const lanes low = lanes_load_tail(x + i, tail_of(left));
        const lanes high = lanes_load_tail(x + i + LANES, tail_of(left > LANES ? left - LANES : 0));
        _mm512_mask_storeu_epi32(out + i / 2, tail_of((left + 1) / 2), (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
}

FT_INLINE __m512i weave(lanes low, lanes high)
{
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(high, low));
}

void ft_gemm_weave_avx512dot(uint32_t *out, const float *low, const float *high, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        const tail t = tail_of(n - i);
        const lanes upper = high ? lanes_load_tail(high + i, t) : lanes_of(0);
        _mm512_mask_storeu_epi32(out + i, t, weave(lanes_load_tail(low + i, t), upper));
    }
}
#endif
