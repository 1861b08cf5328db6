/* ft_matmul.h of bfloat16 by bfloat16 on the processor's matrix unit (AMX), see ft_panel_amx.h. */
#include "model/kernels/ft_matmul.h"

#if defined(__AMX_BF16__) || defined(__AMXBF16__) /* gcc, clang */
#include "model/kernels/ft_panel_amx.h"

static size_t at_most(size_t a, size_t most)
{
    return a < most ? a : most;
}

/* Two halves of the `rows` rows of some matrix from w on. */
static void set_halves(half *h, const char *w, size_t row_bytes, size_t rows)
{
    h[0] = (half){w, 2 * row_bytes, at_most(rows, SIDE)};
    h[1] = (half){w + SIDE * row_bytes, 2 * row_bytes, rows < SIDE ? 0 : at_most(rows - SIDE, SIDE)};
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
    const int straight = rows == PAIRED && fills_tiles(p, n);
    group g = {.out = straight ? out : p->sums,
               .out_step = (straight ? p->m->out_stride : (size_t)PAIRED) * sizeof(*out),
               .claimed = straight && !p->from ? n : 0};
    if (!straight && p->from)
        move_sums(p, out, n, rows, 0);
    multiply(p, &g, t, n, NULL);
    if (!straight)
        move_sums(p, out, n, rows, 1);
}

/* Few tokens wait for memory, which gives more to several streams: panels from four places by turns, whole rows that
 * lie behind one another, while the next four come. How many rows are done: the others are behind these. */
static size_t rows_in_places(panel *p)
{
    const ft_matmul *m = p->m;
    const size_t each = m->rows / (PLACES * PAIRED) * PAIRED, next = m->next_rows / (PLACES * PAIRED) * PAIRED;
    if (m->tokens > AT_ONCE || p->columns < m->cols || m->w_stride != m->cols || !each)
        return 0;
    begin_part(p, 0);
    for (size_t row = 0; row < each; row += PAIRED)
        for (size_t place = 0; place < PLACES; place++) {
            const int last = row + PAIRED == each;
            for (size_t i = 0; i < PLACES && place == 0 && (row == 0 || last); i++)
                p->places[i] = !last     ? weights_at(m, i * each + row + PAIRED, 0)
                               : m->next ? (const char *)m->next + i * next * p->row_bytes
                                         : (const char *)p->turned;
            set_halves(p->now, weights_at(m, place * each + row, 0), p->row_bytes, PAIRED);
            panel_tokens(p, place * each + row, PAIRED, 0, m->tokens);
        }
    p->places[0] = NULL;
    return PLACES * each;
}

static void matmul(const ft_matmul *m)
{
    panel p;
    begin_product(&p, m);
    const size_t done = rows_in_places(&p);
    for (size_t from = 0; from < m->cols && done < m->rows; from = p.to) {
        begin_part(&p, from);
        for (size_t row = done; row < m->rows; row += PAIRED) {
            set_halves(p.now, weights_at(m, row, from), p.row_bytes, m->rows - row);
            find_next(&p, row);
            for (size_t t = 0; t < m->tokens; t += AT_ONCE)
                panel_tokens(&p, row, at_most(m->rows - row, PAIRED), t, at_most(m->tokens - t, AT_ONCE));
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
