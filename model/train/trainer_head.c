#include "model/train/ft_cross_entropy.h"
#include "model/train/ft_linear_backward.h"
#include "model/train/ft_norm_backward.h"
#include "model/train/trainer_internal.h"

#include "base/ft_buffer.h"

#include <stdlib.h>
#include <string.h>

/* Rows whose logits a thread makes, turns into gradients and carries back while they are in its cache. */
enum { ROWS = 64 };

typedef struct head_chunk {
    ft_pass *pass;
    size_t at, rows;
    int backward;
    ft_packed out, back;
    double *token_loss; /* [tokens] */
} head_chunk;

static void part(void *context, size_t task, unsigned worker)
{
    const head_chunk *h = context;
    ft_trainer *t = h->pass->t;
    const size_t V = t->p.config.vocab, H = t->p.config.hidden, from = task * ROWS;
    const size_t n = h->rows - from < ROWS ? h->rows - from : ROWS;
    float *logits = t->s.logits + from * V;
    (void)worker;
    ft_packed_multiply(&h->out, t->final + (h->at + from) * H, H, n, logits, V, 0);
    for (size_t r = 0; r < n; r++) {
        const size_t token = h->at + from + r;
        const int32_t label = h->pass->b->labels[token];
        float *x = logits + r * V;
        if (label < 0)
            memset(x, 0, V * sizeof(*x));
        h->token_loss[token] =
            label < 0 ? 0 : ft_cross_entropy(x, V, (uint32_t)label, h->pass->scale[token / t->length]);
    }
    if (h->backward)
        ft_packed_multiply(&h->back, logits, V, n, t->dx + (h->at + from) * H, H, 0);
}

/* Of an example: the rows of the head's gradient that are its tokens'. */
static void keep_rows(const head_chunk *h)
{
    ft_trainer *t = h->pass->t;
    const size_t V = t->p.config.vocab, H = t->p.config.hidden;
    for (size_t n = 0; n < h->rows; n++) {
        const size_t id = (size_t)h->pass->b->ids[h->at + n];
        float *row = t->s.tied + (h->at + n) * H;
        memset(row, 0, H * sizeof(*row));
        for (size_t s = 0; s < h->rows; s++) {
            const float g = t->s.logits[s * V + id], *x = t->final + (h->at + s) * H;
            for (size_t c = 0; c < H && g != 0; c++)
                row[c] += g * x[c];
        }
    }
}

/* The gradient of the head's weights, of one chunk; or the example's ghost norm, whose chunk it is. */
static void weights(const head_chunk *h)
{
    ft_trainer *t = h->pass->t;
    const size_t V = t->p.config.vocab, H = t->p.config.hidden;
    const float *x = t->final + h->at * H;
    if (!t->p.head->grad)
        return;
    if (h->pass->squares) {
        if (t->s.tied)
            keep_rows(h);
        h->pass->squares[h->at / t->length] += ft_linear_ghost(t->s.logits, V, x, h->rows, H, V, t->s.ghost);
        return;
    }
    ft_packed in = {.units = t->s.inputs, .k = h->rows, .n = H, .bfloat16 = h->pass->bfloat16};
    const int once = ft_gemm_repacks(h->pass->bfloat16);
    if (once)
        ft_pack_all(t->pool, &(ft_pack){.to = &in, .from = x, .stride = H}, 1);
    ft_gemm_run(t->pool, &(ft_gemm){.transpose_a = 1,
                                    .bfloat16 = h->pass->bfloat16,
                                    .add = 1,
                                    .m = V,
                                    .n = H,
                                    .k = h->rows,
                                    .a = t->s.logits,
                                    .a_stride = V,
                                    .b = x,
                                    .b_stride = H,
                                    .packed = once ? &in : NULL,
                                    .out = t->p.head->grad,
                                    .out_stride = H});
}

size_t ft_head_rows(const ft_trainer *t, int whole_sequences)
{
    enum { AT_ONCE = 1 << 21, EVEN = 2 * ROWS };
    const size_t most = AT_ONCE / t->p.config.vocab, limit = most < EVEN ? EVEN : most;
    if (whole_sequences)
        return t->length;
    const size_t chunks = (t->tokens + limit - 1) / limit, rows = (t->tokens + chunks - 1) / chunks;
    return (rows + EVEN - 1) / EVEN * EVEN;
}

size_t ft_head_packed_units(const ft_trainer *t)
{
    const size_t V = t->p.config.vocab, H = t->p.config.hidden;
    return ft_packed_units(H, V, 0) + ft_packed_units(V, H, 0);
}

ft_code ft_head(ft_pass *pass, double *losses, int backward, ft_status *st)
{
    ft_trainer *t = pass->t;
    const size_t H = t->p.config.hidden, V = t->p.config.vocab, T = t->length;
    head_chunk h = {.pass = pass, .backward = backward};
    h.token_loss = ft_alloc_array(t->tokens, sizeof(*h.token_loss));
    if (!h.token_loss)
        return ft_fail(st, FT_ERR_MEM, "no memory for the losses of %zu tokens", t->tokens);
    h.out = (ft_packed){.units = t->s.packed, .k = H, .n = V, .bfloat16 = pass->bfloat16};
    h.back = (ft_packed){
        .units = t->s.packed + ft_packed_units(H, V, pass->bfloat16), .k = V, .n = H, .bfloat16 = pass->bfloat16};
    const ft_pack packs[2] = {{&h.out, t->p.head->value, H, 1}, {&h.back, t->p.head->value, H, 0}};
    ft_pack_all(t->pool, packs, backward ? 2 : 1);
    const size_t most = pass->squares ? T : t->s.logit_rows;
    for (h.at = 0; h.at < t->tokens; h.at += h.rows) {
        h.rows = t->tokens - h.at < most ? t->tokens - h.at : most;
        ft_pool_run(t->pool, (h.rows + ROWS - 1) / ROWS, part, &h);
        if (backward)
            weights(&h);
    }
    for (size_t n = 0; n < t->tokens; n++)
        losses[n / T] += h.token_loss[n];
    free(h.token_loss);
    return FT_OK;
}
