/* The forward pass of FlexOlmo and OLMo 2 over a batch of tokens. For each layer
 *
 *   q = rope(norm(Wq x)), k = rope(norm(Wk x)), v = Wv x     norms over all heads at once
 *   x = x + norm(Wo attention(q, k, v))
 *   p = softmax(Wr x) over the experts that take part; the k' largest are chosen
 *   x = x + norm(sum of w_e Wdown_e (silu(Wgate_e x) * Wup_e x))
 *
 * and logits = head norm(x). The whole pass is one job of the pool: its threads are
 * a team that goes from step to step. Whatever a step writes is one thread's, and
 * sums run in an order of their own, so results depend neither on the number of
 * threads nor on which tokens share the pass. What a single thread has to do between
 * two steps (laying out the next products) is done by the last one to arrive. */
#include "model/engine_internal.h"
#include "model/ft_rope.h"

#include <string.h>

enum { ALONE_WORK = 1 << 19 }; /* products of fewer multiplications than this do not wake other threads */

static size_t kv_width(const ft_model_config *c)
{
    return c->kv_heads * c->head_dim;
}

static const ft_layer *layer_of(const ft_pass *p)
{
    return &p->e->model->layers[p->layer];
}

/* --- Laying out products: serial, between two steps ---------------------------------- */

static void deal_qkv(void *pass)
{
    ft_pass *p = pass;
    ft_scratch *z = &p->e->scratch;
    const ft_layer *l = layer_of(p);
    const size_t kv = kv_width(&p->e->model->config);
    ft_products_clear(&p->work);
    ft_products_add(&p->work, p->e, &l->q, &z->hidden_in, NULL, p->tokens, z->q, l->q.rows);
    ft_products_add(&p->work, p->e, &l->k, &z->hidden_in, NULL, p->tokens, z->k, kv);
    ft_products_add(&p->work, p->e, &l->v, &z->hidden_in, NULL, p->tokens, z->v, kv);
    ft_products_deal(&p->work);
}

static void deal_o(void *pass)
{
    ft_pass *p = pass;
    ft_scratch *z = &p->e->scratch;
    ft_products_clear(&p->work);
    ft_products_add(&p->work, p->e, &layer_of(p)->o, &z->attention_in, NULL, p->tokens, z->sub,
                    p->e->model->config.hidden);
    ft_products_deal(&p->work);
}

static void deal_head(void *pass)
{
    ft_pass *p = pass;
    ft_scratch *z = &p->e->scratch;
    const ft_model *m = p->e->model;
    ft_products_clear(&p->work);
    if (p->wanted)
        ft_products_add(&p->work, p->e, &m->head, &z->hidden_in, z->wanted, p->wanted, NULL, 0)->places = z->places;
    ft_products_deal(&p->work);
}

/* After the last step of a layer. */
static void next_layer(void *pass)
{
    ft_pass *p = pass;
    if (++p->layer < p->e->model->config.layers)
        deal_qkv(p);
    else
        deal_head(p);
}

/* --- Steps that each token takes for itself ------------------------------------------- */

/* Embedding and rotary angles. */
static void begin_token(ft_pass *p, size_t t)
{
    const ft_engine *e = p->e;
    ft_scratch *z = &p->e->scratch;
    const ft_model_config *c = &e->model->config;
    const ft_token *token = &z->tokens[t];
    const size_t half = c->head_dim / 2;
    float *x = z->x + t * c->hidden;
    ft_matrix_widen_row(&e->model->embed, token->id, x);
    ft_rope_angles(z->cos + t * half, z->sin + t * half, token->position, e->inv_freq, half, e->rope_scaling);
    if (token->hidden)
        memcpy(token->hidden, x, c->hidden * sizeof(*x));
    ft_inputs_prepare(e, &z->hidden_in, e->inputs[0].qkv, t, x, c->hidden);
}

/* x = x + norm(sub) */
static void add_normed(ft_pass *p, size_t t, const float *norm)
{
    const ft_model_config *c = &p->e->model->config;
    float *x = p->e->scratch.x + t * c->hidden, *sub = p->e->scratch.sub + t * c->hidden;
    p->e->kernels.rms_norm(sub, sub, norm, c->hidden, c->rms_norm_eps);
    p->e->kernels.add_scaled(x, sub, 1, c->hidden);
}

static void end_attention(ft_pass *p, size_t t)
{
    const size_t H = p->e->model->config.hidden;
    add_normed(p, t, layer_of(p)->after_attention);
    ft_pass_route(p, t);
    ft_inputs_prepare(p->e, &p->e->scratch.hidden_in, p->e->inputs[p->layer].ffn, t, p->e->scratch.x + t * H, H);
}

/* The end of a layer, and what comes after it: the next one's input or the final norm. */
static void end_layer(ft_pass *p, size_t t)
{
    ft_engine *e = p->e;
    const ft_model_config *c = &e->model->config;
    ft_scratch *z = &e->scratch;
    const ft_token *token = &z->tokens[t];
    float *x = z->x + t * c->hidden;
    ft_pass_combine(p, t);
    add_normed(p, t, layer_of(p)->after);
    const size_t next = p->layer + 1;
    if (token->hidden)
        memcpy(token->hidden + next * token->hidden_stride, x, c->hidden * sizeof(*x));
    if (next < c->layers) {
        ft_inputs_prepare(e, &z->hidden_in, e->inputs[next].qkv, t, x, c->hidden);
        return;
    }
    if (!token->logits && !token->final_norm)
        return;
    e->kernels.rms_norm(x, x, e->model->norm, c->hidden, c->rms_norm_eps);
    if (token->final_norm)
        memcpy(token->final_norm, x, c->hidden * sizeof(*x));
    ft_inputs_prepare(e, &z->hidden_in, ft_input_bit(e, &e->model->head), t, x, c->hidden);
}

/* --- The pass ---------------------------------------------------------------------------- */

typedef void serial_fn(void *pass);
typedef void token_fn(ft_pass *p, size_t t);

/* What is between two steps. */
typedef struct between {
    ft_pass *p;
    serial_fn *serial; /* NULL: nothing */
} between;

static void begin_step(void *context)
{
    const between *b = context;
    atomic_store_explicit(&b->p->next_task, 0, memory_order_relaxed);
    if (b->serial)
        b->serial(b->p);
}

static void join(ft_pass *p, serial_fn *serial)
{
    between b = {p, serial};
    ft_team_join(&p->team, begin_step, &b);
}

/* Runs fn for all tokens, some at a time, then waits for the others. */
static void each_token(ft_pass *p, size_t share, token_fn *fn, serial_fn *serial)
{
    size_t t, end;
    while (ft_pass_take(p, p->tokens, share, &t, &end))
        for (; t < end; t++)
            fn(p, t);
    join(p, serial);
}

/* Keys of tokens that follow one another lie in the same cache lines, of which a processor may fetch two at once. */
static size_t share_of_places(const ft_pass *p)
{
    return p->tokens < 2 * FT_KV_PAGE ? ft_pass_share(p, p->tokens) : FT_KV_PAGE;
}

static void prepare_attention(ft_pass *p, size_t t)
{
    const size_t Q = p->e->model->config.heads * p->e->model->config.head_dim;
    ft_inputs_prepare(p->e, &p->e->scratch.attention_in, p->e->inputs[p->layer].o, t, p->e->scratch.attention + t * Q,
                      Q);
}

static void products(ft_pass *p, unsigned member, serial_fn *serial)
{
    ft_products_run(p, member);
    join(p, serial);
}

static void attention_block(ft_pass *p, unsigned member)
{
    const unsigned floats = 1u << FT_INPUT_F32;
    products(p, member, NULL); /* q, k, v */
    each_token(p, share_of_places(p), ft_pass_place, NULL);
    ft_pass_attend(p, member);
    join(p, deal_o);
    if (p->e->inputs[p->layer].o & ~floats)
        each_token(p, ft_pass_share(p, p->tokens), prepare_attention, NULL);
    products(p, member, NULL);
    each_token(p, ft_pass_share(p, p->tokens), end_attention, ft_pass_group);
}

static void expert_block(ft_pass *p, unsigned member)
{
    if (ft_pass_gathers(p)) {
        ft_pass_gather(p);
        join(p, NULL);
    }
    products(p, member, ft_pass_deal_down); /* gate and up */
    if (ft_pass_prepares_pairs(p)) {
        ft_pass_prepare_pairs(p);
        join(p, NULL);
    }
    products(p, member, NULL);
    each_token(p, ft_pass_share(p, p->tokens), end_layer, next_layer);
}

static void run_member(void *pass, unsigned member)
{
    ft_pass *p = pass;
    const size_t layers = p->e->model->config.layers;
    each_token(p, ft_pass_share(p, p->tokens), begin_token, deal_qkv);
    for (size_t l = 0; l < layers; l++) {
        attention_block(p, member);
        expert_block(p, member);
    }
    ft_products_run(p, member); /* the head */
}

/* Threads for a pass: few products are done before another thread is awake. */
static unsigned members_for(const ft_pass *p)
{
    const ft_model_config *c = &p->e->model->config;
    const size_t layer = c->hidden * (2 * c->heads * c->head_dim + 2 * kv_width(c) + 3 * p->e->top_k * c->intermediate);
    return p->tokens * c->layers * layer < ALONE_WORK ? 1 : (unsigned)p->e->members;
}

/* Tiles of tokens that one session reads one after the other, and the rows of logits. */
static void lay_out(ft_pass *p)
{
    ft_scratch *z = &p->e->scratch;
    p->tiles = p->wanted = p->layer = 0;
    for (size_t t = 0; t < p->tokens; t++) {
        ft_tile *last = p->tiles ? &z->tiles[p->tiles - 1] : NULL;
        if (last && last->count < p->e->tile && z->tokens[last->first].session == z->tokens[t].session)
            last->count++;
        else
            z->tiles[p->tiles++] = (ft_tile){t, 1};
        if (z->tokens[t].logits) {
            z->wanted[p->wanted] = (uint32_t)t;
            z->places[p->wanted++] = z->tokens[t].logits;
        }
    }
}

void ft_forward(ft_engine *e)
{
    lay_out(e->pass);
    atomic_store_explicit(&e->pass->next_task, 0, memory_order_relaxed);
    ft_team_run(&e->pass->team, e->pool, members_for(e->pass), run_member, e->pass);
}
