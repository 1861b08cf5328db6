#include "model/kernels/ft_float.h"
#include "model/kernels/ft_matmul.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include "model/kernels/ft_simd_avx512.h"

typedef enum weight { F32, BF16, F16 } weight;
enum { ROWS = 4, TOKENS = 4 }; /* 16 accumulators, 4 of x, 1 of w: 21 of 32 registers */

/* 16 weights from column k of a row, or those that `mask` names and zeros. */
FT_INLINE __m512 load(weight type, const char *row, size_t k, __mmask16 mask, int whole)
{
    if (type == F32) {
        const char *p = row + k * sizeof(float);
        return whole ? _mm512_loadu_ps(p) : _mm512_maskz_loadu_ps(mask, p);
    }
    const char *p = row + k * sizeof(uint16_t);
    const __m256i h = whole ? _mm256_loadu_si256((const __m256i *)p) : _mm256_maskz_loadu_epi16(mask, p);
    if (type == F16)
        return _mm512_cvtph_ps(h);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

FT_INLINE void columns(weight type, __m512 sum[ROWS][TOKENS], const char *const *w, const float *const *x, size_t k,
                       __mmask16 mask, int whole, int rows, int tokens)
{
    __m512 xs[TOKENS];
    FT_UNROLL
    for (int t = 0; t < tokens; t++)
        xs[t] = whole ? _mm512_loadu_ps(x[t] + k) : _mm512_maskz_loadu_ps(mask, x[t] + k);
    FT_UNROLL
    for (int r = 0; r < rows; r++) {
        const __m512 ws = load(type, w[r], k, mask, whole);
        FT_UNROLL
        for (int t = 0; t < tokens; t++)
            sum[r][t] = _mm512_fmadd_ps(ws, xs[t], sum[r][t]);
    }
}

/* One tile of rows x tokens outputs. Each has one accumulator of 16 lanes that
 * walks the columns in order, whatever the size of the tile. */
FT_INLINE void tile(weight type, const ft_matmul *m, size_t r0, size_t t0, int rows, int tokens)
{
    const size_t size = type == F32 ? sizeof(float) : sizeof(uint16_t);
    const char *w[ROWS];
    const float *x[TOKENS];
    __m512 sum[ROWS][TOKENS];
    FT_UNROLL
    for (int r = 0; r < rows; r++) {
        w[r] = (const char *)m->w + (r0 + (size_t)r) * m->w_stride * size;
        FT_UNROLL
        for (int t = 0; t < tokens; t++)
            sum[r][t] = _mm512_setzero_ps();
    }
    FT_UNROLL
    for (int t = 0; t < tokens; t++)
        x[t] = ft_matmul_x(m, t0 + (size_t)t);
    size_t k = 0;
    for (; k + 16 <= m->cols; k += 16)
        columns(type, sum, w, x, k, 0, 1, rows, tokens);
    if (k < m->cols)
        columns(type, sum, w, x, k, (__mmask16)((1u << (m->cols - k)) - 1), 0, rows, tokens);
    FT_UNROLL
    for (int r = 0; r < rows; r++) {
        FT_UNROLL
        for (int t = 0; t < tokens; t++)
            m->out[(t0 + (size_t)t) * m->out_stride + r0 + (size_t)r] = ft_sum_avx512(sum[r][t]);
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

void ft_matmul_f32_avx512(const ft_matmul *m)
{
    matmul(F32, m);
}

void ft_matmul_bf16_avx512(const ft_matmul *m)
{
    matmul(BF16, m);
}

void ft_matmul_f16_avx512(const ft_matmul *m)
{
    matmul(F16, m);
}
#endif
