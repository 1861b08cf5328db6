/* ft_lanes_gemm: ft_gemm_tile.h for any width of lanes. The file that includes it has included
 * an ft_simd_*.h and defined
 *   TILE_ROWS  a tile is TILE_ROWS x 2 vectors of accumulators: they, two vectors of b and one
 *              of a have to fit the registers
 *   operand, operand_load, operand_spread, operand_product  what a unit is and does */
#ifndef FT_LANES_GEMM_H
#define FT_LANES_GEMM_H
#include "model/kernels/ft_gemm_tile.h"

enum { GROUPS = (TILE_ROWS + 2) / 3 };

/* Rows of a are reached by a pointer for each three of them: more would not fit the registers. */
FT_INLINE void gemm_steps(lanes sum[TILE_ROWS][2], const ft_gemm_tile *t, const uint32_t *a, const uint32_t *b,
                          int rows, int vectors, int by_row)
{
    const size_t row = t->a_row, step = t->a_step, steps = t->steps, b_step = t->b_step;
    const uint32_t *group[GROUPS];
    FT_UNROLL
    for (int g = 0; g < GROUPS; g++)
        group[g] = a + (size_t)(3 * g) * row;
    for (size_t s = 0; s < steps; s++, b += b_step) {
        operand w[2];
        FT_UNROLL
        for (int v = 0; v < vectors; v++)
            w[v] = operand_load(b + v * LANES);
        FT_UNROLL
        for (int r = 0; r < rows; r++) {
            const operand x = operand_spread(by_row ? group[r / 3] + (size_t)(r % 3) * row + s : a + r);
            FT_UNROLL
            for (int v = 0; v < vectors; v++)
                sum[r][v] = operand_product(w[v], x, sum[r][v]);
        }
        a += by_row ? 0 : step;
    }
}

FT_INLINE void gemm_tile(const ft_gemm_tile *t, size_t i, size_t j, const uint32_t *b, int rows, int vectors,
                         int by_row)
{
    lanes sum[TILE_ROWS][2];
    const size_t left = t->n - j;
    const tail tails[2] = {tail_of(left), tail_of(left > LANES ? left - LANES : 0)};
    float *out = t->out + i * t->out_stride + j;
    FT_UNROLL
    for (int r = 0; r < rows; r++) {
        FT_UNROLL
        for (int v = 0; v < vectors; v++)
            sum[r][v] = t->add ? lanes_load_tail(out + (size_t)r * t->out_stride + v * LANES, tails[v]) : lanes_of(0);
    }
    gemm_steps(sum, t, t->a + i * t->a_row, b, rows, vectors, by_row);
    FT_UNROLL
    for (int r = 0; r < rows; r++) {
        FT_UNROLL
        for (int v = 0; v < vectors; v++)
            lanes_store_tail(out + (size_t)r * t->out_stride + v * LANES, tails[v], sum[r][v]);
    }
}

/* All rows of a against the columns from j on that two vectors hold. */
FT_INLINE void gemm_strips(const ft_gemm_tile *t, size_t j, const uint32_t *b, int vectors, int by_row)
{
    size_t i = 0;
    for (; i + TILE_ROWS <= t->m; i += TILE_ROWS)
        gemm_tile(t, i, j, b, TILE_ROWS, vectors, by_row);
    for (; TILE_ROWS > 8 && i + 8 <= t->m; i += 8)
        gemm_tile(t, i, j, b, TILE_ROWS > 8 ? 8 : TILE_ROWS, vectors, by_row);
    for (; i + 4 <= t->m; i += 4)
        gemm_tile(t, i, j, b, 4, vectors, by_row);
    for (; i + 2 <= t->m; i += 2)
        gemm_tile(t, i, j, b, 2, vectors, by_row);
    if (i < t->m)
        gemm_tile(t, i, j, b, 1, vectors, by_row);
}

/* A panel of b stays in the first-level cache while all rows of a pass. */
FT_INLINE void gemm(const ft_gemm_tile *t)
{
    for (size_t j = 0; j < t->n; j += 2 * LANES) {
        const uint32_t *b = t->b + j / FT_PANEL * t->b_panel + j % FT_PANEL;
        const int both = t->n - j > LANES, by_row = t->a_step == 1;
        if (both && by_row)
            gemm_strips(t, j, b, 2, 1);
        else if (both)
            gemm_strips(t, j, b, 2, 0);
        else if (by_row)
            gemm_strips(t, j, b, 1, 1);
        else
            gemm_strips(t, j, b, 1, 0);
    }
}
#endif
