/* Matrix products of a pass, dealt out over the threads.
 *
 * All products of a step are laid behind one another as one row of pieces. A
 * thread takes a share of what is left: large and contiguous at first, so that it reads
 * weights as one stream, smaller towards the end, so that all threads end together
 * even where one of them was held up (guided self-scheduling; Polychronopoulos and
 * Kuck, 1987). Each output is one thread's, and its sum does not depend on the share. */
#include "model/engine_internal.h"

#include <string.h>

enum { LEAST_SHARE = 1 << 17 }; /* of cost: some microseconds */

unsigned ft_input_bit(const ft_engine *e, const ft_matrix *w)
{
    return w->data ? 1u << ft_input_of(w->type, e->compute) : 0;
}

void ft_inputs_prepare(const ft_engine *e, ft_inputs *in, unsigned types, size_t t, const float *x, size_t cols)
{
    for (int type = 0; type < FT_INPUT_TYPES; type++)
        if (type != FT_INPUT_F32 && (types >> type & 1)) /* floats serve as they stand */
            e->kernels.prepare[type](in->rows[type] + t * in->stride[type], x, cols);
}

void ft_products_clear(ft_products *p)
{
    p->count = 0;
}

ft_product *ft_products_add(ft_products *p, const ft_engine *e, const ft_matrix *w, const ft_inputs *in,
                            const uint32_t *index, size_t tokens, float *out, size_t out_stride)
{
    const ft_input_type type = ft_input_of(w->type, e->compute);
    ft_product *one = &p->list[p->count++];
    *one = (ft_product){.w = *w,
                        .x = in->rows[type],
                        .x_stride = in->stride[type],
                        .index = index,
                        .tokens = tokens,
                        .out = out,
                        .out_stride = out_stride};
    return one;
}

ft_product *ft_products_add_gated(ft_products *p, const ft_engine *e, const ft_expert *expert, const ft_inputs *in,
                                  const uint32_t *index, size_t tokens, float *out, size_t out_stride)
{
    ft_product *one = ft_products_add(p, e, &expert->gate, in, index, tokens, out, out_stride);
    const ft_input_type type = ft_input_of(expert->up.type, e->compute);
    one->up = expert->up;
    one->up_x = in->rows[type];
    one->up_x_stride = in->stride[type];
    return one;
}

void ft_products_deal(ft_products *p)
{
    p->pieces = 0;
    p->cost = 0;
    for (size_t i = 0; i < p->count; i++) {
        ft_product *one = &p->list[i];
        one->first_piece = p->pieces;
        one->piece_rows = one->ready ? FT_GATED_ROWS : FT_PIECE_ROWS;
        one->pieces = (one->w.rows + one->piece_rows - 1) / one->piece_rows;
        one->cost_before = p->cost;
        /* Weights are read whatever the tokens: a lone token costs as much as a few. */
        one->piece_cost = (uint64_t)one->piece_rows * one->w.cols * (4 + one->tokens) * (one->up.data ? 2 : 1);
        p->pieces += one->pieces;
        p->cost += one->pieces * one->piece_cost;
    }
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
}

/* --- Taking a share ------------------------------------------------------------------- */

/* The product that piece `at` belongs to. */
static size_t product_of(const ft_products *p, size_t at)
{
    size_t i = 0;
    while (at >= p->list[i].first_piece + p->list[i].pieces)
        i++;
    return i;
}

/* Where a share that begins at piece `at` ends. */
static size_t end_of_share(const ft_products *p, size_t at, unsigned members)
{
    if (members == 1)
        return p->pieces;
    size_t i = product_of(p, at);
    const uint64_t begin = p->list[i].cost_before + (at - p->list[i].first_piece) * p->list[i].piece_cost;
    uint64_t share = (p->cost - begin) / (2 * (uint64_t)members);
    share = share > LEAST_SHARE ? share : LEAST_SHARE;
    while (i < p->count) {
        const ft_product *one = &p->list[i++];
        const size_t left = one->first_piece + one->pieces - at, some = (size_t)(share / one->piece_cost);
        if (some < left)
            return at + (some ? some : 1);
        share -= left * one->piece_cost;
        at += left;
        if (share < LEAST_SHARE / 4) /* the beginning of the next one is not worth a stream */
            break;
    }
    return at;
}

/* --- Working on it ------------------------------------------------------------------------ */

/* Where `follows` rows of the other of a gated product's two matrices, from `follow` on, come afterwards. */
static void multiply(const ft_engine *e, const ft_product *one, int up, size_t row, size_t rows, float *out,
                     size_t out_stride, size_t follow, size_t follows)
{
    const ft_matrix *w = up ? &one->up : &one->w;
    const ft_matrix part = ft_matrix_rows(w, row, rows), *other = up ? &one->w : &one->up;
    const int same = follows && other->type == w->type && other->cols == w->cols;
    const ft_matmul m = {.w = part.data,
                         .scales = part.scales,
                         .w_stride = part.cols,
                         .rows = rows,
                         .cols = part.cols,
                         .x = up ? one->up_x : one->x,
                         .x_stride = up ? one->up_x_stride : one->x_stride,
                         .index = one->index,
                         .tokens = one->tokens,
                         .out = out,
                         .out_stride = out_stride,
                         .next = same ? ft_matrix_rows(other, follow, follows).data : NULL,
                         .next_rows = same ? follows : 0};
    ft_kernels_matmul(&e->kernels, w->type, e->compute)(&m);
}

/* Both products of a gated one, and what comes behind them, at once. */
static void run_gated(const ft_engine *e, const ft_product *one, size_t row, size_t rows, float *room)
{
    const ft_matrix gate = ft_matrix_rows(&one->w, row, rows), up = ft_matrix_rows(&one->up, row, rows);
    const ft_gated g = {.gate = {.w = gate.data,
                                 .w_stride = gate.cols,
                                 .rows = rows,
                                 .cols = gate.cols,
                                 .x = one->x,
                                 .x_stride = one->x_stride,
                                 .index = one->index,
                                 .tokens = one->tokens,
                                 .out = room},
                        .up = up.data,
                        .out = one->ready + row * sizeof(uint16_t),
                        .out_step = one->ready_step};
    e->kernels.gated(&g);
}

/* Rows row … row + rows - 1 of one product, as many at a time as the block has room for. */
static void run_rows(const ft_engine *e, const ft_product *one, size_t row, size_t rows, float *block)
{
    if (one->ready) {
        run_gated(e, one, row, rows, block);
        return;
    }
    if (!one->up.data && !one->places) {
        multiply(e, one, 0, row, rows, one->out + row, one->out_stride, 0, 0);
        return;
    }
    const size_t at_once = e->scratch.block_floats / one->tokens / FT_PIECE_ROWS * FT_PIECE_ROWS;
    for (size_t n; rows; row += n, rows -= n) {
        n = rows < at_once ? rows : at_once;
        if (one->places) {
            multiply(e, one, 0, row, n, block, n, 0, 0);
            for (size_t t = 0; t < one->tokens; t++)
                memcpy(one->places[t] + row, block + t * n, n * sizeof(*block));
            continue;
        }
        float *gate = one->out + row;
        multiply(e, one, 0, row, n, gate, one->out_stride, row, n);
        multiply(e, one, 1, row, n, block, n, row + n, rows - n < at_once ? rows - n : at_once);
        for (size_t t = 0; t < one->tokens; t++)
            e->kernels.silu(gate + t * one->out_stride, block + t * n, n);
    }
}

void ft_products_run(ft_pass *pass, unsigned member)
{
    ft_products *p = &pass->work;
    float *block = pass->e->scratch.blocks + member * pass->e->scratch.block_stride;
    uint64_t at = atomic_load_explicit(&p->next, memory_order_relaxed);
    while (at < p->pieces) {
        const size_t end = end_of_share(p, at, pass->team.size);
        if (!atomic_compare_exchange_weak_explicit(&p->next, &at, end, memory_order_relaxed, memory_order_relaxed))
            continue;
        for (size_t i = product_of(p, at); at < end; i++) {
            const ft_product *one = &p->list[i];
            const size_t last = one->first_piece + one->pieces < end ? one->first_piece + one->pieces : end;
            const size_t row = (at - one->first_piece) * one->piece_rows,
                         until = (last - one->first_piece) * one->piece_rows;
            run_rows(pass->e, one, row, (until < one->w.rows ? until : one->w.rows) - row, block);
            at = last;
        }
        at = atomic_load_explicit(&p->next, memory_order_relaxed);
    }
}
