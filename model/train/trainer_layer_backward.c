#include "model/train/ft_attention_backward.h"
#include "model/train/ft_linear_backward.h"
#include "model/train/ft_norm_backward.h"
#include "model/train/ft_rope_backward.h"
#include "model/train/ft_router_backward.h"
#include "model/train/ft_swiglu_backward.h"
#include "model/train/trainer_internal.h"

#include <string.h>

/* --- Gradients of norms ------------------------------------------------------------------ */

void ft_norm_part(ft_pass *pass, const ft_rows *rows, int slot, const ft_parameter *p, const float *dy, const float *x,
                  const float *inverse)
{
    const ft_train_scratch *s = &pass->t->s;
    float *part = s->partial + (2 * rows->block + (size_t)slot) * s->partial_stride;
    if (!p->grad)
        return;
    memset(part, 0, p->count * sizeof(*part));
    ft_norm_backward_weight(part, dy + rows->from * p->count, x + rows->from * p->count, inverse + rows->from,
                            rows->to - rows->from, p->count);
}

/* The parts of blocks first … last - 1 added up into t->s.column. */
static void add_parts(const ft_trainer *t, size_t count, int slot, size_t first, size_t last)
{
    memset(t->s.column, 0, count * sizeof(*t->s.column));
    for (size_t b = first; b < last; b++)
        for (size_t c = 0; c < count; c++)
            t->s.column[c] += (double)t->s.partial[(2 * b + (size_t)slot) * t->s.partial_stride + c];
}

void ft_pass_norm(ft_pass *pass, ft_parameter *p, int slot)
{
    const ft_trainer *t = pass->t;
    const size_t each = ft_sequence_blocks(t);
    if (!p->grad)
        return;
    for (size_t i = 0; i < t->sequences && pass->squares; i++) {
        add_parts(t, p->count, slot, i * each, (i + 1) * each);
        for (size_t c = 0; c < p->count; c++)
            pass->squares[i] += t->s.column[c] * t->s.column[c];
    }
    if (pass->squares)
        return;
    add_parts(t, p->count, slot, 0, (t->tokens + FT_BLOCK_TOKENS - 1) / FT_BLOCK_TOKENS);
    for (size_t c = 0; c < p->count; c++)
        p->grad[c] += (float)t->s.column[c];
}

/* --- Gradients of matrices ----------------------------------------------------------------- */

/* A layer's gradients, which are independent of each other: one job. */
typedef struct products {
    ft_pass *pass;
    ft_gemm list[5 + 3 * FT_MAX_EXPERTS];
    size_t count;
    ft_packed inputs[2 + 2 * FT_MAX_EXPERTS]; /* where tasks would repack them: packed once for all */
    ft_pack packs[2 + 2 * FT_MAX_EXPERTS];
    size_t packed, used; /* of inputs, of their memory */
} products;

size_t ft_layer_input_units(const ft_trainer *t)
{
    const ft_model_config *c = &t->p.config;
    const size_t N = t->tokens, R = N * t->top_k, Q = c->heads * c->head_dim;
    const size_t rows = R + FT_PACKED_DEEP * t->experts;
    const int bfloat16 = !ft_gemm_repacks(0);      /* float32 takes more, and may be asked for in any run */
    return ft_packed_units(N, c->hidden, bfloat16) + ft_packed_units(N, Q, bfloat16) +
           ft_packed_units(rows, c->hidden, bfloat16) + ft_packed_units(rows, c->intermediate, bfloat16);
}

/* Rows [n, in] as a right operand, which may have been asked for before. */
static const ft_packed *input(products *all, const float *x, size_t n, size_t in, int bfloat16)
{
    for (size_t i = 0; i < all->packed; i++)
        if (all->packs[i].from == x && all->inputs[i].k == n)
            return &all->inputs[i];
    ft_packed *p = &all->inputs[all->packed];
    *p = (ft_packed){.units = all->pass->t->s.inputs + all->used, .k = n, .n = in, .bfloat16 = bfloat16};
    all->packs[all->packed++] = (ft_pack){.to = p, .from = x, .stride = in};
    all->used += ft_packed_units(n, in, bfloat16);
    return p;
}

typedef struct sink {
    ft_pass *pass;
    const ft_parameter *p;
    const float *dy, *x;
    const size_t *begin;
} sink;

static void ghost(void *context, size_t i, unsigned worker)
{
    const sink *s = context;
    const ft_trainer *t = s->pass->t;
    const size_t in = s->p->shape[1], stride = s->p->shape[0], out = stride - s->p->first / in;
    s->pass->squares[i] +=
        ft_linear_ghost(s->dy + s->begin[i] * stride, stride, s->x + s->begin[i] * in, s->begin[i + 1] - s->begin[i],
                        in, out, t->s.ghost + worker * 2 * t->length * t->length);
}

/* dW += dy^T x, rows dense; `begin` [sequences + 1] are the examples' rows. Ghost norms are added at once. */
static void want(products *all, ft_parameter *p, const float *dy, const float *x, const size_t *begin, int bfloat16)
{
    ft_pass *pass = all->pass;
    const size_t B = pass->t->sequences;
    if (!p->grad)
        return;
    const size_t in = p->shape[1], stride = p->shape[0], first = p->first / in, at = begin[0], n = begin[B] - at;
    if (pass->squares) {
        sink s = {.pass = pass, .p = p, .dy = dy + first, .x = x, .begin = begin};
        ft_pool_run(pass->t->pool, B, ghost, &s);
        return;
    }
    if (n == 0)
        return;
    const int once = ft_gemm_repacks(bfloat16) && p != pass->p->router; /* its rows are one task */
    all->list[all->count++] = (ft_gemm){.transpose_a = 1,
                                        .bfloat16 = bfloat16,
                                        .add = 1,
                                        .m = stride - first,
                                        .n = in,
                                        .k = n,
                                        .a = dy + first + at * stride,
                                        .a_stride = stride,
                                        .b = x + at * in,
                                        .b_stride = in,
                                        .packed = once ? input(all, x + at * in, n, in, bfloat16) : NULL,
                                        .out = p->grad + p->first,
                                        .out_stride = in};
}

/* Examples' rows where every token has one. */
static const size_t *token_rows(const ft_pass *pass)
{
    return pass->t->kept[0].expert_begin + FT_MAX_EXPERTS + 1;
}

/* The rows of each example within an expert's rows: tokens ascend there. */
static void example_rows(const ft_pass *pass, size_t e, size_t *begin)
{
    const ft_trainer *t = pass->t;
    const ft_activations *a = pass->a;
    size_t row = a->expert_begin[e];
    for (size_t i = 0; i <= t->sequences; i++) {
        while (row < a->expert_begin[e + 1] && a->token_of[row] < i * t->length)
            row++;
        begin[i] = row;
    }
}

static void want_experts(products *all)
{
    ft_pass *pass = all->pass;
    ft_trainer *t = pass->t;
    const ft_train_scratch *s = &t->s;
    const float *x = t->plain ? pass->a->mid : s->rows_x;
    size_t *begin = t->kept[0].expert_begin + FT_MAX_EXPERTS + 1 + t->sequences + 1;
    for (size_t e = 0; e < t->experts; e++) {
        ft_parameter *w = pass->p->experts + 3 * e;
        example_rows(pass, e, begin);
        want(all, &w[0], s->dg, x, begin, pass->bfloat16);
        want(all, &w[1], s->du, x, begin, pass->bfloat16);
        want(all, &w[2], s->dy, s->a, begin, pass->bfloat16);
    }
    if (pass->p->router)
        want(all, pass->p->router, s->dl, pass->a->mid, token_rows(pass), 0);
}

static void want_attention(products *all)
{
    ft_pass *pass = all->pass;
    const ft_train_scratch *s = &pass->t->s;
    const size_t *rows = token_rows(pass);
    const float *x = pass->t->x[pass->layer];
    want(all, pass->p->o, s->d_o, pass->a->att, rows, pass->bfloat16);
    want(all, pass->p->q, s->dq, x, rows, pass->bfloat16);
    want(all, pass->p->k, s->dk, x, rows, pass->bfloat16);
    want(all, pass->p->v, s->dv, x, rows, pass->bfloat16);
}

/* --- Experts ------------------------------------------------------------------------------ */

/* Gradients of the mixing weights, of the experts' outputs, and of the router's logits. */
static void split(ft_pass *pass, const ft_rows *rows, const float *dmoe)
{
    ft_trainer *t = pass->t;
    ft_activations *a = pass->a;
    const size_t H = t->p.config.hidden, K = t->top_k, E = t->experts;
    const ft_router router = {.experts = E, .top_k = K, .normalize = t->p.config.norm_topk_prob};
    for (size_t n = rows->from; n < rows->to; n++, dmoe += H) {
        for (size_t j = 0; j < K; j++) {
            const size_t row = a->row_of[n * K + j];
            const float w = a->weights[n * K + j], *y = a->y + row * H;
            float *dy = t->s.dy + row * H;
            double dot = 0;
            for (size_t h = 0; h < H; h++) {
                dot += (double)(dmoe[h] * y[h]);
                dy[h] = w * dmoe[h];
            }
            t->s.dw[n * K + j] = (float)dot;
        }
        if (pass->p->router)
            ft_router_backward(&router, t->s.dl + n * E, a->probs + n * E, a->chosen + n * K, t->s.dw + n * K,
                               a->router_lse[n], pass->z_scale);
        if (pass->p->router && pass->domain_scale > 0 && pass->b->domains[n] >= 0)
            ft_router_domain_backward(&router, t->s.dl + n * E, a->probs + n * E, (size_t)pass->b->domains[n],
                                      pass->domain_scale);
    }
}

static void experts_out(ft_pass *pass, const ft_rows *rows)
{
    ft_trainer *t = pass->t;
    const ft_activations *a = pass->a;
    const size_t H = t->p.config.hidden, at = rows->from * H;
    float *dmoe = t->plain ? t->s.dy + at : t->s.own + rows->worker * t->s.own_stride;
    ft_norm_part(pass, rows, 0, pass->p->after, t->dx, a->moe, a->inv_moe);
    ft_norm_backward(dmoe, t->dx + at, a->moe + at, a->inv_moe + rows->from, pass->p->after->value,
                     rows->to - rows->from, H);
    if (!t->plain)
        split(pass, rows, dmoe);
}

/* Of one expert's rows: from the gradient of its outputs to that of its inputs, with all that the
 * gradients of its weights need on the way. */
static void expert(ft_pass *pass, const ft_rows *rows, int last)
{
    const ft_trainer *t = pass->t;
    const ft_activations *a = pass->a;
    const ft_train_scratch *s = &t->s;
    const size_t H = t->p.config.hidden, I = t->p.config.intermediate, from = rows->from, n = rows->to - from;
    const ft_packed *w = t->packed.experts + 3 * rows->expert;
    float *da = s->own + rows->worker * s->own_stride;
    if (last && !pass->p->experts[3 * rows->expert].grad)
        return;
    for (size_t r = from; r < rows->to && !t->plain; r++)
        memcpy(s->rows_x + r * H, a->mid + a->token_of[r] * H, H * sizeof(float));
    ft_packed_multiply(&w[2], s->dy + from * H, H, n, da, I, 0);
    ft_swiglu_backward(s->dg + from * I, s->du + from * I, s->a + from * I, da, a->gate + from * I, a->up + from * I,
                       n * I);
    if (last)
        return;
    ft_packed_multiply(&w[0], s->dg + from * I, I, n, s->dxr + from * H, H, 0);
    ft_packed_multiply(&w[1], s->du + from * I, I, n, s->dxr + from * H, H, 1);
}

static void expert_through(ft_pass *pass, const ft_rows *rows)
{
    expert(pass, rows, 0);
}

static void expert_last(ft_pass *pass, const ft_rows *rows)
{
    expert(pass, rows, 1);
}

static void bias_gradient(ft_pass *pass)
{
    ft_trainer *t = pass->t;
    const ft_parameter *p = pass->p->bias;
    for (size_t e = p->first; e < p->count; e++) {
        if (p->value[e] > 0) /* the clamp passes nothing */
            continue;
        double all = 0;
        for (size_t i = 0; i < t->sequences; i++) {
            double sum = 0;
            for (size_t n = i * t->length; n < (i + 1) * t->length; n++)
                sum += (double)t->s.dl[n * t->experts + e + 1];
            if (pass->squares)
                pass->squares[i] += sum * sum;
            all += sum;
        }
        if (!pass->squares)
            p->grad[e] += (float)all;
    }
}

/* --- Attention ------------------------------------------------------------------------------ */

/* The gradient of the residual stream after attention: past the experts, through them, and
 * through the router; then of what attention gave. */
static void attention_out(ft_pass *pass, const ft_rows *rows)
{
    ft_trainer *t = pass->t;
    const ft_model_config *c = &t->p.config;
    const ft_activations *a = pass->a;
    const size_t H = c->hidden, Q = c->heads * c->head_dim, K = t->top_k, at = rows->from * H;
    const size_t count = rows->to - rows->from;
    for (size_t n = rows->from; n < rows->to; n++) {
        float *out = t->s.dmid + n * H;
        memcpy(out, t->dx + n * H, H * sizeof(*out));
        for (size_t j = 0; j < K; j++) {
            const float *dx = t->s.dxr + a->row_of[n * K + j] * H;
            for (size_t h = 0; h < H; h++)
                out[h] += dx[h];
        }
    }
    if (pass->p->router)
        ft_packed_multiply(&t->packed.router, t->s.dl + rows->from * t->experts, t->experts, count, t->s.dmid + at, H,
                           1);
    ft_norm_part(pass, rows, 1, pass->p->after_attention, t->s.dmid, a->o, a->inv_o);
    ft_norm_backward(t->s.d_o + at, t->s.dmid + at, a->o + at, a->inv_o + rows->from, pass->p->after_attention->value,
                     count, H);
    ft_packed_multiply(&t->packed.o, t->s.d_o + at, H, count, t->s.datt + rows->from * Q, Q, 0);
}

/* All that goes before attention, where rows are tokens: a block stays in its thread's cache. */
static void plain_rest(ft_pass *pass, const ft_rows *rows)
{
    experts_out(pass, rows);
    expert(pass, rows, 0);
    attention_out(pass, rows);
}

static void attend(void *context, size_t task, unsigned worker)
{
    ft_pass *pass = context;
    ft_trainer *t = pass->t;
    const ft_model_config *c = &t->p.config;
    ft_activations *a = pass->a;
    const size_t i = task / c->kv_heads, T = t->length, D = c->head_dim, Q = c->heads * D, KV = c->kv_heads * D;
    const ft_attention one = {.length = T,
                              .heads = c->heads,
                              .kv_heads = c->kv_heads,
                              .head_dim = D,
                              .bfloat16 = pass->bfloat16,
                              .begin = pass->b->begin ? pass->b->begin + i * T : NULL,
                              .q = a->q + i * T * Q,
                              .k = a->k + i * T * KV,
                              .v = a->v + i * T * KV,
                              .lse = a->lse + i * T * c->heads,
                              .d_o = t->s.datt + i * T * Q,
                              .dq = t->s.dq + i * T * Q,
                              .dk = t->s.dk + i * T * KV,
                              .dv = t->s.dv + i * T * KV};
    ft_attention_backward(&one, task % c->kv_heads, t->s.own + worker * t->s.own_stride);
}

static void attention_in(ft_pass *pass, const ft_rows *rows)
{
    ft_trainer *t = pass->t;
    const ft_model_config *c = &t->p.config;
    const ft_activations *a = pass->a;
    const ft_train_scratch *s = &t->s;
    const size_t half = c->head_dim / 2, H = c->hidden, Q = c->heads * c->head_dim, KV = c->kv_heads * c->head_dim;
    const size_t from = rows->from, n = rows->to - from;
    float *dq = s->dq + from * Q, *dk = s->dk + from * KV, *dx = t->dx + from * H;
    ft_rope_turn(dq, n, c->heads, half, from, t->length, t->cos, t->sin, 1);
    ft_rope_turn(dk, n, c->kv_heads, half, from, t->length, t->cos, t->sin, 1);
    ft_norm_part(pass, rows, 0, pass->p->q_norm, s->dq, a->q_raw, a->inv_q);
    ft_norm_part(pass, rows, 1, pass->p->k_norm, s->dk, a->k_raw, a->inv_k);
    ft_norm_backward(dq, dq, a->q_raw + from * Q, a->inv_q + from, pass->p->q_norm->value, n, Q);
    ft_norm_backward(dk, dk, a->k_raw + from * KV, a->inv_k + from, pass->p->k_norm->value, n, KV);
    memcpy(dx, s->dmid + from * H, n * H * sizeof(*dx));
    ft_packed_multiply(&t->packed.q, dq, Q, n, dx, H, 1);
    ft_packed_multiply(&t->packed.k, dk, KV, n, dx, H, 1);
    ft_packed_multiply(&t->packed.v, s->dv + from * KV, KV, n, dx, H, 1);
}

void ft_layer_backward(ft_pass *pass, size_t layer, int last)
{
    ft_trainer *t = pass->t;
    products all = {.pass = pass};
    if (t->options.recompute)
        ft_layer_forward(pass, layer);
    pass->layer = layer;
    pass->p = &t->p.layers[layer];
    pass->a = &t->kept[t->options.recompute ? 0 : layer];
    ft_layer_pack(pass, 0);
    if (t->plain && !last) {
        ft_tokens_run(pass, plain_rest);
    } else {
        ft_tokens_run(pass, experts_out);
        ft_experts_run(pass, last ? expert_last : expert_through);
        if (!last)
            ft_tokens_run(pass, attention_out);
    }
    ft_pass_norm(pass, pass->p->after, 0);
    ft_pass_norm(pass, pass->p->after_attention, 1);
    want_experts(&all);
    if (pass->p->bias && pass->p->bias->grad)
        bias_gradient(pass);
    if (!last) {
        ft_pool_run(t->pool, t->sequences * t->p.config.kv_heads, attend, pass);
        ft_tokens_run(pass, attention_in);
        ft_pass_norm(pass, pass->p->q_norm, 0);
        ft_pass_norm(pass, pass->p->k_norm, 1);
        want_attention(&all);
    }
    ft_pack_all(t->pool, all.packs, all.packed);
    ft_gemm_run_all(t->pool, all.list, all.count);
}
