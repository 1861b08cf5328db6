#include "model/kernels/ft_float.h"
#include "model/kernels/ft_gemm_tile.h"

/* A row of a against a panel: a chain of sums for each column, which compilers put on what lanes
 * there are. */
static void row(const ft_gemm_tile *t, size_t i, size_t j, int pairs)
{
    float sum[FT_PANEL];
    float *out = t->out + i * t->out_stride + j;
    const uint32_t *a = t->a + i * t->a_row, *b = t->b + j / FT_PANEL * t->b_panel;
    const size_t n = t->n - j < FT_PANEL ? t->n - j : FT_PANEL;
    for (size_t c = 0; c < FT_PANEL; c++)
        sum[c] = t->add && c < n ? out[c] : 0;
    for (size_t s = 0; s < t->steps; s++, a += t->a_step, b += t->b_step) {
        const float low = ft_float_from_bits(pairs ? *a << 16 : *a), high = ft_float_from_bits(*a & 0xffff0000u);
        for (size_t c = 0; c < FT_PANEL; c++)
            sum[c] += low * ft_float_from_bits(pairs ? b[c] << 16 : b[c]);
        for (size_t c = 0; pairs && c < FT_PANEL; c++)
            sum[c] += high * ft_float_from_bits(b[c] & 0xffff0000u);
    }
    for (size_t c = 0; c < n; c++)
        out[c] = sum[c];
}

void ft_gemm_f32_scalar(const ft_gemm_tile *t)
{
    for (size_t j = 0; j < t->n; j += FT_PANEL)
        for (size_t i = 0; i < t->m; i++)
            row(t, i, j, 0);
}

void ft_gemm_bf16_scalar(const ft_gemm_tile *t)
{
    for (size_t j = 0; j < t->n; j += FT_PANEL)
        for (size_t i = 0; i < t->m; i++)
            row(t, i, j, 1);
}

void ft_gemm_pairs_scalar(uint32_t *out, const float *x, size_t k)
{
    for (size_t i = 0; i < k; i += 2)
        out[i / 2] = ft_bf16_of(x[i]) | (i + 1 < k ? (uint32_t)ft_bf16_of(x[i + 1]) << 16 : 0);
}

void ft_gemm_weave_scalar(uint32_t *out, const float *low, const float *high, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = ft_bf16_of(low[i]) | (high ? (uint32_t)ft_bf16_of(high[i]) << 16 : 0);
}
