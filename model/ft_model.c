#include "model/ft_model_needs.h"
#include "model/ft_quantize.h"
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

static void missing(resolver *s)
{
    if (!s->rc)
        s->rc = ft_fail(s->st, FT_ERR_NOT_FOUND, "%s: tensor %s is missing", s->m->folder, s->name);
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
        missing(s);
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

/* As safetensors spells it. */
static const char *dtype_of(ft_weight_type type)
{
    static const char *const names[] = {[FT_WEIGHT_F32] = "F32",
                                        [FT_WEIGHT_BF16] = "BF16",
                                        [FT_WEIGHT_F16] = "F16",
                                        [FT_WEIGHT_I8] = "U8",
                                        [FT_WEIGHT_I4] = "U8"};
    return names[type];
}

static const char *path_of(const resolver *s, const ft_tensor *t)
{
    uint64_t bytes;
    return ft_weights_file(s->m->files, t->file, &bytes);
}

static int has_shape(resolver *s, const ft_tensor *t, unsigned dims, const size_t *shape)
{
    if (s->rc || !t)
        return 0;
    if (t->dims == dims && !memcmp(t->shape, shape, dims * sizeof(*shape)))
        return 1;
    char is[100], must[100];
    shape_text(is, sizeof(is), t->shape, t->dims);
    shape_text(must, sizeof(must), shape, dims);
    s->rc = ft_fail(s->st, FT_ERR_FORMAT, "%s: tensor %.120s has shape %s; the config asks for %s", path_of(s, t),
                    t->name, is, must);
    return 0;
}

static int has_dtype(resolver *s, const ft_tensor *t, const char *dtype)
{
    if (s->rc || !t)
        return 0;
    if (!strcmp(t->dtype, dtype))
        return 1;
    s->rc = ft_fail(s->st, FT_ERR_FORMAT, "%s: tensor %.120s has dtype %.20s; a quantized matrix has %s there",
                    path_of(s, t), t->name, t->dtype, dtype);
    return 0;
}

/* Checks dtype and shape; 1 when both are right. */
static int fits(resolver *s, const ft_tensor *t, ft_weight_type *type, unsigned dims, const size_t *shape)
{
    if (!has_shape(s, t, dims, shape))
        return 0;
    for (ft_weight_type i = FT_WEIGHT_F32; i <= FT_WEIGHT_F16; i++)
        if (!strcmp(t->dtype, dtype_of(i))) {
            *type = i;
            return 1;
        }
    s->rc = ft_fail(s->st, FT_ERR_UNSUPPORTED, "%s: tensor %.120s has dtype %.20s; supported: F32, BF16, F16",
                    path_of(s, t), t->name, t->dtype);
    return 0;
}

static ft_matrix matrix(resolver *s, const ft_tensor *t, size_t rows, size_t cols)
{
    ft_matrix out = {.rows = rows, .cols = cols};
    if (fits(s, t, &out.type, 2, (size_t[]){rows, cols}))
        out.data = t->data;
    return out;
}

/* X.qweight and X.scales: the bytes of a group tell 8 bits from 4. */
static ft_matrix quantized(resolver *s, const ft_tensor *q, const ft_tensor *scales, size_t rows, size_t cols)
{
    const size_t blocks = ft_quant_blocks(rows), groups = cols / FT_GROUP;
    ft_matrix out = {.rows = rows, .cols = cols, .type = FT_WEIGHT_I8};
    if (cols % FT_GROUP) {
        s->rc = ft_fail(s->st, FT_ERR_FORMAT, "%s: tensor %.120s: %zu columns are no whole groups of %d weights",
                        path_of(s, q), q->name, cols, FT_GROUP);
        return out;
    }
    if (q->dims == 3 && q->shape[2] == ft_quant_group_bytes(FT_WEIGHT_I4))
        out.type = FT_WEIGHT_I4;
    if (has_dtype(s, q, "U8") && has_shape(s, q, 3, (size_t[]){blocks, groups, ft_quant_group_bytes(out.type)}) &&
        has_dtype(s, scales, "F16") && has_shape(s, scales, 3, (size_t[]){blocks, groups, FT_BLOCK_ROWS})) {
        out.data = q->data;
        out.scales = scales->data;
    }
    return out;
}

/* The matrix of that name, whole ("NAME.weight") or quantized ("NAME.qweight" and
 * "NAME.scales"); *there 0, and nothing failed, where neither is in the files. */
static ft_matrix named(resolver *s, int *there, size_t rows, size_t cols, const char *name)
{
    const ft_matrix none = {0};
    const ft_tensor *scales = optional(s, "%s.scales", name), *q = optional(s, "%s.qweight", name);
    const ft_tensor *w = optional(s, "%s.weight", name);
    *there = w || q;
    if (s->rc || !*there)
        return none;
    if (w && q) {
        s->rc = ft_fail(s->st, FT_ERR_FORMAT, "%s: %s.weight and %s.qweight are both there; keep one of them",
                        s->m->folder, name, name);
        return none;
    }
    if (q && !scales) {
        s->rc = ft_fail(s->st, FT_ERR_NOT_FOUND, "%s: tensor %s.scales is missing", s->m->folder, name);
        return none;
    }
    return q ? quantized(s, q, scales, rows, cols) : matrix(s, w, rows, cols);
}

static ft_matrix weight(resolver *s, size_t rows, size_t cols, const char *fmt, ...) FT_PRINTF(4, 5);
static ft_matrix weight(resolver *s, size_t rows, size_t cols, const char *fmt, ...)
{
    char name[NAME_MAX_BYTES - 16];
    int there;
    va_list args;
    va_start(args, fmt);
    vsnprintf(name, sizeof(name), fmt, args);
    va_end(args);
    const ft_matrix m = named(s, &there, rows, cols, name);
    if (!there)
        missing(s);
    return m;
}

/* A norm's weights, widened. */
static const float *norm(resolver *s, const ft_tensor *t, size_t n)
{
    ft_weight_type type;
    if (!fits(s, t, &type, 1, &n) || s->m->only_shapes)
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

/* The extension mlp.gate.expert_bias: what experts 1 and up get added to their logits, min(b, 0). */
static const float *expert_bias(resolver *s, size_t n)
{
    const size_t count = s->m->config.experts - 1;
    const ft_tensor *t = optional(s, "model.layers.%zu.mlp.gate.expert_bias", n);
    const float *read = t ? norm(s, t, count) : NULL;
    if (!t)
        return NULL;
    s->m->has_expert_bias = 1;
    if (s->rc || !read)
        return NULL;
    float *out = ft_arena_array(s->m->arena, count, sizeof(*out));
    if (!out)
        s->rc = ft_fail(s->st, FT_ERR_MEM, "%s: out of memory", s->m->folder);
    for (size_t e = 0; out && e < count; e++) {
        out[e] = read[e] < 0 ? read[e] : 0;
        if (!(read[e] == read[e]) || !(read[e] - read[e] == 0))
            s->rc = ft_fail(s->st, FT_ERR_FORMAT, "%s: tensor %s: element %zu is not finite", s->m->folder, t->name, e);
    }
    return out;
}

/* --- Layers ---------------------------------------------------------------------- */

static void resolve_attention(resolver *s, ft_layer *l)
{
    const ft_model_config *c = &s->m->config;
    const size_t n = s->layer, q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    l->q = weight(s, q, c->hidden, "model.layers.%zu.self_attn.q_proj", n);
    l->k = weight(s, kv, c->hidden, "model.layers.%zu.self_attn.k_proj", n);
    l->v = weight(s, kv, c->hidden, "model.layers.%zu.self_attn.v_proj", n);
    l->o = weight(s, c->hidden, q, "model.layers.%zu.self_attn.o_proj", n);
}

static void resolve_norms(resolver *s, ft_layer *l)
{
    const ft_model_config *c = &s->m->config;
    const size_t n = s->layer, q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
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
        l->experts[0].gate = weight(s, I, H, "model.layers.%zu.mlp.gate_proj", n);
        l->experts[0].up = weight(s, I, H, "model.layers.%zu.mlp.up_proj", n);
        l->experts[0].down = weight(s, H, I, "model.layers.%zu.mlp.down_proj", n);
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
        x->gate = weight(s, I, H, "model.layers.%zu.mlp.experts.%zu.gate_proj", n, e);
        x->up = weight(s, I, H, "model.layers.%zu.mlp.experts.%zu.up_proj", n, e);
        x->down = weight(s, H, I, "model.layers.%zu.mlp.experts.%zu.down_proj", n, e);
    }
}

/* Embedding and head: two tensors, or one for both when they are tied. A tied
 * checkpoint that holds both is read as it stands, as transformers does. The
 * head may be quantized, the embedding not. */
static void resolve_ends(resolver *s)
{
    ft_model *m = s->m;
    const size_t V = m->config.vocab, H = m->config.hidden;
    const int tied = m->config.tie_word_embeddings;
    const ft_tensor *embed = optional(s, "model.embed_tokens.weight");
    if (!embed && tied)
        embed = optional(s, "lm_head.weight");
    m->embed = matrix(s, embed ? embed : required(s, "model.embed_tokens.weight"), V, H);
    int has_head;
    m->head = named(s, &has_head, V, H, "lm_head");
    if (!has_head && tied)
        m->head = m->embed;
    else if (!has_head)
        missing(s);
}

/* What such a model would say is not what its makers trained. */
static ft_code refuse_layers_beyond(const ft_model *m, ft_status *st)
{
    static const char head[] = "model.layers.";
    size_t count;
    const ft_tensor *t = ft_weights_tensors(m->files, &count);
    for (size_t i = 0; i < count; i++)
        if (!strncmp(t[i].name, head, sizeof(head) - 1) &&
            strtoull(t[i].name + sizeof(head) - 1, NULL, 10) >= m->config.layers)
            return ft_fail(st, FT_ERR_FORMAT,
                           "%s: tensor %s is of a layer that config.json does not know: its num_hidden_layers is %zu; "
                           "the two are not of one model",
                           m->folder, t[i].name, m->config.layers);
    return FT_OK;
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
    m->wanted = ft_arena_array(m->arena, c->layers * experts, sizeof(*m->wanted));
    if (!m->layers || !m->wanted)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", m->folder);
    for (s.layer = 0; s.layer < c->layers && !s.rc; s.layer++) {
        ft_layer *l = &m->layers[s.layer];
        l->experts = ft_arena_array(m->arena, experts, sizeof(*l->experts));
        if (!l->experts)
            return ft_fail(st, FT_ERR_MEM, "%s: out of memory", m->folder);
        resolve_attention(&s, l);
        resolve_ffn(&s, l);
    }
    if (!s.rc)
        s.rc = refuse_layers_beyond(m, st);
    if (s.rc)
        return s.rc;
    /* Before the first page is touched: the system maps those beside it, where it may. */
    ft_model_set_experts_apart(m);
    for (s.layer = 0; s.layer < c->layers; s.layer++) {
        resolve_norms(&s, &m->layers[s.layer]);
        if (c->experts > 1)
            m->layers[s.layer].expert_bias = expert_bias(&s, s.layer);
    }
    m->norm = norm(&s, required(&s, "model.norm.weight"), c->hidden);
    return s.rc;
}

/* --- Opening ---------------------------------------------------------------------- */

/* What the matrices of the layers are; FT_WEIGHT_TYPES when they differ. */
static ft_weight_type type_of_layers(const ft_model *m)
{
    const size_t experts = m->config.experts ? m->config.experts : 1;
    const ft_weight_type type = m->layers[0].q.type;
    for (size_t l = 0; l < m->config.layers; l++) {
        const ft_layer *x = &m->layers[l];
        int same = x->q.type == type && x->k.type == type && x->v.type == type && x->o.type == type;
        for (size_t e = 0; e < experts && same; e++)
            same = x->experts[e].gate.type == type && x->experts[e].up.type == type && x->experts[e].down.type == type;
        if (!same)
            return FT_WEIGHT_TYPES;
    }
    return type;
}

static void measure(ft_model *m)
{
    static const char *const names[] = {
        [FT_WEIGHT_F32] = "float32", [FT_WEIGHT_BF16] = "bfloat16", [FT_WEIGHT_F16] = "float16",
        [FT_WEIGHT_I8] = "int8",     [FT_WEIGHT_I4] = "int4",       [FT_WEIGHT_TYPES] = "mixed"};
    const ft_model_config *c = &m->config;
    ft_model_sizes *z = &m->sizes;
    const ft_weight_type layers = type_of_layers(m);
    size_t count;
    const ft_tensor *t = ft_weights_tensors(m->files, &count);
    int mixed = layers == FT_WEIGHT_TYPES;
    for (size_t i = 0; i < count; i++) {
        if (!t[i].used)
            continue;
        z->weight_bytes += t[i].bytes;
        mixed = mixed || (!ft_is_quantized(layers) && strcmp(t[i].dtype, dtype_of(layers)) != 0);
    }
    const ft_model_needs n = ft_model_needs_of(c);
    z->parameters = n.parameters;
    if (c->tie_word_embeddings && m->head.data != m->embed.data)
        z->parameters += (uint64_t)c->vocab * c->hidden;
    z->active_parameters = z->parameters;
    if (c->experts)
        z->active_parameters -= 3 * (uint64_t)c->layers * (c->experts - c->top_k) * c->hidden * c->intermediate;
    z->kv_bytes_per_token = n.kv_elements_per_token * sizeof(float);
    z->weight_type = names[mixed ? FT_WEIGHT_TYPES : layers];
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

static ft_code open_model(ft_model **out, const char *folder, int only_shapes, ft_status *st)
{
    *out = NULL;
    ft_model *m = calloc(1, sizeof(*m));
    if (!m)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    ft_code rc = FT_OK;
    m->only_shapes = only_shapes;
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
        rc = ft_model_identify(m, &m->identity, st);
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

ft_code ft_model_open(ft_model **out, const char *folder, ft_status *st)
{
    return open_model(out, folder, 0, st);
}

ft_code ft_model_inspect(ft_model **out, const char *folder, ft_status *st)
{
    return open_model(out, folder, 1, st);
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

int ft_model_has_expert_bias(const ft_model *m)
{
    return m->has_expert_bias;
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
