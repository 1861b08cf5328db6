#include "base/ft_buffer.h"
#include "model/kernels/ft_float.h"
#include "model/model_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_BYTES = 160 };

/* --- Resolving names ---------------------------------------------------------- */

/* Where a model takes its tensors from: keeps its first failure, so that a
 * layer's tensors can be asked for one after another. */
typedef struct resolver {
    ft_model *m;
    ft_status *st;
    ft_code rc;
    size_t layer;
    char name[NAME_MAX_BYTES];
} resolver;

static const ft_tensor *find(resolver *s, const char *fmt, va_list args)
{
    vsnprintf(s->name, sizeof(s->name), fmt, args);
    return ft_weights_find(s->m->files, s->name);
}

static const ft_tensor *optional(resolver *s, const char *fmt, ...) FT_PRINTF(2, 3);
static const ft_tensor *optional(resolver *s, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    const ft_tensor *t = find(s, fmt, args);
    va_end(args);
    return t;
}

static const ft_tensor *required(resolver *s, const char *fmt, ...) FT_PRINTF(2, 3);
static const ft_tensor *required(resolver *s, const char *fmt, ...)
{
    if (s->rc)
        return NULL;
    va_list args;
    va_start(args, fmt);
    const ft_tensor *t = find(s, fmt, args);
    va_end(args);
    if (!t)
        s->rc = ft_fail(s->st, FT_ERR_NOT_FOUND, "%s: tensor %s is missing", s->m->folder, s->name);
    return t;
}

static void shape_text(char *out, size_t size, const size_t *shape, unsigned dims)
{
    size_t at = (size_t)snprintf(out, size, "[");
    for (unsigned i = 0; i < dims && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, "%s%zu", i ? ", " : "", shape[i]);
    if (at < size)
        snprintf(out + at, size - at, "]");
}

/* Checks dtype and shape; 1 when both are right. */
static int fits(resolver *s, const ft_tensor *t, ft_weight_type *type, unsigned dims, const size_t *shape)
{
    static const char *const names[] = {"F32", "BF16", "F16"};
    if (s->rc || !t)
        return 0;
    uint64_t bytes;
    const char *path = ft_weights_file(s->m->files, t->file, &bytes);
    if (t->dims != dims || memcmp(t->shape, shape, dims * sizeof(*shape)) != 0) {
        char is[100], must[100];
        shape_text(is, sizeof(is), t->shape, t->dims);
        shape_text(must, sizeof(must), shape, dims);
        s->rc = ft_fail(s->st, FT_ERR_FORMAT, "%s: tensor %.120s has shape %s; the config asks for %s", path, t->name,
                        is, must);
        return 0;
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (!strcmp(t->dtype, names[i])) {
            *type = (ft_weight_type)i;
            return 1;
        }
    s->rc = ft_fail(s->st, FT_ERR_UNSUPPORTED, "%s: tensor %.120s has dtype %.20s; supported: F32, BF16, F16", path,
                    t->name, t->dtype);
    return 0;
}

static ft_matrix matrix(resolver *s, const ft_tensor *t, size_t rows, size_t cols)
{
    ft_matrix out = {.rows = rows, .cols = cols};
    if (fits(s, t, &out.type, 2, (size_t[]){rows, cols}))
        out.data = t->data;
    return out;
}

static size_t weight_bytes(ft_weight_type type)
{
    return type == FT_WEIGHT_F32 ? 4 : 2;
}

ft_matrix ft_matrix_rows(const ft_matrix *m, size_t row, size_t rows)
{
    const char *data = m->data;
    return (ft_matrix){
        .data = data + row * m->cols * weight_bytes(m->type), .type = m->type, .rows = rows, .cols = m->cols};
}

void ft_matrix_widen_row(const ft_matrix *m, size_t row, float *out)
{
    const ft_matrix one = ft_matrix_rows(m, row, 1);
    for (size_t i = 0; i < m->cols; i++)
        out[i] = m->type == FT_WEIGHT_F32    ? ft_f32_at(one.data, i)
                 : m->type == FT_WEIGHT_BF16 ? ft_bf16_at(one.data, i)
                                             : ft_f16_at(one.data, i);
}

/* A norm's weights, widened. */
static const float *norm(resolver *s, const ft_tensor *t, size_t n)
{
    ft_weight_type type;
    if (!fits(s, t, &type, 1, &n))
        return NULL;
    float *out = ft_arena_array(s->m->arena, n, sizeof(*out));
    if (!out) {
        s->rc = ft_fail(s->st, FT_ERR_MEM, "%s: out of memory", s->m->folder);
        return NULL;
    }
    const ft_matrix one = {.data = t->data, .type = type, .rows = 1, .cols = n};
    ft_matrix_widen_row(&one, 0, out);
    return out;
}

/* --- Layers ---------------------------------------------------------------------- */

static void resolve_attention(resolver *s, ft_layer *l)
{
    const ft_model_config *c = &s->m->config;
    const size_t n = s->layer, q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    l->q = matrix(s, required(s, "model.layers.%zu.self_attn.q_proj.weight", n), q, c->hidden);
    l->k = matrix(s, required(s, "model.layers.%zu.self_attn.k_proj.weight", n), kv, c->hidden);
    l->v = matrix(s, required(s, "model.layers.%zu.self_attn.v_proj.weight", n), kv, c->hidden);
    l->o = matrix(s, required(s, "model.layers.%zu.self_attn.o_proj.weight", n), c->hidden, q);
    l->q_norm = norm(s, required(s, "model.layers.%zu.self_attn.q_norm.weight", n), q);
    l->k_norm = norm(s, required(s, "model.layers.%zu.self_attn.k_norm.weight", n), kv);
    l->after_attention = norm(s, required(s, "model.layers.%zu.post_attention_layernorm.weight", n), c->hidden);
    l->after = norm(s, required(s, "model.layers.%zu.post_feedforward_layernorm.weight", n), c->hidden);
}

/* transformers 5 in memory: all experts in two tensors, gate above up. */
static void resolve_fused(resolver *s, ft_layer *l, const ft_tensor *both)
{
    const ft_model_config *c = &s->m->config;
    const size_t E = c->experts, H = c->hidden, I = c->intermediate;
    const ft_tensor *down = required(s, "model.layers.%zu.mlp.experts.down_proj", s->layer);
    ft_matrix gate_up = {.rows = E * 2 * I, .cols = H}, downs = {.rows = E * H, .cols = I};
    if (!fits(s, both, &gate_up.type, 3, (size_t[]){E, 2 * I, H}) ||
        !fits(s, down, &downs.type, 3, (size_t[]){E, H, I}))
        return;
    gate_up.data = both->data;
    downs.data = down->data;
    for (size_t e = 0; e < E; e++)
        l->experts[e] = (ft_expert){.gate = ft_matrix_rows(&gate_up, e * 2 * I, I),
                                    .up = ft_matrix_rows(&gate_up, e * 2 * I + I, I),
                                    .down = ft_matrix_rows(&downs, e * H, H)};
}

static void resolve_ffn(resolver *s, ft_layer *l)
{
    const ft_model_config *c = &s->m->config;
    const size_t n = s->layer, H = c->hidden, I = c->intermediate;
    if (!c->experts) {
        l->experts[0].gate = matrix(s, required(s, "model.layers.%zu.mlp.gate_proj.weight", n), I, H);
        l->experts[0].up = matrix(s, required(s, "model.layers.%zu.mlp.up_proj.weight", n), I, H);
        l->experts[0].down = matrix(s, required(s, "model.layers.%zu.mlp.down_proj.weight", n), H, I);
        return;
    }
    l->router = matrix(s, required(s, "model.layers.%zu.mlp.gate.weight", n), c->experts, H);
    const ft_tensor *fused = optional(s, "model.layers.%zu.mlp.experts.gate_up_proj", n);
    if (fused) {
        resolve_fused(s, l, fused);
        return;
    }
    for (size_t e = 0; e < c->experts; e++) {
        ft_expert *x = &l->experts[e];
        x->gate = matrix(s, required(s, "model.layers.%zu.mlp.experts.%zu.gate_proj.weight", n, e), I, H);
        x->up = matrix(s, required(s, "model.layers.%zu.mlp.experts.%zu.up_proj.weight", n, e), I, H);
        x->down = matrix(s, required(s, "model.layers.%zu.mlp.experts.%zu.down_proj.weight", n, e), H, I);
    }
}

/* Embedding and head: two tensors, or one for both when they are tied. A tied
 * checkpoint that holds both is read as it stands, as transformers does. */
static void resolve_ends(resolver *s)
{
    ft_model *m = s->m;
    const size_t V = m->config.vocab, H = m->config.hidden;
    const ft_tensor *embed = optional(s, "model.embed_tokens.weight"), *head = optional(s, "lm_head.weight");
    if (m->config.tie_word_embeddings) {
        embed = embed ? embed : head;
        head = head ? head : embed;
    }
    m->embed = matrix(s, embed ? embed : required(s, "model.embed_tokens.weight"), V, H);
    m->head = matrix(s, head ? head : required(s, "lm_head.weight"), V, H);
    m->norm = norm(s, required(s, "model.norm.weight"), H);
}

static ft_code resolve(ft_model *m, ft_status *st)
{
    const ft_model_config *c = &m->config;
    const size_t experts = c->experts ? c->experts : 1;
    resolver s = {.m = m, .st = st};
    resolve_ends(&s); /* first: a config of another size is found before much is allocated */
    if (s.rc)
        return s.rc;
    m->layers = ft_arena_array(m->arena, c->layers, sizeof(*m->layers));
    for (s.layer = 0; m->layers && s.layer < c->layers && !s.rc; s.layer++) {
        ft_layer *l = &m->layers[s.layer];
        l->experts = ft_arena_array(m->arena, experts, sizeof(*l->experts));
        if (!l->experts)
            return ft_fail(st, FT_ERR_MEM, "%s: out of memory", m->folder);
        resolve_attention(&s, l);
        resolve_ffn(&s, l);
    }
    return m->layers ? s.rc : ft_fail(st, FT_ERR_MEM, "%s: out of memory", m->folder);
}

/* --- Opening ---------------------------------------------------------------------- */

static void measure(ft_model *m)
{
    const ft_model_config *c = &m->config;
    ft_model_sizes *z = &m->sizes;
    size_t count;
    const ft_tensor *t = ft_weights_tensors(m->files, &count);
    const char *type = NULL;
    for (size_t i = 0; i < count; i++) {
        if (!t[i].used)
            continue;
        uint64_t n = 1;
        for (unsigned d = 0; d < t[i].dims; d++)
            n *= t[i].shape[d];
        z->parameters += n;
        z->weight_bytes += t[i].bytes;
        type = !type || !strcmp(type, t[i].dtype) ? t[i].dtype : "mixed";
    }
    z->active_parameters = z->parameters;
    if (c->experts)
        z->active_parameters -= 3 * (uint64_t)c->layers * (c->experts - c->top_k) * c->hidden * c->intermediate;
    z->kv_bytes_per_token = 2 * (uint64_t)c->layers * c->kv_heads * c->head_dim * sizeof(float);
    z->weight_type = !type                   ? "none"
                     : !strcmp(type, "F32")  ? "float32"
                     : !strcmp(type, "BF16") ? "bfloat16"
                     : !strcmp(type, "F16")  ? "float16"
                                             : "mixed";
}

/* End-of-text ids that the vocabulary does not have come from defaults; they would never be drawn. */
static void drop_foreign_ids(ft_model_config *c)
{
    size_t kept = 0;
    for (size_t i = 0; i < c->end_of_text_count; i++)
        if (c->end_of_text[i] < c->vocab)
            c->end_of_text[kept++] = c->end_of_text[i];
    c->end_of_text_count = kept;
    c->pad = c->pad < c->vocab ? c->pad : FT_NO_ID;
    c->bos = c->bos < c->vocab ? c->bos : FT_NO_ID;
}

ft_code ft_model_open(ft_model **out, const char *folder, ft_status *st)
{
    *out = NULL;
    ft_model *m = calloc(1, sizeof(*m));
    if (!m)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    ft_code rc = FT_OK;
    m->folder = strdup(folder);
    if (!m->folder)
        rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    if (!rc)
        rc = ft_model_config_read(&m->config, folder, st);
    if (!rc)
        rc = ft_arena_new(&m->arena, 0, st);
    if (!rc)
        rc = ft_weights_open(&m->files, folder, st);
    if (!rc)
        rc = resolve(m, st);
    if (!rc) {
        drop_foreign_ids(&m->config);
        measure(m);
        *out = m;
        m = NULL; /* the caller owns it from here on */
    }
    ft_model_close(m);
    return rc;
}

void ft_model_close(ft_model *m)
{
    if (!m)
        return;
    ft_weights_close(m->files);
    ft_arena_free(m->arena);
    free(m->folder);
    free(m);
}

const ft_model_config *ft_model_get_config(const ft_model *m)
{
    return &m->config;
}

const char *ft_model_folder(const ft_model *m)
{
    return m->folder;
}

ft_model_sizes ft_model_get_sizes(const ft_model *m)
{
    return m->sizes;
}

size_t ft_model_file_count(const ft_model *m)
{
    return ft_weights_files(m->files);
}

const char *ft_model_file(const ft_model *m, size_t i, uint64_t *bytes)
{
    return ft_weights_file(m->files, i, bytes);
}

static int is_unexpected(const ft_tensor *t)
{
    return !t->used && !strstr(t->name, "rotary_emb.");
}

size_t ft_model_unexpected_count(const ft_model *m)
{
    size_t count, n = 0;
    const ft_tensor *t = ft_weights_tensors(m->files, &count);
    for (size_t i = 0; i < count; i++)
        n += is_unexpected(&t[i]) != 0;
    return n;
}

const char *ft_model_unexpected(const ft_model *m, size_t wanted)
{
    size_t count;
    const ft_tensor *t = ft_weights_tensors(m->files, &count);
    for (size_t i = 0; i < count; i++)
        if (is_unexpected(&t[i]) && wanted-- == 0)
            return t[i].name;
    return NULL;
}

ft_code ft_model_digest(const ft_model *m, ft_digest *out, ft_status *st)
{
    return ft_weights_digest(m->files, out, st);
}
