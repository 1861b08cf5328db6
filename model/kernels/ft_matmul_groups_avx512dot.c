#include "model/kernels/ft_matmul.h"

#if defined(__AVX512VNNI__)
#include "model/kernels/ft_simd_avx512.h"

/* 12 whole sums, 12 float ones, 4 of w, 1 of x: 29 of 32 registers. A pair over 7 or 8 tokens needs
 * more, but a second stream is worth more than what is put aside for it. */
enum { SLICES = 2, TOKENS = 6, FEW = 8, LONE = 4, PAIR = 2 };
typedef __m512i whole;
typedef struct some_weights {
    whole low, high; /* four columns each */
} some_weights;

FT_INLINE whole whole_of(const void *p)
{
    int32_t v;
    memcpy(&v, p, sizeof(v));
    return _mm512_set1_epi32(v);
}

/* Weights are the unsigned operand of the dot product, inputs the signed one: their
 * 128 or 8 too much is taken out beforehand. */
FT_INLINE whole whole_start(int bits, const int32_t *start)
{
    return bits == 8 ? _mm512_slli_epi32(whole_of(start), 4) : whole_of(start);
}

FT_INLINE some_weights load_weights(int bits, const char *p)
{
    const whole first = _mm512_loadu_si512(p), mask = _mm512_set1_epi8(15);
    if (bits == 8)
        return (some_weights){first, _mm512_loadu_si512(p + 64)};
    return (some_weights){_mm512_and_si512(first, mask), _mm512_and_si512(_mm512_srli_epi16(first, 4), mask)};
}

FT_INLINE whole whole_dot(int bits, some_weights w, const int8_t *x, whole sum)
{
    (void)bits;
    return _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(sum, w.low, whole_of(x)), w.high, whole_of(x + 4));
}

FT_INLINE lanes whole_to_lanes(whole v)
{
    return _mm512_cvtepi32_ps(v);
}

/* An input's scale is a power of two: its exponent is added, where a product would
 * take the place of a dot product. A scale of 0 has weights of 0: any other will do. Those of int4 have signs. */
FT_INLINE lanes scale_load(const char *p)
{
    const lanes all = lanes_load_half(p, 0);
    const lanes scale = _mm512_mask_mov_ps(all, _mm512_cmp_ps_mask(all, lanes_of(0), _CMP_EQ_OQ), lanes_of(0x1p-24f));
    return _mm512_castsi512_ps(_mm512_sub_epi32(_mm512_castps_si512(scale), _mm512_castps_si512(lanes_of(1))));
}

FT_INLINE lanes scale_by(lanes w, float x)
{
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(w), _mm512_castps_si512(lanes_of(x))));
}
#include "model/kernels/ft_lanes_matmul_groups.h"

void ft_matmul_i8_avx512dot(const ft_matmul *m)
{
    matmul(8, m);
}

void ft_matmul_i4_avx512dot(const ft_matmul *m)
{
    matmul(4, m);
}
#endif
