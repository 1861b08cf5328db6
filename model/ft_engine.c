#include "base/ft_buffer.h"
#include "base/ft_cpu.h"
#include "model/engine_internal.h"
#include "model/ft_rope.h"
#include "model/scheduler_internal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LEAST_BLOCK = 1 << 14 /* floats of a member's block: 64 KiB stay in its cache */ };

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static ft_code out_of_memory(const ft_engine *e, ft_status *st)
{
    return ft_fail(st, FT_ERR_MEM, "%s: no memory for passes over %zu tokens", e->model->folder, e->batch);
}

/* --- Names ------------------------------------------------------------------------------ */

static const char *const compute_names[FT_COMPUTE_TYPES] = {[FT_COMPUTE_FLOAT32] = "float32",
                                                            [FT_COMPUTE_BFLOAT16] = "bfloat16"};
static const char *const kv_names[FT_KV_TYPES] = {
    [FT_KV_F32] = "float32", [FT_KV_F16] = "float16", [FT_KV_BF16] = "bfloat16"};

ft_code ft_compute_parse(ft_compute *out, const char *name, ft_status *st)
{
    for (int i = 0; i < FT_COMPUTE_TYPES; i++)
        if (!strcmp(name, compute_names[i])) {
            *out = (ft_compute)i;
            return FT_OK;
        }
    return ft_fail(st, FT_ERR_ARG, "compute is '%s'; it can be float32 or bfloat16", name);
}

ft_code ft_kv_type_parse(ft_kv_type *out, const char *name, ft_status *st)
{
    for (int i = 0; i < FT_KV_TYPES; i++)
        if (!strcmp(name, kv_names[i])) {
            *out = (ft_kv_type)i;
            return FT_OK;
        }
    return ft_fail(st, FT_ERR_ARG, "the key-value cache's type is '%s'; it can be float32, float16 or bfloat16", name);
}

ft_code ft_engine_options_override(ft_engine_options *o, const char *compute, const char *kv_type, size_t kv_bytes,
                                   ft_status *st)
{
    ft_code rc = compute ? ft_compute_parse(&o->compute, compute, st) : FT_OK;
    if (!rc && kv_type)
        rc = ft_kv_type_parse(&o->kv_type, kv_type, st);
    if (!rc && kv_bytes)
        o->kv_bytes = kv_bytes;
    return rc;
}

const char *ft_compute_name(ft_compute c)
{
    return compute_names[c];
}

const char *ft_kv_type_name(ft_kv_type t)
{
    return kv_names[t];
}

/* --- Scratch ------------------------------------------------------------------------------- */

/* floats for a * b, or NULL; a product that overflows counts as no memory. Not zeroed: what is
 * never used is never taken from the system. */
static void *room(size_t a, size_t b, size_t element)
{
    size_t n;
    if (ft_size_mul(a, b, &n, NULL) || ft_size_mul(n, element, &n, NULL))
        return NULL;
    return ft_alloc_large(n ? n : 1);
}

static float *floats(size_t a, size_t b)
{
    return room(a, b, sizeof(float));
}

/* Prepared rows for each type in `types`; floats serve as they stand. */
static int make_inputs(ft_inputs *in, unsigned types, size_t rows, size_t cols, float *as_floats)
{
    in->rows[FT_INPUT_F32] = (char *)as_floats;
    in->stride[FT_INPUT_F32] = cols * sizeof(float);
    int ok = as_floats != NULL;
    for (int type = 0; type < FT_INPUT_TYPES; type++)
        if (type != FT_INPUT_F32 && (types >> type & 1)) {
            in->stride[type] = ft_input_bytes((ft_input_type)type, cols);
            ok = (in->rows[type] = room(rows, in->stride[type], 1)) && ok;
        }
    return ok;
}

static void free_inputs(ft_inputs *in)
{
    for (int type = 0; type < FT_INPUT_TYPES; type++)
        if (type != FT_INPUT_F32)
            free(in->rows[type]);
}

/* What each layer's products read; `all` is the union. */
static ft_code find_inputs(ft_engine *e, ft_layer_inputs *all, ft_status *st)
{
    const size_t layers = e->model->config.layers;
    e->inputs = ft_alloc_array(layers, sizeof(*e->inputs));
    if (!e->inputs)
        return out_of_memory(e, st);
    for (size_t n = 0; n < layers; n++) {
        const ft_layer *l = &e->model->layers[n];
        ft_layer_inputs *in = &e->inputs[n];
        in->qkv = ft_input_bit(e, &l->q) | ft_input_bit(e, &l->k) | ft_input_bit(e, &l->v);
        in->o = ft_input_bit(e, &l->o);
        for (size_t x = 0; x < e->experts; x++) {
            in->ffn |= ft_input_bit(e, &l->experts[x].gate) | ft_input_bit(e, &l->experts[x].up);
            in->down |= ft_input_bit(e, &l->experts[x].down);
        }
        all->qkv |= in->qkv | in->ffn;
        all->o |= in->o;
        all->down |= in->down;
    }
    all->qkv |= ft_input_bit(e, &e->model->head);
    return FT_OK;
}

/* Floats of a row of n: an odd number of cache lines (ft_prepare.h says why). */
static size_t odd_lines(size_t n)
{
    enum { LINE_FLOATS = 64 / sizeof(float) };
    return ((n + LINE_FLOATS - 1) / LINE_FLOATS | 1) * LINE_FLOATS;
}

static ft_code make_scratch(ft_engine *e, ft_status *st)
{
    const ft_model_config *c = &e->model->config;
    ft_scratch *z = &e->scratch;
    ft_layer_inputs all = {0};
    const ft_code rc = find_inputs(e, &all, st);
    if (rc)
        return rc;
    const size_t T = e->batch, H = c->hidden, Q = c->heads * c->head_dim, KV = c->kv_heads * c->head_dim, k = e->top_k;
    const size_t P = T * k, M = e->members, group = c->heads / c->kv_heads;
    e->tile = group < FT_TILE_ROWS ? FT_TILE_ROWS / group : 1;
    z->score_rows = e->tile * group;
    z->score_stride =
        (smaller(e->max_tokens, e->kv.pages * FT_KV_PAGE) + FT_KV_PAGE - 1) / FT_KV_PAGE * FT_KV_PAGE + 16;
    z->block_floats = larger(T * FT_PIECE_ROWS, LEAST_BLOCK);
    z->block_stride = larger(z->block_floats, e->kernels.gated ? ft_gated_room(T) : 0);
    z->tokens = room(T, 1, sizeof(*z->tokens));
    z->tiles = room(T, 1, sizeof(*z->tiles));
    z->wanted = room(T, 1, sizeof(*z->wanted));
    z->places = room(T, 1, sizeof(*z->places));
    z->x = floats(T, H);
    z->sub = floats(T, H);
    z->q = floats(T, Q);
    z->attention = floats(T, Q);
    z->k = floats(T, KV);
    z->v = floats(T, KV);
    z->cos = floats(T, c->head_dim / 2);
    z->sin = floats(T, c->head_dim / 2);
    z->weights = floats(T, k);
    z->chosen = room(T, k, 1);
    z->pair_token = room(P, 1, sizeof(*z->pair_token));
    z->pair_slot = room(P, 1, sizeof(*z->pair_slot));
    z->pair_expert = room(P, 1, 1);
    z->gate = floats(P, c->intermediate);
    z->down_stride = odd_lines(H);
    z->down = floats(P, z->down_stride);
    z->scores = floats(M * z->score_rows, z->score_stride);
    z->heads = floats(2 * M * z->score_rows, c->head_dim);
    z->depths = room(M, z->score_rows, sizeof(*z->depths));
    z->blocks = floats(M, z->block_stride);
    const int inputs = make_inputs(&z->hidden_in, all.qkv, T, H, z->x) &
                       make_inputs(&z->attention_in, all.o, T, Q, z->attention) &
                       make_inputs(&z->gate_in, all.down, P, c->intermediate, z->gate);
    return inputs && z->tokens && z->tiles && z->wanted && z->places && z->sub && z->q && z->k && z->v && z->cos &&
                   z->sin && z->weights && z->chosen && z->pair_token && z->pair_slot && z->pair_expert && z->down &&
                   z->scores && z->heads && z->depths && z->blocks
               ? FT_OK
               : out_of_memory(e, st);
}

static void free_scratch(ft_scratch *z)
{
    free_inputs(&z->hidden_in);
    free_inputs(&z->attention_in);
    free_inputs(&z->gate_in);
    void *const arrays[] = {z->tokens,  z->tiles,     z->wanted,     z->places,    z->x,           z->sub,
                            z->q,       z->attention, z->k,          z->v,         z->cos,         z->sin,
                            z->weights, z->chosen,    z->pair_token, z->pair_slot, z->pair_expert, z->gate,
                            z->down,    z->scores,    z->heads,      z->depths,    z->blocks};
    for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++)
        free(arrays[i]);
}

/* --- Opening ------------------------------------------------------------------------------- */

/* Pages that kv_bytes hold, at least one. Where nothing is kept for later sessions one of
 * max_tokens is all that there is, and it may have most of the machine's memory. */
static size_t count_pages(const ft_engine *e, const ft_engine_options *o)
{
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    const size_t memory = pages > 0 && page > 0 ? (size_t)pages * (size_t)page : (size_t)1 << 32;
    const size_t bytes = o->kv_bytes ? o->kv_bytes : o->no_prefix_cache ? memory / 4 * 3 : memory / 8;
    size_t fit = smaller(bytes / e->kv.page_bytes, FT_NO_PAGE - 1);
    if (!o->kv_bytes && o->no_prefix_cache)
        fit = smaller(fit, e->max_tokens / FT_KV_PAGE + 1);
    return fit ? fit : 1;
}

static ft_code open_parts(ft_engine *e, const ft_engine_options *o, ft_status *st)
{
    const ft_model_config *c = &e->model->config;
    e->compute = o->compute;
    e->max_tokens = o->max_tokens ? smaller(o->max_tokens, c->max_position) : c->max_position;
    e->batch = o->batch_tokens ? o->batch_tokens : FT_BATCH_TOKENS;
    e->experts = c->experts ? c->experts : 1;
    e->top_k = c->experts ? c->top_k : 1;
    e->members = ft_pool_size(e->pool);
    ft_kernels_init(&e->kernels, ft_cpu_isa());
    if (pthread_mutex_init(&e->lock, NULL) != 0)
        return out_of_memory(e, st);
    e->lock_made = 1;
    e->pass = ft_alloc_large(sizeof(*e->pass));
    e->inv_freq = floats(c->head_dim / 2, 1);
    if (!e->pass || !e->inv_freq)
        return out_of_memory(e, st);
    memset(e->pass, 0, sizeof(*e->pass));
    e->pass->e = e;
    ft_rope_frequencies(&c->rope, c->head_dim, c->max_position, e->inv_freq, &e->rope_scaling);
    ft_code rc = ft_kv_layout(&e->kv, c, o->kv_type, st);
    if (!rc)
        rc = ft_kv_open(&e->kv, count_pages(e, o), st);
    if (!rc && !o->no_prefix_cache)
        rc = ft_prefix_open(&e->prefix, &e->kv, st);
    return rc ? rc : make_scratch(e, st);
}

ft_code ft_engine_new(ft_engine **out, const ft_model *m, ft_pool *pool, const ft_engine_options *o, ft_status *st)
{
    const ft_engine_options none = {0};
    *out = NULL;
    ft_engine *e = calloc(1, sizeof(*e));
    if (!e)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", m->folder);
    e->model = m;
    e->pool = pool;
    const ft_code rc = open_parts(e, o ? o : &none, st);
    if (!rc) {
        *out = e;
        e = NULL; /* the caller owns it from here on */
    }
    ft_engine_free(e);
    return rc;
}

void ft_engine_free(ft_engine *e)
{
    if (!e)
        return;
    free_scratch(&e->scratch);
    ft_prefix_close(&e->prefix);
    ft_kv_close(&e->kv);
    free(e->inputs);
    free(e->inv_freq);
    free(e->pass);
    if (e->lock_made)
        pthread_mutex_destroy(&e->lock);
    free(e);
}

size_t ft_engine_batch_tokens(const ft_engine *e)
{
    return e->batch;
}

const ft_model *ft_engine_model(const ft_engine *e)
{
    return e->model;
}

size_t ft_engine_capacity(const ft_engine *e)
{
    return e->kv.pages > SIZE_MAX / FT_KV_PAGE ? SIZE_MAX : e->kv.pages * FT_KV_PAGE;
}

size_t ft_engine_free_pages(ft_engine *e, size_t enough)
{
    pthread_mutex_lock(&e->lock);
    size_t n = e->kv.pages - e->kv.used;
    for (uint32_t page = e->prefix.entries ? e->prefix.oldest : FT_NO_PAGE; page != FT_NO_PAGE && n < enough;
         page = e->prefix.entries[page].newer)
        n += e->kv.refs[page] == 1;
    pthread_mutex_unlock(&e->lock);
    return n < enough ? n : enough;
}

ft_engine_load ft_engine_get_load(ft_engine *e)
{
    pthread_mutex_lock(&e->lock);
    const ft_engine_load load = {.kv_bytes = e->kv.pages * e->kv.page_bytes,
                                 .kv_bytes_used = e->kv.used * e->kv.page_bytes,
                                 .page_bytes = e->kv.page_bytes,
                                 .prefix_pages = e->prefix.count,
                                 .prefix_asked_tokens = e->prefix_asked,
                                 .prefix_found_tokens = e->prefix_found};
    pthread_mutex_unlock(&e->lock);
    return load;
}

/* --- Reading ------------------------------------------------------------------------------- */

static ft_code check_read(const ft_engine *e, const ft_read *r, ft_status *st)
{
    const ft_session *s = r->session;
    if (r->count > s->max_tokens - s->length)
        return ft_fail(st, FT_ERR_LIMIT, "%s: %zu tokens after %zu exceed the context of %zu", e->model->folder,
                       r->count, s->length, s->max_tokens);
    for (size_t i = 0; i < r->count; i++)
        if (r->ids[i] >= e->model->config.vocab)
            return ft_fail(st, FT_ERR_ARG, "%s: token %zu is id %u; the vocabulary has %zu", e->model->folder, i,
                           r->ids[i], e->model->config.vocab);
    return FT_OK;
}

/* Lays one read's tokens behind those that are there. */
static void add_tokens(ft_engine *e, const ft_read *r)
{
    const ft_model_config *c = &e->model->config;
    const ft_outputs *out = &r->out;
    for (size_t i = 0; i < r->count; i++) {
        const size_t position = r->session->length + i;
        const uint32_t page = r->session->pages[position / FT_KV_PAGE];
        ft_token *t = &e->scratch.tokens[e->pass->tokens++];
        *t = (ft_token){.session = r->session, .id = r->ids[i], .position = (uint32_t)position, .page = page};
        ft_kv_ids(&e->kv, page)[position % FT_KV_PAGE] = r->ids[i];
        if (out->logits)
            t->logits = out->logits + i * c->vocab;
        else if (i + 1 == r->count)
            t->logits = out->last_logits;
        if (out->final_norm)
            t->final_norm = out->final_norm + i * c->hidden;
        if (out->hidden) {
            t->hidden = out->hidden + i * c->hidden;
            t->hidden_stride = (out->hidden_tokens ? out->hidden_tokens : r->count) * c->hidden;
        }
    }
}

static void end_read(const ft_read *r)
{
    ft_session *s = r->session;
    const size_t from = s->length, V = s->engine->model->config.vocab;
    s->length += r->count;
    if (r->count && r->out.logits && r->out.last_logits)
        memcpy(r->out.last_logits, r->out.logits + (r->count - 1) * V, V * sizeof(float));
    ft_session_gather(s, from);
    ft_session_publish(s, from);
}

ft_code ft_engine_read(ft_engine *e, const ft_read *reads, size_t count, ft_status *st)
{
    ft_code rc = FT_OK;
    size_t tokens = 0;
    for (size_t i = 0; i < count && !rc; i++) {
        tokens += reads[i].count;
        rc = check_read(e, &reads[i], st);
    }
    if (!rc && tokens > e->batch)
        rc = ft_fail(st, FT_ERR_ARG, "%s: %zu tokens in a pass of %zu", e->model->folder, tokens, e->batch);
    for (size_t i = 0; i < count && !rc; i++)
        rc = ft_session_reserve(reads[i].session, reads[i].count, st);
    if (rc || !tokens)
        return rc;
    e->pass->tokens = 0;
    for (size_t i = 0; i < count; i++)
        add_tokens(e, &reads[i]);
    ft_forward(e);
    for (size_t i = 0; i < count; i++)
        end_read(&reads[i]);
    return FT_OK;
}
