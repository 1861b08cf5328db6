/* The forward pass of FlexOlmo and OLMo 2. For each layer
 *
 *   q = rope(norm(Wq x)), k = rope(norm(Wk x)), v = Wv x     norms over all heads at once
 *   x = x + norm(Wo attention(q, k, v))
 *   p = softmax(Wr x) over the experts that take part; the k' largest are chosen
 *   x = x + norm(sum of w_e Wdown_e (silu(Wgate_e x) * Wup_e x))
 *
 * and logits = head norm(x). Each step is a job for the pool whose tasks write
 * different outputs, so results do not depend on the number of threads; sums run
 * in an order of their own, so they do not depend on the chunk either. */
#include "model/session_internal.h"

#include <math.h>
#include <string.h>

/* --- Matrix products ------------------------------------------------------------ */

enum {
    TASK_WORK = 1 << 15,        /* multiplications that are worth a task of their own */
    TASK_ROWS = FT_MATMUL_ROWS, /* rows are dealt out in multiples of this */
    TASKS_PER_THREAD = 4,
    MAX_PRODUCTS = 2 * FT_MAX_EXPERTS,
};

/* Several products done as one job. */
typedef struct products {
    const ft_session *s;
    size_t count;
    struct product {
        ft_matmul m;
        ft_weight_type type;
        size_t rows_each, first_task; /* how its rows are dealt out */
    } list[MAX_PRODUCTS];
} products;

/* out[t] = w x[t] for t < tokens; a token reads row index[t] of x where there is an index. */
static void add_product(products *p, const ft_matrix *w, const float *x, const uint32_t *index, size_t tokens,
                        float *out, size_t out_stride)
{
    p->list[p->count++] = (struct product){.m = {.w = w->data,
                                                 .w_stride = w->cols,
                                                 .rows = w->rows,
                                                 .cols = w->cols,
                                                 .x = x,
                                                 .x_stride = w->cols * sizeof(*x),
                                                 .index = index,
                                                 .tokens = tokens,
                                                 .out = out,
                                                 .out_stride = out_stride},
                                           .type = w->type};
}

static void product_task(void *context, size_t task, unsigned worker)
{
    (void)worker;
    const products *p = context;
    size_t i = p->count - 1;
    while (p->list[i].first_task > task)
        i--;
    const struct product *one = &p->list[i];
    const size_t row = (task - one->first_task) * one->rows_each, left = one->m.rows - row;
    const ft_matmul m = ft_matmul_rows(&one->m, one->type, row, left < one->rows_each ? left : one->rows_each);
    ft_kernels_matmul(&p->s->kernels, one->type, FT_COMPUTE_FLOAT32)(&m);
}

/* Deals the rows of all products out in pieces of about the same work. */
static void run_products(products *p)
{
    size_t work = 0, tasks = 0;
    for (size_t i = 0; i < p->count; i++)
        work += p->list[i].m.rows * p->list[i].m.cols * p->list[i].m.tokens;
    const size_t most = (size_t)TASKS_PER_THREAD * ft_pool_size(p->s->pool);
    size_t wanted = work / TASK_WORK;
    wanted = wanted > most ? most : wanted ? wanted : 1;
    const size_t each = work / wanted + 1;
    for (size_t i = 0; i < p->count; i++) {
        struct product *one = &p->list[i];
        const size_t row_work = one->m.cols * one->m.tokens;
        const size_t rows = row_work ? (each / row_work + TASK_ROWS - 1) / TASK_ROWS * TASK_ROWS : one->m.rows;
        one->rows_each = rows < TASK_ROWS ? TASK_ROWS : rows;
        one->first_task = tasks;
        tasks += (one->m.rows + one->rows_each - 1) / one->rows_each;
    }
    if (wanted == 1) /* too little to wake the others for */
        for (size_t t = 0; t < tasks; t++)
            product_task(p, t, 0);
    else
        ft_pool_run(p->s->pool, tasks, product_task, p);
}

/* --- Steps that each token takes for itself --------------------------------------- */

typedef struct pass {
    ft_session *s;
    const ft_layer *layer;
    size_t layer_number, count;
    const float *norm; /* for add_normed */
} pass;

static size_t kv_width(const ft_model_config *c)
{
    return c->kv_heads * c->head_dim;
}

/* Runs `fn` for every token; a lone one stays on this thread. */
static void each_token(pass *p, ft_task_fn *fn)
{
    ft_pool_run(p->s->pool, p->count, fn, p);
}

static void normalise_and_rotate(void *context, size_t t, unsigned worker)
{
    (void)worker;
    const pass *p = context;
    ft_session *s = p->s;
    const ft_model_config *c = &s->model->config;
    const size_t half = c->head_dim / 2, width = c->heads * c->head_dim;
    float *q = s->scratch.q + t * width, *k = s->keys[p->layer_number] + (s->length + t) * kv_width(c);
    s->kernels.rms_norm(q, q, p->layer->q_norm, width, c->rms_norm_eps);
    s->kernels.rms_norm(k, k, p->layer->k_norm, kv_width(c), c->rms_norm_eps);
    s->kernels.rotate(q, c->heads, s->scratch.cos + t * half, s->scratch.sin + t * half, half);
    s->kernels.rotate(k, c->kv_heads, s->scratch.cos + t * half, s->scratch.sin + t * half, half);
}

/* x = x + norm(sub) */
static void add_normed(void *context, size_t t, unsigned worker)
{
    (void)worker;
    const pass *p = context;
    const ft_session *s = p->s;
    const size_t H = s->model->config.hidden;
    float *x = s->scratch.x + t * H, *sub = s->scratch.sub + t * H;
    s->kernels.rms_norm(sub, sub, p->norm, H, s->model->config.rms_norm_eps);
    for (size_t i = 0; i < H; i++)
        x[i] += sub[i];
}

/* Angles are products in float32, as transformers has them; cosine and sine of
 * the rounded angle come from float64 so that no library's float32 ones matter. */
static void angles(ft_session *s, size_t count)
{
    const size_t half = s->model->config.head_dim / 2;
    for (size_t t = 0; t < count; t++)
        for (size_t i = 0; i < half; i++) {
            const float angle = (float)(s->length + t) * s->inv_freq[i];
            s->scratch.cos[t * half + i] = (float)cos((double)angle) * s->rope_scaling;
            s->scratch.sin[t * half + i] = (float)sin((double)angle) * s->rope_scaling;
        }
}

/* --- Attention ------------------------------------------------------------------- */

/* One task: the queries of one tile of tokens that read one kv head. Token t
 * attends to the positions up to its own; sums run over them in order. */
static void attend(void *context, size_t task, unsigned worker)
{
    const pass *p = context;
    ft_session *s = p->s;
    const ft_model_config *c = &s->model->config;
    const size_t group = c->heads / c->kv_heads, D = c->head_dim, kv = kv_width(c);
    const size_t head = task % c->kv_heads, t0 = task / c->kv_heads * FT_QUERY_TILE;
    const size_t tokens = p->count - t0 < FT_QUERY_TILE ? p->count - t0 : FT_QUERY_TILE;
    const float *keys = s->keys[p->layer_number] + head * D, *values = s->values[p->layer_number] + head * D;
    float *scores = s->scratch.scores + worker * s->score_rows * s->capacity;
    for (size_t i = 0; i < tokens; i++) { /* group heads of one token lie side by side in q */
        const ft_matmul m = {.w = keys,
                             .w_stride = kv,
                             .rows = s->length + t0 + i + 1,
                             .cols = D,
                             .x = s->scratch.q + ((t0 + i) * c->heads + head * group) * D,
                             .x_stride = D * sizeof(float),
                             .tokens = group,
                             .out = scores + i * group * s->capacity,
                             .out_stride = s->capacity};
        ft_kernels_matmul(&s->kernels, FT_WEIGHT_F32, FT_COMPUTE_FLOAT32)(&m);
    }
    const float scale = (float)(1.0 / sqrt((double)D));
    for (size_t i = 0; i < tokens; i++)
        for (size_t g = 0; g < group; g++) {
            float *row = scores + (i * group + g) * s->capacity;
            const size_t n = s->length + t0 + i + 1;
            s->kernels.softmax(row, n, scale);
            const ft_page_product mix = {.page = values,
                                         .page_stride = kv,
                                         .depth = n,
                                         .cols = D,
                                         .a = row,
                                         .a_stride = n,
                                         .rows = 1,
                                         .out = s->scratch.attention + ((t0 + i) * c->heads + head * group + g) * D,
                                         .out_stride = D};
            s->kernels.page[FT_KV_F32](&mix);
        }
}

static void attention_block(pass *p)
{
    ft_session *s = p->s;
    const ft_model_config *c = &s->model->config;
    const ft_layer *l = p->layer;
    ft_scratch *z = &s->scratch;
    const size_t kv = kv_width(c);
    products in = {.s = s}, out = {.s = s};
    add_product(&in, &l->q, z->x, NULL, p->count, z->q, c->heads * c->head_dim);
    add_product(&in, &l->k, z->x, NULL, p->count, s->keys[p->layer_number] + s->length * kv, kv);
    add_product(&in, &l->v, z->x, NULL, p->count, s->values[p->layer_number] + s->length * kv, kv);
    run_products(&in);
    each_token(p, normalise_and_rotate);
    ft_pool_run(s->pool, (p->count + FT_QUERY_TILE - 1) / FT_QUERY_TILE * c->kv_heads, attend, p);
    add_product(&out, &l->o, z->attention, NULL, p->count, z->sub, c->hidden);
    run_products(&out);
    p->norm = l->after_attention;
    each_token(p, add_normed);
}

/* --- Experts ----------------------------------------------------------------------- */

/* Router probabilities of one token over the experts that take part, its k'
 * largest (the lower number first on a tie), and their mixing weights. */
static void route(void *context, size_t t, unsigned worker)
{
    (void)worker;
    const pass *p = context;
    ft_session *s = p->s;
    const ft_model_config *c = &s->model->config;
    const size_t E = c->experts, k = s->top_k;
    float *probs = s->scratch.probs + t * E, *weights = s->scratch.weights + t * k, some[FT_MAX_EXPERTS];
    uint8_t *chosen = s->scratch.chosen + t * k;
    size_t left = 0;
    for (size_t e = 0; e < E; e++) {
        probs[e] = 0;
        if (!(s->kept >> e & 1))
            continue;
        const ft_matrix row = ft_matrix_rows(&p->layer->router, e, 1);
        const ft_matmul m = {.w = row.data,
                             .w_stride = row.cols,
                             .rows = 1,
                             .cols = row.cols,
                             .x = s->scratch.x + t * c->hidden,
                             .x_stride = c->hidden * sizeof(float),
                             .tokens = 1,
                             .out = &some[left++],
                             .out_stride = 1};
        ft_kernels_matmul(&s->kernels, row.type, FT_COMPUTE_FLOAT32)(&m);
    }
    s->kernels.softmax(some, left, 1);
    for (size_t e = 0, i = 0; e < E; e++)
        if (s->kept >> e & 1)
            probs[e] = some[i++];
    uint64_t open = s->kept;
    float sum = 0;
    for (size_t j = 0; j < k; j++) {
        size_t best = (size_t)__builtin_ctzll(open);
        for (size_t e = best + 1; e < E; e++)
            if ((open >> e & 1) && probs[e] > probs[best])
                best = e;
        open &= ~((uint64_t)1 << best);
        chosen[j] = (uint8_t)best;
        weights[j] = probs[best];
        sum += probs[best];
    }
    for (size_t j = 0; j < k && c->norm_topk_prob; j++)
        weights[j] /= sum;
    if (!s->capture)
        return;
    const size_t at = (s->length + t) * c->layers + p->layer_number;
    memcpy(s->routing_probs + at * E, probs, E * sizeof(*probs));
    memcpy(s->routing_weights + at * k, weights, k * sizeof(*weights));
    memcpy(s->routing_ids + at * k, chosen, k);
}

static void activate(void *context, size_t pair, unsigned worker)
{
    (void)worker;
    const ft_session *s = ((const pass *)context)->s;
    const size_t I = s->model->config.intermediate;
    s->kernels.silu(s->scratch.gate + pair * I, s->scratch.up + pair * I, I);
}

/* sub[t] = sum over the chosen of weight * down, largest weight first. */
static void combine(void *context, size_t t, unsigned worker)
{
    (void)worker;
    const pass *p = context;
    const ft_session *s = p->s;
    const size_t H = s->model->config.hidden, k = s->top_k;
    float *sub = s->scratch.sub + t * H;
    memset(sub, 0, H * sizeof(*sub));
    for (size_t j = 0; j < k; j++) {
        const float *down = s->scratch.down + s->scratch.pair_slot[t * k + j] * H, w = s->scratch.weights[t * k + j];
        for (size_t i = 0; i < H; i++)
            sub[i] += w * down[i];
    }
}

/* Groups the pairs (token, chosen expert) by expert, so that an expert's weights
 * are read once for all tokens that chose it; first[e] is where its pairs begin. */
static void group_pairs(pass *p, size_t first[FT_MAX_EXPERTS + 1])
{
    ft_session *s = p->s;
    ft_scratch *z = &s->scratch;
    const size_t E = s->model->config.experts, k = s->top_k;
    size_t next[FT_MAX_EXPERTS + 1] = {0};
    for (size_t i = 0; i < p->count * k; i++)
        next[z->chosen[i] + 1]++;
    for (size_t e = 0; e < E; e++)
        next[e + 1] += next[e];
    memcpy(first, next, (E + 1) * sizeof(*first));
    for (size_t i = 0; i < p->count * k; i++) {
        const size_t pair = next[z->chosen[i]]++;
        z->pair_token[pair] = (uint32_t)(i / k);
        z->pair_slot[i] = (uint32_t)pair;
    }
}

static void expert_block(pass *p)
{
    ft_session *s = p->s;
    const ft_model_config *c = &s->model->config;
    ft_scratch *z = &s->scratch;
    size_t first[FT_MAX_EXPERTS + 1];
    each_token(p, route);
    group_pairs(p, first);
    products in = {.s = s}, out = {.s = s};
    for (size_t e = 0; e < c->experts; e++) {
        const size_t at = first[e], n = first[e + 1] - at;
        const ft_expert *x = &p->layer->experts[e];
        if (!n)
            continue;
        add_product(&in, &x->gate, z->x, z->pair_token + at, n, z->gate + at * c->intermediate, c->intermediate);
        add_product(&in, &x->up, z->x, z->pair_token + at, n, z->up + at * c->intermediate, c->intermediate);
        add_product(&out, &x->down, z->gate + at * c->intermediate, NULL, n, z->down + at * c->hidden, c->hidden);
    }
    run_products(&in);
    ft_pool_run(s->pool, first[c->experts], activate, p);
    run_products(&out);
    each_token(p, combine);
    p->norm = p->layer->after;
    each_token(p, add_normed);
}

static void dense_block(pass *p)
{
    ft_session *s = p->s;
    const ft_model_config *c = &s->model->config;
    ft_scratch *z = &s->scratch;
    const ft_expert *ffn = &p->layer->experts[0];
    products in = {.s = s}, out = {.s = s};
    add_product(&in, &ffn->gate, z->x, NULL, p->count, z->gate, c->intermediate);
    add_product(&in, &ffn->up, z->x, NULL, p->count, z->up, c->intermediate);
    run_products(&in);
    ft_pool_run(s->pool, p->count, activate, p);
    add_product(&out, &ffn->down, z->gate, NULL, p->count, z->sub, c->hidden);
    run_products(&out);
    p->norm = p->layer->after;
    each_token(p, add_normed);
}

/* --- The pass ------------------------------------------------------------------------ */

static void embed(const ft_session *s, const uint32_t *ids, size_t count)
{
    const ft_matrix *w = &s->model->embed;
    for (size_t t = 0; t < count; t++)
        ft_matrix_widen_row(w, ids[t], s->scratch.x + t * w->cols);
}

static void copy_hidden(const ft_session *s, const ft_outputs *out, size_t level, size_t at, size_t total, size_t count)
{
    const size_t H = s->model->config.hidden;
    if (out->hidden)
        memcpy(out->hidden + (level * total + at) * H, s->scratch.x, count * H * sizeof(float));
}

/* Final norm into `sub` and logits of the tokens that someone asked for. */
static void finish(ft_session *s, const ft_outputs *out, size_t at, size_t count, int last)
{
    const ft_model *m = s->model;
    const size_t H = m->config.hidden, V = m->config.vocab;
    const int all = out->logits || out->final_norm;
    if (!all && !(last && out->last_logits))
        return;
    float *normed = s->scratch.sub;
    for (size_t t = all ? 0 : count - 1; t < count; t++)
        s->kernels.rms_norm(normed + t * H, s->scratch.x + t * H, m->norm, H, m->config.rms_norm_eps);
    if (out->final_norm)
        memcpy(out->final_norm + at * H, normed, count * H * sizeof(float));
    products p = {.s = s};
    if (out->logits)
        add_product(&p, &m->head, normed, NULL, count, out->logits + at * V, V);
    else if (last && out->last_logits)
        add_product(&p, &m->head, normed + (count - 1) * H, NULL, 1, out->last_logits, V);
    if (p.count)
        run_products(&p);
    if (out->logits && last && out->last_logits)
        memcpy(out->last_logits, out->logits + (at + count - 1) * V, V * sizeof(float));
}

void ft_forward(ft_session *s, const uint32_t *ids, size_t count, const ft_outputs *out, size_t at, size_t total,
                int last)
{
    const ft_model_config *c = &s->model->config;
    embed(s, ids, count);
    angles(s, count);
    copy_hidden(s, out, 0, at, total, count);
    for (size_t l = 0; l < c->layers; l++) {
        pass p = {.s = s, .layer = &s->model->layers[l], .layer_number = l, .count = count};
        attention_block(&p);
        if (c->experts)
            expert_block(&p);
        else
            dense_block(&p);
        copy_hidden(s, out, l + 1, at, total, count);
    }
    finish(s, out, at, count, last);
    s->length += count;
}
