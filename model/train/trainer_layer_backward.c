#include "model/train/ft_attention_backward.h"
#include "model/train/ft_gemm.h"
#include "model/train/ft_linear_backward.h"
#include "model/train/ft_norm_backward.h"
#include "model/train/ft_rope_backward.h"
#include "model/train/ft_router_backward.h"
#include "model/train/ft_swiglu_backward.h"
#include "model/train/trainer_internal.h"

#include <string.h>

/* --- Where gradients go ----------------------------------------------------------------- */

typedef struct sink {
    ft_pass *pass;
    const ft_parameter *p;
    const float *dy, *x, *inverse;
    size_t dy_stride;
    const size_t *begin;
} sink;

static void ghost(void *context, size_t i, unsigned worker)
{
    const sink *s = context;
    const ft_trainer *t = s->pass->t;
    const size_t in = s->p->shape[1], out = s->p->shape[0] - s->p->first / in;
    s->pass->squares[i] +=
        ft_linear_ghost(s->dy + s->begin[i] * s->dy_stride, s->dy_stride, s->x + s->begin[i] * in,
                        s->begin[i + 1] - s->begin[i], in, out, t->s.ghost + worker * 2 * t->length * t->length);
}

void ft_pass_matrix(ft_pass *pass, ft_parameter *p, const float *dy, size_t dy_stride, const float *x,
                    const size_t *begin)
{
    if (!p->grad)
        return;
    const size_t in = p->shape[1], first = p->first / in, B = pass->t->sequences;
    if (pass->squares) {
        sink s = {.pass = pass, .p = p, .dy = dy + first, .x = x, .dy_stride = dy_stride, .begin = begin};
        ft_pool_run(pass->t->pool, B, ghost, &s);
    } else {
        const size_t at = begin[0], n = begin[B] - at;
        ft_linear_backward_weight(pass->t->pool, p->grad + p->first, dy + first + at * dy_stride, dy_stride,
                                  x + at * in, n, in, p->shape[0] - first);
    }
}

/* A norm's weight is a vector: an example's gradient is made as it stands. */
static void norm_example(void *context, size_t i, unsigned worker)
{
    const sink *s = context;
    const ft_trainer *t = s->pass->t;
    const size_t cols = s->p->count, at = i * t->length;
    double *column = t->s.column + worker * t->s.column_stride;
    memset(column, 0, cols * sizeof(*column));
    ft_norm_backward_weight(column, s->dy + at * cols, s->x + at * cols, s->inverse + at, t->length, cols);
    for (size_t c = 0; c < cols; c++)
        s->pass->squares[i] += column[c] * column[c];
}

void ft_pass_norm(ft_pass *pass, ft_parameter *p, const float *dy, const float *x, const float *inverse)
{
    ft_trainer *t = pass->t;
    if (!p->grad)
        return;
    if (pass->squares) {
        sink s = {.pass = pass, .p = p, .dy = dy, .x = x, .inverse = inverse};
        ft_pool_run(t->pool, t->sequences, norm_example, &s);
        return;
    }
    memset(t->s.column, 0, p->count * sizeof(*t->s.column));
    ft_norm_backward_weight(t->s.column, dy, x, inverse, t->tokens, p->count);
    for (size_t c = 0; c < p->count; c++)
        p->grad[c] += (float)t->s.column[c];
}

/* Examples' rows where every token has one. */
static const size_t *token_rows(const ft_pass *pass)
{
    return pass->t->kept[0].expert_begin + FT_MAX_EXPERTS + 1;
}

/* --- Experts ------------------------------------------------------------------------------ */

static void norm_moe(ft_pass *pass, size_t from, size_t to, unsigned worker)
{
    ft_trainer *t = pass->t;
    const size_t H = t->p.config.hidden;
    (void)worker;
    ft_norm_backward(t->s.dmoe + from * H, t->dx + from * H, pass->a->moe + from * H, pass->a->inv_moe + from,
                     pass->p->after->value, to - from, H);
}

/* Gradients of the mixing weights, of the experts' outputs, and of the router's logits. */
static void split(ft_pass *pass, size_t from, size_t to, unsigned worker)
{
    ft_trainer *t = pass->t;
    ft_activations *a = pass->a;
    const size_t H = t->p.config.hidden, K = t->top_k, E = t->experts;
    const ft_router router = {.experts = E, .top_k = K, .normalize = t->p.config.norm_topk_prob};
    (void)worker;
    for (size_t n = from; n < to; n++) {
        const float *dmoe = t->s.dmoe + n * H;
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
    }
}

static void gather(ft_pass *pass, size_t from, size_t to, unsigned worker)
{
    const size_t H = pass->t->p.config.hidden, I = pass->t->p.config.intermediate;
    (void)worker;
    for (size_t r = from; r < to; r++)
        memcpy(pass->t->s.rows_x + r * H, pass->a->mid + pass->a->token_of[r] * H, H * sizeof(float));
    ft_swiglu_forward(pass->t->s.a + from * I, pass->a->gate + from * I, pass->a->up + from * I, (to - from) * I);
}

static void activate(ft_pass *pass, size_t from, size_t to, unsigned worker)
{
    const ft_train_scratch *s = &pass->t->s;
    const size_t I = pass->t->p.config.intermediate, at = from * I;
    (void)worker;
    ft_swiglu_backward(s->dg + at, s->du + at, s->da + at, pass->a->gate + at, pass->a->up + at, (to - from) * I);
}

/* The gradient of the residual stream after attention: past the experts, through them, and
 * through the router (which the product added to dmid already). */
static void collect(ft_pass *pass, size_t from, size_t to, unsigned worker)
{
    ft_trainer *t = pass->t;
    const size_t H = t->p.config.hidden, K = t->top_k;
    (void)worker;
    for (size_t n = from; n < to; n++) {
        float *out = t->s.dmid + n * H;
        for (size_t h = 0; h < H; h++)
            out[h] += t->dx[n * H + h];
        for (size_t j = 0; j < K; j++) {
            const float *dx = t->s.dy + pass->a->row_of[n * K + j] * H;
            for (size_t h = 0; h < H; h++)
                out[h] += dx[h];
        }
    }
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

static void experts_backward(ft_pass *pass, int last)
{
    ft_trainer *t = pass->t;
    ft_activations *a = pass->a;
    const ft_train_scratch *s = &t->s;
    const size_t H = t->p.config.hidden, I = t->p.config.intermediate, N = t->tokens, R = N * t->top_k;
    size_t *begin = t->kept[0].expert_begin + FT_MAX_EXPERTS + 1 + t->sequences + 1;
    ft_rows_run(pass, N, norm_moe);
    ft_pass_norm(pass, pass->p->after, t->dx, a->moe, a->inv_moe);
    ft_rows_run(pass, N, split);
    ft_rows_run(pass, R, gather);
    for (size_t e = 0; e < t->experts; e++) {
        const size_t at = a->expert_begin[e], n = a->expert_begin[e + 1] - at;
        ft_parameter *w = pass->p->experts + 3 * e;
        example_rows(pass, e, begin);
        ft_pass_matrix(pass, &w[2], s->dy, H, s->a, begin);
        ft_linear_backward(t->pool, s->da + at * I, 0, s->dy + at * H, H, w[2].value, n, I, H);
    }
    ft_rows_run(pass, R, activate);
    for (size_t e = 0; e < t->experts; e++) {
        const size_t at = a->expert_begin[e], n = a->expert_begin[e + 1] - at;
        ft_parameter *w = pass->p->experts + 3 * e;
        example_rows(pass, e, begin);
        ft_pass_matrix(pass, &w[0], s->dg, I, s->rows_x, begin);
        ft_pass_matrix(pass, &w[1], s->du, I, s->rows_x, begin);
        if (last)
            continue;
        ft_linear_backward(t->pool, s->dy + at * H, 0, s->dg + at * I, I, w[0].value, n, H, I);
        ft_linear_backward(t->pool, s->dy + at * H, 1, s->du + at * I, I, w[1].value, n, H, I);
    }
    if (pass->p->router) {
        ft_pass_matrix(pass, pass->p->router, s->dl, t->experts, a->mid, token_rows(pass));
        if (pass->p->bias && pass->p->bias->grad)
            bias_gradient(pass);
        if (!last)
            ft_linear_backward(t->pool, s->dmid, 0, s->dl, t->experts, pass->p->router->value, N, H, t->experts);
    } else if (!last) {
        memset(s->dmid, 0, N * H * sizeof(*s->dmid));
    }
    if (!last)
        ft_rows_run(pass, N, collect);
}

/* --- Attention ------------------------------------------------------------------------------ */

static void norm_attention(ft_pass *pass, size_t from, size_t to, unsigned worker)
{
    ft_trainer *t = pass->t;
    const size_t H = t->p.config.hidden;
    (void)worker;
    ft_norm_backward(t->s.dmoe + from * H, t->s.dmid + from * H, pass->a->o + from * H, pass->a->inv_o + from,
                     pass->p->after_attention->value, to - from, H);
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
                              .begin = pass->b->begin ? pass->b->begin + i * T : NULL,
                              .q = a->q + i * T * Q,
                              .k = a->k + i * T * KV,
                              .v = a->v + i * T * KV,
                              .lse = a->lse + i * T * c->heads,
                              .d_o = t->s.datt + i * T * Q,
                              .dq = t->s.dq + i * T * Q,
                              .dk = t->s.dk + i * T * KV,
                              .dv = t->s.dv + i * T * KV};
    ft_attention_backward(&one, task % c->kv_heads, t->s.attention + worker * 2 * FT_ATTENTION_BLOCK * T);
}

static void turn_back(ft_pass *pass, size_t from, size_t to, unsigned worker)
{
    const ft_trainer *t = pass->t;
    const ft_model_config *c = &t->p.config;
    const size_t half = c->head_dim / 2;
    (void)worker;
    ft_rope_turn(t->s.dq + from * c->heads * c->head_dim, to - from, c->heads, half, from, t->length, t->cos, t->sin,
                 1);
    ft_rope_turn(t->s.dk + from * c->kv_heads * c->head_dim, to - from, c->kv_heads, half, from, t->length, t->cos,
                 t->sin, 1);
}

static void norm_q_and_k(ft_pass *pass, size_t from, size_t to, unsigned worker)
{
    const ft_trainer *t = pass->t;
    const ft_model_config *c = &t->p.config;
    const ft_activations *a = pass->a;
    const size_t Q = c->heads * c->head_dim, KV = c->kv_heads * c->head_dim;
    float *dq = t->s.dq + from * Q, *dk = t->s.dk + from * KV;
    (void)worker;
    ft_norm_backward(dq, dq, a->q_raw + from * Q, a->inv_q + from, pass->p->q_norm->value, to - from, Q);
    ft_norm_backward(dk, dk, a->k_raw + from * KV, a->inv_k + from, pass->p->k_norm->value, to - from, KV);
}

static void attention_backward(ft_pass *pass)
{
    ft_trainer *t = pass->t;
    const ft_model_config *c = &t->p.config;
    ft_activations *a = pass->a;
    const ft_train_scratch *s = &t->s;
    const size_t H = c->hidden, Q = c->heads * c->head_dim, KV = c->kv_heads * c->head_dim, N = t->tokens;
    const size_t *rows = token_rows(pass);
    const float *x = t->x[pass->layer];
    ft_rows_run(pass, N, norm_attention);
    ft_pass_norm(pass, pass->p->after_attention, s->dmid, a->o, a->inv_o);
    ft_pass_matrix(pass, pass->p->o, s->dmoe, H, a->att, rows);
    ft_linear_backward(t->pool, s->datt, 0, s->dmoe, H, pass->p->o->value, N, Q, H);
    ft_pool_run(t->pool, t->sequences * c->kv_heads, attend, pass);
    ft_rows_run(pass, N, turn_back);
    ft_pass_norm(pass, pass->p->q_norm, s->dq, a->q_raw, a->inv_q);
    ft_pass_norm(pass, pass->p->k_norm, s->dk, a->k_raw, a->inv_k);
    ft_rows_run(pass, N, norm_q_and_k);
    ft_pass_matrix(pass, pass->p->q, s->dq, Q, x, rows);
    ft_pass_matrix(pass, pass->p->k, s->dk, KV, x, rows);
    ft_pass_matrix(pass, pass->p->v, s->dv, KV, x, rows);
    memcpy(t->dx, s->dmid, N * H * sizeof(*t->dx));
    ft_linear_backward(t->pool, t->dx, 1, s->dq, Q, pass->p->q->value, N, H, Q);
    ft_linear_backward(t->pool, t->dx, 1, s->dk, KV, pass->p->k->value, N, H, KV);
    ft_linear_backward(t->pool, t->dx, 1, s->dv, KV, pass->p->v->value, N, H, KV);
}

void ft_layer_backward(ft_pass *pass, size_t layer, int last)
{
    ft_trainer *t = pass->t;
    if (t->options.recompute)
        ft_layer_forward(pass, layer);
    pass->layer = layer;
    pass->p = &t->p.layers[layer];
    pass->a = &t->kept[t->options.recompute ? 0 : layer];
    experts_backward(pass, last);
    if (!last)
        attention_backward(pass);
}
