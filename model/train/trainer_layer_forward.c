#include "model/train/ft_attention_backward.h"
#include "model/train/ft_norm_backward.h"
#include "model/train/ft_rope_backward.h"
#include "model/train/ft_router_backward.h"
#include "model/train/ft_swiglu_backward.h"
#include "model/train/trainer_internal.h"

#include <assert.h>
#include <string.h>

/* --- Blocks of rows -------------------------------------------------------------------- */

typedef struct rows_job {
    ft_pass *pass;
    ft_rows_fn *fn;
    size_t each, per; /* tokens of a stretch that blocks do not leave, blocks in it */
} rows_job;

static void tokens_task(void *context, size_t task, unsigned worker)
{
    const rows_job *j = context;
    const size_t start = task / j->per * j->each, at = task % j->per * FT_BLOCK_TOKENS;
    const size_t left = j->each - at < FT_BLOCK_TOKENS ? j->each - at : FT_BLOCK_TOKENS;
    const ft_rows rows = {.from = start + at, .to = start + at + left, .block = task, .worker = worker};
    j->fn(j->pass, &rows);
}

void ft_tokens_run(ft_pass *pass, ft_rows_fn *fn)
{
    const ft_trainer *t = pass->t;
    rows_job j = {.pass = pass, .fn = fn, .each = pass->squares ? t->length : t->tokens};
    assert(j.each > 0); /* a batch has tokens */
    j.per = (j.each + FT_BLOCK_TOKENS - 1) / FT_BLOCK_TOKENS;
    ft_pool_run(t->pool, t->tokens / j.each * j.per, tokens_task, &j);
}

static size_t expert_blocks(const ft_activations *a, size_t e)
{
    return (a->expert_begin[e + 1] - a->expert_begin[e] + FT_BLOCK_TOKENS - 1) / FT_BLOCK_TOKENS;
}

static void experts_task(void *context, size_t task, unsigned worker)
{
    const rows_job *j = context;
    const ft_activations *a = j->pass->a;
    size_t e = 0;
    for (size_t n; task >= (n = expert_blocks(a, e)); e++)
        task -= n;
    ft_rows rows = {.from = a->expert_begin[e] + task * FT_BLOCK_TOKENS, .expert = e, .worker = worker};
    rows.to =
        rows.from + FT_BLOCK_TOKENS < a->expert_begin[e + 1] ? rows.from + FT_BLOCK_TOKENS : a->expert_begin[e + 1];
    j->fn(j->pass, &rows);
}

void ft_experts_run(ft_pass *pass, ft_rows_fn *fn)
{
    rows_job j = {.pass = pass, .fn = fn};
    size_t count = 0;
    for (size_t e = 0; e < pass->t->experts; e++)
        count += expert_blocks(pass->a, e);
    ft_pool_run(pass->t->pool, count, experts_task, &j);
}

/* --- Weights as products read them ---------------------------------------------------------- */

typedef struct pack_job {
    const ft_pack *list;
    size_t count;
} pack_job;

static void pack_task(void *context, size_t task, unsigned worker)
{
    const pack_job *j = context;
    const ft_pack *p = j->list;
    (void)worker;
    for (size_t n; task >= (n = ft_packed_panels(p->to->n)); p++)
        task -= n;
    ft_packed_fill(p->to, task, p->from, p->stride, p->transposed);
}

void ft_pack_all(ft_pool *pool, const ft_pack *list, size_t count)
{
    pack_job j = {.list = list, .count = count};
    size_t panels = 0;
    for (size_t i = 0; i < count; i++)
        panels += ft_packed_panels(list[i].to->n);
    ft_pool_run(pool, panels, pack_task, &j);
}

enum { PACKS = 5 + 3 * FT_MAX_EXPERTS };

typedef struct packer {
    ft_pack list[PACKS];
    size_t count;
    uint32_t *at;
    int forward;
} packer;

static void add(packer *p, ft_packed *to, const ft_parameter *w, int bfloat16)
{
    const size_t out = w->shape[0], in = w->shape[1];
    *to = (ft_packed){.units = p->at, .k = p->forward ? in : out, .n = p->forward ? out : in, .bfloat16 = bfloat16};
    p->at += ft_packed_units(to->k, to->n, bfloat16);
    p->list[p->count++] = (ft_pack){.to = to, .from = w->value, .stride = in, .transposed = p->forward};
}

void ft_layer_pack(ft_pass *pass, int forward)
{
    ft_trainer *t = pass->t;
    const ft_layer_parameters *l = pass->p;
    packer p = {.at = t->s.packed, .forward = forward};
    add(&p, &t->packed.q, l->q, pass->bfloat16);
    add(&p, &t->packed.k, l->k, pass->bfloat16);
    add(&p, &t->packed.v, l->v, pass->bfloat16);
    add(&p, &t->packed.o, l->o, pass->bfloat16);
    if (l->router) /* in float32: which expert is chosen hangs on small differences */
        add(&p, &t->packed.router, l->router, 0);
    for (size_t i = 0; i < 3 * t->experts; i++)
        add(&p, &t->packed.experts[i], l->experts + i, pass->bfloat16);
    ft_pack_all(t->pool, p.list, p.count);
}

size_t ft_layer_packed_units(const ft_trainer *t)
{
    const ft_model_config *c = &t->p.config;
    const size_t H = c->hidden, Q = c->heads * c->head_dim, KV = c->kv_heads * c->head_dim, I = c->intermediate;
    const size_t forward = ft_packed_units(H, Q, 0) + 2 * ft_packed_units(H, KV, 0) + ft_packed_units(Q, H, 0) +
                           ft_packed_units(H, t->experts, 0) +
                           t->experts * (2 * ft_packed_units(H, I, 0) + ft_packed_units(I, H, 0));
    const size_t back = ft_packed_units(Q, H, 0) + 2 * ft_packed_units(KV, H, 0) + ft_packed_units(H, Q, 0) +
                        ft_packed_units(t->experts, H, 0) +
                        t->experts * (2 * ft_packed_units(I, H, 0) + ft_packed_units(H, I, 0));
    return forward > back ? forward : back;
}

/* --- Attention ------------------------------------------------------------------------ */

static void attention_in(ft_pass *pass, const ft_rows *rows)
{
    const ft_trainer *t = pass->t;
    const ft_model_config *c = &t->p.config;
    ft_activations *a = pass->a;
    const size_t half = c->head_dim / 2, Q = c->heads * c->head_dim, KV = c->kv_heads * c->head_dim, H = c->hidden;
    const size_t from = rows->from, n = rows->to - from;
    const float *x = t->x[pass->layer] + from * H;
    const ft_packed_product products[3] = {{&t->packed.q, a->q_raw + from * Q, Q, 0},
                                           {&t->packed.k, a->k_raw + from * KV, KV, 0},
                                           {&t->packed.v, a->v + from * KV, KV, 0}};
    ft_packed_multiply_all(products, 3, x, H, n);
    ft_norm_forward(a->q + from * Q, a->inv_q + from, a->q_raw + from * Q, pass->p->q_norm->value, NULL, n, Q,
                    c->rms_norm_eps);
    ft_norm_forward(a->k + from * KV, a->inv_k + from, a->k_raw + from * KV, pass->p->k_norm->value, NULL, n, KV,
                    c->rms_norm_eps);
    ft_rope_turn(a->q + from * Q, n, c->heads, half, from, t->length, t->cos, t->sin, 0);
    ft_rope_turn(a->k + from * KV, n, c->kv_heads, half, from, t->length, t->cos, t->sin, 0);
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
                              .bfloat16 = pass->bfloat16,
                              .begin = pass->b->begin ? pass->b->begin + i * T : NULL,
                              .q = a->q + i * T * c->heads * D,
                              .k = a->k + i * T * c->kv_heads * D,
                              .v = a->v + i * T * c->kv_heads * D,
                              .o = a->att + i * T * c->heads * D,
                              .lse = a->lse + i * T * c->heads};
    ft_attention_forward(&one, task % c->kv_heads, t->s.own + worker * t->s.own_stride);
}

static void choose(ft_pass *pass, const ft_rows *rows)
{
    const ft_trainer *t = pass->t;
    ft_activations *a = pass->a;
    const size_t H = t->p.config.hidden, E = t->experts, K = t->top_k;
    const ft_router r = {.experts = E,
                         .top_k = K,
                         .normalize = t->p.config.norm_topk_prob,
                         .bias = pass->p->bias ? pass->p->bias->value : NULL};
    ft_packed_multiply(&t->packed.router, a->mid + rows->from * H, H, rows->to - rows->from, a->probs + rows->from * E,
                       E, 0);
    for (size_t n = rows->from; n < rows->to; n++)
        a->router_lse[n] = ft_router_forward(&r, a->probs + n * E, a->chosen + n * K, a->weights + n * K);
}

static void attention_out(ft_pass *pass, const ft_rows *rows)
{
    const ft_trainer *t = pass->t;
    const ft_model_config *c = &t->p.config;
    ft_activations *a = pass->a;
    const size_t H = c->hidden, Q = c->heads * c->head_dim, from = rows->from, n = rows->to - from;
    ft_packed_multiply(&t->packed.o, a->att + from * Q, Q, n, a->o + from * H, H, 0);
    ft_norm_forward(a->mid + from * H, a->inv_o + from, a->o + from * H, pass->p->after_attention->value,
                    t->x[pass->layer] + from * H, n, H, c->rms_norm_eps);
    if (pass->p->router)
        choose(pass, rows);
}

/* --- Experts ---------------------------------------------------------------------------- */

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

/* One expert, a weight of 1. */
static void sort_plainly(ft_pass *pass)
{
    const ft_trainer *t = pass->t;
    ft_activations *a = pass->a;
    for (size_t n = 0; n < t->tokens; n++) {
        a->chosen[n] = 0;
        a->weights[n] = 1;
        a->row_of[n] = a->token_of[n] = (uint32_t)n;
    }
    a->expert_begin[0] = 0;
    a->expert_begin[1] = t->tokens;
}

static void expert(ft_pass *pass, const ft_rows *rows)
{
    const ft_trainer *t = pass->t;
    ft_activations *a = pass->a;
    const size_t H = t->p.config.hidden, I = t->p.config.intermediate, from = rows->from, n = rows->to - from;
    float *own = t->s.own + rows->worker * t->s.own_stride, *act = own + FT_BLOCK_TOKENS * H;
    const float *x = t->plain ? a->mid + from * H : own;
    const ft_packed *w = t->packed.experts + 3 * rows->expert;
    for (size_t r = 0; r < n && !t->plain; r++)
        memcpy(own + r * H, a->mid + a->token_of[from + r] * H, H * sizeof(float));
    const ft_packed_product products[2] = {{&w[0], a->gate + from * I, I, 0}, {&w[1], a->up + from * I, I, 0}};
    ft_packed_multiply_all(products, 2, x, H, n);
    ft_swiglu_forward(act, a->gate + from * I, a->up + from * I, n * I);
    ft_packed_multiply(&w[2], act, I, n, a->y + from * H, H, 0);
}

static void combine(ft_pass *pass, const ft_rows *rows)
{
    const ft_trainer *t = pass->t;
    const ft_model_config *c = &t->p.config;
    const size_t H = c->hidden, K = t->top_k, from = rows->from;
    ft_activations *a = pass->a;
    for (size_t n = from; n < rows->to && !t->plain; n++)
        for (size_t j = 0; j < K; j++) {
            const float w = a->weights[n * K + j], *y = a->y + a->row_of[n * K + j] * H;
            float *out = a->moe + n * H;
            for (size_t h = 0; h < H; h++)
                out[h] = j ? out[h] + w * y[h] : w * y[h];
        }
    ft_norm_forward(t->x[pass->layer + 1] + from * H, a->inv_moe + from, a->moe + from * H, pass->p->after->value,
                    a->mid + from * H, rows->to - from, H, c->rms_norm_eps);
}

/* All that follows attention, where rows are tokens: a block stays in its thread's cache. */
static void plain_rest(ft_pass *pass, const ft_rows *rows)
{
    attention_out(pass, rows);
    expert(pass, rows);
    combine(pass, rows);
}

void ft_layer_forward(ft_pass *pass, size_t layer)
{
    ft_trainer *t = pass->t;
    pass->layer = layer;
    pass->p = &t->p.layers[layer];
    pass->a = &t->kept[t->options.recompute ? 0 : layer];
    ft_layer_pack(pass, 1);
    ft_tokens_run(pass, attention_in);
    ft_pool_run(t->pool, t->sequences * t->p.config.kv_heads, attend, pass);
    if (t->plain) {
        sort_plainly(pass);
        ft_tokens_run(pass, plain_rest);
        return;
    }
    ft_tokens_run(pass, attention_out);
    sort_rows(pass);
    ft_experts_run(pass, expert);
    ft_tokens_run(pass, combine);
}
