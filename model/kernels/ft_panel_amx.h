/* ft_panel_amx: 32 rows of weights by many tokens on the matrix unit, whose sums ft_amx.h describes. A step adds 32
 * columns to them, which lie behind one another.
 *
 * Tokens are the first operand, as they lie. Weights are turned, 32 rows at a time for all tokens, some steps ahead of
 * the unit. It works on all while the next rows come from memory: lines on their way take the places in which others
 * come from the second-level cache, so they are spread as evenly as can be. This cache is what the unit waits for most;
 * it holds 48 tokens' sums, for which both operands are read less often than for 32. */
#ifndef FT_PANEL_AMX_H
#define FT_PANEL_AMX_H
#include "model/kernels/ft_prepare.h"

#include "model/kernels/ft_amx.h"
#include "model/kernels/ft_simd_avx512.h"

#include <string.h>

enum {
    LINE_BYTES = 64,
    TURNED_AHEAD = 8,            /* steps */
    TOKENS_BYTES = 5 << 18,      /* of tokens that all rows meet: five eighths of a second-level cache */
    MOST_COLUMNS = 4096,         /* at a time */
    MOST_TILES = 3,              /* of tokens, of whose sums by 32 rows the unit holds */
    AT_ONCE = MOST_TILES * SIDE, /* tokens */
    TILE_PAIRS = SIDE * SIDE,    /* of turned rows */
    STEP_PAIRS = 2 * TILE_PAIRS
};

/* Half of a panel: 16 rows of weights, or as many as there are. */
typedef struct half {
    const char *w; /* of the part's first column */
    size_t rows;
} half;

typedef struct panel {
    const ft_matmul *m;
    size_t row_bytes;
    size_t columns;              /* of a part */
    size_t from, to, steps;      /* columns of this part */
    half now[2], next[2];        /* next.w NULL: nothing to fetch */
    size_t fetched, line, fetch; /* of each half: rows, and lines of the row that comes; lines a step */
    size_t kept;                 /* token whose columns and whose followers' `gathered` holds; SIZE_MAX: none */
    _Alignas(64) uint32_t turned[MOST_COLUMNS / DEEP * STEP_PAIRS]; /* [steps][2][16 pairs][16 rows] */
    _Alignas(64) uint16_t gathered[AT_ONCE * (MOST_COLUMNS + DEEP)];
    _Alignas(64) float sums[AT_ONCE * PAIRED];
} panel;

/* What a step does besides: vectors have time while the unit works. */
typedef void besides_fn(panel *p);

/* 48 tokens or fewer. */
typedef struct group {
    const char *x; /* their columns */
    size_t x_step; /* bytes */
    float *out;
    size_t out_step; /* bytes */
    size_t claimed;  /* rows of out to fetch before they are written */
} group;

/* --- Weights ---------------------------------------------------------------------------------- */

/* Rows that are not there and columns beyond the last are 0. */
static __attribute__((noinline)) void turn_some(const panel *p, const half *h, size_t k, uint32_t *out)
{
    const size_t left = p->to - p->from - k;
    const __mmask32 there = left < DEEP ? (__mmask32)((1ull << left) - 1) : 0xffffffffu;
    __m512i in[SIDE];
    for (size_t i = 0; i < SIDE; i++)
        in[i] = i < h->rows ? _mm512_maskz_loadu_epi16(there, h->w + i * p->row_bytes + k * sizeof(uint16_t))
                            : _mm512_setzero_si512();
    turn(out, SIDE, in);
}

/* One step's columns of all rows. */
FT_INLINE void turn_step(panel *p, size_t step)
{
    const size_t k = step * DEEP;
    uint32_t *out = p->turned + step * STEP_PAIRS;
    FT_UNROLL
    for (size_t i = 0; i < 2; i++, out += TILE_PAIRS) {
        const half *h = &p->now[i];
        if (h->rows == SIDE && p->from + k + DEEP <= p->to)
            turn_rows(out, SIDE, h->w + k * sizeof(uint16_t), p->row_bytes);
        else
            turn_some(p, h, k, out);
    }
}

/* Some lines of the rows that come next, in the order in which they lie, from both halves: memory gives more to two
 * streams than to one. Fetching a row that is not there does no harm. */
FT_INLINE void fetch_next(panel *p)
{
    for (size_t i = 0; i < p->fetch && p->next[0].w; i++) {
        const size_t at = p->fetched * p->row_bytes + p->line * LINE_BYTES;
        __builtin_prefetch(p->next[0].w + at, 0, 2);
        __builtin_prefetch(p->next[1].w + at, 0, 2);
        if (++p->line < p->steps)
            continue;
        p->line = 0;
        if (++p->fetched == p->next[0].rows)
            p->next[0].w = NULL;
    }
}

static inline void fetch_from(panel *p, half first, half second)
{
    p->next[0] = first;
    p->next[1] = second;
    p->fetched = p->line = 0;
}

/* --- Tokens ----------------------------------------------------------------------------------- */

/* Tiles keep their shapes: the processor does nothing else until it has new ones. The last tokens are followed by
 * zeros. */
static inline void load_shapes(void)
{
    tiles c = {0};
    for (int i = 0; i < 8; i++)
        shape(&c, i, SIDE, SIDE);
    written();
    _tile_loadconfig(&c);
}

/* Where the columns of tokens t ... t + n - 1 lie. */
static inline void find_tokens(panel *p, group *g, size_t t, size_t n)
{
    const size_t bytes = p->steps * LINE_BYTES;
    if (!p->m->index && n % SIDE == 0) {
        g->x_step = p->m->x_stride;
        g->x = (const char *)ft_matmul_x(p->m, t) + p->from * sizeof(uint16_t);
        return;
    }
    char *x = (char *)p->gathered;
    g->x = x;
    g->x_step = bytes + LINE_BYTES;
    if (p->kept == t)
        return;
    p->kept = t;
    for (size_t i = 0; i < n; i++, x += g->x_step)
        memcpy(x, (const uint16_t *)ft_matmul_x(p->m, t + i) + p->from, bytes);
    for (size_t i = n; i % SIDE; i++, x += g->x_step)
        memset(x, 0, bytes);
}

/* --- Products --------------------------------------------------------------------------------- */

/* Sums of n tiles of tokens, each by two tiles of rows: 0 and 1, 2 and 3, 4 and 5; each tile of tokens `below` bytes
 * behind the one before. */
FT_INLINE void clear_sums(int n)
{
    _tile_zero(0);
    _tile_zero(1);
    if (n > 1) {
        _tile_zero(2);
        _tile_zero(3);
    }
    if (n > 2) {
        _tile_zero(4);
        _tile_zero(5);
    }
}

FT_INLINE void load_sums(int n, const char *out, size_t out_step, size_t below)
{
    _tile_loadd(0, out, out_step);
    _tile_loadd(1, out + LINE_BYTES, out_step);
    if (n > 1) {
        _tile_loadd(2, out + below, out_step);
        _tile_loadd(3, out + below + LINE_BYTES, out_step);
    }
    if (n > 2) {
        _tile_loadd(4, out + 2 * below, out_step);
        _tile_loadd(5, out + 2 * below + LINE_BYTES, out_step);
    }
}

FT_INLINE void store_sums(int n, char *out, size_t out_step, size_t below)
{
    _tile_stored(0, out, out_step);
    _tile_stored(1, out + LINE_BYTES, out_step);
    if (n > 1) {
        _tile_stored(2, out + below, out_step);
        _tile_stored(3, out + below + LINE_BYTES, out_step);
    }
    if (n > 2) {
        _tile_stored(4, out + 2 * below, out_step);
        _tile_stored(5, out + 2 * below + LINE_BYTES, out_step);
    }
    written();
}

/* One step of the sums. Three tiles of tokens leave room for one of each operand: rows come twice, the second time from
 * the first-level cache. */
FT_INLINE void panel_step(int n, const char *x, size_t x_step, size_t lower, const uint32_t *w)
{
    const uint32_t *second = w + TILE_PAIRS;
    if (n < 3) {
        _tile_loadd(4, x, x_step);
        _tile_loadd(6, w, LINE_BYTES);
        _tile_loadd(7, second, LINE_BYTES);
        if (n > 1)
            _tile_loadd(5, x + lower, x_step);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if (n > 1) {
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
        return;
    }
    _tile_loadd(6, x, x_step);
    _tile_loadd(7, w, LINE_BYTES);
    _tile_dpbf16ps(0, 6, 7);
    _tile_loadd(7, second, LINE_BYTES);
    _tile_dpbf16ps(1, 6, 7);
    _tile_loadd(6, x + lower, x_step);
    _tile_dpbf16ps(3, 6, 7);
    _tile_loadd(7, w, LINE_BYTES);
    _tile_dpbf16ps(2, 6, 7);
    _tile_loadd(6, x + 2 * lower, x_step);
    _tile_dpbf16ps(4, 6, 7);
    _tile_loadd(7, second, LINE_BYTES);
    _tile_dpbf16ps(5, 6, 7);
}

/* The panel by g's tokens, n tiles of them. What is not turned yet is turned meanwhile, some steps ahead: a tile's load
 * waits until what was stored has left the processor's own buffers. */
FT_INLINE void multiply_by(panel *p, const group *g, int turning, int n, besides_fn *besides)
{
    const size_t lower = SIDE * g->x_step, below = SIDE * g->out_step;
    char *out = (char *)g->out;
    if (p->from)
        load_sums(n, out, g->out_step, below);
    else
        clear_sums(n);
    const char *x = g->x;
    const uint32_t *w = p->turned;
    size_t claimed = 0;
    for (size_t step = 0; step < TURNED_AHEAD && step < p->steps && turning; step++)
        turn_step(p, step);
    for (size_t step = 0; step < p->steps; step++, x += LINE_BYTES, w += STEP_PAIRS) {
        if (turning && step + TURNED_AHEAD < p->steps)
            turn_step(p, step + TURNED_AHEAD);
        for (int i = 0; i < 2 && claimed < g->claimed; i++, claimed++) {
            __builtin_prefetch(out + claimed * g->out_step, 1, 3);
            __builtin_prefetch(out + claimed * g->out_step + LINE_BYTES, 1, 3);
        }
        written();
        panel_step(n, x, g->x_step, lower, w);
        fetch_next(p);
        if (besides)
            besides(p);
    }
    store_sums(n, out, g->out_step, below);
}

/* Sums of tokens t ... t + n - 1 into g's out; the first tokens' go along with turning. */
FT_INLINE void multiply(panel *p, group *g, size_t t, size_t n, besides_fn *besides)
{
    find_tokens(p, g, t, n);
    written();
    if (t == 0 && n > 2 * SIDE)
        multiply_by(p, g, 1, 3, besides);
    else if (t == 0 && n > SIDE)
        multiply_by(p, g, 1, 2, besides);
    else if (t == 0)
        multiply_by(p, g, 1, 1, besides);
    else if (n > 2 * SIDE)
        multiply_by(p, g, 0, 3, besides);
    else if (n > SIDE)
        multiply_by(p, g, 0, 2, besides);
    else
        multiply_by(p, g, 0, 1, besides);
}

/* Parts of the columns so large that all tokens' stay in the cache. */
static inline void begin_product(panel *p, const ft_matmul *m)
{
    const size_t fit = TOKENS_BYTES / sizeof(uint16_t) / m->tokens / DEEP * DEEP;
    const size_t most = fit < DEEP           ? DEEP
                        : fit < MOST_COLUMNS ? fit
                                             : MOST_COLUMNS,
                 parts = (m->cols + most - 1) / most, groups = (m->tokens + AT_ONCE - 1) / AT_ONCE;
    p->m = m;
    memset(p->now, 0, sizeof(p->now));
    p->row_bytes = m->w_stride * sizeof(uint16_t);
    p->columns = (m->cols + parts * DEEP - 1) / (parts * DEEP) * DEEP;
    p->fetch = (SIDE + groups - 1) / groups;
    load_shapes();
}

static inline void begin_part(panel *p, size_t from)
{
    p->from = from;
    p->to = p->m->cols - from < p->columns ? p->m->cols : from + p->columns;
    p->steps = (p->to - from + DEEP - 1) / DEEP;
    p->kept = SIZE_MAX;
}
#endif
