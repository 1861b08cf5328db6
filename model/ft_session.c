#include "model/ft_session.h"

#include "base/ft_buffer.h"
#include "model/engine_internal.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 256 };

static ft_code out_of_memory(const ft_engine *e, size_t tokens, ft_status *st)
{
    return ft_fail(st, FT_ERR_MEM, "%s: no memory for a session of %zu tokens", e->model->folder, tokens);
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t pages_for(size_t tokens)
{
    return tokens / FT_KV_PAGE + (tokens % FT_KV_PAGE != 0);
}

/* --- Room for routing -------------------------------------------------------------------- */

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

/* Room for the routing of `needed` tokens. Arrays that grew before one failed stay
 * grown; the session does not count on it. */
static ft_code reserve_routing(ft_session *s, size_t needed, ft_status *st)
{
    const ft_model_config *c = &s->engine->model->config;
    if (needed <= s->capacity || !s->capture || !c->experts)
        return FT_OK;
    const size_t doubled = s->capacity > s->max_tokens / 2 ? s->max_tokens : 2 * s->capacity;
    const size_t floor = smaller(FIRST_CAPACITY, s->max_tokens);
    size_t wanted = needed > doubled ? needed : doubled;
    wanted = wanted > floor ? wanted : floor;
    if (!grow((void **)&s->routing_probs, wanted, c->layers * c->experts, sizeof(float)) ||
        !grow((void **)&s->routing_weights, wanted, c->layers * s->top_k, sizeof(float)) ||
        !grow((void **)&s->routing_ids, wanted, c->layers * s->top_k, 1))
        return out_of_memory(s->engine, wanted, st);
    s->capacity = wanted;
    return FT_OK;
}

/* --- Opening ------------------------------------------------------------------------------ */

/* Which experts take part; the message of a bad set names its reason. */
static ft_code choose_experts(ft_session *s, uint64_t without, ft_status *st)
{
    const ft_model *m = s->engine->model;
    const ft_model_config *c = &m->config;
    const uint64_t all = c->experts == 64 ? UINT64_MAX : ((uint64_t)1 << c->experts) - 1;
    if (without & ~all)
        return ft_fail(st, FT_ERR_ARG, "%s: expert %d cannot be left out: the model has %zu experts", m->folder,
                       __builtin_ctzll(without & ~all), c->experts);
    s->kept = all & ~without;
    const size_t left = (size_t)__builtin_popcountll(s->kept);
    if (c->experts && !left)
        return ft_fail(st, FT_ERR_ARG, "%s: all %zu experts are left out; at least one must take part", m->folder,
                       c->experts);
    s->top_k = smaller(c->top_k, left);
    return FT_OK;
}

ft_code ft_session_open_on(ft_session **out, ft_engine *e, const ft_session_options *o, ft_status *st)
{
    const ft_session_options none = {0};
    *out = NULL;
    if (!o)
        o = &none;
    if (o->max_tokens > e->max_tokens)
        return ft_fail(st, FT_ERR_LIMIT, "%s: %zu tokens asked for, the model's context has %zu", e->model->folder,
                       o->max_tokens, e->max_tokens);
    ft_session *s = calloc(1, sizeof(*s));
    if (!s)
        return out_of_memory(e, o->max_tokens, st);
    s->engine = e;
    s->max_tokens = o->max_tokens ? o->max_tokens : e->max_tokens;
    s->capture = o->capture_routing;
    s->share = o->share_prefix && e->prefix.entries;
    ft_code rc = choose_experts(s, o->without, st);
    s->pages = rc ? NULL : ft_alloc_array(pages_for(s->max_tokens), sizeof(*s->pages));
    if (!rc && !s->pages)
        rc = out_of_memory(e, s->max_tokens, st);
    if (!rc) /* where its end is known nothing has to grow on the way */
        rc = reserve_routing(s, o->max_tokens ? o->max_tokens : 1, st);
    if (!rc) {
        *out = s;
        s = NULL; /* the caller owns it from here on */
    }
    ft_session_close(s);
    return rc;
}

ft_code ft_session_open(ft_session **out, const ft_model *m, ft_pool *pool, const ft_session_options *o, ft_status *st)
{
    *out = NULL;
    const size_t asked = o ? o->max_tokens : 0, tokens = asked ? asked : m->config.max_position;
    if (tokens > m->config.max_position)
        return ft_fail(st, FT_ERR_LIMIT, "%s: %zu tokens asked for, the model's context has %zu", m->folder, tokens,
                       m->config.max_position);
    const ft_engine_options how = {
        .max_tokens = tokens, .batch_tokens = smaller(tokens, FT_BATCH_TOKENS), .no_prefix_cache = 1};
    ft_engine *e;
    ft_code rc = ft_engine_new(&e, m, pool, &how, st);
    if (rc)
        return rc;
    rc = ft_session_open_on(out, e, o, st);
    if (rc)
        ft_engine_free(e);
    else
        (*out)->own = e;
    return rc;
}

void ft_session_close(ft_session *s)
{
    if (!s)
        return;
    if (s->pages)
        ft_session_rewind(s, 0);
    free(s->pages);
    free(s->routing_probs);
    free(s->routing_weights);
    free(s->routing_ids);
    ft_engine_free(s->own);
    free(s);
}

/* --- Pages ---------------------------------------------------------------------------------- */

static void keep_pages(ft_session *s, size_t count)
{
    ft_engine *e = s->engine;
    pthread_mutex_lock(&e->lock);
    while (s->page_count > count)
        ft_kv_drop(&e->kv, s->pages[--s->page_count]);
    pthread_mutex_unlock(&e->lock);
}

void ft_session_rewind(ft_session *s, size_t length)
{
    s->length = smaller(s->length, length);
    keep_pages(s, pages_for(s->length));
}

void ft_session_end(ft_session *s)
{
    keep_pages(s, 0);
}

size_t ft_session_length(const ft_session *s)
{
    return s->length;
}

static uint32_t take_page(ft_engine *e)
{
    pthread_mutex_lock(&e->lock);
    uint32_t page = ft_kv_take(&e->kv);
    if (page == FT_NO_PAGE && e->prefix.entries && ft_prefix_evict(&e->prefix))
        page = ft_kv_take(&e->kv);
    pthread_mutex_unlock(&e->lock);
    return page;
}

/* The page that the next token goes into becomes the session's own. */
static ft_code own_last_page(ft_session *s, ft_status *st)
{
    ft_engine *e = s->engine;
    uint32_t *last = &s->pages[s->length / FT_KV_PAGE];
    pthread_mutex_lock(&e->lock);
    const int shared = e->kv.refs[*last] > 1;
    pthread_mutex_unlock(&e->lock);
    if (!shared)
        return FT_OK;
    const uint32_t page = take_page(e);
    if (page == FT_NO_PAGE)
        return ft_fail(st, FT_ERR_LIMIT, "%s: the key-value memory of %zu tokens is in use", e->model->folder,
                       ft_engine_capacity(e));
    ft_kv_copy(&e->kv, page, *last);
    pthread_mutex_lock(&e->lock);
    ft_kv_drop(&e->kv, *last);
    pthread_mutex_unlock(&e->lock);
    *last = page;
    return FT_OK;
}

ft_code ft_session_reserve(ft_session *s, size_t count, ft_status *st)
{
    ft_engine *e = s->engine;
    const size_t needed = smaller(s->max_tokens - s->length, count) + s->length;
    ft_code rc = reserve_routing(s, needed, st);
    if (!rc && needed > s->length && s->length % FT_KV_PAGE)
        rc = own_last_page(s, st);
    while (!rc && s->page_count < pages_for(needed)) {
        uint32_t page = take_page(e);
        while (page == FT_NO_PAGE && e->reclaim && e->reclaim(e->reclaim_context))
            page = take_page(e);
        if (page == FT_NO_PAGE)
            rc = ft_fail(st, FT_ERR_LIMIT, "%s: the key-value memory of %zu tokens is in use", e->model->folder,
                         ft_engine_capacity(e));
        else
            s->pages[s->page_count++] = page;
    }
    return rc;
}

/* --- The prefix cache ----------------------------------------------------------------------- */

size_t ft_session_find_prefix(ft_session *s, const uint32_t *ids, size_t count)
{
    ft_engine *e = s->engine;
    const size_t before = s->length;
    if (!s->share || before % FT_KV_PAGE || s->page_count != before / FT_KV_PAGE)
        return 0;
    if (reserve_routing(s, before + count, NULL))
        return 0;
    pthread_mutex_lock(&e->lock);
    e->prefix_asked += before ? 0 : count;
    while (count > FT_KV_PAGE && s->max_tokens - s->length >= FT_KV_PAGE) {
        const uint32_t parent = s->page_count ? s->pages[s->page_count - 1] : FT_NO_PAGE;
        if (parent != FT_NO_PAGE && !ft_prefix_holds(&e->prefix, parent))
            break;
        const uint32_t page = ft_prefix_find(&e->prefix, parent, s->kept, ids);
        if (page == FT_NO_PAGE)
            break;
        ft_kv_hold(&e->kv, page);
        s->pages[s->page_count++] = page;
        s->length += FT_KV_PAGE;
        ids += FT_KV_PAGE;
        count -= FT_KV_PAGE;
    }
    e->prefix_found += s->length - before;
    pthread_mutex_unlock(&e->lock);
    ft_session_gather(s, before);
    return s->length - before;
}

void ft_session_publish(ft_session *s, size_t from)
{
    ft_engine *e = s->engine;
    if (!s->share || from / FT_KV_PAGE == s->length / FT_KV_PAGE)
        return;
    pthread_mutex_lock(&e->lock);
    for (size_t n = from / FT_KV_PAGE; n < s->length / FT_KV_PAGE; n++) {
        const uint32_t parent = n ? s->pages[n - 1] : FT_NO_PAGE, own = s->pages[n];
        if (parent != FT_NO_PAGE && !ft_prefix_holds(&e->prefix, parent))
            break;
        const uint32_t page = ft_prefix_add(&e->prefix, parent, s->kept, own);
        if (page != own) { /* somebody else read the same meanwhile: bit for bit the same page */
            ft_kv_hold(&e->kv, page);
            ft_kv_drop(&e->kv, own);
            s->pages[n] = page;
        }
    }
    pthread_mutex_unlock(&e->lock);
}

/* --- Reading ---------------------------------------------------------------------------------- */

/* What `out` holds from token `at` of `total` on. */
static ft_outputs outputs_at(const ft_engine *e, const ft_outputs *out, size_t at, size_t total, int last)
{
    const ft_model_config *c = &e->model->config;
    ft_outputs o = {.last_logits = last ? out->last_logits : NULL, .hidden_tokens = total};
    if (out->logits)
        o.logits = out->logits + at * c->vocab;
    if (out->final_norm)
        o.final_norm = out->final_norm + at * c->hidden;
    if (out->hidden)
        o.hidden = out->hidden + at * c->hidden;
    return o;
}

ft_code ft_session_read(ft_session *s, const uint32_t *ids, size_t count, const ft_outputs *out,
                        const volatile int *cancel, ft_status *st)
{
    const ft_outputs nothing = {0};
    ft_engine *e = s->engine;
    const size_t before = s->length;
    if (count > s->max_tokens - before)
        return ft_fail(st, FT_ERR_LIMIT, "%s: %zu tokens after %zu exceed the context of %zu", e->model->folder, count,
                       before, s->max_tokens);
    for (size_t i = 0; i < count; i++)
        if (ids[i] >= e->model->config.vocab)
            return ft_fail(st, FT_ERR_ARG, "%s: token %zu is id %u; the vocabulary has %zu", e->model->folder, i,
                           ids[i], e->model->config.vocab);
    ft_code rc = ft_session_reserve(s, count, st);
    for (size_t at = 0, n; at < count && !rc; at += n) {
        n = smaller(count - at, e->batch);
        if (cancel && *cancel)
            rc = ft_fail(st, FT_ERR_CANCELLED, "%s: cancelled after %zu of %zu tokens", e->model->folder, at, count);
        const ft_read one = {s, ids + at, n, outputs_at(e, out ? out : &nothing, at, count, at + n == count)};
        if (!rc)
            rc = ft_engine_read(e, &one, 1, st);
    }
    if (rc)
        ft_session_rewind(s, before);
    return rc;
}

void ft_session_gather(ft_session *s, size_t from)
{
    const ft_kv *kv = &s->engine->kv;
    const size_t L = kv->layers, E = kv->experts, k = s->top_k;
    if (!s->capture || !E)
        return;
    for (size_t t = from; t < s->length; t++) {
        const uint32_t page = s->pages[t / FT_KV_PAGE];
        const size_t at = t % FT_KV_PAGE;
        const float *weights = ft_kv_weights(kv, page, at);
        const uint8_t *chosen = ft_kv_chosen(kv, page, at);
        memcpy(s->routing_probs + t * L * E, ft_kv_probs(kv, page, at), L * E * sizeof(float));
        for (size_t l = 0; l < L; l++) { /* rows of a page have room for all of the config's k */
            memcpy(s->routing_weights + (t * L + l) * k, weights + l * kv->top_k, k * sizeof(*weights));
            memcpy(s->routing_ids + (t * L + l) * k, chosen + l * kv->top_k, k);
        }
    }
}

ft_routing ft_session_routing(const ft_session *s)
{
    const ft_model_config *c = &s->engine->model->config;
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
