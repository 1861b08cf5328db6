/* ft_matmul.h of bfloat16 by bfloat16 on the processor's matrix unit (AMX), whose sums ft_amx.h describes.
 *
 * An output's bits depend on K alone, whichever operand is weights; so two arrangements serve:
 *   few tokens   weights are the first operand, as they lie; the tokens' columns stand in pairs beside each other
 *   many         tokens are the first operand, as they lie; a panel of weights is turned so for all of them */
#include "model/kernels/ft_matmul.h"

#if defined(__AMX_BF16__) || defined(__AMXBF16__) /* gcc, clang */
#include "model/kernels/ft_amx.h"
#include "model/kernels/ft_simd_avx512.h"

#include <string.h>

enum {
    FEW_COLUMNS = 4096, /* that stand in pairs at a time */
    MANY_ROWS = 128,    /* of a panel that is turned: with its columns half of a second-level cache at most */
    MANY_COLUMNS = 512
};

static const char *weights_at(const ft_matmul *m, size_t row, size_t col)
{
    return (const char *)m->w + (row * m->w_stride + col) * sizeof(uint16_t);
}

/* --- Few tokens ------------------------------------------------------------------------- */

/* Tiles 0 to 3 are sums of 16 rows each, 4 is of tokens, 5 and 6 of weights. */
static void shape_few(tiles *c, size_t rows, size_t tokens)
{
    *c = (tiles){0};
    for (int i = 0; i < 4; i++)
        shape(c, i, rows, tokens);
    shape(c, 4, SIDE, tokens);
    shape(c, 5, rows, SIDE);
    shape(c, 6, rows, SIDE);
}

typedef struct few {
    const ft_matmul *m;
    const uint32_t *pairs; /* [columns / 2, tokens] of columns from … to - 1, zeros up to a multiple of DEEP */
    size_t tokens;
    size_t from, to;
    float sums[4][SIDE * SIDE];
} few;

/* Columns of m's tokens, side by side. One token's are so already. */
static const uint32_t *pair_up(const few *f, uint32_t *out)
{
    const size_t pairs = (f->to - f->from + DEEP - 1) / DEEP * SIDE;
    const uint32_t *x[SIDE];
    for (size_t t = 0; t < f->tokens; t++)
        x[t] = (const uint32_t *)ft_matmul_x(f->m, t) + f->from / 2;
    if (f->tokens == 1)
        return x[0];
    for (size_t p = 0; p < pairs; p++)
        for (size_t t = 0; t < f->tokens; t++)
            *out++ = x[t][p];
    return out - pairs * f->tokens;
}

/* Sums of `rows` rows from `row` on, between m->out and a tile's memory. */
static void few_sums(few *f, size_t row, size_t rows, float *sums, int store)
{
    for (size_t t = 0; t < f->tokens; t++) {
        float *out = f->m->out + t * f->m->out_stride + row;
        for (size_t r = 0; r < rows; r++)
            if (store)
                out[r] = sums[r * f->tokens + t];
            else
                sums[r * f->tokens + t] = out[r];
    }
}

/* The last columns of 16 rows, and zeros. */
static void copy_tail(const few *f, size_t row, size_t rows, size_t k, uint16_t *out)
{
    memset(out, 0, SIDE * DEEP * sizeof(*out));
    for (size_t r = 0; r < rows; r++)
        memcpy(out + r * DEEP, weights_at(f->m, row + r, k), (f->to - k) * sizeof(*out));
}

/* 16 lines of the rows that come next, in the order in which they lie, which memory likes best: over all steps along the
 * columns, 16 rows. */
FT_INLINE void fetch_weights(const few *f, size_t row, size_t k)
{
    const size_t row_bytes = f->m->w_stride * sizeof(uint16_t), whole = f->to - f->from == f->m->w_stride;
    const char *p = weights_at(f->m, row, whole ? 0 : k) + (whole ? k / DEEP * SIDE * 64 : 0);
    FT_UNROLL
    for (size_t line = 0; line < SIDE; line++)
        __builtin_prefetch(p + line * (whole ? 64 : row_bytes), 0, 2);
}

/* 16 rows, or `rows` as the tiles are shaped; or 16 in each of four places, `part` rows apart: four chains of sums, so
 * that none waits for itself, and four streams. */
FT_INLINE void few_rows(few *f, size_t row, size_t rows, size_t part, int four)
{
    const size_t stride = f->m->w_stride * sizeof(uint16_t), beside = f->tokens * sizeof(float);
    const size_t blocks = four ? 4 : 1;
    _Alignas(64) uint16_t last[4][SIDE * DEEP];
    for (size_t b = 0; b < blocks && f->from; b++)
        few_sums(f, row + b * part, rows, f->sums[b], 0);
    if (!f->from)
        memset(f->sums, 0, blocks * sizeof(f->sums[0]));
    written();
    _tile_loadd(0, f->sums[0], beside);
    if (four) {
        _tile_loadd(1, f->sums[1], beside);
        _tile_loadd(2, f->sums[2], beside);
        _tile_loadd(3, f->sums[3], beside);
    }
    for (size_t k = f->from; k < f->to; k += DEEP) {
        const char *w = weights_at(f->m, row, k);
        size_t step = stride, block = part * stride;
        if (f->to - k < DEEP) {
            for (size_t b = 0; b < blocks; b++)
                copy_tail(f, row + b * part, rows, k, last[b]);
            w = (const char *)last;
            step = DEEP * sizeof(uint16_t);
            block = sizeof(last[0]);
            written();
        } else {
            for (size_t b = 0; b < blocks; b++)
                fetch_weights(f, row + b * part + SIDE, k);
        }
        _tile_loadd(4, f->pairs + (k - f->from) / 2 * f->tokens, beside);
        _tile_loadd(5, w, step);
        _tile_dpbf16ps(0, 5, 4);
        if (four) {
            _tile_loadd(6, w + block, step);
            _tile_dpbf16ps(1, 6, 4);
            _tile_loadd(5, w + 2 * block, step);
            _tile_dpbf16ps(2, 5, 4);
            _tile_loadd(6, w + 3 * block, step);
            _tile_dpbf16ps(3, 6, 4);
        }
    }
    _tile_stored(0, f->sums[0], beside);
    if (four) {
        _tile_stored(1, f->sums[1], beside);
        _tile_stored(2, f->sums[2], beside);
        _tile_stored(3, f->sums[3], beside);
    }
    for (size_t b = 0; b < blocks; b++)
        few_sums(f, row + b * part, rows, f->sums[b], 1);
}

/* At most 16 tokens. */
static void matmul_few(const ft_matmul *m)
{
    _Alignas(64) uint32_t pairs[FEW_COLUMNS / 2 * SIDE];
    const size_t part = m->rows / (4 * SIDE) * SIDE;
    few f = {.m = m, .tokens = m->tokens};
    tiles whole, rest;
    shape_few(&whole, SIDE, m->tokens);
    shape_few(&rest, m->rows % SIDE, m->tokens);
    for (f.from = 0; f.from < m->cols; f.from = f.to) {
        size_t row = 4 * part;
        f.to = m->cols - f.from < FEW_COLUMNS ? m->cols : f.from + FEW_COLUMNS;
        f.pairs = pair_up(&f, pairs);
        written();
        _tile_loadconfig(&whole);
        for (size_t b = 0; b < 4 && part; b++)
            for (size_t k = f.from; k < f.to; k += DEEP)
                fetch_weights(&f, b * part, k);
        for (size_t r = 0; r < part; r += SIDE)
            few_rows(&f, r, SIDE, part, 1);
        for (; row + SIDE <= m->rows; row += SIDE)
            few_rows(&f, row, SIDE, 0, 0);
        if (row < m->rows) {
            _tile_loadconfig(&rest);
            few_rows(&f, row, m->rows - row, 0, 0);
        }
    }
}

/* --- Many tokens -------------------------------------------------------------------------- */

/* A panel of weights, turned: [rows / 32][columns / 2][32] pairs; and 32 tokens' columns, where they do not lie in
 * equal steps. Tiles as in step_of. */
typedef struct many {
    const ft_matmul *m;
    size_t row, rows;  /* of the panel */
    size_t from, to;   /* columns */
    size_t deep;       /* steps of DEEP columns */
    _Alignas(64) uint32_t turned[MANY_ROWS * MANY_COLUMNS / 2];
    _Alignas(64) uint16_t gathered[2 * SIDE * MANY_COLUMNS];
    _Alignas(64) float sums[2 * SIDE * 2 * SIDE];
} many;

/* Rows beyond the panel's and columns beyond the last are 0. */
static void turn_panel(many *p)
{
    for (size_t r = 0; r < p->rows; r += SIDE)
        for (size_t d = 0; d < p->deep; d++) {
            const size_t k = p->from + d * DEEP, left = p->to - k;
            const __mmask32 there = left < DEEP ? (__mmask32)((1ull << left) - 1) : 0xffffffffu;
            __m512i in[SIDE];
            for (size_t i = 0; i < SIDE; i++)
                in[i] = r + i < p->rows
                            ? _mm512_maskz_loadu_epi16(there, weights_at(p->m, p->row + r + i, k))
                            : _mm512_setzero_si512();
            turn(p->turned + ((r / PAIRED) * p->deep + d) * SIDE * PAIRED + r % PAIRED, PAIRED, in);
        }
    if (p->rows % PAIRED && p->rows % PAIRED <= SIDE) /* the other half of the last 32 rows */
        for (size_t d = 0; d < p->deep * SIDE; d++)
            _mm512_store_si512(p->turned + (p->rows / PAIRED * p->deep * SIDE + d) * PAIRED + SIDE, _mm512_setzero_si512());
}

/* Where the columns of tokens t … t + n - 1 lie, `*step` bytes apart. */
static const char *token_rows(many *p, size_t t, size_t n, size_t *step)
{
    if (!p->m->index) {
        *step = p->m->x_stride;
        return (const char *)ft_matmul_x(p->m, t) + p->from * sizeof(uint16_t);
    }
    *step = p->deep * DEEP * sizeof(uint16_t);
    for (size_t i = 0; i < n; i++)
        memcpy((char *)p->gathered + i * *step, (const uint16_t *)ft_matmul_x(p->m, t + i) + p->from, *step);
    return (const char *)p->gathered;
}

/* Sums of n tokens by 32 rows, or as many as there are, between m->out and memory of 32 by 32. */
static void many_sums(many *p, size_t t, size_t n, size_t row, size_t rows, int store)
{
    for (size_t i = 0; i < n; i++) {
        float *out = p->m->out + (t + i) * p->m->out_stride + row;
        if (store)
            memcpy(out, p->sums + i * PAIRED, rows * sizeof(*out));
        else
            memcpy(p->sums + i * PAIRED, out, rows * sizeof(*out));
    }
}

FT_INLINE void many_products(const many *p, const char *x, size_t x_step, size_t half, const uint32_t *w, float *out,
                             size_t out_step)
{
    const size_t lower = half * x_step, below = half * (out_step / sizeof(*out));
    if (p->from) {
        _tile_loadd(0, out, out_step);
        _tile_loadd(1, out + SIDE, out_step);
        _tile_loadd(2, out + below, out_step);
        _tile_loadd(3, out + below + SIDE, out_step);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (size_t d = 0; d < p->deep; d++) {
        const char *a = x + d * DEEP * sizeof(uint16_t);
        const uint32_t *b = w + d * SIDE * PAIRED;
        step_of(a, x_step, lower, b, PAIRED * sizeof(*b), 1);
    }
    _tile_stored(0, out, out_step);
    _tile_stored(1, out + SIDE, out_step);
    _tile_stored(2, out + below, out_step);
    _tile_stored(3, out + below + SIDE, out_step);
}

/* The panel's rows for n <= 32 tokens from t on. */
static void many_tokens(many *p, size_t t, size_t n)
{
    const size_t half = (n + 1) / 2;
    tiles c = {0};
    for (int i = 0; i < 2; i++) {
        shape(&c, i, half, SIDE);
        shape(&c, 2 + i, n - half, SIDE);
        shape(&c, 6 + i, SIDE, SIDE);
    }
    shape(&c, 4, half, SIDE);
    shape(&c, 5, n - half, SIDE);
    size_t step;
    const char *x = token_rows(p, t, n, &step);
    written();
    _tile_loadconfig(&c);
    for (size_t r = 0; r < p->rows; r += PAIRED) {
        const uint32_t *w = p->turned + r / PAIRED * p->deep * SIDE * PAIRED;
        const size_t rows = p->rows - r < PAIRED ? p->rows - r : PAIRED;
        if (rows == PAIRED) {
            many_products(p, x, step, half, w, p->m->out + t * p->m->out_stride + p->row + r,
                          p->m->out_stride * sizeof(float));
            continue;
        }
        if (p->from)
            many_sums(p, t, n, p->row + r, rows, 0);
        written();
        many_products(p, x, step, half, w, p->sums, PAIRED * sizeof(float));
        many_sums(p, t, n, p->row + r, rows, 1);
    }
}

static void matmul_many(const ft_matmul *m)
{
    many p;
    p.m = m;
    for (p.row = 0; p.row < m->rows; p.row += p.rows) {
        p.rows = m->rows - p.row < MANY_ROWS ? m->rows - p.row : MANY_ROWS;
        for (p.from = 0; p.from < m->cols; p.from = p.to) {
            p.to = m->cols - p.from < MANY_COLUMNS ? m->cols : p.from + MANY_COLUMNS;
            p.deep = (p.to - p.from + DEEP - 1) / DEEP;
            turn_panel(&p);
            for (size_t t = 0, n; t < m->tokens; t += n) {
                n = ft_matmul_tile(m->tokens - t, 2 * SIDE);
                many_tokens(&p, t, n);
            }
        }
    }
}

void ft_matmul_bf16_bf16_amx(const ft_matmul *m)
{
    if (m->cols == 0) {
        for (size_t t = 0; t < m->tokens; t++)
            memset(m->out + t * m->out_stride, 0, m->rows * sizeof(*m->out));
        return;
    }
    if (m->tokens > SIDE)
        matmul_many(m);
    else if (m->tokens)
        matmul_few(m);
    _tile_release();
}
#endif
