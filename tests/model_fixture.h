/* model_fixture: small checkpoints with seeded weights, written in every layout
 * that we read: one file or shards, per-expert or fused, float32, bfloat16, float16.
 * The same shapes get the same weights in each of them. */
#ifndef FT_MODEL_FIXTURE_H
#define FT_MODEL_FIXTURE_H
#include "tests/ft_test.h"

#include "base/ft_file.h"
#include "base/ft_random.h"

#include <stdarg.h>

typedef struct fixture {
    size_t hidden, intermediate, layers, heads, kv_heads, head_dim, experts, top_k, vocab; /* experts 0: dense */
    int half;                                                                              /* 0: F32, 1: BF16, 2: F16 */
    int fused, shards, tied;                                                               /* shards 0: one file */
    uint64_t poison;    /* bit e: everything of expert e is NaN */
    const char *config; /* more fields: ", \"norm_topk_prob\": true" */
} fixture;

static const fixture FIXTURE = {.hidden = 24,
                                .intermediate = 20,
                                .layers = 2,
                                .heads = 4,
                                .kv_heads = 2,
                                .head_dim = 6,
                                .experts = 5,
                                .top_k = 2,
                                .vocab = 40,
                                .config = ""};

typedef struct fixture_file {
    ft_buffer header, data;
    size_t tensors;
} fixture_file;

typedef struct fixture_writer {
    const fixture *f;
    fixture_file files[4];
    ft_buffer map;
    size_t tensors;
} fixture_writer;

static float fixture_value(const char *name, size_t i, double scale)
{
    uint64_t seed = 1469598103934665603u;
    for (const char *p = name; *p; p++)
        seed = (seed ^ (unsigned char)*p) * 1099511628211u;
    ft_random r;
    ft_random_init(&r, seed + i);
    const float v = (float)((2 * ft_random_unit(&r) - 1) * scale);
    uint32_t bits; /* few enough bits for every type to hold it exactly */
    memcpy(&bits, &v, sizeof(bits));
    bits &= 0xffff0000u;
    memcpy((void *)&v, &bits, sizeof(bits));
    return v;
}

static void fixture_element(const fixture *f, fixture_file *out, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof(bits));
    uint16_t half = (uint16_t)(bits >> 16);
    if (f->half == 2) { /* values are in (2^-14, 2) or zero or NaN */
        const int exponent = (int)(bits >> 23 & 255) - 112;
        half = (uint16_t)((bits >> 16 & 0x8000) | (bits >> 13 & 1023));
        half = exponent <= 0 ? 0 : (uint16_t)(half | (unsigned)(exponent > 31 ? 31 : exponent) << 10);
    }
    if (ft_buffer_append(&out->data, f->half ? (void *)&half : (void *)&v, f->half ? 2 : 4, NULL))
        abort();
}

static void fixture_values(fixture_writer *w, const char *name, size_t n, double scale, int poisoned, fixture_file *out)
{
    for (size_t i = 0; i < n; i++) {
        const float v = fixture_value(name, i, scale) + (scale == 0 ? 1.0f : 0.0f);
        fixture_element(w->f, out, poisoned ? (float)(0.0 / 0.0) : v);
    }
}

/* Begins a tensor; its values follow. Big ones are dealt out over the shards. */
static fixture_file *fixture_tensor(fixture_writer *w, const char *name, const char *shape, size_t n)
{
    static const char *const dtypes[] = {"F32", "BF16", "F16"};
    const size_t number = w->f->shards ? w->tensors % (size_t)w->f->shards : 0;
    fixture_file *file = &w->files[number];
    const size_t begin = file->data.size, bytes = n * (w->f->half ? 2 : 4);
    if (ft_buffer_printf(&file->header, NULL, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                         file->tensors++ ? "," : "{\"__metadata__\":{\"format\":\"pt\"},", name, dtypes[w->f->half],
                         shape, begin, begin + bytes) ||
        ft_buffer_printf(&w->map, NULL, "%s\"%s\":\"model-%zu.safetensors\"", w->tensors ? "," : "", name, number))
        abort();
    w->tensors++;
    return file;
}

static void fixture_matrix(fixture_writer *w, size_t rows, size_t cols, double scale, int poisoned, const char *fmt,
                           ...)
{
    char name[128], shape[64];
    va_list args;
    va_start(args, fmt);
    vsnprintf(name, sizeof(name), fmt, args);
    va_end(args);
    if (cols)
        snprintf(shape, sizeof(shape), "%zu,%zu", rows, cols);
    else
        snprintf(shape, sizeof(shape), "%zu", rows);
    const size_t n = rows * (cols ? cols : 1);
    fixture_values(w, name, n, scale, poisoned, fixture_tensor(w, name, shape, n));
}

static void fixture_ffn(fixture_writer *w, size_t l)
{
    const fixture *f = w->f;
    const size_t H = f->hidden, I = f->intermediate, E = f->experts;
    static const char *const parts[] = {"gate", "up", "down"};
    char name[128], shape[64];
    if (!E) {
        for (int p = 0; p < 3; p++)
            fixture_matrix(w, p < 2 ? I : H, p < 2 ? H : I, 0.4, 0, "model.layers.%zu.mlp.%s_proj.weight", l, parts[p]);
        return;
    }
    snprintf(name, sizeof(name), "model.layers.%zu.mlp.gate.weight", l);
    snprintf(shape, sizeof(shape), "%zu,%zu", E, H);
    fixture_file *out = fixture_tensor(w, name, shape, E * H);
    for (size_t i = 0; i < E * H; i++)
        fixture_element(f, out, f->poison >> (i / H) & 1 ? (float)(0.0 / 0.0) : fixture_value(name, i, 0.8));
    for (size_t e = 0; e < E && !f->fused; e++)
        for (int p = 0; p < 3; p++)
            fixture_matrix(w, p < 2 ? I : H, p < 2 ? H : I, 0.4, (int)(f->poison >> e & 1),
                           "model.layers.%zu.mlp.experts.%zu.%s_proj.weight", l, e, parts[p]);
    for (int both = 1; both >= 0 && f->fused; both--) { /* gate above up, then down */
        snprintf(name, sizeof(name), "model.layers.%zu.mlp.experts.%s", l, both ? "gate_up_proj" : "down_proj");
        snprintf(shape, sizeof(shape), "%zu,%zu,%zu", E, both ? 2 * I : H, both ? H : I);
        out = fixture_tensor(w, name, shape, E * H * I * (both ? 2 : 1));
        for (size_t e = 0; e < E; e++)
            for (int p = both ? 0 : 2; p < (both ? 2 : 3); p++) {
                snprintf(name, sizeof(name), "model.layers.%zu.mlp.experts.%zu.%s_proj.weight", l, e, parts[p]);
                fixture_values(w, name, H * I, 0.4, (int)(f->poison >> e & 1), out);
            }
    }
}

static void fixture_weights(fixture_writer *w)
{
    const fixture *f = w->f;
    const size_t H = f->hidden, Q = f->heads * f->head_dim, KV = f->kv_heads * f->head_dim;
    fixture_matrix(w, f->vocab, H, 1, 0, "model.embed_tokens.weight");
    for (size_t l = 0; l < f->layers; l++) {
        fixture_matrix(w, Q, H, 0.4, 0, "model.layers.%zu.self_attn.q_proj.weight", l);
        fixture_matrix(w, KV, H, 0.4, 0, "model.layers.%zu.self_attn.k_proj.weight", l);
        fixture_matrix(w, KV, H, 0.4, 0, "model.layers.%zu.self_attn.v_proj.weight", l);
        fixture_matrix(w, H, Q, 0.4, 0, "model.layers.%zu.self_attn.o_proj.weight", l);
        fixture_matrix(w, Q, 0, 0, 0, "model.layers.%zu.self_attn.q_norm.weight", l);
        fixture_matrix(w, KV, 0, 0, 0, "model.layers.%zu.self_attn.k_norm.weight", l);
        fixture_matrix(w, H, 0, 0, 0, "model.layers.%zu.post_attention_layernorm.weight", l);
        fixture_matrix(w, H, 0, 0, 0, "model.layers.%zu.post_feedforward_layernorm.weight", l);
        fixture_ffn(w, l);
    }
    fixture_matrix(w, H, 0, 0, 0, "model.norm.weight");
    if (!f->tied)
        fixture_matrix(w, f->vocab, H, 1, 0, "lm_head.weight");
}

static void fixture_put(const char *folder, const char *name, const void *bytes, size_t n)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    ft_test_write(path, bytes, n);
}

static void fixture_put_file(const char *folder, const char *name, fixture_file *file)
{
    ft_buffer all = {0};
    if (ft_buffer_append_str(&file->header, "}", NULL))
        abort();
    while (file->header.size % 8)
        if (ft_buffer_append(&file->header, " ", 1, NULL))
            abort();
    const uint64_t n = file->header.size;
    if (ft_buffer_append(&all, &n, 8, NULL) || ft_buffer_append(&all, file->header.data, n, NULL) ||
        ft_buffer_append(&all, file->data.data, file->data.size, NULL))
        abort();
    fixture_put(folder, name, all.data, all.size);
    ft_buffer_release(&all);
}

static void fixture_put_config(const char *folder, const fixture *f)
{
    char text[2048];
    const int n =
        snprintf(text, sizeof(text),
                 "{\"architectures\":[\"%s\"],\"model_type\":\"%s\",\"hidden_size\":%zu,\"intermediate_size\":%zu,"
                 "\"num_hidden_layers\":%zu,\"num_attention_heads\":%zu,\"num_key_value_heads\":%zu,\"head_dim\":%zu,"
                 "\"num_experts\":%zu,\"num_experts_per_tok\":%zu,\"vocab_size\":%zu,\"max_position_embeddings\":512,"
                 "\"eos_token_id\":null,\"tie_word_embeddings\":%s%s}",
                 f->experts ? "FlexOlmoForCausalLM" : "Olmo2ForCausalLM", f->experts ? "flex_olmo" : "olmo2", f->hidden,
                 f->intermediate, f->layers, f->heads, f->kv_heads, f->head_dim, f->experts, f->top_k, f->vocab,
                 f->tied ? "true" : "false", f->config);
    fixture_put(folder, "config.json", text, (size_t)n);
}

/* Writes the checkpoint into the fresh folder's `name`; the path lives as long as the test. */
__attribute__((unused)) static const char *fixture_write(const char *name, const fixture *f)
{
    fixture_writer w = {.f = f};
    char *folder = strdup(ft_test_path(name));
    static char *kept[64];
    static size_t count;
    if (!folder || count == 64 || ft_folder_make(folder, NULL))
        abort();
    kept[count++] = folder; /* reachable to the end, for the leak checker */
    fixture_weights(&w);
    fixture_put_config(folder, f);
    for (int i = 0; i < (f->shards ? f->shards : 1); i++) {
        char file[64];
        snprintf(file, sizeof(file), f->shards ? "model-%d.safetensors" : "model.safetensors", i);
        fixture_put_file(folder, file, &w.files[i]);
    }
    if (f->shards) {
        ft_buffer index = {0};
        if (ft_buffer_printf(&index, NULL, "{\"metadata\":{},\"weight_map\":{%s}}", w.map.data))
            abort();
        fixture_put(folder, "model.safetensors.index.json", index.data, index.size);
        ft_buffer_release(&index);
    }
    for (int i = 0; i < 4; i++) {
        ft_buffer_release(&w.files[i].header);
        ft_buffer_release(&w.files[i].data);
    }
    ft_buffer_release(&w.map);
    return kept[count - 1];
}
#endif
