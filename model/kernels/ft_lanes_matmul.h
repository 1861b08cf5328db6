/* ft_lanes_matmul: ft_matmul.h for any width of lanes. The file that includes it
 * has included an ft_simd_*.h and defined ROWS and TOKENS, the size of a tile:
 * ROWS x TOKENS accumulators, TOKENS of x and one of w have to fit the registers. */
#ifndef FT_LANES_MATMUL_H
#define FT_LANES_MATMUL_H
#include "model/kernels/ft_matmul.h"

typedef enum number { F32, BF16, F16 } number;

/* LANES numbers from column k of a row; `left` of them, then zeros, where not whole. */
FT_INLINE lanes load_row(number type, const char *row, size_t k, size_t left, int whole)
{
    if (type == F32) {
        const float *p = (const float *)(const void *)(row + k * sizeof(float));
        return whole ? lanes_load(p) : lanes_load_tail(p, tail_of(left));
    }
    const char *p = row + k * sizeof(uint16_t);
    return whole ? lanes_load_half(p, type == BF16) : lanes_load_half_tail(p, left, type == BF16);
}

FT_INLINE void columns(number type, number input, lanes sum[ROWS][TOKENS], const char *const *w, const char *const *x,
                       size_t k, size_t left, int whole, int rows, int tokens)
{
    lanes xs[TOKENS];
    FT_UNROLL
    for (int t = 0; t < tokens; t++)
        xs[t] = load_row(input, x[t], k, left, whole);
    FT_UNROLL
    for (int r = 0; r < rows; r++) {
        const lanes ws = load_row(type, w[r], k, left, whole);
        FT_UNROLL
        for (int t = 0; t < tokens; t++)
            sum[r][t] = lanes_fma(ws, xs[t], sum[r][t]);
    }
}

/* One tile of rows x tokens outputs. Each has one accumulator that walks the
 * columns in order, whatever the size of the tile. */
FT_INLINE void tile(number type, number input, const ft_matmul *m, size_t r0, size_t t0, int rows, int tokens)
{
    const size_t size = type == F32 ? sizeof(float) : sizeof(uint16_t);
    const char *w[ROWS];
    const char *x[TOKENS];
    lanes sum[ROWS][TOKENS];
    FT_UNROLL
    for (int r = 0; r < rows; r++) {
        w[r] = (const char *)m->w + (r0 + (size_t)r) * m->w_stride * size;
        FT_UNROLL
        for (int t = 0; t < tokens; t++)
            sum[r][t] = lanes_of(0);
    }
    FT_UNROLL
    for (int t = 0; t < tokens; t++)
        x[t] = ft_matmul_x(m, t0 + (size_t)t);
    size_t k = 0;
    for (; k + LANES <= m->cols; k += LANES)
        columns(type, input, sum, w, x, k, LANES, 1, rows, tokens);
    if (k < m->cols)
        columns(type, input, sum, w, x, k, m->cols - k, 0, rows, tokens);
    FT_UNROLL
    for (int r = 0; r < rows; r++) {
        FT_UNROLL
        for (int t = 0; t < tokens; t++)
            m->out[(t0 + (size_t)t) * m->out_stride + r0 + (size_t)r] = lanes_sum(sum[r][t]);
    }
}

FT_INLINE void matmul(number type, number input, const ft_matmul *m)
{
    size_t r = 0;
    for (; r + ROWS <= m->rows; r += ROWS) {
        size_t t = 0;
        for (; t + TOKENS <= m->tokens; t += TOKENS)
            tile(type, input, m, r, t, ROWS, TOKENS);
        for (; t < m->tokens; t++)
            tile(type, input, m, r, t, ROWS, 1);
    }
    for (; r < m->rows; r++)
        for (size_t t = 0; t < m->tokens; t++)
            tile(type, input, m, r, t, 1, 1);
}
#endif
