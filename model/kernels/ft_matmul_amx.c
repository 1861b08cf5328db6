/* ft_matmul.h of bfloat16 by bfloat16 on the processor's matrix unit (AMX), whose sums ft_amx.h describes and their
 * order ft_matmul_amx.h.
 *
 * Tokens are the first operand, as they lie. Weights are turned, 32 rows at a time for all tokens: line by line, so
 * that a tile's rows are the pairs that its step takes. */
#include "model/kernels/ft_matmul.h"

#if defined(__AMX_BF16__) || defined(__AMXBF16__) /* gcc, clang */
#include "model/kernels/ft_matmul_amx.h"
#include "model/kernels/ft_simd_avx512.h"

#include <string.h>

enum {
    TOKENS_BYTES = 1 << 20,    /* of tokens that all rows meet: half of a second-level cache */
    MOST_COLUMNS = 4096,       /* at a time */
    AT_ONCE = 2 * SIDE,        /* tokens, and rows, of sums that the unit holds */
    STEP_PAIRS = SIDE * PAIRED /* of two tiles side by side */
};

/* 32 rows of weights, turned: [steps][16 pairs][32 rows]; and 32 tokens' columns, where they do not lie in equal steps.
 * Tiles as in step_of. */
typedef struct panel {
    const ft_matmul *m;
    size_t row, rows; /* of the panel */
    size_t from, to;  /* columns */
    size_t blocks;    /* of columns */
    size_t shaped;    /* tokens that tiles are shaped for; 0: none yet */
    const char *next; /* rows of weights to fetch meanwhile: the next panel's */
    size_t next_step, next_rows;
    _Alignas(64) uint32_t turned[MOST_COLUMNS / DEEP * STEP_PAIRS];
    _Alignas(64) uint16_t gathered[AT_ONCE * MOST_COLUMNS];
    _Alignas(64) float sums[AT_ONCE * AT_ONCE];
} panel;

/* 32 tokens or fewer. */
typedef struct group {
    const char *x; /* their columns */
    size_t x_step; /* bytes */
    size_t half;   /* tokens of the first tile */
    float *out;
    size_t out_step;
    size_t fetch; /* lines of weights a step */
} group;

/* --- Weights ---------------------------------------------------------------------------------- */

/* One line of 16 rows; rows beyond the panel's and columns beyond the last are 0. */
FT_INLINE void turn_line(panel *p, size_t r, size_t block, size_t line)
{
    const size_t k = p->from + block * BLOCK + line * DEEP;
    uint32_t *out = p->turned + block * LINES * STEP_PAIRS + r + line * PAIRED;
    __m512i in[SIDE];
    if (r + SIDE <= p->rows && k + DEEP <= p->to) {
        FT_UNROLL
        for (size_t i = 0; i < SIDE; i++)
            in[i] = _mm512_loadu_si512(weights_at(p->m, p->row + r + i, k));
    } else {
        const __mmask32 there = k + DEEP <= p->to ? 0xffffffffu
                                : k < p->to       ? (__mmask32)((1ull << (p->to - k)) - 1)
                                                  : 0;
        for (size_t i = 0; i < SIDE; i++)
            in[i] = r + i < p->rows && there ? _mm512_maskz_loadu_epi16(there, weights_at(p->m, p->row + r + i, k))
                                             : _mm512_setzero_si512();
    }
    turn_halves(out, STEP_PAIRS, LINES * PAIRED, in);
}

/* 16 lines of the rows that come next, in the order in which they lie, which memory likes best: over all lines of 16
 * rows, 16 rows. */
FT_INLINE void fetch_rows(const panel *p, size_t r, size_t k)
{
    const size_t row_bytes = p->m->w_stride * sizeof(uint16_t), whole = p->to - p->from == p->m->w_stride;
    const char *w = p->next + r * row_bytes + (whole ? k / DEEP * SIDE * LINE_BYTES : k * sizeof(uint16_t));
    FT_UNROLL
    for (size_t line = 0; line < SIDE; line++)
        __builtin_prefetch(w + line * (whole ? LINE_BYTES : row_bytes), 0, 2);
}

/* One line of the panel's rows. */
FT_INLINE void turn_lines(panel *p, size_t block, size_t line, int fetch)
{
    for (size_t r = 0; r < PAIRED; r += SIDE) {
        if (fetch)
            fetch_rows(p, r, (block * LINES + line) * DEEP);
        turn_line(p, r, block, line);
    }
}

FT_INLINE void fetch_next(panel *p, size_t lines)
{
    for (; lines && p->next_rows; lines--) {
        __builtin_prefetch(p->next + p->next_step * LINE_BYTES, 0, 2);
        if (++p->next_step == p->blocks * LINES) {
            p->next_step = 0;
            p->next += p->m->w_stride * sizeof(uint16_t);
            p->next_rows--;
        }
    }
}

/* --- Products ---------------------------------------------------------------------------------- */

/* Where the columns of tokens t ... t + n - 1 lie. */
static void find_tokens(panel *p, group *g, size_t t, size_t n)
{
    if (!p->m->index) {
        g->x_step = p->m->x_stride;
        g->x = (const char *)ft_matmul_x(p->m, t) + p->from * sizeof(uint16_t);
        return;
    }
    g->x_step = p->blocks * BLOCK * sizeof(uint16_t);
    g->x = (const char *)p->gathered;
    for (size_t i = 0; i < n; i++)
        memcpy((char *)p->gathered + i * g->x_step, (const uint16_t *)ft_matmul_x(p->m, t + i) + p->from, g->x_step);
}

/* Sums of n tokens by the panel's rows between m->out and memory of 32 by 32. */
static void move_sums(panel *p, size_t t, size_t n, int store)
{
    for (size_t i = 0; i < n; i++) {
        float *out = p->m->out + (t + i) * p->m->out_stride + p->row;
        if (store)
            memcpy(out, p->sums + i * PAIRED, p->rows * sizeof(*out));
        else
            memcpy(p->sums + i * PAIRED, out, p->rows * sizeof(*out));
    }
}

/* The panel by g's tokens: one tile of them, or two. What is not turned yet is turned meanwhile, one
 * block ahead: a tile's load waits until what was stored has left the processor's own buffers. */
FT_INLINE void products(panel *p, const group *g, int turning, int fetching, int two)
{
    float *out = g->out;
    const size_t lower = g->half * g->x_step, below = g->half * (g->out_step / sizeof(*out));
    _tile_zero(0);
    _tile_zero(1);
    if (two) {
        _tile_zero(2);
        _tile_zero(3);
    }
    if (p->from) {
        _tile_loadd(0, out, g->out_step);
        _tile_loadd(1, out + SIDE, g->out_step);
        if (two) {
            _tile_loadd(2, out + below, g->out_step);
            _tile_loadd(3, out + below + SIDE, g->out_step);
        }
    }
    const char *x = g->x;
    const uint32_t *w = p->turned;
    for (size_t line = 0; line < LINES && turning; line++)
        turn_lines(p, 0, line, fetching);
    for (size_t block = 0; block < p->blocks; block++)
        for (size_t s = 0; s < LINES; s++, x += LINE_BYTES, w += STEP_PAIRS) {
            if (turning && block + 1 < p->blocks)
                turn_lines(p, block + 1, s, fetching);
            written();
            step_of(x, g->x_step, lower, w, PAIRED * sizeof(*w), two);
            if (!turning && fetching)
                fetch_next(p, g->fetch);
        }
    _tile_stored(0, out, g->out_step);
    _tile_stored(1, out + SIDE, g->out_step);
    if (two) {
        _tile_stored(2, out + below, g->out_step);
        _tile_stored(3, out + below + SIDE, g->out_step);
    }
}

/* The processor does nothing else until it has new shapes. */
static void load_shapes(panel *p, size_t n, size_t half)
{
    tiles c = {0};
    if (p->shaped == n)
        return;
    p->shaped = n;
    const size_t rest = n > half ? n - half : half;
    for (int i = 0; i < 2; i++) {
        shape(&c, i, half, SIDE);
        shape(&c, 2 + i, rest, SIDE);
        shape(&c, 6 + i, SIDE, SIDE);
    }
    shape(&c, 4, half, SIDE);
    shape(&c, 5, rest, SIDE);
    written();
    _tile_loadconfig(&c);
}

/* Tokens t ... t + n - 1, at most 32. Where they are all, memory is what they wait for. */
static void panel_tokens(panel *p, size_t t, size_t n)
{
    const int two = n > SIDE, turning = t == 0, all = n == p->m->tokens;
    const int straight = p->rows == PAIRED;
    group g = {.half = two ? SIDE : n,
               .out = straight ? p->m->out + t * p->m->out_stride + p->row : p->sums,
               .out_step = (straight ? p->m->out_stride : (size_t)PAIRED) * sizeof(float),
               .fetch = (AT_ONCE * AT_ONCE + p->m->tokens - 1) / p->m->tokens + 1};
    find_tokens(p, &g, t, n);
    load_shapes(p, n, g.half);
    if (!straight && p->from)
        move_sums(p, t, n, 0);
    written();
    if (all && two)
        products(p, &g, 1, p->next_rows > 0, 1);
    else if (all)
        products(p, &g, 1, p->next_rows > 0, 0);
    else if (turning)
        products(p, &g, 1, 0, 1);
    else if (two)
        products(p, &g, 0, 1, 1);
    else
        products(p, &g, 0, 1, 0);
    if (!straight)
        move_sums(p, t, n, 1);
}

/* Columns at a time: so many that all tokens' stay in the cache. */
static size_t columns_at_once(const ft_matmul *m)
{
    const size_t fit = TOKENS_BYTES / sizeof(uint16_t) / m->tokens / BLOCK * BLOCK;
    const size_t most = fit < BLOCK          ? BLOCK
                        : fit < MOST_COLUMNS ? fit
                                             : MOST_COLUMNS,
                 parts = (m->cols + most - 1) / most;
    return (m->cols + parts * BLOCK - 1) / (parts * BLOCK) * BLOCK;
}

static void find_next(panel *p)
{
    const ft_matmul *m = p->m;
    const size_t row = p->row + p->rows, left = m->rows - row;
    p->next = weights_at(m, row, p->from);
    p->next_rows = left < PAIRED ? left : PAIRED;
    p->next_step = 0;
    if (left)
        return;
    p->next_rows = m->rows < PAIRED ? m->rows : PAIRED;
    if (p->to < m->cols)
        p->next = weights_at(m, 0, p->to);
    else {
        p->next = m->next;
        p->next_rows = m->next ? (m->next_rows < PAIRED ? m->next_rows : PAIRED) : 0;
    }
}

static void matmul(const ft_matmul *m)
{
    const size_t columns = columns_at_once(m);
    panel p;
    p.m = m;
    p.shaped = 0;
    for (p.from = 0; p.from < m->cols; p.from = p.to) {
        p.to = m->cols - p.from < columns ? m->cols : p.from + columns;
        p.blocks = (p.to - p.from + BLOCK - 1) / BLOCK;
        for (p.row = 0; p.row < m->rows; p.row += p.rows) {
            p.rows = m->rows - p.row < PAIRED ? m->rows - p.row : PAIRED;
            find_next(&p);
            for (size_t t = 0, n; t < m->tokens; t += n) {
                n = m->tokens - t < AT_ONCE ? m->tokens - t : AT_ONCE;
                panel_tokens(&p, t, n);
            }
        }
    }
    _tile_release();
}

void ft_matmul_bf16_bf16_amx(const ft_matmul *m)
{
    if (m->cols == 0)
        for (size_t t = 0; t < m->tokens; t++)
            memset(m->out + t * m->out_stride, 0, m->rows * sizeof(*m->out));
    else if (m->tokens == 0)
        return;
    else if (m->tokens <= FEW_TOKENS && m->tokens * ((m->cols + BLOCK - 1) / BLOCK) <= FEW_COLUMNS / BLOCK)
        ft_amx_few(m);
    else
        matmul(m);
}
#endif
