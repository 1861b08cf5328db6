#include "model/ft_session.h"

#include "base/ft_buffer.h"
#include "base/ft_cpu.h"
#include "model/ft_rope.h"
#include "model/session_internal.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 256 };

static ft_code out_of_memory(const ft_session *s, ft_status *st)
{
    return ft_fail(st, FT_ERR_MEM, "%s: no memory for a session of %zu tokens", s->model->folder, s->max_tokens);
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* --- Room -------------------------------------------------------------------- */

/* floats for count * width, or NULL; a product that overflows counts as no memory. */
static float *floats(size_t count, size_t width)
{
    size_t n;
    return ft_size_mul(count, width, &n, NULL) == FT_OK ? ft_alloc_array(n, sizeof(float)) : NULL;
}

static ft_code make_scratch(ft_session *s, ft_status *st)
{
    const ft_model_config *c = &s->model->config;
    ft_scratch *z = &s->scratch;
    const size_t T = s->chunk, q = c->heads * c->head_dim, k = s->top_k ? s->top_k : 1, P = T * k;
    z->x = floats(T, c->hidden);
    z->sub = floats(T, c->hidden);
    z->q = floats(T, q);
    z->attention = floats(T, q);
    z->cos = floats(T, c->head_dim / 2);
    z->sin = floats(T, c->head_dim / 2);
    z->probs = floats(T, c->experts);
    z->weights = floats(T, k);
    z->chosen = ft_alloc_array(T, k);
    z->pair_token = ft_alloc_array(P, sizeof(*z->pair_token));
    z->pair_slot = ft_alloc_array(P, sizeof(*z->pair_slot));
    z->gate = floats(P, c->intermediate);
    z->up = floats(P, c->intermediate);
    z->down = floats(P, c->hidden);
    if (!z->x || !z->sub || !z->q || !z->attention || !z->cos || !z->sin || !z->probs || !z->weights || !z->chosen ||
        !z->pair_token || !z->pair_slot || !z->gate || !z->up || !z->down)
        return out_of_memory(s, st);
    return FT_OK;
}

/* Grows one array of a session to `wanted` elements; on failure it keeps what it had. */
static int grow(void **array, size_t wanted, size_t width, size_t element)
{
    size_t n;
    if (ft_size_mul(wanted, width, &n, NULL) || ft_size_mul(n, element, &n, NULL))
        return 0;
    void *p = realloc(*array, n ? n : 1);
    if (!p)
        return 0;
    *array = p;
    return 1;
}

/* Room for `needed` tokens. Arrays that grew before one failed stay grown; the
 * session does not count on it. */
static ft_code reserve(ft_session *s, size_t needed, ft_status *st)
{
    if (needed <= s->capacity)
        return FT_OK;
    const ft_model_config *c = &s->model->config;
    const size_t doubled = s->capacity > s->max_tokens / 2 ? s->max_tokens : 2 * s->capacity;
    const size_t floor = smaller(FIRST_CAPACITY, s->max_tokens);
    size_t wanted = needed > doubled ? needed : doubled;
    wanted = wanted > floor ? wanted : floor;
    int ok = 1;
    for (size_t l = 0; l < c->layers && ok; l++)
        ok = grow((void **)&s->keys[l], wanted, c->kv_heads * c->head_dim, sizeof(float)) &&
             grow((void **)&s->values[l], wanted, c->kv_heads * c->head_dim, sizeof(float));
    ok = ok && grow((void **)&s->scratch.scores, wanted, ft_pool_size(s->pool) * s->score_rows, sizeof(float));
    if (ok && s->capture && c->experts)
        ok = grow((void **)&s->routing_probs, wanted, c->layers * c->experts, sizeof(float)) &&
             grow((void **)&s->routing_weights, wanted, c->layers * s->top_k, sizeof(float)) &&
             grow((void **)&s->routing_ids, wanted, c->layers * s->top_k, 1);
    if (!ok)
        return out_of_memory(s, st);
    s->capacity = wanted;
    return FT_OK;
}

/* --- Opening ------------------------------------------------------------------- */

/* Which experts take part; the message of a bad set names its reason. */
static ft_code choose_experts(ft_session *s, uint64_t without, ft_status *st)
{
    const ft_model_config *c = &s->model->config;
    const uint64_t all = c->experts == 64 ? UINT64_MAX : ((uint64_t)1 << c->experts) - 1;
    if (without & ~all)
        return ft_fail(st, FT_ERR_ARG, "%s: expert %d cannot be left out: the model has %zu experts", s->model->folder,
                       __builtin_ctzll(without & ~all), c->experts);
    s->kept = all & ~without;
    const size_t left = (size_t)__builtin_popcountll(s->kept);
    if (c->experts && !left)
        return ft_fail(st, FT_ERR_ARG, "%s: all %zu experts are left out; at least one must take part",
                       s->model->folder, c->experts);
    s->top_k = smaller(c->top_k, left);
    return FT_OK;
}

static ft_code open_parts(ft_session *s, const ft_session_options *o, ft_status *st)
{
    const ft_model_config *c = &s->model->config;
    ft_code rc = choose_experts(s, o->without, st);
    if (!rc && o->max_tokens > c->max_position)
        rc = ft_fail(st, FT_ERR_LIMIT, "%s: %zu tokens asked for, the model's context has %zu", s->model->folder,
                     o->max_tokens, c->max_position);
    if (rc)
        return rc;
    s->max_tokens = o->max_tokens ? o->max_tokens : c->max_position;
    s->capture = o->capture_routing;
    s->chunk = smaller(FT_CHUNK, s->max_tokens);
    s->score_rows = FT_QUERY_TILE * (c->heads / c->kv_heads);
    ft_kernels_init(&s->kernels, ft_cpu_isa());
    s->inv_freq = floats(c->head_dim / 2, 1);
    s->keys = ft_alloc_array(c->layers, sizeof(*s->keys));
    s->values = ft_alloc_array(c->layers, sizeof(*s->values));
    if (!s->inv_freq || !s->keys || !s->values)
        return out_of_memory(s, st);
    ft_rope_frequencies(&c->rope, c->head_dim, c->max_position, s->inv_freq, &s->rope_scaling);
    rc = make_scratch(s, st);
    return rc ? rc : reserve(s, 1, st);
}

ft_code ft_session_open(ft_session **out, const ft_model *m, ft_pool *pool, const ft_session_options *o, ft_status *st)
{
    const ft_session_options none = {0};
    *out = NULL;
    ft_session *s = calloc(1, sizeof(*s));
    if (!s)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", m->folder);
    s->model = m;
    s->pool = pool;
    const ft_code rc = open_parts(s, o ? o : &none, st);
    if (!rc) {
        *out = s;
        s = NULL; /* the caller owns it from here on */
    }
    ft_session_close(s);
    return rc;
}

void ft_session_close(ft_session *s)
{
    if (!s)
        return;
    for (size_t l = 0; l < s->model->config.layers; l++) {
        if (s->keys)
            free(s->keys[l]);
        if (s->values)
            free(s->values[l]);
    }
    ft_scratch *z = &s->scratch;
    float *const arrays[] = {z->x,       z->sub,  z->q,  z->attention, z->cos,    z->sin,           z->probs,
                             z->weights, z->gate, z->up, z->down,      z->scores, s->routing_probs, s->routing_weights,
                             s->inv_freq};
    for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++)
        free(arrays[i]);
    free(z->chosen);
    free(z->pair_token);
    free(z->pair_slot);
    free(s->routing_ids);
    free(s->keys);
    free(s->values);
    free(s);
}

/* --- Reading -------------------------------------------------------------------- */

void ft_session_rewind(ft_session *s, size_t length)
{
    s->length = smaller(s->length, length);
}

size_t ft_session_length(const ft_session *s)
{
    return s->length;
}

ft_code ft_session_read(ft_session *s, const uint32_t *ids, size_t count, const ft_outputs *out,
                        const volatile int *cancel, ft_status *st)
{
    const ft_outputs nothing = {0};
    const size_t before = s->length;
    if (count > s->max_tokens - before)
        return ft_fail(st, FT_ERR_LIMIT, "%s: %zu tokens after %zu exceed the context of %zu", s->model->folder, count,
                       before, s->max_tokens);
    for (size_t i = 0; i < count; i++)
        if (ids[i] >= s->model->config.vocab)
            return ft_fail(st, FT_ERR_ARG, "%s: token %zu is id %u; the vocabulary has %zu", s->model->folder, i,
                           ids[i], s->model->config.vocab);
    const ft_code rc = reserve(s, before + count, st);
    if (rc)
        return rc;
    for (size_t at = 0; at < count;) {
        const size_t n = smaller(count - at, s->chunk);
        if (cancel && *cancel) {
            s->length = before;
            return ft_fail(st, FT_ERR_CANCELLED, "%s: cancelled after %zu of %zu tokens", s->model->folder, at, count);
        }
        ft_forward(s, ids + at, n, out ? out : &nothing, at, count, at + n == count);
        at += n;
    }
    return FT_OK;
}

ft_routing ft_session_routing(const ft_session *s)
{
    const ft_model_config *c = &s->model->config;
    if (!s->capture || !c->experts)
        return (ft_routing){0};
    return (ft_routing){.tokens = s->length,
                        .layers = c->layers,
                        .experts = c->experts,
                        .top_k = s->top_k,
                        .probs = s->routing_probs,
                        .expert_ids = s->routing_ids,
                        .weights = s->routing_weights};
}
