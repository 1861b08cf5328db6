/* ft_matmul.h of bfloat16 by bfloat16 on the processor's matrix unit (AMX), see ft_panel_amx.h. */
#include "model/kernels/ft_matmul.h"

#if defined(__AMX_BF16__) || defined(__AMXBF16__) /* gcc, clang */
#include "model/kernels/ft_panel_amx.h"

enum {
    FEW_TOKENS = AT_ONCE,
    FEW_BYTES = 5 << 16, /* of these tokens */
    FEW_AHEAD = 8        /* steps */
};

static size_t at_most(size_t a, size_t most)
{
    return a < most ? a : most;
}

static const char *weights_at(const ft_matmul *m, size_t row, size_t col)
{
    return (const char *)m->w + (row * m->w_stride + col) * sizeof(uint16_t);
}

/* --- Many tokens -------------------------------------------------------------------------------- */

/* Two halves of the `rows` rows of some matrix from w on. */
static void set_halves(half *h, const char *w, size_t row_bytes, size_t rows)
{
    h[0] = (half){w, at_most(rows, SIDE)};
    h[1] = (half){w + SIDE * row_bytes, rows < SIDE ? 0 : at_most(rows - SIDE, SIDE)};
}

/* What comes after the panel at `row`: the next one, the next part's first or another matrix's. */
static void find_next(panel *p, size_t row)
{
    const ft_matmul *m = p->m;
    half next[2] = {{0}};
    if (row + PAIRED < m->rows)
        set_halves(next, weights_at(m, row + PAIRED, p->from), p->row_bytes, m->rows - row - PAIRED);
    else if (p->to < m->cols)
        set_halves(next, weights_at(m, 0, p->to), p->row_bytes, m->rows);
    else if (m->next)
        set_halves(next, m->next, p->row_bytes, m->next_rows);
    fetch_from(p, next[0], next[1]);
}

/* Sums of n tokens by the panel's rows between m->out and memory of 48 by 32. */
static void move_sums(panel *p, float *out, size_t n, size_t rows, int store)
{
    for (size_t i = 0; i < n; i++, out += p->m->out_stride)
        if (store)
            memcpy(out, p->sums + i * PAIRED, rows * sizeof(*out));
        else
            memcpy(p->sums + i * PAIRED, out, rows * sizeof(*out));
}

static void panel_tokens(panel *p, size_t row, size_t rows, size_t t, size_t n)
{
    float *out = p->m->out + t * p->m->out_stride + row;
    const int straight = rows == PAIRED && n % SIDE == 0;
    group g = {.out = straight ? out : p->sums,
               .out_step = (straight ? p->m->out_stride : (size_t)PAIRED) * sizeof(*out),
               .claimed = straight && !p->from ? n : 0};
    if (!straight && p->from)
        move_sums(p, out, n, rows, 0);
    multiply(p, &g, t, n, NULL);
    if (!straight)
        move_sums(p, out, n, rows, 1);
}

static void by_many(const ft_matmul *m)
{
    panel p;
    begin_product(&p, m);
    for (size_t from = 0; from < m->cols; from = p.to) {
        begin_part(&p, from);
        for (size_t row = 0; row < m->rows; row += PAIRED) {
            set_halves(p.now, weights_at(m, row, from), p.row_bytes, m->rows - row);
            find_next(&p, row);
            for (size_t t = 0; t < m->tokens; t += AT_ONCE)
                panel_tokens(&p, row, at_most(m->rows - row, PAIRED), t, at_most(m->tokens - t, AT_ONCE));
        }
    }
    _tile_release();
}

/* --- Few tokens --------------------------------------------------------------------------------- */

/* Few tokens wait for memory alone. Weights are the first operand, as they lie: nothing is done to them between memory
 * and the unit. Tokens are the second, turned once for all rows. */
typedef struct few {
    const ft_matmul *m;
    size_t row_bytes, steps;
    size_t tiles, width; /* tiles of tokens; tokens of a tile: fewer than a tile's are close together */
    const uint32_t *x;   /* [tiles][steps][16 pairs][width] */
    _Alignas(64) uint32_t turned[FEW_BYTES / sizeof(uint32_t) + TILE_PAIRS];
    _Alignas(64) float sums[TILE_PAIRS];
} few;

static void turn_tile(const few *f, size_t first, uint32_t *out)
{
    const size_t n = at_most(f->m->tokens - first, SIDE);
    for (size_t step = 0; step < f->steps; step++, out += SIDE * f->width) {
        _Alignas(64) uint32_t wide[TILE_PAIRS];
        __m512i in[SIDE];
        for (size_t t = 0; t < SIDE; t++)
            in[t] = t < n ? _mm512_loadu_si512((const char *)ft_matmul_x(f->m, first + t) + step * LINE_BYTES)
                          : _mm512_setzero_si512();
        turn(wide, SIDE, in);
        for (size_t pair = 0; pair < SIDE; pair++) /* the next one goes over what is too much */
            _mm512_storeu_si512(out + pair * f->width, _mm512_load_si512(wide + pair * SIDE));
    }
}

static void turn_tokens(few *f)
{
    const size_t n = f->m->tokens;
    f->tiles = (n + SIDE - 1) / SIDE;
    f->width = at_most(n, SIDE);
    f->x = f->turned;
    if (n == 1) /* its pairs lie behind one another */
        f->x = ft_matmul_x(f->m, 0);
    for (size_t tile = 0; tile < f->tiles && n > 1; tile++)
        turn_tile(f, tile * SIDE, f->turned + tile * f->steps * TILE_PAIRS);
}

/* For few_rows: tiles 0 to 2 are sums, 4 is of weights, 5 to 7 of tokens. */
static void load_few_shapes(size_t width)
{
    tiles c = {0};
    for (int i = 0; i < 8; i++)
        shape(&c, i, SIDE, i == 4 ? SIDE : width);
    written();
    _tile_loadconfig(&c);
}

/* A step's lines of 16 rows. */
FT_INLINE void fetch_lines(const char *w, size_t row_bytes)
{
    FT_UNROLL
    for (size_t i = 0; i < SIDE; i++)
        __builtin_prefetch(w + i * row_bytes, 0, 3);
}

/* 16 sums of each token of a tile. */
FT_INLINE void give_sums(const few *f, size_t first, float *out)
{
    _Alignas(64) uint32_t turned[TILE_PAIRS];
    __m512i in[SIDE];
    written();
    for (size_t row = 0; row < SIDE; row++)
        in[row] = _mm512_load_si512(f->sums + row * SIDE);
    turn(turned, SIDE, in);
    for (size_t t = first; t < f->m->tokens && t < first + SIDE; t++)
        memcpy(out + t * f->m->out_stride, turned + (t - first) * SIDE, SIDE * sizeof(*out));
}

/* 16 rows by n tiles of tokens. What the unit takes some steps on is fetched, of the rows at `next` after these. */
FT_INLINE void few_rows(few *f, int n, const char *w, const char *next, float *out)
{
    const size_t x_step = f->width * sizeof(uint32_t), x_tile = f->steps * TILE_PAIRS, ahead = at_most(FEW_AHEAD, f->steps);
    const uint32_t *x = f->x;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    for (size_t step = 0; step < f->steps; step++, x += SIDE * f->width) {
        const size_t at = step + ahead;
        _tile_loadd(4, w + step * LINE_BYTES, f->row_bytes);
        _tile_loadd(5, x, x_step);
        _tile_dpbf16ps(0, 4, 5);
        if (n > 1) {
            _tile_loadd(6, x + x_tile, x_step);
            _tile_dpbf16ps(1, 4, 6);
        }
        if (n > 2) {
            _tile_loadd(7, x + 2 * x_tile, x_step);
            _tile_dpbf16ps(2, 4, 7);
        }
        fetch_lines(at < f->steps ? w + at * LINE_BYTES : next + (at - f->steps) * LINE_BYTES, f->row_bytes);
    }
    _tile_stored(0, f->sums, LINE_BYTES);
    give_sums(f, 0, out);
    if (n > 1) {
        _tile_stored(1, f->sums, LINE_BYTES);
        give_sums(f, SIDE, out);
    }
    if (n > 2) {
        _tile_stored(2, f->sums, LINE_BYTES);
        give_sums(f, 2 * SIDE, out);
    }
}

static void by_few(const ft_matmul *m)
{
    few f;
    f.m = m;
    f.row_bytes = m->w_stride * sizeof(uint16_t);
    f.steps = m->cols / DEEP;
    for (size_t step = 0; step < at_most(FEW_AHEAD, f.steps); step++)
        fetch_lines(weights_at(m, 0, step * DEEP), f.row_bytes);
    turn_tokens(&f);
    load_few_shapes(f.width);
    const size_t whole = m->rows / SIDE * SIDE;
    for (size_t row = 0; row < whole; row += SIDE) {
        const char *w = weights_at(m, row, 0),
                   *next = row + SIDE == m->rows && m->next ? m->next : w + SIDE * f.row_bytes;
        if (f.tiles == 1)
            few_rows(&f, 1, w, next, m->out + row);
        else if (f.tiles == 2)
            few_rows(&f, 2, w, next, m->out + row);
        else
            few_rows(&f, 3, w, next, m->out + row);
    }
    _tile_release();
    const ft_matmul rest = ft_matmul_rows(m, FT_WEIGHT_BF16, whole, m->rows - whole);
    if (rest.rows)
        by_many(&rest);
}

static int are_few(const ft_matmul *m)
{
    return m->tokens <= FEW_TOKENS && m->cols % DEEP == 0 &&
           (m->tokens + SIDE - 1) / SIDE * SIDE * m->cols * sizeof(uint16_t) <= FEW_BYTES;
}

void ft_matmul_bf16_bf16_amx(const ft_matmul *m)
{
    if (m->cols == 0)
        for (size_t t = 0; t < m->tokens; t++)
            memset(m->out + t * m->out_stride, 0, m->rows * sizeof(*m->out));
    else if (m->tokens && are_few(m))
        by_few(m);
    else if (m->tokens)
        by_many(m);
}
#endif
