/* ft_matmul.h of bfloat16 by bfloat16 on the processor's matrix unit (AMX), see ft_panel_amx.h. */
#include "model/kernels/ft_matmul.h"

#if defined(__AMX_BF16__) || defined(__AMXBF16__) /* gcc, clang */
#include "model/kernels/ft_panel_amx.h"

enum {
    FEW_TOKENS = SIDE,
    FEW_BYTES = 1 << 17, /* of these tokens */
    FEW_AHEAD = 12       /* steps */
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
    const uint32_t *x; /* [steps][16 pairs][tokens] */
    _Alignas(64) uint32_t turned[FEW_BYTES / 4 + TILE_PAIRS];
    _Alignas(64) float sums[2][TILE_PAIRS];
} few;

static void turn_tokens(few *f)
{
    const size_t n = f->m->tokens;
    f->x = f->turned;
    if (n == 1) { /* its pairs lie behind one another */
        f->x = ft_matmul_x(f->m, 0);
        return;
    }
    uint32_t *out = f->turned;
    for (size_t step = 0; step < f->steps; step++, out += SIDE * n) {
        uint32_t wide[TILE_PAIRS];
        __m512i in[SIDE];
        for (size_t t = 0; t < SIDE; t++)
            in[t] = t < n ? _mm512_loadu_si512((const char *)ft_matmul_x(f->m, t) + step * LINE_BYTES)
                          : _mm512_setzero_si512();
        turn(wide, SIDE, in);
        for (size_t pair = 0; pair < SIDE; pair++) /* what is too much is overwritten */
            _mm512_storeu_si512(out + pair * n, _mm512_loadu_si512(wide + pair * SIDE));
    }
}

static void load_few_shapes(size_t tokens)
{
    tiles c = {0};
    for (int i = 0; i < 8; i++)
        shape(&c, i, SIDE, i == 4 || i == 5 ? SIDE : tokens);
    written();
    _tile_loadconfig(&c);
}

/* A step's lines of 16 rows, some steps before the unit takes them. */
FT_INLINE void fetch_step(const few *f, const char *w, const char *next, size_t step)
{
    const size_t at = step + at_most(FEW_AHEAD, f->steps);
    const char *from = at < f->steps ? w + at * LINE_BYTES : next + (at - f->steps) * LINE_BYTES;
    FT_UNROLL
    for (size_t i = 0; i < SIDE; i++)
        __builtin_prefetch(from + i * f->row_bytes, 0, 3);
}

/* 16 rows, and the 16 from `next` on are on their way. */
FT_INLINE void few_rows(few *f, const char *w, const char *next, float *out)
{
    const size_t n = f->m->tokens;
    const uint32_t *x = f->x;
    _tile_zero(0);
    for (size_t step = 0; step < f->steps; step++, x += SIDE * n) {
        _tile_loadd(4, w + step * LINE_BYTES, f->row_bytes);
        _tile_loadd(6, x, n * sizeof(*x));
        _tile_dpbf16ps(0, 4, 6);
        fetch_step(f, w, next, step);
    }
    _tile_stored(0, f->sums[0], n * sizeof(float));
    written();
    for (size_t t = 0; t < n; t++, out += f->m->out_stride)
        for (size_t row = 0; row < SIDE; row++)
            out[row] = f->sums[0][row * n + t];
}

static void by_few(const ft_matmul *m)
{
    few f = {.m = m, .row_bytes = m->w_stride * sizeof(uint16_t), .steps = m->cols / DEEP};
    turn_tokens(&f);
    load_few_shapes(m->tokens);
    for (size_t row = 0; row < m->rows; row += SIDE) {
        const char *w = weights_at(m, row, 0), *next = w + SIDE * f.row_bytes;
        few_rows(&f, w, row + SIDE == m->rows && m->next ? m->next : next, m->out + row);
    }
    _tile_release();
}

void ft_matmul_bf16_bf16_amx(const ft_matmul *m)
{
    if (m->cols == 0)
        for (size_t t = 0; t < m->tokens; t++)
            memset(m->out + t * m->out_stride, 0, m->rows * sizeof(*m->out));
    else if (m->tokens && m->tokens <= FEW_TOKENS && m->cols % DEEP == 0 && m->rows % SIDE == 0 &&
             m->tokens * m->cols * sizeof(uint16_t) <= FEW_BYTES)
        by_few(m);
    else if (m->tokens)
        by_many(m);
}
#endif
