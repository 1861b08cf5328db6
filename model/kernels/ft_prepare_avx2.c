#include "model/kernels/ft_narrow.h"
#include "model/kernels/ft_prepare.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "model/kernels/ft_simd_avx2.h"

enum { PARTS = FT_GROUP / LANES };

void ft_prepare_bf16_avx2(void *out, const float *x, size_t n)
{
    ft_narrow_bf16_avx2(out, 1, x, n);
    ft_prepare_pad(out, n);
}

void ft_prepare_i8_avx2(void *out, const float *x, size_t n)
{
    const __m256i magnitude = _mm256_set1_epi32(FT_FLOAT_MAGNITUDE);
    ft_group *group = out;
    for (size_t at = 0; at < n; at += FT_GROUP, group++) {
        lanes v[PARTS];
        __m256i whole[PARTS], max = _mm256_setzero_si256();
        uint32_t each[LANES], most = 0;
        for (size_t i = 0; i < PARTS; i++) {
            v[i] = lanes_load(x + at + i * LANES);
            max = _mm256_max_epu32(max, _mm256_and_si256(_mm256_castps_si256(v[i]), magnitude));
        }
        _mm256_storeu_si256((__m256i *)each, max);
        for (size_t i = 0; i < LANES; i++)
            most = each[i] > most ? each[i] : most;
        *group = (ft_group){.scale = ft_group_scale(most)};
        const float by = ft_group_inverse(most);
        if (by == 0)
            continue;
        for (size_t i = 0; i < PARTS; i++)
            whole[i] = _mm256_cvtps_epi32(lanes_multiply(v[i], lanes_of(by)));
        /* Packing works on both halves apart; the permutation puts the fours in order. */
        const __m256i low = _mm256_packs_epi32(whole[0], whole[1]), high = _mm256_packs_epi32(whole[2], whole[3]);
        const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        _mm256_storeu_si256((__m256i *)group->q, _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order));
        int32_t sum = 0;
        _mm256_storeu_si256((__m256i *)each, _mm256_add_epi32(_mm256_add_epi32(whole[0], whole[1]),
                                                              _mm256_add_epi32(whole[2], whole[3])));
        for (size_t i = 0; i < LANES; i++)
            sum += (int32_t)each[i];
        group->start = -8 * sum;
    }
}
#endif
