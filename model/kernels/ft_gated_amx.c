/* ft_gated.h on the processor's matrix unit (AMX), see ft_panel_amx.h. A panel is 16 rows of each matrix. */
#include "model/kernels/ft_gated.h"

#if defined(__AMX_BF16__) || defined(__AMXBF16__) /* gcc, clang */
#include "model/kernels/ft_panel_amx.h"

#include "model/kernels/ft_lanes_silu.h"

enum { PANELS = FT_GATED_ROWS / SIDE }; /* whose sums wait where columns come in parts */

/* Tokens whose sums are there. */
typedef struct ending {
    const float *sums;
    char *out;
    size_t out_step, tokens; /* that are left */
    tail there;              /* rows */
} ending;

typedef struct gated_panel {
    panel p;
    ending ending;
    _Alignas(64) float sums[2][AT_ONCE * PAIRED];
} gated_panel;

/* The rows of panel n of the block at `row`, from column `from` on. */
static void set_halves(half *h, const panel *p, const void *up, size_t row, size_t from, size_t n)
{
    const size_t first = row + n * SIDE, left = p->m->rows > first ? p->m->rows - first : 0;
    const size_t at = first * p->row_bytes + from * sizeof(uint16_t);
    h[0] = (half){(const char *)p->m->w + at, left < SIDE ? left : SIDE};
    h[1] = (half){(const char *)up + at, h[0].rows};
}

/* What comes after panel n: the next one, the next part's or the next block's first. */
static void find_next(panel *p, const void *up, size_t row, size_t n)
{
    half next[2] = {{0}};
    if (n + 1 < PANELS)
        set_halves(next, p, up, row, p->from, n + 1);
    else if (p->to < p->m->cols)
        set_halves(next, p, up, row, p->to, 0);
    else if (row + FT_GATED_ROWS < p->m->rows)
        set_halves(next, p, up, row + FT_GATED_ROWS, 0, 0);
    fetch_from(p, next[0], next[1]);
}

/* From a token's 16 sums of gate and 16 of up to its 16 columns of a step. Where those of the token 48 further on go is
 * fetched: a store that waits for memory holds up the unit's loads. */
FT_INLINE void end_token(ending *e)
{
    const lanes gated = lanes_gated(lanes_load(e->sums), lanes_load(e->sums + SIDE));
    lanes_store_half((uint16_t *)(void *)e->out, _mm512_maskz_mov_ps(e->there, gated), 1);
    __builtin_prefetch(e->out + AT_ONCE * e->out_step, 1, 3);
    e->tokens--;
    e->sums += PAIRED;
    e->out += e->out_step;
}

/* Two of some tokens a step, while the unit works on those that follow. */
FT_INLINE void end_some(panel *p)
{
    ending *e = &((gated_panel *)p)->ending;
    if (e->tokens)
        end_token(e);
    if (e->tokens)
        end_token(e);
}

static void end_tokens(gated_panel *p)
{
    while (p->ending.tokens)
        end_token(&p->ending);
}

/* Panel n of the block at `row`. Where columns come in parts, sums wait for the last one in the room: [panels][groups].
 */
static void panel_tokens(gated_panel *p, const ft_gated *g, size_t row, size_t n)
{
    const ft_matmul *m = p->p.m;
    const int whole = p->p.columns >= m->cols, last = p->p.to == m->cols;
    char *out = g->out + row * sizeof(uint16_t) + n * LINE_BYTES / 2;
    for (size_t t = 0, count; t < m->tokens; t += count) {
        count = m->tokens - t < AT_ONCE ? m->tokens - t : AT_ONCE;
        const size_t number = n * ((m->tokens + AT_ONCE - 1) / AT_ONCE) + t / AT_ONCE;
        group some = {.out = whole ? p->sums[number % 2] : m->out + number * AT_ONCE * PAIRED,
                      .out_step = PAIRED * sizeof(float)};
        multiply(&p->p, &some, t, count, end_some);
        end_tokens(p);
        if (last)
            p->ending = (ending){some.out, out + t * g->out_step, g->out_step, count, tail_of(p->p.now[0].rows)};
    }
}

void ft_gated_bf16_amx(const ft_gated *g)
{
    const ft_matmul *m = &g->gate;
    gated_panel p;
    if (!m->tokens)
        return;
    p.ending.tokens = 0;
    begin_product(&p.p, m);
    for (size_t row = 0; row < m->rows; row += FT_GATED_ROWS)
        for (size_t from = 0; from < m->cols; from = p.p.to) {
            begin_part(&p.p, from);
            for (size_t n = 0; n < PANELS; n++) {
                set_halves(p.p.now, &p.p, g->up, row, from, n);
                find_next(&p.p, g->up, row, n);
                panel_tokens(&p, g, row, n);
            }
        }
    end_tokens(&p);
    _tile_release();
}
#endif
