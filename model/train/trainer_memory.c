#include "model/train/ft_attention_backward.h"
#include "model/train/trainer_internal.h"

#include "base/ft_buffer.h"
#include "model/ft_rope.h"

#include <stdlib.h>

/* --- Memory for one shape of batch --------------------------------------------------------- */

typedef struct allocator {
    ft_trainer *t;
    ft_status *st;
    ft_code rc;
    int counts; /* nothing is taken, only added up */
    size_t bytes;
} allocator;

/* Kernels read and write whole lines of the cache, where arrays begin at one. */
enum { LINE = 64 };

/* An array of rows * cols elements that the trainer owns; NULL once something has failed. */
static void *take(allocator *a, size_t rows, size_t cols, size_t element)
{
    size_t n, bytes;
    if (!a->rc)
        a->rc = ft_size_mul(rows, cols, &n, a->st);
    if (!a->rc)
        a->rc = ft_size_mul(n, element, &bytes, a->st);
    if (!a->rc)
        a->rc = ft_size_add(bytes, LINE, &bytes, a->st);
    if (!a->rc && a->counts) {
        a->bytes += bytes;
        return NULL;
    }
    if (!a->rc)
        a->rc =
            ft_array_grow((void **)&a->t->blocks, &a->t->block_capacity, a->t->block_count + 1, sizeof(void *), a->st);
    char *p = a->rc ? NULL : ft_alloc_array(bytes, 1);
    if (!a->rc && !p)
        a->rc = ft_fail(a->st, FT_ERR_MEM,
                        "no memory for the activations of %zu sequences of %zu tokens; --memory fits them to what there "
                        "is",
                        a->t->sequences, a->t->length);
    if (p)
        a->t->blocks[a->t->block_count++] = p;
    return p ? p + (LINE - (uintptr_t)p % LINE) : NULL;
}

static float *floats(allocator *a, size_t rows, size_t cols)
{
    return take(a, rows, cols, sizeof(float));
}

static void take_activations(allocator *al, ft_activations *a)
{
    const ft_trainer *t = al->t;
    const ft_model_config *c = &t->p.config;
    const size_t N = t->tokens, R = N * t->top_k, Q = c->heads * c->head_dim, KV = c->kv_heads * c->head_dim;
    a->q_raw = floats(al, N, Q);
    a->k_raw = floats(al, N, KV);
    a->q = floats(al, N, Q);
    a->k = floats(al, N, KV);
    a->v = floats(al, N, KV);
    a->att = floats(al, N, Q);
    a->lse = floats(al, N, c->heads);
    a->o = floats(al, N, c->hidden);
    a->mid = floats(al, N, c->hidden);
    a->inv_q = floats(al, N, 1);
    a->inv_k = floats(al, N, 1);
    a->inv_o = floats(al, N, 1);
    a->inv_moe = floats(al, N, 1);
    a->probs = floats(al, N, t->experts);
    a->router_lse = floats(al, N, 1);
    a->weights = floats(al, R, 1);
    a->chosen = take(al, R, 1, sizeof(uint32_t));
    a->row_of = take(al, R, 1, sizeof(uint32_t));
    a->token_of = take(al, R, 1, sizeof(uint32_t));
    /* Behind the experts' rows: the examples' rows, for all tokens and for one expert. */
    a->expert_begin = take(al, FT_MAX_EXPERTS + 1 + 2 * (t->sequences + 1), 1, sizeof(size_t));
    a->gate = floats(al, R, c->intermediate);
    a->up = floats(al, R, c->intermediate);
    a->y = floats(al, R, c->hidden);
    a->moe = t->plain ? a->y : floats(al, N, c->hidden);
}

static void take_scratch(allocator *al, ft_train_scratch *s)
{
    const ft_trainer *t = al->t;
    const ft_model_config *c = &t->p.config;
    const size_t N = t->tokens, R = N * t->top_k, Q = c->heads * c->head_dim, KV = c->kv_heads * c->head_dim;
    const size_t threads = ft_pool_size(t->pool), blocks = t->sequences * ft_sequence_blocks(t);
    const size_t layer = ft_layer_packed_units(t), head = ft_head_packed_units(t);
    const size_t rows = FT_BLOCK_TOKENS * (c->hidden + c->intermediate);
    const size_t attention = ft_attention_scratch(t->length, c->head_dim);
    s->rows_x = t->plain ? NULL : floats(al, R, c->hidden);
    s->a = floats(al, R, c->intermediate);
    s->dg = floats(al, R, c->intermediate);
    s->du = floats(al, R, c->intermediate);
    s->dy = floats(al, R, c->hidden);
    s->dxr = floats(al, R, c->hidden);
    s->dmid = floats(al, N, c->hidden);
    s->d_o = floats(al, N, c->hidden);
    s->dl = floats(al, N, t->experts);
    s->dw = floats(al, R, 1);
    s->dq = floats(al, N, Q);
    s->dk = floats(al, N, KV);
    s->dv = floats(al, N, KV);
    s->datt = floats(al, N, Q);
    /* Ghost norms of the head need an example's logits all together. */
    s->logit_rows = ft_head_rows(t, 0);
    if (t->with_ghost && s->logit_rows < t->length)
        s->logit_rows = t->length;
    s->logits = floats(al, s->logit_rows, c->vocab);
    s->own_stride = ((rows > attention ? rows : attention) + 15) / 16 * 16;
    s->own = floats(al, threads, s->own_stride);
    s->tied = t->with_ghost && t->p.embed->grad && t->p.head == t->p.embed ? floats(al, N, c->hidden) : NULL;
    s->ghost = t->with_ghost ? floats(al, threads * 2 * t->length, t->length) : NULL;
    s->partial_stride = c->hidden > Q ? c->hidden : Q;
    s->partial = floats(al, 2 * blocks, s->partial_stride);
    s->column = take(al, s->partial_stride, 1, sizeof(double));
    s->packed = take(al, layer > head ? layer : head, 1, sizeof(uint32_t));
    s->inputs = t->options.bfloat16 || ft_gemm_repacks(0) ? take(al, ft_layer_input_units(t), 1, sizeof(uint32_t)) : NULL;
}

static void fill_turns(ft_trainer *t)
{
    const ft_model_config *c = &t->p.config;
    const size_t half = c->head_dim / 2;
    float scaling;
    ft_rope_frequencies(&c->rope, c->head_dim, c->max_position, t->inv_freq, &scaling);
    for (size_t n = 0; n < t->length; n++)
        ft_rope_angles(t->cos + n * half, t->sin + n * half, n, t->inv_freq, half, scaling);
}

void ft_trainer_release(ft_trainer *t)
{
    for (size_t i = 0; i < t->block_count; i++)
        free(t->blocks[i]);
    t->block_count = 0;
    t->sequences = t->length = 0;
}

/* Sets the shape; nothing is taken. */
static ft_code set_shape(ft_trainer *t, size_t sequences, size_t length, int with_ghost, ft_status *st)
{
    const ft_model_config *c = &t->p.config;
    if (length > c->max_position)
        return ft_fail(st, FT_ERR_LIMIT, "a sequence of %zu tokens exceeds the model's %zu positions", length,
                       c->max_position);
    const ft_code rc = ft_size_mul(sequences, length, &t->tokens, st);
    if (!rc && (t->tokens == 0 || t->tokens > INT32_MAX / (t->top_k * (c->intermediate + c->hidden))))
        return ft_fail(st, FT_ERR_LIMIT, "a batch of %zu sequences of %zu tokens is %s", sequences, length,
                       t->tokens ? "too large; use smaller ones" : "empty");
    t->sequences = sequences;
    t->length = length;
    t->with_ghost = with_ghost;
    return rc;
}

static void take_all(allocator *al)
{
    ft_trainer *t = al->t;
    const ft_model_config *c = &t->p.config;
    const size_t layers = t->options.recompute ? 1 : c->layers;
    ft_activations counted;
    t->x = take(al, c->layers + 1, 1, sizeof(*t->x));
    t->kept = take(al, layers, 1, sizeof(*t->kept));
    for (size_t l = 0; l <= c->layers && !al->rc; l++) {
        float *x = floats(al, t->tokens, c->hidden);
        if (t->x)
            t->x[l] = x;
    }
    for (size_t l = 0; l < layers && !al->rc; l++)
        take_activations(al, t->kept ? &t->kept[l] : &counted);
    take_scratch(al, &t->s);
    t->final = floats(al, t->tokens, c->hidden);
    t->inv_final = floats(al, t->tokens, 1);
    t->dx = floats(al, t->tokens, c->hidden);
    t->inv_freq = floats(al, 1, c->head_dim / 2);
    t->cos = floats(al, t->length, c->head_dim / 2);
    t->sin = floats(al, t->length, c->head_dim / 2);
}

ft_code ft_trainer_prepare(ft_trainer *t, size_t sequences, size_t length, int with_ghost, ft_status *st)
{
    if (t->sequences == sequences && t->length == length && t->with_ghost >= with_ghost)
        return FT_OK;
    ft_trainer_release(t);
    allocator al = {.t = t, .st = st};
    al.rc = set_shape(t, sequences, length, with_ghost, st);
    if (!al.rc)
        take_all(&al);
    if (al.rc) {
        ft_trainer_release(t);
        return al.rc;
    }
    fill_turns(t);
    for (size_t i = 0; i <= t->sequences; i++)
        t->kept[0].expert_begin[FT_MAX_EXPERTS + 1 + i] = i * t->length;
    return FT_OK;
}

/* --- A ceiling --------------------------------------------------------------------------------- */

/* What the program, its libraries and their stacks take besides, measured as 17 MiB, with a margin. */
static const uint64_t PROGRAM = 32u << 20;

ft_code ft_trainer_bytes(uint64_t *out, const ft_trainer *t, size_t sequences, size_t length, int private,
                         ft_status *st)
{
    ft_trainer shape = *t; /* never used as one: counting changes no array */
    allocator al = {.t = &shape, .st = st, .counts = 1};
    *out = 0;
    al.rc = set_shape(&shape, sequences, length, private, st);
    if (!al.rc)
        take_all(&al);
    uint64_t bytes = PROGRAM + al.bytes;
    for (size_t i = 0; i < t->p.count; i++)
        bytes += (uint64_t)t->p.all[i].count * sizeof(float) * (t->p.all[i].grad ? 4 : 1);
    *out = al.rc ? 0 : bytes;
    return al.rc;
}

ft_code ft_trainer_fit(ft_trainer *t, uint64_t ceiling, uint64_t besides, size_t length, int private, size_t *micro,
                       ft_status *st)
{
    uint64_t bytes = 0;
    const int asked = t->options.recompute;
    for (int recompute = asked; recompute <= 1; recompute++) {
        t->options.recompute = recompute;
        for (size_t m = *micro; m; m /= 2) {
            const ft_code rc = ft_trainer_bytes(&bytes, t, m, length, private, st);
            if (rc && m == 1)
                return rc;
            if (rc || bytes > ceiling || ceiling - bytes < besides)
                continue;
            *micro = m;
            ft_trainer_release(t); /* what was prepared for another setting */
            return FT_OK;
        }
    }
    t->options.recompute = asked;
    return ft_fail(st, FT_ERR_LIMIT,
                   "--memory: %llu MiB do not hold this training; one sequence of %zu tokens at a time, activations "
                   "made again, takes %llu MiB: allow that, or train with a smaller --length",
                   (unsigned long long)(ceiling >> 20), length, (unsigned long long)((bytes + besides) >> 20) + 1);
}
