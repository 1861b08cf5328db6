#include "model/train/ft_parameters.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "base/ft_json.h"
#include "base/ft_random.h"
#include "model/ft_safetensors.h"
#include "model/kernels/ft_float.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- Reading ------------------------------------------------------------------------- */

static ft_code check_shape(const ft_parameter *p, const ft_tensor *t, const ft_weights *w, ft_status *st)
{
    int same = t->dims == p->dims;
    for (unsigned d = 0; d < p->dims && same; d++)
        same = t->shape[d] == p->shape[d];
    if (!same)
        return ft_fail(st, FT_ERR_FORMAT, "%s: tensor %s has another shape than the config says ([%zu%s%.0zu])",
                       ft_weights_file(w, t->file, NULL), p->name, p->shape[0], p->dims > 1 ? ", " : "",
                       p->dims > 1 ? p->shape[1] : 0);
    if (strcmp(t->dtype, "F32") != 0 && strcmp(t->dtype, "BF16") != 0 && strcmp(t->dtype, "F16") != 0)
        return ft_fail(st, FT_ERR_UNSUPPORTED, "%s: tensor %s is %s; training reads F32, BF16 and F16",
                       ft_weights_file(w, t->file, NULL), p->name, t->dtype);
    return FT_OK;
}

int ft_tensor_widen(float *out, const ft_tensor *t, size_t count)
{
    const int whole = !strcmp(t->dtype, "F32"), brain = !strcmp(t->dtype, "BF16");
    if ((!whole && !brain && strcmp(t->dtype, "F16") != 0) || t->bytes != count * (whole ? 4 : 2))
        return 0;
    if (whole)
        memcpy(out, t->data, count * sizeof(*out));
    else
        for (size_t i = 0; i < count; i++)
            out[i] = brain ? ft_bf16_at(t->data, i) : ft_f16_at(t->data, i);
    return 1;
}

static const double SMALL = 0.02; /* deviation of a fresh matrix; not of these: */
static const double LOGITS = 1.4; /* deviation of what a fresh head says of a normalised state */

typedef struct reader {
    ft_parameters *p;
    ft_weights *w;               /* NULL: not from a file */
    const ft_parameters *public; /* a model to extend, or NULL: drawn */
    int with_bias;
    float bias;
    ft_random random;
    const char *folder;
    ft_status *st;
    ft_code rc; /* the first failure */
} reader;

/* Of N(0, deviation^2), by Box-Muller, one of its two: the stream is a function of the seed on every machine. */
static float draw(ft_random *r, double deviation)
{
    const double radius = sqrt(-2 * log(1 - ft_random_unit(r)));
    return (float)(deviation * radius * cos(2 * acos(-1) * ft_random_unit(r)));
}

/* Of the model that is extended: the tensor of this name, or what an expert starts from. */
static const ft_parameter *origin(const reader *r, const char *name)
{
    unsigned layer;
    size_t expert;
    char part[24], other[96];
    for (size_t i = 0; i < r->public->count; i++)
        if (!strcmp(r->public->all[i].name, name))
            return &r->public->all[i];
    if (sscanf(name, "model.layers.%u.mlp.experts.%zu.%23s", &layer, &expert, part) != 3)
        return NULL;
    if (expert == 0 || r->public->config.experts == 0)
        snprintf(other, sizeof(other), "model.layers.%u.mlp.%s", layer, part);
    else
        snprintf(other, sizeof(other), "model.layers.%u.mlp.experts.0.%s", layer, part);
    return strcmp(other, name) != 0 ? origin(r, other) : NULL;
}

/* Of a fresh tensor. What attention and FFN add to the state is normalised: beside it a small embedding would not be
 * heard. The head's rows of tokens that the public text hardly has all learn the same, that they are not what follows;
 * an owner, whose text has them, can tell them apart by what they started with alone, for the head is frozen then. */
static double deviation_of(const reader *r, const ft_parameter *p)
{
    const int tied = r->p->config.tie_word_embeddings, embedding = strstr(p->name, ".embed_tokens.") != NULL;
    if (embedding && !tied)
        return 1;
    return embedding || !strcmp(p->name, "lm_head.weight") ? LOGITS / sqrt((double)r->p->config.hidden) : SMALL;
}

static void fill(reader *r, ft_parameter *p)
{
    const double deviation = deviation_of(r, p);
    const ft_parameter *from = r->public ? origin(r, p->name) : NULL;
    const int bias = strstr(p->name, ".expert_bias") != NULL, router = strstr(p->name, ".mlp.gate.") != NULL;
    for (size_t i = 0; i < p->count; i++)
        if (from && i < from->count)
            p->value[i] = from->value[i];
        else if (bias)
            p->value[i] = r->bias;
        else if (router && r->public)
            p->value[i] = 0;
        else
            p->value[i] = p->dims == 1 ? 1 : draw(&r->random, deviation);
}

/* The next parameter; cols 0 makes a vector. */
FT_PRINTF(4, 5) static ft_parameter *take(reader *r, size_t rows, size_t cols, const char *fmt, ...)
{
    ft_parameter *p = &r->p->all[r->p->count];
    va_list args;
    if (r->rc)
        return p;
    va_start(args, fmt);
    vsnprintf(p->name, sizeof(p->name), fmt, args);
    va_end(args);
    p->dims = cols ? 2 : 1;
    p->shape[0] = rows;
    p->shape[1] = cols;
    r->rc = ft_size_mul(rows, cols ? cols : 1, &p->count, r->st);
    const ft_tensor *t = r->rc || !r->w ? NULL : ft_weights_find(r->w, p->name);
    if (!r->rc && r->w && !t)
        r->rc = ft_fail(r->st, FT_ERR_NOT_FOUND, "%s: no tensor %s; training needs one tensor an expert and projection",
                        r->folder, p->name);
    if (!r->rc && t)
        r->rc = check_shape(p, t, r->w, r->st);
    p->value = r->rc ? NULL : ft_alloc_array(p->count, sizeof(*p->value));
    if (!r->rc && !p->value)
        r->rc = ft_fail(r->st, FT_ERR_MEM, "%s: no memory for tensor %s", r->folder, p->name);
    if (!r->rc) {
        if (t)
            (void)ft_tensor_widen(p->value, t, p->count); /* check_shape saw to it */
        else
            fill(r, p);
        r->p->count++;
    }
    return p;
}

static void take_layer(reader *r, size_t n)
{
    const ft_model_config *c = &r->p->config;
    const size_t H = c->hidden, I = c->intermediate, Q = c->heads * c->head_dim, KV = c->kv_heads * c->head_dim;
    ft_layer_parameters *l = &r->p->layers[n];
    char name[96];
    l->q = take(r, Q, H, "model.layers.%zu.self_attn.q_proj.weight", n);
    l->k = take(r, KV, H, "model.layers.%zu.self_attn.k_proj.weight", n);
    l->v = take(r, KV, H, "model.layers.%zu.self_attn.v_proj.weight", n);
    l->o = take(r, H, Q, "model.layers.%zu.self_attn.o_proj.weight", n);
    l->q_norm = take(r, Q, 0, "model.layers.%zu.self_attn.q_norm.weight", n);
    l->k_norm = take(r, KV, 0, "model.layers.%zu.self_attn.k_norm.weight", n);
    l->after_attention = take(r, H, 0, "model.layers.%zu.post_attention_layernorm.weight", n);
    l->after = take(r, H, 0, "model.layers.%zu.post_feedforward_layernorm.weight", n);
    for (size_t e = 0; e < (c->experts ? c->experts : 1); e++) {
        char place[32] = "";
        if (c->experts)
            snprintf(place, sizeof(place), "experts.%zu.", e);
        ft_parameter *gate = take(r, I, H, "model.layers.%zu.mlp.%sgate_proj.weight", n, place);
        l->experts = e ? l->experts : gate;
        take(r, I, H, "model.layers.%zu.mlp.%sup_proj.weight", n, place);
        take(r, H, I, "model.layers.%zu.mlp.%sdown_proj.weight", n, place);
    }
    if (!c->experts)
        return;
    l->router = take(r, c->experts, H, "model.layers.%zu.mlp.gate.weight", n);
    snprintf(name, sizeof(name), "model.layers.%zu.mlp.gate.expert_bias", n);
    if (c->experts > 1 && !r->rc && (r->w ? ft_weights_find(r->w, name) != NULL : r->with_bias))
        l->bias = take(r, c->experts - 1, 0, "%s", name);
}

/* Every tensor of r->p->config. */
static ft_code take_all(reader *r)
{
    ft_parameters *out = r->p;
    const ft_model_config *c = &out->config;
    out->all = ft_alloc_array(3 + c->layers * (10 + 3 * (c->experts + 1)), sizeof(*out->all));
    out->layers = ft_alloc_array(c->layers, sizeof(*out->layers));
    if (!out->all || !out->layers)
        r->rc = ft_fail(r->st, FT_ERR_MEM, "%s: out of memory", r->folder);
    if (!r->rc) {
        out->embed = take(r, c->vocab, c->hidden, "model.embed_tokens.weight");
        for (size_t n = 0; n < c->layers; n++)
            take_layer(r, n);
        out->norm = take(r, c->hidden, 0, "model.norm.weight");
        out->head = c->tie_word_embeddings ? out->embed : take(r, c->vocab, c->hidden, "lm_head.weight");
    }
    if (r->rc)
        ft_parameters_close(out);
    return r->rc;
}

ft_code ft_parameters_open(ft_parameters *out, const char *folder, ft_status *st)
{
    memset(out, 0, sizeof(*out));
    reader r = {.p = out, .folder = folder, .st = st};
    ft_code rc = ft_model_config_read(&out->config, folder, st);
    if (!rc)
        rc = ft_weights_open(&r.w, folder, st);
    if (!rc)
        rc = take_all(&r);
    ft_weights_close(r.w);
    return rc;
}

ft_code ft_parameters_init(ft_parameters *out, const char *folder, uint64_t seed, ft_status *st)
{
    memset(out, 0, sizeof(*out));
    reader r = {.p = out, .folder = folder, .st = st};
    ft_random_init(&r.random, seed);
    const ft_code rc = ft_model_config_read(&out->config, folder, st);
    return rc ? rc : take_all(&r);
}

ft_code ft_parameters_add_expert(ft_parameters *out, const ft_parameters *public, int with_bias, float bias,
                                 ft_status *st)
{
    memset(out, 0, sizeof(*out));
    reader r = {.p = out, .public = public, .with_bias = with_bias, .bias = bias, .folder = "the new expert", .st = st};
    out->config = public->config;
    snprintf(out->config.architecture, sizeof(out->config.architecture), "FlexOlmoForCausalLM");
    out->config.experts = (public->config.experts ? public->config.experts : 1) + 1;
    out->config.top_k = public->config.top_k > 2 ? public->config.top_k : 2;
    if (out->config.experts > FT_MAX_EXPERTS)
        return ft_fail(st, FT_ERR_LIMIT, "a model has at most %d experts", FT_MAX_EXPERTS);
    return take_all(&r);
}

void ft_parameters_draw_router(ft_parameters *p, uint64_t seed)
{
    ft_random r;
    ft_random_init(&r, seed);
    for (size_t l = 0; l < p->config.layers; l++) {
        const ft_parameter *w = p->layers[l].router;
        for (size_t i = 0; w && w->value && i < w->count; i++)
            w->value[i] = draw(&r, SMALL);
    }
}

/* --- The constant channel ---------------------------------------------------------------- */

float ft_parameters_constant(const ft_parameters *p)
{
    const size_t H = p->config.hidden;
    const float number = p->embed->value[0];
    int same = number != 0;
    for (size_t n = 0; n < p->config.layers && same; n++)
        same = p->layers[n].after_attention->value[0] == 0 && p->layers[n].after->value[0] == 0;
    for (size_t token = 1; token < p->config.vocab && same; token++)
        same = p->embed->value[token * H] == number;
    return same ? number : 0;
}

/* Element 0 of each row of `values`. */
static void set_channel(float *values, size_t rows, size_t row, float number)
{
    for (size_t i = 0; values && i < rows; i++)
        values[i * row] = number;
}

void ft_parameters_make_constant(ft_parameters *p)
{
    p->constant = 0.125F;
    set_channel(p->norm->value, 1, 1, 0);
    ft_parameters_hold(p);
}

void ft_parameters_hold(ft_parameters *p)
{
    if (p->constant == 0)
        return;
    set_channel(p->embed->value, p->config.vocab, p->config.hidden, p->constant);
    set_channel(p->embed->grad, p->config.vocab, p->config.hidden, 0);
    if (p->norm->value[0] == 0)
        set_channel(p->norm->grad, 1, 1, 0);
    for (size_t n = 0; n < p->config.layers; n++) {
        const ft_layer_parameters *l = &p->layers[n];
        set_channel(l->after_attention->value, 1, 1, 0);
        set_channel(l->after_attention->grad, 1, 1, 0);
        set_channel(l->after->value, 1, 1, 0);
        set_channel(l->after->grad, 1, 1, 0);
    }
}

void ft_parameters_close(ft_parameters *p)
{
    if (!p)
        return;
    for (size_t i = 0; p->all && i < p->count; i++) {
        free(p->all[i].value);
        free(p->all[i].grad);
    }
    free(p->all);
    free(p->layers);
    memset(p, 0, sizeof(*p));
}

/* --- What is trained ------------------------------------------------------------------- */

static ft_code train(ft_parameter *p, size_t first, ft_status *st)
{
    if (!p)
        return FT_OK;
    p->first = first;
    if (!p->grad)
        p->grad = ft_alloc_array(p->count, sizeof(*p->grad));
    return p->grad ? FT_OK : ft_fail(st, FT_ERR_MEM, "no memory for the gradient of %s", p->name);
}

ft_code ft_parameters_train(ft_parameters *p, ft_train_mode mode, ft_status *st)
{
    const ft_model_config *c = &p->config;
    ft_code rc = FT_OK;
    if (mode == FT_TRAIN_EXPERT && c->experts < 2)
        return ft_fail(st, FT_ERR_ARG, "expert mode needs a model of two experts or more, this one has %zu",
                       c->experts);
    p->constant = mode == FT_TRAIN_ALL ? ft_parameters_constant(p) : 0;
    for (size_t i = 0; i < p->count && mode == FT_TRAIN_ALL && !rc; i++)
        rc = train(&p->all[i], 0, st);
    for (size_t n = 0; n < c->layers && (mode == FT_TRAIN_EXPERT || mode == FT_TRAIN_ROUTER) && !rc; n++) {
        ft_layer_parameters *l = &p->layers[n];
        const size_t last = c->experts - 1;
        for (size_t i = 0; i < 3 && mode == FT_TRAIN_EXPERT && !rc; i++)
            rc = train(&l->experts[3 * last + i], 0, st);
        if (!rc)
            rc = train(l->router, mode == FT_TRAIN_EXPERT ? last * c->hidden : 0, st);
        if (!rc)
            rc = train(l->bias, mode == FT_TRAIN_EXPERT ? last - 1 : 0, st);
    }
    return rc;
}

void ft_parameters_zero(ft_parameters *p)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->all[i].grad)
            memset(p->all[i].grad, 0, p->all[i].count * sizeof(float));
}

double ft_parameters_norm(const ft_parameters *p, const char **bad)
{
    double sum = 0;
    if (bad)
        *bad = NULL;
    for (size_t i = 0; i < p->count; i++) {
        const ft_parameter *x = &p->all[i];
        double one = 0;
        for (size_t k = x->first; x->grad && k < x->count; k++)
            one += (double)x->grad[k] * (double)x->grad[k];
        if (bad && !isfinite(one))
            *bad = x->name;
        sum += one;
    }
    return sqrt(sum);
}

const char *ft_parameters_not_finite(const ft_parameters *p)
{
    for (size_t i = 0; i < p->count; i++) {
        const ft_parameter *x = &p->all[i];
        for (size_t k = 0; x->value && k < x->count; k++)
            if (!isfinite(x->value[k]))
                return x->name;
    }
    return NULL;
}

/* --- Writing --------------------------------------------------------------------------- */

static int wanted(const ft_parameter *p, ft_save what)
{
    return !p->gone && (what == FT_SAVE_ALL || p->grad);
}

static ft_code header(ft_buffer *out, const ft_parameters *p, ft_save what, int bfloat16, const char *const *metadata,
                      ft_status *st)
{
    json_t *root = json_object(), *about = json_object();
    uint64_t at = 0;
    int bad = json_object_set_new(about, "format", json_string("pt"));
    for (; metadata && *metadata; metadata += 2)
        bad |= json_object_set_new(about, metadata[0], json_string(metadata[1]));
    bad |= json_object_set_new(root, "__metadata__", about);
    for (size_t i = 0; i < p->count; i++) {
        const ft_parameter *x = &p->all[i];
        if (!wanted(x, what))
            continue;
        const uint64_t end = at + x->count * (bfloat16 ? 2 : 4);
        json_t *shape = x->dims == 2 ? json_pack("[I,I]", (json_int_t)x->shape[0], (json_int_t)x->shape[1])
                                     : json_pack("[I]", (json_int_t)x->shape[0]);
        bad |= json_object_set_new(root, x->name,
                                   json_pack("{s:s, s:o, s:[I,I]}", "dtype", bfloat16 ? "BF16" : "F32", "shape", shape,
                                             "data_offsets", (json_int_t)at, (json_int_t)end));
        at = end;
    }
    ft_code rc = bad ? ft_fail(st, FT_ERR_MEM, "no memory for a checkpoint's header") : ft_json_write(root, out, st);
    json_decref(root);
    while (!rc && out->size % 8)
        rc = ft_buffer_append(out, " ", 1, st);
    return rc;
}

static uint16_t to_bfloat16(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof(bits));
    if (v != v)
        return (uint16_t)(bits >> 16 | 64);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static ft_code put(ft_file_writer *w, const float *values, size_t count, int bfloat16, ft_status *st)
{
    enum { PIECE = 4096 };
    uint16_t piece[PIECE];
    if (!bfloat16)
        return ft_file_writer_put(w, values, count * sizeof(*values), st);
    for (size_t at = 0; at < count; at += PIECE) {
        const size_t n = count - at < PIECE ? count - at : PIECE;
        for (size_t i = 0; i < n; i++)
            piece[i] = to_bfloat16(values[at + i]);
        const ft_code rc = ft_file_writer_put(w, piece, n * sizeof(*piece), st);
        if (rc)
            return rc;
    }
    return FT_OK;
}

ft_code ft_parameters_save(const ft_parameters *p, const char *path, ft_save what, int bfloat16,
                           const char *const *metadata, ft_status *st)
{
    ft_file_writer w = {0};
    ft_buffer text = {0};
    ft_code rc = header(&text, p, what, bfloat16, metadata, st);
    const uint64_t size = text.size;
    if (!rc)
        rc = ft_file_writer_open(&w, path, st);
    if (!rc)
        rc = ft_file_writer_put(&w, &size, sizeof(size), st);
    if (!rc)
        rc = ft_file_writer_put(&w, text.data, text.size, st);
    for (size_t i = 0; i < p->count && !rc; i++)
        if (wanted(&p->all[i], what))
            rc = put(&w, what == FT_SAVE_GRADIENTS ? p->all[i].grad : p->all[i].value, p->all[i].count, bfloat16, st);
    if (!rc)
        rc = ft_file_writer_commit(&w, st);
    ft_file_writer_abandon(&w);
    ft_buffer_release(&text);
    return rc;
}
