/* ft_lanes_matmul: ft_matmul.h of the float types for any width of lanes. The file
 * that includes it has included an ft_simd_*.h and defined
 *   ROWS, TOKENS  the size of a tile: ROWS * TOKENS accumulators, TOKENS operands of
 *                 x and one of w have to fit the registers
 *   operand, STEP, operand_load, operand_product  what one step along k reads and
 *                 does; ft_lanes_widened.h has those of float32 products */
#ifndef FT_LANES_MATMUL_H
#define FT_LANES_MATMUL_H
#include "model/kernels/ft_matmul.h"

/* A panel of rows stays in the second-level cache while all tokens pass, a group of
 * tokens in the first-level cache while the panel's rows pass. With few tokens the
 * time goes into fetching weights. Then nothing else may miss the first level (what
 * misses waits in the same short queue), so that the columns go in blocks, and sums
 * between them through `sums`. */
enum {
    PANEL_FEW = 16,
    PANEL_MANY = 32,
    FEW_TOKENS = 2 * TOKENS,
    BLOCK_BYTES = 16 << 10,
    NEAR_BYTES = 24 << 10,
    AHEAD = 4096,
    AHEAD_LONE = 1024,
    LONE_ROWS = 64
};

typedef struct panel {
    const ft_matmul *m;
    size_t first, last;     /* rows */
    size_t from, to;        /* columns */
    const char *next, *end; /* weights to fetch next, as one ascending stream; where they end */
    size_t every, wait;     /* at each such step, in how many */
    int near;               /* fetch into the first level: one tile ahead, and all of it fits */
    int lone;               /* one row at a time: a lone token's weights are read as one stream */
    lanes sums[PANEL_FEW][FEW_TOKENS];
} panel;

FT_INLINE void columns(number wt, number xt, lanes sum[ROWS][TOKENS], const char *const *w, const char *const *x,
                       size_t k, size_t left, int whole, int rows, int tokens)
{
    operand xs[TOKENS];
    FT_UNROLL
    for (int t = 0; t < tokens; t++)
        xs[t] = operand_load(xt, x[t], k, left, whole);
    FT_UNROLL
    for (int r = 0; r < rows; r++) {
        const operand ws = operand_load(wt, w[r], k, left, whole);
        FT_UNROLL
        for (int t = 0; t < tokens; t++)
            sum[r][t] = operand_product(ws, xs[t], sum[r][t]);
    }
}

FT_INLINE void fetch(panel *p, size_t bytes)
{
    if (p->wait--)
        return;
    p->wait = p->every - 1;
    if (p->next >= p->end)
        return;
    if (p->near) {
        FT_UNROLL
        for (size_t line = 0; line < bytes; line += 64)
            __builtin_prefetch(p->next + line, 0, 3);
    } else {
        FT_UNROLL
        for (size_t line = 0; line < bytes; line += 64)
            __builtin_prefetch(p->next + line, 0, 2);
    }
    p->next += bytes;
}

/* One tile of rows x tokens outputs. Each has one accumulator that walks the
 * columns in order, whatever the size of the tile; `sums` holds those of the tile's
 * first token and row from one block of columns to the next. */
FT_INLINE void tile(number wt, number xt, panel *p, size_t r0, size_t t0, lanes *sums, int rows, int tokens)
{
    const ft_matmul *m = p->m;
    const char *w[ROWS], *x[TOKENS];
    lanes sum[ROWS][TOKENS];
    FT_UNROLL
    for (int t = 0; t < tokens; t++)
        x[t] = ft_matmul_x(m, t0 + (size_t)t);
    FT_UNROLL
    for (int r = 0; r < rows; r++) {
        w[r] = (const char *)m->w + (r0 + (size_t)r) * m->w_stride * number_bytes(wt);
        FT_UNROLL
        for (int t = 0; t < tokens; t++)
            sum[r][t] = p->from ? sums[r * FEW_TOKENS + t] : lanes_of(0);
    }
    size_t k = p->from;
    for (; k + STEP <= p->to; k += STEP) {
        fetch(p, STEP * number_bytes(wt) * (size_t)rows);
        columns(wt, xt, sum, w, x, k, STEP, 1, rows, tokens);
    }
    if (k < p->to)
        columns(wt, xt, sum, w, x, k, p->to - k, 0, rows, tokens);
    FT_UNROLL
    for (int t = 0; t < tokens; t++) {
        float *out = m->out + (t0 + (size_t)t) * m->out_stride + r0;
        if (p->to < m->cols) {
            FT_UNROLL
            for (int r = 0; r < rows; r++)
                sums[r * FEW_TOKENS + t] = sum[r][t];
        } else if (rows == ROWS)
            lanes_sum_4(out, sum[0][t], sum[1][t], sum[2][t], sum[3][t]);
        else
            *out = lanes_sum(sum[0][t]);
    }
}

enum {
    AT_MOST_2 = TOKENS < 2 ? TOKENS : 2,
    AT_MOST_3 = TOKENS < 3 ? TOKENS : 3,
    AT_MOST_4 = TOKENS < 4 ? TOKENS : 4,
    AT_MOST_5 = TOKENS < 5 ? TOKENS : 5
};

/* A tile of `tokens` <= TOKENS: each size is a constant, so that sums stay in registers. */
FT_INLINE void tile_of(number wt, number xt, panel *p, size_t r, size_t t, lanes *sums, int rows, size_t tokens)
{
    _Static_assert(TOKENS <= 6, "a case for each size");
    switch (tokens) {
    case 1:
        tile(wt, xt, p, r, t, sums, rows, 1);
        break;
    case 2:
        tile(wt, xt, p, r, t, sums, rows, AT_MOST_2);
        break;
    case 3:
        tile(wt, xt, p, r, t, sums, rows, AT_MOST_3);
        break;
    case 4:
        tile(wt, xt, p, r, t, sums, rows, AT_MOST_4);
        break;
    case 5:
        tile(wt, xt, p, r, t, sums, rows, AT_MOST_5);
        break;
    default:
        tile(wt, xt, p, r, t, sums, rows, TOKENS);
    }
}

/* The panel's rows, one block of columns, tokens first … last - 1. */
FT_INLINE void block(number wt, number xt, panel *p, size_t first, size_t last)
{
    for (size_t r = p->first, rows; r < p->last; r += rows) {
        rows = p->last - r < ROWS || p->lone ? 1 : ROWS;
        for (size_t t = first, tokens; t < last; t += tokens) {
            lanes *sums = &p->sums[(r - p->first) % PANEL_FEW][(t - first) % FEW_TOKENS];
            tokens = ft_matmul_tile(last - t, TOKENS);
            if (rows == ROWS)
                tile_of(wt, xt, p, r, t, sums, ROWS, tokens);
            else
                tile_of(wt, xt, p, r, t, sums, 1, tokens);
        }
    }
}

/* One token: rows of ROWS places far apart go side by side, because memory gives more to
 * several streams than to one. */
FT_INLINE void matmul_lone(number wt, number xt, const ft_matmul *m, size_t part)
{
    const size_t row_bytes = m->w_stride * number_bytes(wt);
    const char *x = ft_matmul_x(m, 0);
    for (size_t first = 0; first < part; first++) {
        const char *w[ROWS];
        lanes sum[ROWS][TOKENS];
        float out[ROWS];
        FT_UNROLL
        for (int r = 0; r < ROWS; r++) {
            w[r] = (const char *)m->w + (first + (size_t)r * part) * row_bytes;
            sum[r][0] = lanes_of(0);
        }
        size_t k = 0;
        for (; k + STEP <= m->cols; k += STEP) {
            FT_UNROLL
            for (int r = 0; r < ROWS; r++)
                __builtin_prefetch(w[r] + k * number_bytes(wt) + AHEAD_LONE, 0, 3);
            columns(wt, xt, sum, w, &x, k, STEP, 1, ROWS, 1);
        }
        if (k < m->cols)
            columns(wt, xt, sum, w, &x, k, m->cols - k, 0, ROWS, 1);
        lanes_sum_4(out, sum[0][0], sum[1][0], sum[2][0], sum[3][0]);
        FT_UNROLL
        for (int r = 0; r < ROWS; r++)
            m->out[first + (size_t)r * part] = out[r];
    }
}

FT_INLINE void matmul(number wt, number xt, const ft_matmul *m)
{
    _Static_assert(ROWS == 4, "lanes_sum_4");
    const size_t part = m->tokens == 1 && m->rows >= LONE_ROWS ? m->rows / ROWS : 0;
    matmul_lone(wt, xt, m, part);
    const int few = m->tokens <= FEW_TOKENS;
    const size_t row_bytes = m->w_stride * number_bytes(wt);
    const int near = m->tokens * m->cols * number_bytes(xt) + 2 * ROWS * row_bytes <= NEAR_BYTES;
    /* One chain of sums is as fast as memory at 32 bytes a step; at others it was slower than four rows. */
    const int lone = m->tokens == 1 && STEP * number_bytes(wt) == 32;
    const size_t most = near ? ROWS : few ? PANEL_FEW : PANEL_MANY;
    const size_t each = few && m->tokens ? BLOCK_BYTES / (m->tokens * number_bytes(xt)) : m->cols;
    const size_t blocks = few ? (m->cols + each - 1) / each : 1;
    const size_t cols = blocks > 1 ? (m->cols / blocks + STEP) / STEP * STEP : m->cols;
    panel p = {.m = m,
               .near = near || lone,
               .lone = lone,
               .first = part * ROWS,
               .end = (const char *)m->w + m->rows * row_bytes,
               .every = (m->tokens + TOKENS - 1) / TOKENS};
    for (; p.first < m->rows; p.first = p.last) {
        p.last = p.first + most < m->rows ? p.first + most : m->rows;
        p.next = (const char *)m->w + (p.lone ? p.first * row_bytes + AHEAD : p.last * row_bytes);
        for (size_t t = 0, tokens; t < m->tokens; t += tokens) {
            tokens = few ? m->tokens : ft_matmul_tile(m->tokens - t, TOKENS);
            for (p.from = 0; p.from < m->cols || !m->cols; p.from = p.to) {
                p.to = p.from + cols < m->cols ? p.from + cols : m->cols;
                block(wt, xt, &p, t, t + tokens);
                if (p.to == m->cols)
                    break;
            }
        }
    }
}
#endif
