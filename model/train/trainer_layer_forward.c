#include "model/train/ft_attention_backward.h"
#include "model/train/ft_gemm.h"
#include "model/train/ft_norm_backward.h"
#include "model/train/ft_rope_backward.h"
#include "model/train/ft_router_backward.h"
#include "model/train/ft_swiglu_backward.h"
#include "model/train/trainer_internal.h"

#include <string.h>

enum { ROWS = 64 };

typedef struct rows_job {
    ft_pass *pass;
    ft_rows_fn *fn;
    size_t n;
} rows_job;

static void rows_task(void *context, size_t task, unsigned worker)
{
    const rows_job *j = context;
    const size_t from = task * ROWS, to = from + ROWS < j->n ? from + ROWS : j->n;
    j->fn(j->pass, from, to, worker);
}

void ft_rows_run(ft_pass *pass, size_t n, ft_rows_fn *fn)
{
    rows_job j = {.pass = pass, .fn = fn, .n = n};
    ft_pool_run(pass->t->pool, (n + ROWS - 1) / ROWS, rows_task, &j);
}

/* --- Attention ------------------------------------------------------------------------ */

static void norm_and_turn(ft_pass *pass, size_t from, size_t to, unsigned worker)
{
    const ft_trainer *t = pass->t;
    const ft_model_config *c = &t->p.config;
    ft_activations *a = pass->a;
    const size_t half = c->head_dim / 2, Q = c->heads * c->head_dim, KV = c->kv_heads * c->head_dim;
    (void)worker;
    ft_norm_forward(a->q + from * Q, a->inv_q + from, a->q_raw + from * Q, pass->p->q_norm->value, NULL, to - from, Q,
                    c->rms_norm_eps);
    ft_norm_forward(a->k + from * KV, a->inv_k + from, a->k_raw + from * KV, pass->p->k_norm->value, NULL, to - from,
                    KV, c->rms_norm_eps);
    ft_rope_turn(a->q + from * Q, to - from, c->heads, half, from, t->length, t->cos, t->sin, 0);
    ft_rope_turn(a->k + from * KV, to - from, c->kv_heads, half, from, t->length, t->cos, t->sin, 0);
}

static void attend(void *context, size_t task, unsigned worker)
{
    ft_pass *pass = context;
    const ft_trainer *t = pass->t;
    const ft_model_config *c = &t->p.config;
    ft_activations *a = pass->a;
    const size_t i = task / c->kv_heads, T = t->length, D = c->head_dim;
    const ft_attention one = {.length = T,
                              .heads = c->heads,
                              .kv_heads = c->kv_heads,
                              .head_dim = D,
                              .begin = pass->b->begin ? pass->b->begin + i * T : NULL,
                              .q = a->q + i * T * c->heads * D,
                              .k = a->k + i * T * c->kv_heads * D,
                              .v = a->v + i * T * c->kv_heads * D,
                              .o = a->att + i * T * c->heads * D,
                              .lse = a->lse + i * T * c->heads};
    ft_attention_forward(&one, task % c->kv_heads, t->s.attention + worker * 2 * FT_ATTENTION_BLOCK * T);
}

static void norm_attention(ft_pass *pass, size_t from, size_t to, unsigned worker)
{
    const ft_model_config *c = &pass->t->p.config;
    const size_t H = c->hidden;
    ft_activations *a = pass->a;
    (void)worker;
    ft_norm_forward(a->mid + from * H, a->inv_o + from, a->o + from * H, pass->p->after_attention->value,
                    pass->t->x[pass->layer] + from * H, to - from, H, c->rms_norm_eps);
}

/* --- Experts ---------------------------------------------------------------------------- */

static void choose(ft_pass *pass, size_t from, size_t to, unsigned worker)
{
    const ft_trainer *t = pass->t;
    ft_activations *a = pass->a;
    const ft_router r = {.experts = t->experts,
                         .top_k = t->top_k,
                         .normalize = t->p.config.norm_topk_prob,
                         .bias = pass->p->bias ? pass->p->bias->value : NULL};
    (void)worker;
    for (size_t n = from; n < to; n++)
        a->router_lse[n] =
            ft_router_forward(&r, a->probs + n * t->experts, a->chosen + n * t->top_k, a->weights + n * t->top_k);
}

/* Rows (token, choice) sorted by expert, within an expert by token. */
static void sort_rows(ft_pass *pass)
{
    const ft_trainer *t = pass->t;
    ft_activations *a = pass->a;
    const size_t R = t->tokens * t->top_k;
    size_t next[FT_MAX_EXPERTS + 1] = {0};
    for (size_t r = 0; r < R; r++)
        next[a->chosen[r] + 1]++;
    for (size_t e = 0; e < t->experts; e++)
        next[e + 1] += next[e];
    memcpy(a->expert_begin, next, (t->experts + 1) * sizeof(*next));
    for (size_t r = 0; r < R; r++) {
        const size_t row = next[a->chosen[r]]++;
        a->row_of[r] = (uint32_t)row;
        a->token_of[row] = (uint32_t)(r / t->top_k);
    }
}

static void gather(ft_pass *pass, size_t from, size_t to, unsigned worker)
{
    const size_t H = pass->t->p.config.hidden;
    (void)worker;
    for (size_t r = from; r < to; r++)
        memcpy(pass->t->s.rows_x + r * H, pass->a->mid + pass->a->token_of[r] * H, H * sizeof(float));
}

static void activate(ft_pass *pass, size_t from, size_t to, unsigned worker)
{
    const size_t I = pass->t->p.config.intermediate;
    (void)worker;
    ft_swiglu_forward(pass->t->s.a + from * I, pass->a->gate + from * I, pass->a->up + from * I, (to - from) * I);
}

static void combine(ft_pass *pass, size_t from, size_t to, unsigned worker)
{
    const ft_trainer *t = pass->t;
    const ft_model_config *c = &t->p.config;
    const size_t H = c->hidden, K = t->top_k;
    ft_activations *a = pass->a;
    (void)worker;
    for (size_t n = from; n < to; n++)
        for (size_t j = 0; j < K; j++) {
            const float w = a->weights[n * K + j], *y = a->y + a->row_of[n * K + j] * H;
            float *out = a->moe + n * H;
            for (size_t h = 0; h < H; h++)
                out[h] = j ? out[h] + w * y[h] : w * y[h];
        }
    ft_norm_forward(t->x[pass->layer + 1] + from * H, a->inv_moe + from, a->moe + from * H, pass->p->after->value,
                    a->mid + from * H, to - from, H, c->rms_norm_eps);
}

static void experts_forward(ft_pass *pass)
{
    ft_trainer *t = pass->t;
    const ft_model_config *c = &t->p.config;
    ft_activations *a = pass->a;
    const size_t H = c->hidden, I = c->intermediate, N = t->tokens, R = N * t->top_k;
    if (pass->p->router) {
        ft_gemm_linear(t->pool, a->probs, a->mid, pass->p->router->value, N, H, t->experts);
        ft_rows_run(pass, N, choose);
    } else {
        for (size_t n = 0; n < N; n++) {
            a->chosen[n] = 0;
            a->weights[n] = 1;
        }
    }
    sort_rows(pass);
    ft_rows_run(pass, R, gather);
    for (size_t e = 0; e < t->experts; e++) {
        const size_t at = a->expert_begin[e], n = a->expert_begin[e + 1] - at;
        const ft_parameter *w = pass->p->experts + 3 * e;
        ft_gemm_linear(t->pool, a->gate + at * I, t->s.rows_x + at * H, w[0].value, n, H, I);
        ft_gemm_linear(t->pool, a->up + at * I, t->s.rows_x + at * H, w[1].value, n, H, I);
    }
    ft_rows_run(pass, R, activate);
    for (size_t e = 0; e < t->experts; e++) {
        const size_t at = a->expert_begin[e], n = a->expert_begin[e + 1] - at;
        ft_gemm_linear(t->pool, a->y + at * H, t->s.a + at * I, pass->p->experts[3 * e + 2].value, n, I, H);
    }
    ft_rows_run(pass, N, combine);
}

void ft_layer_forward(ft_pass *pass, size_t layer)
{
    ft_trainer *t = pass->t;
    const ft_model_config *c = &t->p.config;
    const size_t H = c->hidden, Q = c->heads * c->head_dim, KV = c->kv_heads * c->head_dim, N = t->tokens;
    pass->layer = layer;
    pass->p = &t->p.layers[layer];
    pass->a = &t->kept[t->options.recompute ? 0 : layer];
    ft_activations *a = pass->a;
    ft_gemm_linear(t->pool, a->q_raw, t->x[layer], pass->p->q->value, N, H, Q);
    ft_gemm_linear(t->pool, a->k_raw, t->x[layer], pass->p->k->value, N, H, KV);
    ft_gemm_linear(t->pool, a->v, t->x[layer], pass->p->v->value, N, H, KV);
    ft_rows_run(pass, N, norm_and_turn);
    ft_pool_run(t->pool, t->sequences * c->kv_heads, attend, pass);
    ft_gemm_linear(t->pool, a->o, a->att, pass->p->o->value, N, Q, H);
    ft_rows_run(pass, N, norm_attention);
    experts_forward(pass);
}
