#include "model/kernels/ft_float.h"
#include "model/kernels/ft_matmul.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "model/kernels/ft_simd_avx2.h"

typedef enum weight { F32, BF16, F16 } weight;
enum { ROWS = 4, TOKENS = 2 }; /* 8 accumulators, 2 of x, 1 of w: 11 of 16 registers */

FT_INLINE __m256 widen(weight type, __m128i h)
{
    if (type == F16)
        return _mm256_cvtph_ps(h);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

/* 8 weights from column k of a row; `left` of them, then zeros, where not whole. */
FT_INLINE __m256 load(weight type, const char *row, size_t k, size_t left, int whole)
{
    if (type == F32) {
        const float *p = (const float *)(const void *)(row + k * sizeof(float));
        return whole ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, ft_mask_avx2(left));
    }
    const char *p = row + k * sizeof(uint16_t);
    if (whole)
        return widen(type, _mm_loadu_si128((const __m128i *)p));
    uint16_t some[8] = {0};
    memcpy(some, p, left * sizeof(*some));
    return widen(type, _mm_loadu_si128((const __m128i *)some));
}

FT_INLINE void columns(weight type, __m256 sum[ROWS][TOKENS], const char *const *w, const float *const *x, size_t k,
                       size_t left, int whole, int rows, int tokens)
{
    __m256 xs[TOKENS];
    FT_UNROLL
    for (int t = 0; t < tokens; t++)
        xs[t] = whole ? _mm256_loadu_ps(x[t] + k) : _mm256_maskload_ps(x[t] + k, ft_mask_avx2(left));
    FT_UNROLL
    for (int r = 0; r < rows; r++) {
        const __m256 ws = load(type, w[r], k, left, whole);
        FT_UNROLL
        for (int t = 0; t < tokens; t++)
            sum[r][t] = _mm256_fmadd_ps(ws, xs[t], sum[r][t]);
    }
}

/* One tile of rows x tokens outputs. Each has one accumulator of 8 lanes that
 * walks the columns in order, whatever the size of the tile. */
FT_INLINE void tile(weight type, const ft_matmul *m, size_t r0, size_t t0, int rows, int tokens)
{
    const size_t size = type == F32 ? sizeof(float) : sizeof(uint16_t);
    const char *w[ROWS];
    const float *x[TOKENS];
    __m256 sum[ROWS][TOKENS];
    FT_UNROLL
    for (int r = 0; r < rows; r++) {
        w[r] = (const char *)m->w + (r0 + (size_t)r) * m->w_stride * size;
        FT_UNROLL
        for (int t = 0; t < tokens; t++)
            sum[r][t] = _mm256_setzero_ps();
    }
    FT_UNROLL
    for (int t = 0; t < tokens; t++)
        x[t] = ft_matmul_x(m, t0 + (size_t)t);
    size_t k = 0;
    for (; k + 8 <= m->cols; k += 8)
        columns(type, sum, w, x, k, 8, 1, rows, tokens);
    if (k < m->cols)
        columns(type, sum, w, x, k, m->cols - k, 0, rows, tokens);
    FT_UNROLL
    for (int r = 0; r < rows; r++) {
        FT_UNROLL
        for (int t = 0; t < tokens; t++)
            m->out[(t0 + (size_t)t) * m->out_stride + r0 + (size_t)r] = ft_sum_avx2(sum[r][t]);
    }
}

FT_INLINE void matmul(weight type, const ft_matmul *m)
{
    size_t r = 0;
    for (; r + ROWS <= m->rows; r += ROWS) {
        size_t t = 0;
        for (; t + TOKENS <= m->tokens; t += TOKENS)
            tile(type, m, r, t, ROWS, TOKENS);
        for (; t < m->tokens; t++)
            tile(type, m, r, t, ROWS, 1);
    }
    for (; r < m->rows; r++)
        for (size_t t = 0; t < m->tokens; t++)
            tile(type, m, r, t, 1, 1);
}

void ft_matmul_f32_avx2(const ft_matmul *m)
{
    matmul(F32, m);
}

void ft_matmul_bf16_avx2(const ft_matmul *m)
{
    matmul(BF16, m);
}

void ft_matmul_f16_avx2(const ft_matmul *m)
{
    matmul(F16, m);
}
#endif
